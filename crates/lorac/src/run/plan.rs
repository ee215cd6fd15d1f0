//! Everything that a run needs, found and checked before anything is trained.

use super::{data, fits, sampler};
use crate::base;
use crate::compile::{Adaptation, CausalLm, Classify, Compiled, Spec, Task, compile};
use crate::engine::{self, Engine};
use crate::error::Error;
use crate::output::{
    Evaluation, InputRecord, Manifest, PipelineRecord, RuntimeRecord, TargetRecord, TrainRecord, now, peak_memory,
};
use crate::pipeline::{Adapt, Loaded, Located, Pipeline, RuntimeSource};
use crate::program::mapped_program;
use crate::progress::Progress;
use crate::run::RunOptions;
use crate::source::{Resolved, Resolver};
use crate::verify::Verified;
use lorac_data::{Sampler, Tokenizer};
use lorac_onnx::Model;
use lorac_passes::{Branch, Lora, NoMatch, Target, select};
use lorac_runtime::Options;
use lorac_train::{Dataset, Schedule, Scores, Summary};

/// A run about to start.
pub struct Plan {
    /// The base model.
    pub model: Model,
    /// What it is to learn.
    pub task: Task,
    /// Its graphs.
    pub compiled: Compiled,
    /// The engine.
    pub engine: Engine,
    /// The examples to train on.
    pub train: Dataset,
    /// The held-out examples.
    pub eval: Dataset,
    /// Rows of a training batch.
    pub batch: usize,
    /// Rows of an evaluation batch.
    pub eval_batch: usize,
    /// Order of the examples.
    pub sampler: Sampler,
    /// The learning rate.
    pub schedule: Schedule,
    /// Steps between checkpoints.
    pub checkpoint_every: Option<u64>,
    inputs: Vec<InputRecord>,
}

/// Resolves, reads, selects and compiles.
pub fn plan(loaded: &Loaded, resolver: &Resolver, progress: &dyn Progress) -> Result<Plan, Error> {
    let p = &loaded.pipeline;
    let mut inputs = Vec::new();
    let (model_source, model) = open_model(p, resolver)?;
    inputs.push(record("model", &model_source));
    let base_graph = inferred(&model)?;
    let adapt = adaptations(loaded, &base_graph)?;

    let tokenizer = match &p.tokenizer {
        Some(t) => resolver.resolve(&t.source, t.sha256.as_deref())?,
        None => Resolved { path: base::tokenizer(&model_source, &resolver.cache)?, ..model_source.clone() },
    };
    let file = if tokenizer.path.is_dir() { tokenizer.path.join("tokenizer.json") } else { tokenizer.path.clone() };
    if p.tokenizer.is_some() {
        inputs.push(record("tokenizer", &tokenizer));
    }
    let tokenizer = Tokenizer::from_file(&file, p.data.max_length)?;

    let (mut train, train_file) = data::examples(&p.data.train, &p.task, &p.data, &tokenizer, resolver)?;
    let (eval, eval_file) = data::examples(&p.data.eval, &p.task, &p.data, &tokenizer, resolver)?;
    let dropped = data::hold_out(&mut train, &eval);
    some_left(train.len(), dropped)?;
    inputs.push(record("data.train", &train_file));
    inputs.push(record("data.eval", &eval_file));
    let (train, eval) = (data::dataset(train, &tokenizer, &p.data), data::dataset(eval, &tokenizer, &p.data));
    for (split, data, name) in [(&p.data.train, &train, "data.train"), (&p.data.eval, &eval, "data.eval")] {
        let key = if split.block.is_some() { format!("{name}.block") } else { "data.max_length".to_string() };
        fits::check(&base_graph, data, name, &key)?;
    }

    let engine = open_engine(p, resolver)?;
    if !engine.sha256.is_empty() {
        let (role, source, sha256) = ("runtime".to_string(), engine.source.clone(), engine.sha256.clone());
        inputs.push(InputRecord { role, path: source.clone(), source, sha256 });
    }
    let tokens = Some(data::tokens_per_step(&train, p.train.batch));
    let dialect = engine.backend.dialect();
    let spec = Spec { adapt, task: task(&p.task), optimizer: p.train.passes_adamw(), dialect, tokens };
    let compiled = compile(&base_graph, &spec)?;
    // What the engine cannot run cannot be verified either.
    let empty: Vec<String> = compiled.feeds.caches().map(String::from).collect();
    drop(mapped_program(engine.backend.as_ref(), &model, &empty)?);
    let sampler = sampler(&train, p.train.batch, p.train.seed, p.train.by_length)?;
    let total = p.train.total_steps(sampler.batches_per_epoch());
    let schedule = p.train.schedule_for(total as u64);
    progress.line(&format!(
        "model     {}: {} nodes, {} matrices adapted, {} trainable parameters",
        p.model.source,
        model.node_count,
        compiled.branches.len(),
        compiled.arena.len()
    ));
    let held = if dropped > 0 { format!(" ({dropped} dropped: they are held out)") } else { String::new() };
    progress.line(&format!(
        "data      {} examples to train on{held}, {} to judge by",
        train.labels.len(),
        eval.labels.len()
    ));
    progress.line(&format!("runtime   {}: {}", engine.backend.name(), engine.backend.reason()));
    Ok(Plan {
        model,
        task: spec.task,
        compiled,
        engine,
        batch: p.train.batch.min(train.labels.len()),
        eval_batch: p.train.eval_batch.min(eval.labels.len()),
        train,
        eval,
        sampler,
        schedule,
        checkpoint_every: p.train.checkpoint_every.map(|n| n as u64),
        inputs,
    })
}

/// The model, and its source with the sum of all its files.
fn open_model(p: &Pipeline, resolver: &Resolver) -> Result<(Resolved, Model), Error> {
    let pin = p.model.sha256.as_deref();
    let source = resolver.resolve(&p.model.source, None)?;
    let model = match base::open(&source, &resolver.cache) {
        Ok(model) => model,
        // Another file than the pinned one is the likelier mistake.
        Err(error) => return Err(source.check(pin).map_or_else(Error::from, |()| error)),
    };
    // The sum of a folder has them already; a model built from another file has none of the user's.
    let source = match source.path == model.path {
        true => source.with_beside(model.external_files())?,
        false => source,
    };
    source.check(pin)?;
    Ok((source, model))
}

/// Refuses a training set of which holding out leaves nothing.
fn some_left(left: usize, dropped: usize) -> Result<(), Error> {
    match left {
        0 if dropped > 0 => Err(Error::Usage(format!(
            "all {dropped} examples of data.train are also in data.eval, so they are held out and none is left to train \
             on: choose others by skip, take or filter"
        ))),
        _ => Ok(()),
    }
}

/// The model's graph with its functions written out and its facts, so that roles and shapes can be asked of it.
fn inferred(model: &Model) -> Result<lorac_ir::Graph, Error> {
    let mut graph = model.graph.clone();
    lorac_passes::inline(&mut graph, &model.functions)?;
    lorac_ops::infer(&mut graph)?;
    Ok(graph)
}

/// The task as the compiler has it.
fn task(task: &crate::pipeline::Task) -> Task {
    let name = |n: &Option<Located>| n.as_ref().map(|n| n.to_string());
    match task {
        crate::pipeline::Task::Classify(c) => {
            Task::Classify(Classify { classes: c.labels.len(), pool: c.pool.into(), hidden: name(&c.hidden) })
        }
        crate::pipeline::Task::CausalLm(c) => Task::CausalLm(CausalLm { logits: name(&c.logits) }),
    }
}

/// The matrices of every method, none of which stands in two.
fn adaptations(loaded: &Loaded, graph: &lorac_ir::Graph) -> Result<Vec<Adaptation>, Error> {
    let mut all: Vec<Adaptation> = Vec::new();
    let mut wrong: Vec<(Option<&Located>, &'static str, String, String)> = Vec::new();
    for Adapt::Lora(lora) in &loaded.pipeline.adapt {
        let at = |pattern: &str| lora.targets.iter().find(|t| t.as_str() == pattern);
        let patterns: Vec<&str> = lora.targets.iter().map(|t| t.as_str()).collect();
        let targets = match select(graph, &patterns) {
            Ok(targets) => targets,
            Err(errors) => {
                wrong.extend(errors.iter().map(|e| {
                    let (code, help) = match e {
                        NoMatch::Nothing { nearest, .. } => ("target::no_match", nearest.join(", ")),
                        NoMatch::Syntax { .. } => ("target::syntax", String::new()),
                        NoMatch::Fused { .. } => ("target::fused", String::new()),
                        NoMatch::Tied { .. } => ("target::tied", String::new()),
                    };
                    (at(e.pattern()), code, e.to_string(), help)
                }));
                continue;
            }
        };
        for t in &targets {
            // Two parts of a matrix may have a branch each.
            let parts = |o: &Target| o.slice.is_some() && t.slice.is_some() && o.slice != t.slice;
            let mut others = all.iter().flat_map(|a| &a.targets);
            let earlier = others.find(|o| o.matrix.weight == t.matrix.weight && !parts(o));
            if let Some(earlier) = earlier {
                let (name, one, two) = (t.name(), &earlier.pattern, &t.pattern);
                let text = format!(
                    "'{name}' is picked twice, by '{one}' and by '{two}': a matrix, or a part of one, gets one branch"
                );
                wrong.push((at(two), "target::twice", text, String::new()));
            }
        }
        let sizes = Lora { rank: lora.rank, alpha: lora.alpha, rslora: lora.rslora };
        all.push(Adaptation { targets, lora: sizes, dropout: lora.dropout });
    }
    match wrong.is_empty() {
        true => Ok(all),
        false => Err(loaded.errors_at(wrong.into_iter())),
    }
}

fn open_engine(p: &Pipeline, resolver: &Resolver) -> Result<Engine, Error> {
    let from = match &p.runtime.source {
        RuntimeSource::Auto => engine::EngineChoice::Auto,
        RuntimeSource::Embedded => engine::EngineChoice::Embedded,
        RuntimeSource::Source(source) => engine::EngineChoice::Source(source, p.runtime.sha256.as_deref()),
    };
    let options = Options { device: p.runtime.provider, threads: p.runtime.threads, ..Options::default() };
    engine::open(&from, &options, resolver)
}

fn record(role: &str, r: &Resolved) -> InputRecord {
    InputRecord {
        role: role.into(),
        source: r.source.clone(),
        sha256: r.sha256.clone(),
        path: r.path.display().to_string(),
    }
}

impl Plan {
    /// The manifest, but for its artifacts.
    pub(super) fn manifest(
        &self,
        loaded: &Loaded,
        options: &RunOptions,
        summary: &Summary,
        [before, after]: [&Scores; 2],
        verified: &Verified,
    ) -> Manifest {
        let target = |b: &Branch| TargetRecord {
            name: b.target.name(),
            roles: b.target.roles.iter().map(|r| r.to_string()).collect(),
            pattern: b.target.pattern.clone(),
            shape: [b.target.matrix.rows, b.target.cols()],
            rank: b.lora.rank,
            scale: b.lora.scale(),
        };
        Manifest {
            pipeline: PipelineRecord::new(loaded),
            command: options.command.clone(),
            inputs: self.inputs.clone(),
            runtime: RuntimeRecord {
                engine: self.engine.backend.name(),
                provider: self.engine.backend.device().to_string(),
                reason: self.engine.backend.reason().to_string(),
                threads: loaded.pipeline.runtime.threads,
            },
            targets: self.compiled.branches.iter().map(target).collect(),
            trainable_parameters: self.compiled.arena.len(),
            model_parameters: self.model.graph.weights().filter(|w| w.2.dtype().is_float()).map(|w| w.2.len()).sum(),
            train: TrainRecord {
                steps: summary.steps,
                epochs: summary.steps as f64 / self.sampler.batches_per_epoch().max(1) as f64,
                loss_first: summary.loss_first,
                loss_last: summary.loss_last,
                seconds: summary.seconds,
                tokens: summary.tokens,
                tokens_per_second: summary.tokens as f64 / summary.seconds,
            },
            eval: Evaluation { before: *before, after: *after },
            verify: verified.clone(),
            lorac_version: env!("CARGO_PKG_VERSION").into(),
            created: now(),
            peak_memory_bytes: peak_memory(),
            artifacts: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_training_set_that_is_held_out_whole_is_named() {
        let text = some_left(0, 12).expect_err("none left").to_string();
        assert!(text.contains("all 12 examples of data.train are also in data.eval"), "{text}");
        assert!(some_left(1, 12).is_ok());
    }
}
