//! `lorac eval`: a deployed model, scored on what a pipeline holds out.

use crate::arrays;
use crate::base;
use crate::engine::Engine;
use crate::error::Error;
use crate::inputs::{caches, feeds, name_fields};
use crate::output::MissedGate;
use crate::pipeline::{Gate, Loaded, Metrics, Split};
use crate::predict::found::{check, ends_of, find_model, served, start_of, tokenizer_file};
use crate::progress::Progress;
use crate::run::data::{HeldOut, Reading, examples, held_out, nothing_held_out};
use crate::run::decoder::{check_decoder, started};
use crate::run::input_limits::{self, BatchShape};
use crate::run::opened::open_engine;
use crate::run::plan::{fed, reads_texts};
use crate::run::task::{check_metrics, masking, of_teacher, resolved_task, target_input, taught};
use crate::source::Resolver;
use crate::stop::{Stoppable, stopped};
use crate::writing::{Parts, SHOWN, Texts};
use lorac_data::{Dataset, Tokenizer};
use lorac_passes::{TrainingSpec, UpdateSpec, evaluation, readable};
use lorac_train::{Breakdown, Count, Evaluate, Generated, Scores, compile_graph, evaluate as scored};
use serde::Serialize;
use std::sync::atomic::AtomicBool;

/// How good a model is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluated {
    /// The model, as it was named.
    pub model: String,
    /// Its scores by the metrics of the task and of the pipeline.
    pub scores: Scores,
    /// The same class by class; none where nothing is classified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_class: Option<Breakdown>,
    /// Some of the texts that it writes; none where no metric is of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub texts: Vec<Generated>,
    /// The gates of the pipeline that the model misses.
    pub gates: Vec<MissedGate>,
    /// What a user should know, in words.
    pub notes: Vec<String>,
}

/// Scores a model, which is named as for [`Predictor::open`](crate::predict::Predictor::open), on the held-out examples of a
/// pipeline, by its metrics, as the run of that pipeline scores the model that it deploys. What the pipeline says of a new
/// head, of adaptations and of the training counts for nothing. Gates that compare with the model before a training say
/// nothing here.
///
/// # Errors
/// A model that does not do the pipeline's task, a pipeline without held-out examples, and what cannot be read or run.
pub fn evaluate(
    model: &str,
    loaded: &Loaded,
    resolver: &Resolver,
    models: &Resolver,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<Evaluated, Error> {
    let p = &loaded.pipeline;
    let name = model;
    let (source, model) = find_model(name, models)?;
    let known = served(&source, &model)?;
    check(&model.graph, &known, name)?;
    let mut graph = readable(&model.graph, &model.functions)?;
    let kind = base::kind_of(&source);
    let (mut feeds, caches) = match reads_texts(p) {
        true => {
            let inputs = if known.inputs.is_empty() { &p.data.inputs } else { &known.inputs };
            name_fields(&mut graph, inputs).map_err(|wrong| Box::new(loaded.errors_at(wrong)))?;
            let feeds = known.seeing(feeds(&graph)?, p.task.is_causal(), kind.as_ref());
            let caches = caches(&graph, &feeds);
            caches.switch_off(&mut graph)?;
            (feeds, caches)
        }
        false => fed(loaded, &mut graph, kind.as_ref())?,
    };
    if known.predicts != p.task.prediction() {
        let (does, asked) = (&known.task, p.task.name());
        return Err(Error::Usage(format!("the model does the task `{does}`, and the pipeline's is `{asked}`")));
    }
    let mut notes = Vec::new();
    let asked = taught(&p.task, resolver, &mut Vec::new())?;
    let deployed = asked.deployed(&known.output).unwrap_or(asked);
    let (task, _) = resolved_task(loaded, &deployed, &model, &graph, &source, resolver, &mut Vec::new())?;
    check_decoder(loaded, &graph, &feeds)?;
    let start = start_of(&source, &known).and_then(|start| u32::try_from(start).ok());
    let task = started(loaded, task, start)?;
    let is_gate = |(path, _): &(String, &str)| path.starts_with("metrics.");
    let writes = p.text_metrics().iter().any(is_gate);
    let task = if writes { task.generating().unwrap_or(task) } else { task };
    if !known.labels.is_empty() && !task.labels().is_empty() && task.labels() != known.labels {
        let (ours, theirs) = (task.labels().join(", "), known.labels.join(", "));
        notes.push(format!("the model's labels are {theirs}; scored as if they were the pipeline's: {ours}"));
    }
    check_metrics(loaded, &task)?;
    let mut shape = BatchShape::of(p, &graph, &feeds);
    if p.data.splits().any(|(_, split)| split.block.is_none()) {
        shape.fit(loaded, &graph)?;
    }
    let open = || -> Result<Tokenizer, Error> {
        let tokenizer = match &p.tokenizer {
            Some(asked) => tokenizer_file(Some(&asked.source), &source, resolver)?,
            None => tokenizer_file(None, &source, models)?,
        };
        tokenizer.open(shape.max_length, p.data.truncate)
    };
    let tokenizer = if reads_texts(p) { Some(open()?) } else { None };
    let preprocess = match p.data.train.first().is_some_and(Split::is_images) {
        true => Some(arrays::preprocess(loaded, &graph, &feeds, &source, known.images.as_ref(), &mut notes)?),
        false => None,
    };
    let reading = Reading { graph: &graph, tokenizer: tokenizer.as_ref(), preprocess: preprocess.as_ref() };
    // Weights that are counted are those of the training.
    let one_each: Vec<(String, usize)> = task.labels().iter().map(|label| (label.clone(), 1)).collect();
    let (task, held, asked) = match task.counted(&one_each, 1) {
        None => {
            let HeldOut { examples: held, asked, note } = held_out(&p.data, &*task, reading, resolver)?;
            notes.extend(note.filter(|_| writes));
            (task, held, asked)
        }
        Some(_) => {
            let all = examples(&p.data, &*task, reading, resolver)?;
            let counts: Vec<_> = all.card.train.labels.iter().map(|l| (l.name.clone(), l.examples)).collect();
            (task.counted(&counts, all.train.len()).unwrap_or(task), all.eval, all.asked)
        }
    };
    if held.is_empty() {
        return Err(nothing_held_out());
    }
    let mut data = Dataset::new(held, shape.pad);
    if tokenizer.is_none() {
        arrays::fit(&graph, &feeds, &mut data, "data.eval")?;
    }
    if let (Some(share), Some(tokenizer)) = (task.hides(), &tokenizer) {
        data.masking = Some(masking(loaded, share, tokenizer)?);
    }
    if let Some(teacher) = task.taught_by() {
        feeds.inputs.extend(of_teacher(teacher, &graph)?);
    }
    shape.check(&data, "data.eval", "data.max_length")?;
    input_limits::check(&graph, &data, "data.eval", "data.max_length")?;
    shape.count_rows(loaded, &[("data.eval", &data)], task.fills())?;
    let batch = shape.rows(p.train.eval_batch, data.len());
    stopped(stop, || Error::Interrupted("nothing is scored yet".into()))?;

    let engine = open_engine(p, resolver)?;
    notes.extend(engine.fallback.iter().map(|why| format!("the embedded engine is used: {why}")));
    let spec = TrainingSpec {
        adaptations: &[],
        objective: &*task,
        update: UpdateSpec::of(&*p.train.optimizer),
        dialect: engine.backend.dialect(),
        tokens: None,
        caches: caches.clone(),
        packed: false,
    };
    let compiled = evaluation(&graph, &spec, &mut |_| {})?;
    let texts = match &tokenizer {
        // What only the training is decided by is not asked for.
        Some(tokenizer) if task.generation().is_some() && writes => {
            let settings = task.generation().cloned().unwrap_or_default();
            let parts = Parts {
                model: &model,
                base: &graph,
                feeds: &feeds,
                caches: &caches,
                names: if known.inputs.is_empty() { &p.data.inputs } else { &known.inputs },
                objective: &*task,
                trained: None,
                backend: engine.backend.as_ref(),
                source: Some(&source),
                settings,
                ends: ends_of(&source, &known, tokenizer),
                tokenizer: tokenizer.clone(),
                rows: p.train.eval_batch,
                multiple: p.data.pad_to_multiple,
                start: task.decoder_start(),
            };
            Some(Texts::compile(parts, asked)?)
        }
        _ => None,
    };
    feeds.inputs.push(target_input(task.prediction(), &compiled.names.targets));
    let mut program = compile_graph(engine.backend.as_ref(), &compiled.graph, Vec::new())?;
    let job = Evaluate {
        data: &data,
        feeds: &feeds,
        batch,
        fill: task.fills(),
        kind: task.prediction(),
        prediction: &compiled.prediction,
        classes: task.labels(),
        names: &compiled.names,
    };
    progress.begin("scoring", data.len() as u64);
    let mut done = 0;
    let found = scored(&mut Stoppable { program: program.as_mut(), stop }, &job, |rows| {
        done += rows as u64;
        progress.at(done, "");
    });
    progress.end();
    stopped(stop, || Error::Interrupted(format!("{done} of {} examples are scored", data.len())))?;
    let mut found = found?;
    if let Some(texts) = &texts {
        notes.extend(texts.notes());
        let (written, note) = written(texts, &engine, progress, stop)?;
        notes.extend(note);
        found.texts = written;
    }
    let scores = Scores::of(&found, &p.metrics.names(task.metrics()));
    let none = Scores { scores: Vec::new(), count: Count::Examples(0) };
    let (metrics, compares) = without_comparisons(&p.metrics);
    notes.extend(compares.then(|| "`not_worse_than: before` is not checked: there was no training".to_string()));
    let gates = metrics.failed_gates(&none, &scores);
    let by_class = Breakdown::of(&found);
    let texts = found.texts.into_iter().take(SHOWN).collect();
    Ok(Evaluated { model: name.into(), by_class, texts, scores, gates, notes })
}

/// What the model writes, and what a user should know of how it does.
fn written(
    texts: &Texts,
    engine: &Engine,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<(Vec<Generated>, Option<String>), Error> {
    let (mut decoder, note) = texts.writer.open(engine.backend.as_ref(), &[], texts.a_prompt())?;
    let (done, written) = texts.written(&mut decoder, progress, stop);
    stopped(stop, || Error::Interrupted(format!("{done} of {} texts are written", texts.asked.len())))?;
    Ok((written?, note))
}

/// The gates that say something of a model alone, and whether there are others.
fn without_comparisons(metrics: &Metrics) -> (Metrics, bool) {
    let alone = |gate: &Gate| Gate { not_worse_than: None, margin: None, ..*gate };
    let compares = metrics.0.values().any(|gate| gate.not_worse_than.is_some());
    (Metrics(metrics.0.iter().map(|(name, gate)| (name.clone(), alone(gate))).collect()), compares)
}

impl Evaluated {
    /// Why the model is not what the pipeline asks for, in words; nothing where it is.
    pub fn failures(&self) -> Vec<String> {
        self.gates.iter().map(|gate| gate.message.clone()).collect()
    }
}
