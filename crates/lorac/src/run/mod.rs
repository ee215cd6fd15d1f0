//! `lorac run`: a pipeline from its first source to its last artifact.
//!
//! Everything that can be told beforehand is found before anything is trained, and what an earlier run has left in the
//! output folder stays as it is until this one has succeeded.

mod card;
mod data;
mod emit;
mod finish;
mod folder;
mod input_limits;
mod logs;
mod plan;
mod record;
mod rehearsal;
mod targets;
mod update;

pub use folder::default_folder;
pub use plan::{Plan, plan};

use crate::deploy;
use crate::error::Error;
use crate::output::{Manifest, MetricsEval};
use crate::pipeline::Loaded;
use crate::progress::Progress;
use crate::source::Resolver;
use crate::stop::{Stoppable, stopped};
use finish::{REPORT, finish, rejected, verify, write};
use folder::{Folder, Reserve};
use logs::{Logs, Pace};
use lorac_data::{Dataset, Sampler};
use lorac_runtime::Program;
use lorac_train::{
    Checkpoint, Count, Evaluate, Evaluation, Event, Fit, Kept, Scores, Step, Summary, TrainError, evaluate, fit,
    initial_theta, theta_program, training_program,
};
use rehearsal::Reserved;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

/// How a run is started.
#[derive(Clone, Debug)]
pub struct RunOptions<'a> {
    /// The output folder.
    pub out: PathBuf,
    /// The command line, for the manifest and for other runs that want the folder.
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

/// A training that is about to begin: all that comes after it has been tried.
struct Ready {
    plan: Plan,
    step: Step,
    evaluator: Box<dyn Program>,
    before: Scores,
    reserved: Reserved,
}

/// A training that has come to its end.
struct Fitted {
    theta: Vec<f32>,
    evaluator: Box<dyn Program>,
    logs: Logs,
    before: Scores,
    summary: Summary,
    events: Vec<Event>,
    /// Space for the manifest and the report.
    records: Reserve,
}

/// Files below a folder, with their kinds.
type Files = Vec<(String, &'static str)>;

/// Runs a pipeline. `stop` ends it after the step or batch under way.
///
/// # Errors
/// Bad input and what would fail after the training, before anything is trained, and what fails on the way. The files of
/// an earlier run in the output folder are then as they were; once there are trained parameters, they are in a checkpoint.
pub fn run(loaded: &Loaded, resolver: &Resolver, options: &RunOptions, stop: &AtomicBool) -> Result<Outcome, Error> {
    let progress = options.progress;
    let mut folder = Folder::open(&options.out, &options.command)?;
    if !folder.is_locked() {
        let path = folder.path().display();
        progress.warning(&format!("the file system of {path} has no locks: nothing keeps other runs out of it"));
    }
    logs::check(loaded)?;
    let ready = prepare(&folder, loaded, resolver, options, stop);
    stopped(stop, || Error::Interrupted("nothing is trained yet".into()))?;
    let Ready { plan, mut step, evaluator, before, reserved } = ready?;
    let log = folder.begin()?;
    let mut logs = Logs::begin(log, &[], &folder, loaded, &plan, options)?;
    let warn = |said: Vec<String>| said.iter().for_each(|why| progress.warning(why));
    warn(logs.eval(&MetricsEval::first(&before)));
    let mut events: Vec<Event> = Vec::new();
    let summary = train(&plan, &mut step, &folder, progress, stop, |event| {
        let (pace, said) = logs.step(event);
        warn(said);
        events.push(*event);
        pace
    })?;
    if let Some(kept) = &summary.interrupted {
        logs.close();
        return Err(interrupted(kept, summary.steps));
    }
    progress.line(&format!(
        "trained   {} steps in {:.1} s, loss {:.4} -> {:.4}, {:.0} tokens/s",
        summary.steps,
        summary.seconds,
        summary.loss_first,
        summary.loss_last,
        summary.tokens as f64 / summary.seconds
    ));

    // What has been set aside is for what is written from here on.
    let Reserved { artifacts, records } = reserved;
    drop(artifacts);
    let checkpoint = Checkpoint::of(&step)?.keep(&folder.checkpoints());
    if let Kept(Err(why)) = &checkpoint {
        progress.warning(&format!("the trained parameters could not be saved before the model is written: {why}"));
    }
    let steps = summary.steps;
    let fitted = Fitted { theta: step.theta()?, evaluator, logs, before, summary, events, records };
    drop(step);
    match finish(loaded, options, &plan, &folder, fitted, stop) {
        Ok(outcome) => {
            forget(&checkpoint, &folder);
            Ok(outcome)
        }
        Err(_) if stop.load(Ordering::Relaxed) => Err(interrupted(&checkpoint, steps)),
        Err(error) => Err(Error::Trained { checkpoint, error: Box::new(error) }),
    }
}

/// Finds and checks all that the run needs, and tries what comes after the training.
fn prepare(
    folder: &Folder,
    loaded: &Loaded,
    resolver: &Resolver,
    options: &RunOptions,
    stop: &AtomicBool,
) -> Result<Ready, Error> {
    let p = &loaded.pipeline;
    let mut plan = plan(loaded, resolver, options.progress, options.emit.as_deref())?;
    let untrained = || Error::Interrupted("nothing is trained yet".into());
    stopped(stop, untrained)?;
    for format in deploy::chosen(&p.deploy.formats) {
        let notes = format.check(&plan, folder.path())?;
        notes.iter().for_each(|note| options.progress.line(&format!("note      {note}")));
        plan.notes.extend(notes);
    }
    let start = initial_theta(&plan.training.params, p.train.seed).map_err(TrainError::from)?;
    let reserved = rehearsal::deploy(&plan, loaded, folder, &start, options.progress, stop)?;
    stopped(stop, untrained)?;
    let backend = plan.engine.backend.as_ref();
    let mut step = training_program(backend, &plan.training, &start, p.train.seed)?;
    rehearsal::step(&plan, &mut step)?;
    stopped(stop, untrained)?;
    let mut evaluator = theta_program(backend, &plan.training.eval, &start)?;
    let before = evaluation(&plan, evaluator.as_mut(), options.progress, "before", stop)?;
    let before = scored(&before, &plan, loaded);
    options.progress.line(&format!("before    {}", describe(&before)));
    Ok(Ready { plan, step, evaluator, before, reserved })
}

fn interrupted(kept: &Kept, steps: u64) -> Error {
    Error::Interrupted(format!(
        "the parameters and the state of the optimizer behind step {steps} {kept}; `lorac run` cannot continue from \
         them yet and begins anew"
    ))
}

/// Removes the checkpoint of a run that has succeeded, where the output folder did not take it.
fn forget(Kept(checkpoint): &Kept, folder: &Folder) {
    if let Ok(file) = checkpoint
        && !file.starts_with(folder.path())
    {
        // What cannot be removed does no harm.
        _ = std::fs::remove_file(file);
        _ = file.parent().map(std::fs::remove_dir);
    }
}

fn describe(s: &Scores) -> String {
    if s.scores.is_empty() {
        return "not evaluated: nothing is held out".into();
    }
    let named: Vec<String> = s.scores.iter().map(|s| format!("{} {:.4}", s.name, s.value)).collect();
    format!("{} on {}", named.join(", "), s.count)
}

/// What is said of an evaluation of the run's model.
fn scored(evaluation: &Evaluation, plan: &Plan, loaded: &Loaded) -> Scores {
    if plan.eval.is_empty() {
        return Scores { scores: Vec::new(), count: Count::Examples(0) };
    }
    Scores::of(evaluation, &loaded.pipeline.metrics.names(plan.task.metrics()))
}

/// Evaluates the model; ends early, with an error, where `stop` is set.
fn evaluation(
    plan: &Plan,
    evaluator: &mut dyn Program,
    progress: &dyn Progress,
    what: &str,
    stop: &AtomicBool,
) -> Result<Evaluation, Error> {
    if plan.eval.is_empty() {
        return Ok(Evaluation::new(plan.task.prediction()));
    }
    let evaluator = &mut Stoppable { program: evaluator, stop };
    progress.begin(what, plan.eval.len() as u64);
    let job = Evaluate {
        data: &plan.eval,
        feeds: &plan.feeds,
        batch: plan.eval_batch,
        kind: plan.task.prediction(),
        prediction: &plan.training.prediction,
        classes: plan.task.labels(),
        names: &plan.training.names,
    };
    let mut done = 0;
    let evaluation = evaluate(evaluator, &job, |rows| {
        done += rows as u64;
        progress.at(done, "");
    });
    progress.end();
    Ok(evaluation?)
}

fn train(
    plan: &Plan,
    step: &mut Step,
    folder: &Folder,
    progress: &dyn Progress,
    stop: &AtomicBool,
    mut observe: impl FnMut(&Event) -> Pace,
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
        unsaved: &|error| progress.warning(&format!("{error}: the training goes on without this checkpoint")),
        stop,
    };
    let summary = fit(step, &job, |event| {
        let tokens = observe(event).tokens_per_second;
        progress.at(event.step, &format!("loss {:.4}  lr {:.2e}  {tokens:.0} tokens/s", event.loss, event.lr));
        Ok(())
    });
    progress.end();
    Ok(summary?)
}

/// Batches in the order of a sampler.
fn sampler(data: &Dataset, batch: usize, seed: u64, by_length: bool) -> Result<Sampler, Error> {
    let sampler = Sampler::new(data.len(), batch, seed, false)?;
    Ok(if by_length { sampler.by_length(data.lengths())? } else { sampler })
}
