//! Everything that a run needs, found and checked before anything is trained.

use super::{data, sampler};
use crate::base;
use crate::compile::{Compiled, Spec, compile};
use crate::engine::{self, Engine};
use crate::error::Error;
use crate::output::{
    Evaluation, InputRecord, Manifest, PipelineRecord, RuntimeRecord, TargetRecord, TrainRecord, now, peak_memory,
};
use crate::pipeline::{Loaded, Pipeline, RuntimeSource};
use crate::progress::Progress;
use crate::run::RunOptions;
use crate::source::{Resolved, Resolver};
use crate::verify::Verified;
use lorac_data::{Sampler, Tokenizer};
use lorac_onnx::Model;
use lorac_passes::{Lora, NoMatch, Target, select};
use lorac_runtime::Options;
use lorac_train::{Dataset, Schedule, Scores, Summary};

/// A run about to start.
pub struct Plan {
    /// The base model.
    pub model: Model,
    /// The matrices to adapt.
    pub targets: Vec<Target>,
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
    /// Number of classes.
    pub classes: usize,
    /// Order of the examples.
    pub sampler: Sampler,
    /// The learning rate.
    pub schedule: Schedule,
    /// Steps between checkpoints.
    pub checkpoint_every: Option<u64>,
    /// The method.
    pub lora: Lora,
    inputs: Vec<InputRecord>,
}

/// Resolves, reads, selects and compiles.
pub fn plan(loaded: &Loaded, resolver: &Resolver, progress: Progress) -> Result<Plan, Error> {
    let p = &loaded.pipeline;
    let classify = p.task.classify();
    let mut inputs = Vec::new();
    let model_source = resolver.resolve(&p.model.source, p.model.sha256.as_deref())?;
    inputs.push(record("model", &model_source));
    let model = base::open(&model_source, &resolver.cache)?;
    let base_graph = inferred(&model)?;
    let (targets, lora) = targets(loaded, &base_graph)?;

    let tokenizer = match &p.tokenizer {
        Some(t) => resolver.resolve(&t.source, t.sha256.as_deref())?,
        None => Resolved { path: beside(&model_source)?, ..model_source.clone() },
    };
    let file = if tokenizer.path.is_dir() { tokenizer.path.join("tokenizer.json") } else { tokenizer.path.clone() };
    if p.tokenizer.is_some() {
        inputs.push(record("tokenizer", &tokenizer));
    }
    let tokenizer = Tokenizer::from_file(&file, p.data.max_length)?;

    let labels: Vec<String> = classify.labels.iter().map(|l| l.to_string()).collect();
    let (eval, eval_file) = data::examples(&p.data.eval, &labels, &p.data, resolver)?;
    let (mut train, train_file) = data::examples(&p.data.train, &labels, &p.data, resolver)?;
    let dropped = data::hold_out(&mut train, &eval);
    inputs.push(record("data.train", &train_file));
    inputs.push(record("data.eval", &eval_file));
    let (train, eval) = (data::encode(&train, &tokenizer, &p.data)?, data::encode(&eval, &tokenizer, &p.data)?);

    let engine = open_engine(p, resolver)?;
    if !engine.sha256.is_empty() {
        let (role, source, sha256) = ("runtime".to_string(), engine.source.clone(), engine.sha256.clone());
        inputs.push(InputRecord { role, path: source.clone(), source, sha256 });
    }
    let spec = Spec {
        targets: targets.clone(),
        lora,
        classes: labels.len(),
        pool: classify.pool.into(),
        hidden: classify.hidden.as_ref().map(|h| h.to_string()),
        optimizer: p.train.passes_adamw(),
        embedded: engine.embedded,
    };
    let compiled = compile(&base_graph, &spec)?;
    let sampler = sampler(&train, p.train.batch, p.train.seed, p.train.by_length)?;
    let total = p.train.total_steps(sampler.batches_per_epoch());
    let schedule = p.train.schedule_for(total as u64);
    progress.line(&format!(
        "model     {}: {} nodes, {} matrices adapted, {} trainable parameters",
        p.model.source,
        model.node_count,
        targets.len(),
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
        targets,
        compiled,
        engine,
        batch: p.train.batch.min(train.labels.len()),
        eval_batch: p.train.eval_batch.min(eval.labels.len()),
        train,
        eval,
        classes: labels.len(),
        sampler,
        schedule,
        checkpoint_every: p.train.checkpoint_every.map(|n| n as u64),
        lora,
        inputs,
    })
}

/// The model's graph with its functions written out and its facts, so that roles and shapes can be asked of it.
fn inferred(model: &Model) -> Result<lorac_ir::Graph, Error> {
    let mut graph = model.graph.clone();
    lorac_passes::inline(&mut graph, &model.functions)?;
    lorac_ops::infer(&mut graph)?;
    Ok(graph)
}

fn targets(loaded: &Loaded, graph: &lorac_ir::Graph) -> Result<(Vec<Target>, Lora), Error> {
    let lora = loaded.pipeline.lora();
    let patterns: Vec<&str> = lora.targets.iter().map(|t| t.as_str()).collect();
    let targets = select(graph, &patterns).map_err(|wrong| {
        let at = |e: &NoMatch| {
            let spanned = lora.targets.iter().find(|t| t.as_str() == e.pattern());
            let (code, help) = match e {
                NoMatch::Nothing { nearest, .. } => ("target::no_match", nearest.join(", ")),
                NoMatch::Syntax { .. } => ("target::syntax", String::new()),
                NoMatch::Fused { .. } => ("target::fused", String::new()),
            };
            (spanned, code, e.to_string(), help)
        };
        loaded.errors_at(wrong.iter().map(at))
    })?;
    Ok((targets, Lora { rank: lora.rank, alpha: lora.alpha, rslora: lora.rslora }))
}

/// tokenizer.json in the model's folder.
fn beside(model: &Resolved) -> Result<std::path::PathBuf, Error> {
    let folder = if model.path.is_dir() { Some(model.path.as_path()) } else { model.path.parent() };
    let file = folder.map(|f| f.join("tokenizer.json")).filter(|f| f.is_file());
    file.ok_or_else(|| {
        Error::Usage(format!("there is no tokenizer.json beside {}: name one under 'tokenizer'", model.source))
    })
}

fn open_engine(p: &Pipeline, resolver: &Resolver) -> Result<Engine, Error> {
    let from = match &p.runtime.source {
        RuntimeSource::Auto => engine::From::Auto,
        RuntimeSource::Embedded => engine::From::Embedded,
        RuntimeSource::Source(source) => engine::From::Source(source, p.runtime.sha256.as_deref()),
    };
    let options = Options { provider: p.runtime.provider.into(), threads: p.runtime.threads, ..Options::default() };
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
        let target = |t: &Target| TargetRecord {
            name: t.matrix.name.clone(),
            roles: t.roles.iter().map(|r| r.to_string()).collect(),
            pattern: t.pattern.clone(),
            shape: [t.matrix.rows, t.matrix.cols],
            rank: self.lora.rank,
            scale: self.lora.scale(),
        };
        Manifest {
            pipeline: PipelineRecord::new(loaded),
            command: options.command.clone(),
            inputs: self.inputs.clone(),
            runtime: RuntimeRecord {
                engine: self.engine.backend.name(),
                provider: self.engine.backend.provider().to_string(),
                reason: self.engine.backend.reason().to_string(),
                threads: loaded.pipeline.runtime.threads,
            },
            targets: self.targets.iter().map(target).collect(),
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
