//! `lorac run`: a pipeline from its first source to its last artifact.
//!
//! Everything that can be told beforehand is found before anything is trained, and nothing but the output folder is
//! written.

mod data;
mod folder;
mod input_limits;
mod plan;
mod record;
mod stop;

pub use data::SplitSummary;
pub use plan::{Plan, plan};

use crate::deploy::{self, Trained};
use crate::error::Error;
use crate::output::{Artifact, Manifest, MetricsEval};
use crate::pipeline::Loaded;
use crate::progress::Progress;
use crate::source::Resolver;
use crate::verify::VerifyReport;
use folder::{Folder, Metrics};
use lorac_data::{Dataset, Sampler};
use lorac_ir::Tensor;
use lorac_runtime::Program;
use lorac_train::{
    Checkpoint, Evaluate, Event, Fit, Scores, Step, Summary, TrainError, evaluate, fit, initial_theta, theta_program,
    training_program,
};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use stop::Stoppable;

/// How a run is started.
#[derive(Clone, Debug)]
pub struct RunOptions<'a> {
    /// The output folder.
    pub out: PathBuf,
    /// The command line, for the manifest.
    pub command: String,
    /// What hears how far the run is.
    pub progress: &'a dyn Progress,
    /// A folder for the graphs after each pass, in the text form.
    pub emit: Option<PathBuf>,
}

/// What a run leaves behind.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The manifest as written.
    pub manifest: Manifest,
    /// Why the result is not what was promised, if it is not: a gate.
    pub gates: Vec<String>,
}

/// A training that has come to its end.
struct Fitted<'a> {
    theta: Vec<f32>,
    evaluator: Box<dyn Program>,
    metrics: Metrics,
    before: Scores,
    summary: Summary,
    events: Vec<Event>,
    /// Where it is kept until the model is written.
    checkpoint: &'a Path,
}

/// Runs a pipeline. `stop` ends it after the step or batch under way.
///
/// # Errors
/// Bad input before anything is trained, which leaves the output folder as it was, and what fails on the way. Then there
/// is neither a manifest nor a model of this run, and once the training is done, a checkpoint of it.
pub fn run(loaded: &Loaded, resolver: &Resolver, options: &RunOptions, stop: &AtomicBool) -> Result<Outcome, Error> {
    let folder = Folder::open(&options.out)?;
    let mut plan = plan(loaded, resolver, options.progress, options.emit.as_deref())?;
    let p = &loaded.pipeline;
    for format in deploy::chosen(&p.deploy.formats) {
        let notes = format.check(&plan, folder.path())?;
        notes.iter().for_each(|note| options.progress.line(&format!("note      {note}")));
        plan.notes.extend(notes);
    }
    let untrained = || Error::Interrupted("nothing is trained yet".into());
    stopped(stop, untrained)?;
    let start = initial_theta(&plan.training.params, p.train.seed).map_err(TrainError::from)?;
    let mut metrics = folder.metrics()?;

    let backend = plan.engine.backend.as_ref();
    let mut evaluator = theta_program(backend, &plan.training.eval, &start)?;
    let before = scores(&plan, loaded, evaluator.as_mut(), options.progress, "before", stop);
    stopped(stop, untrained)?;
    let before = before?;
    metrics.write(&MetricsEval::new("before", &before))?;
    options.progress.line(&format!("before    {}", describe(&before)));

    let mut step = training_program(backend, &plan.training, &start, p.train.seed)?;
    let mut events: Vec<Event> = Vec::new();
    let summary = train(&plan, &mut step, &folder, options.progress, stop, |event| {
        metrics.write(event)?;
        events.push(*event);
        Ok(())
    })?;
    metrics.finish()?;
    if let Some(checkpoint) = &summary.interrupted_at {
        return Err(saved_in(checkpoint));
    }
    options.progress.line(&format!(
        "trained   {} steps in {:.1} s, loss {:.4} -> {:.4}, {:.0} tokens/s",
        summary.steps,
        summary.seconds,
        summary.loss_first,
        summary.loss_last,
        summary.tokens as f64 / summary.seconds
    ));

    let checkpoint = Checkpoint::of(&step)?.save(&folder.checkpoints())?;
    let theta = step.theta()?;
    let fitted = Fitted { theta, evaluator, metrics, before, summary, events, checkpoint: &checkpoint };
    drop(step);
    let mut written = Vec::new();
    let outcome = finish(loaded, options, &plan, &folder, fitted, stop, &mut written);
    match outcome {
        Ok(outcome) => {
            if p.train.checkpoint_every.is_none() {
                folder.forget(&checkpoint);
            }
            Ok(outcome)
        }
        Err(error) => {
            written.iter().for_each(|file| _ = std::fs::remove_file(file));
            Err(match error {
                Error::Interrupted(_) => error,
                error => Error::Trained { checkpoint, error: Box::new(error) },
            })
        }
    }
}

/// From the end of the training to the manifest. `written` gets the files of the model.
fn finish(
    loaded: &Loaded,
    options: &RunOptions,
    plan: &Plan,
    folder: &Folder,
    fitted: Fitted,
    stop: &AtomicBool,
    written: &mut Vec<PathBuf>,
) -> Result<Outcome, Error> {
    let p = &loaded.pipeline;
    let Fitted { theta, mut evaluator, mut metrics, before, summary, events, checkpoint } = fitted;
    evaluator.set_state(&plan.training.names.theta, &Tensor::vector(&theta))?;
    let after = scores(plan, loaded, evaluator.as_mut(), options.progress, "after", stop);
    stopped(stop, || saved_in(checkpoint))?;
    let after = after?;
    metrics.write(&MetricsEval::new("after", &after))?;
    metrics.finish()?;
    drop(evaluator);
    options.progress.line(&format!("after     {}", describe(&after)));

    let values = plan.training.layout.values(&theta).map_err(TrainError::from)?;
    let trained = Trained { plan, pipeline: p, values, theta: &theta };
    let (mut artifacts, verified) = write(&trained, folder, options.progress, written)?;
    options.progress.line(&format!(
        "verified  max difference {:.2e}, {} bytes changed outside the targets, {} nodes + {} of the head",
        verified.max_abs_diff, verified.changed_bytes_outside_targets, verified.nodes_before, verified.nodes_of_head
    ));
    let mut manifest = record::manifest(plan, loaded, options, &summary, [&before, &after], &verified);
    let mut gates = Vec::new();
    if !verified.passed {
        gates.push(verified.failures());
    }
    gates.extend(p.metrics.failed_gates(&after));
    // The report lists what is there before it.
    artifacts.push(("metrics.jsonl".into(), "metrics"));
    manifest.artifacts = folder.artifacts(&artifacts)?;
    manifest.artifacts.extend(report(folder, &manifest, &events, &gates)?);
    folder.manifest(&manifest)?;
    Ok(Outcome { manifest, gates })
}

/// Files below the output folder, with their kinds.
type Artifacts = Vec<(String, &'static str)>;

/// Writes the artifacts, and verifies them.
fn write(
    trained: &Trained,
    folder: &Folder,
    progress: &dyn Progress,
    written: &mut Vec<PathBuf>,
) -> Result<(Artifacts, VerifyReport), Error> {
    let mut artifacts = Vec::new();
    for format in deploy::chosen(&trained.pipeline.deploy.formats) {
        let made = format.write(trained, folder.path())?;
        for (file, kind) in made.files {
            artifacts.push((file.strip_prefix(folder.path()).unwrap_or(&file).display().to_string(), kind));
            if matches!(kind, "model" | "weights") {
                written.push(file);
            }
        }
        if let Some(why) = made.skipped {
            progress.line(&format!("left out  {}: {why}", format.about()));
        }
    }
    let mut verified = None;
    for format in deploy::chosen(&trained.pipeline.deploy.formats) {
        verified = verified.or(format.verify(trained, folder.path())?);
    }
    let verified = verified.ok_or_else(|| Error::Gate("nothing was written that could be verified".into()))?;
    Ok((artifacts, verified))
}

/// Writes the report.
#[cfg(feature = "report")]
fn report(folder: &Folder, manifest: &Manifest, events: &[Event], gates: &[String]) -> Result<Vec<Artifact>, Error> {
    let page = crate::output::report(manifest, events, gates)?;
    crate::output::write_atomic(&folder.path().join("report.html"), page.as_bytes())?;
    folder.artifacts(&[("report.html".into(), "report")])
}

/// Without the feature `report` there is none.
#[cfg(not(feature = "report"))]
fn report(_: &Folder, _: &Manifest, _: &[Event], _: &[String]) -> Result<Vec<Artifact>, Error> {
    Ok(Vec::new())
}

/// The error of a run that is to end here.
fn stopped(stop: &AtomicBool, error: impl FnOnce() -> Error) -> Result<(), Error> {
    if stop.load(Ordering::Relaxed) { Err(error()) } else { Ok(()) }
}

fn saved_in(checkpoint: &Path) -> Error {
    Error::Interrupted(format!("the state is saved in {}", checkpoint.display()))
}

fn describe(s: &Scores) -> String {
    let named: Vec<String> = s.scores.iter().map(|s| format!("{} {:.4}", s.name, s.value)).collect();
    format!("{} on {}", named.join(", "), s.count)
}

/// Evaluates the model; ends early, with an error, where `stop` is set.
fn scores(
    plan: &Plan,
    loaded: &Loaded,
    evaluator: &mut dyn Program,
    progress: &dyn Progress,
    what: &str,
    stop: &AtomicBool,
) -> Result<Scores, Error> {
    let evaluator = &mut Stoppable { program: evaluator, stop };
    progress.begin(what, plan.eval.len() as u64);
    let job = Evaluate {
        data: &plan.eval,
        feeds: &plan.feeds,
        batch: plan.eval_batch,
        kind: plan.task.prediction(),
        prediction: &plan.training.prediction,
        names: &plan.training.names,
    };
    let mut done = 0;
    let evaluation = evaluate(evaluator, &job, |rows| {
        done += rows as u64;
        progress.at(done, "");
    });
    progress.end();
    Ok(Scores::of(&evaluation?, &loaded.pipeline.metrics.names(plan.task.metrics())))
}

fn train(
    plan: &Plan,
    step: &mut Step,
    folder: &Folder,
    progress: &dyn Progress,
    stop: &AtomicBool,
    mut observe: impl FnMut(&Event) -> Result<(), TrainError>,
) -> Result<Summary, Error> {
    progress.begin("training", plan.rate.total);
    let job = Fit {
        data: &plan.train,
        feeds: &plan.feeds,
        sampler: &plan.sampler,
        rows: plan.batch,
        rate: plan.rate.clone(),
        checkpoints: folder.checkpoints(),
        every: plan.checkpoint_every,
        stop,
    };
    let summary = fit(step, &job, |event| {
        progress.at(event.step, &format!("loss {:.4}  lr {:.2e}", event.loss, event.lr));
        observe(event)
    });
    progress.end();
    Ok(summary?)
}

/// Batches in the order of a sampler.
fn sampler(data: &Dataset, batch: usize, seed: u64, by_length: bool) -> Result<Sampler, Error> {
    let sampler = Sampler::new(data.len(), batch, seed, false)?;
    Ok(if by_length { sampler.by_length(data.lengths())? } else { sampler })
}
