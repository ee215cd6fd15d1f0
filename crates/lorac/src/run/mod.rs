//! `lorac run`: a pipeline from its first source to its last artifact.
//!
//! Everything that can be told beforehand is found before anything is trained, and nothing but the output folder is
//! written.

mod data;
mod deploy;
mod fits;
mod folder;
mod plan;
mod stop;

pub use plan::{Plan, plan};

use crate::compile::Task;
use crate::error::Error;
use crate::output::{Artifact, Manifest, MetricsEval};
use crate::pipeline::{Gates, Loaded};
use crate::program::{program, training};
use crate::progress::Progress;
use crate::source::Resolver;
use crate::theta;
use folder::{Folder, Metrics};
use lorac_data::Sampler;
use lorac_ir::Tensor;
use lorac_runtime::Program;
use lorac_train::{
    Checkpoint, ClassScores, Dataset, Event, Fit, LanguageScores, Scores, Step, Summary, TrainError, evaluate_classes,
    evaluate_language, fit,
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
struct Trained<'a> {
    theta: Vec<f32>,
    judge: Box<dyn Program>,
    metrics: Metrics,
    before: Scores,
    summary: Summary,
    rows: Vec<Event>,
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
    let mut plan = plan(loaded, resolver, options.progress)?;
    deploy::check(&plan, &folder)?;
    let untrained = || Error::Interrupted("nothing is trained yet".into());
    stopped(stop, untrained)?;
    let p = &loaded.pipeline;
    let start = theta::initial(&plan.compiled, p.train.seed);
    let mut metrics = folder.metrics()?;

    let init = vec![("theta", "", Tensor::vector(&start))];
    let mut judge = program(plan.engine.backend.as_ref(), &plan.compiled.eval, init)?;
    let before = scores(&mut plan, judge.as_mut(), options.progress, "before", stop);
    stopped(stop, untrained)?;
    let before = before?;
    metrics.write(&MetricsEval::new("before", &before))?;
    options.progress.line(&format!("before    {}", describe(&before)));

    let adamw = &p.train.optimizer.adamw();
    let (backend, noise) = (plan.engine.backend.as_ref(), plan.compiled.noise(p.train.seed));
    let mut step = training(backend, &plan.compiled.step, &start, [adamw.beta1, adamw.beta2], noise)?;
    let mut rows: Vec<Event> = Vec::new();
    let summary = train(&plan, &mut step, &folder, options.progress, stop, |event| {
        metrics.write(event)?;
        rows.push(*event);
        Ok(())
    })?;
    metrics.finish()?;
    if let Some(checkpoint) = &summary.interrupted {
        return Err(kept(checkpoint));
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
    let trained = Trained { theta: step.theta()?, judge, metrics, before, summary, rows, checkpoint: &checkpoint };
    drop(step);
    let mut written = Vec::new();
    let outcome = finish(loaded, options, plan, &folder, trained, stop, &mut written);
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
    mut plan: Plan,
    folder: &Folder,
    trained: Trained,
    stop: &AtomicBool,
    written: &mut Vec<PathBuf>,
) -> Result<Outcome, Error> {
    let p = &loaded.pipeline;
    let Trained { theta, mut judge, mut metrics, before, summary, rows, checkpoint } = trained;
    judge.set_state("theta", &Tensor::vector(&theta))?;
    let after = scores(&mut plan, judge.as_mut(), options.progress, "after", stop);
    stopped(stop, || kept(checkpoint))?;
    let after = after?;
    metrics.write(&MetricsEval::new("after", &after))?;
    metrics.finish()?;
    drop(judge);
    options.progress.line(&format!("after     {}", describe(&after)));

    let deployed = deploy::deploy(&plan, p, &theta, folder, written)?;
    options.progress.line(&format!(
        "verified  max difference {:.2e}, {} bytes changed outside the targets, {} nodes + {} of the head",
        deployed.verified.max_abs_diff,
        deployed.verified.changed_bytes_outside_targets,
        deployed.verified.nodes_before,
        deployed.verified.nodes_of_head
    ));
    let mut manifest = plan.manifest(loaded, options, &summary, [&before, &after], &deployed.verified);
    let mut gates = Vec::new();
    if !deployed.verified.passed {
        gates.push(deploy::explain(&deployed.verified));
    }
    gates.extend(missed(p.deploy.metrics.as_ref(), &after));
    // The report lists what is there before it.
    let mut artifacts = deployed.artifacts;
    artifacts.push(("metrics.jsonl".into(), "metrics"));
    manifest.artifacts = folder.artifacts(&artifacts)?;
    manifest.artifacts.extend(report(folder, &manifest, &rows, &gates)?);
    folder.manifest(&manifest)?;
    Ok(Outcome { manifest, gates })
}

/// Writes the report.
#[cfg(feature = "report")]
fn report(folder: &Folder, manifest: &Manifest, rows: &[Event], gates: &[String]) -> Result<Vec<Artifact>, Error> {
    let page = crate::output::report(manifest, rows, gates)?;
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

fn kept(checkpoint: &Path) -> Error {
    Error::Interrupted(format!("the state is saved in {}", checkpoint.display()))
}

/// Scores that are none, or worse than the pipeline demands.
fn missed(gates: Option<&Gates>, after: &Scores) -> Option<String> {
    let (Scores::Classes(ClassScores { loss, .. }) | Scores::Language(LanguageScores { loss, .. })) = after;
    if !loss.is_finite() {
        return Some(format!("the loss on the held-out examples is {loss}"));
    }
    let gates = gates?;
    match after {
        Scores::Classes(s) => {
            let min = gates.accuracy_min.filter(|min| !(s.accuracy >= *min))?;
            Some(format!("accuracy {:.4} is below deploy.metrics.accuracy_min {min}", s.accuracy))
        }
        Scores::Language(s) => {
            let max = gates.perplexity_max.filter(|max| !(s.perplexity <= *max))?;
            Some(format!("perplexity {:.4} is above deploy.metrics.perplexity_max {max}", s.perplexity))
        }
    }
}

fn describe(s: &Scores) -> String {
    let named: Vec<String> = s.named().iter().map(|(name, x)| format!("{name} {x:.4}")).collect();
    format!("{} on {}", named.join(", "), s.of())
}

/// Judges the model; ends early, with an error, where `stop` is set.
fn scores(
    plan: &mut Plan,
    judge: &mut dyn Program,
    progress: &dyn Progress,
    what: &str,
    stop: &AtomicBool,
) -> Result<Scores, Error> {
    let judge = &mut Stoppable { program: judge, stop };
    progress.begin(what, plan.eval.labels.len() as u64);
    let (feeds, data, batch) = (&plan.compiled.feeds, &plan.eval, plan.eval_batch);
    let mut done = 0;
    let seen = |rows: usize| {
        done += rows as u64;
        progress.at(done, "");
    };
    let scores = match &plan.task {
        Task::Classify(c) => evaluate_classes(judge, feeds, data, batch, c.classes, seen).map(Scores::Classes),
        Task::CausalLm(_) => evaluate_language(judge, feeds, data, batch, seen).map(Scores::Language),
    };
    progress.end();
    Ok(scores?)
}

fn train(
    plan: &Plan,
    step: &mut Step,
    folder: &Folder,
    progress: &dyn Progress,
    stop: &AtomicBool,
    mut observe: impl FnMut(&Event) -> Result<(), TrainError>,
) -> Result<Summary, Error> {
    progress.begin("training", plan.schedule.total);
    let job = Fit {
        data: &plan.train,
        feeds: &plan.compiled.feeds,
        sampler: &plan.sampler,
        rows: plan.batch,
        schedule: plan.schedule,
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
pub(crate) fn sampler(data: &Dataset, batch: usize, seed: u64, by_length: bool) -> Result<Sampler, Error> {
    let sampler = Sampler::new(data.labels.len(), batch, seed, false)?;
    let lengths = data.encoded.iter().map(|e| e.ids.len()).collect();
    Ok(if by_length { sampler.by_length(lengths)? } else { sampler })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_that_are_no_numbers_are_a_gate() {
        let classes = |loss| Scores::Classes(ClassScores { accuracy: 0.5, f1: 0.5, loss, rows: 4 });
        let language = |loss: f64| Scores::Language(LanguageScores { perplexity: loss.exp(), loss, tokens: 4 });
        for scores in [classes(f64::NAN), language(f64::NAN), language(f64::INFINITY)] {
            assert!(missed(None, &scores).is_some_and(|why| why.contains("loss on the held-out")), "{scores:?}");
        }
        assert_eq!(missed(None, &classes(0.7)), None);
        let gates = Gates { accuracy_min: Some(0.6), perplexity_max: None };
        assert!(missed(Some(&gates), &classes(0.7)).is_some_and(|why| why.contains("accuracy_min")));
    }
}
