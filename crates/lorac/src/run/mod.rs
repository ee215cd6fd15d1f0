//! `lorac run`: a pipeline from its first source to its last artifact.
//!
//! Everything that can be told beforehand is found before anything is trained, and what an earlier run has left in the
//! output folder stays as it is until this one has succeeded.

mod beside;
mod card;
mod compiler;
pub(crate) mod data;
pub(crate) mod decoder;
mod emit;
mod evaluator;
mod finish;
mod folder;
mod free;
pub(crate) mod input_limits;
mod interruptible;
mod keys;
mod labels;
mod language;
mod logs;
mod memory;
pub(crate) mod opened;
mod packed;
mod part;
pub(crate) mod plan;
mod record;
mod rehearsal;
mod resume;
mod slices;
mod steps;
mod stream;
mod targets;
pub(crate) mod task;
mod token_cache;
mod tokens;
mod training;
mod update;
mod warm;
mod watch;

pub use beside::Beside;
pub use folder::default_folder;
pub use keys::{Difference, Keys};
pub use plan::{Plan, plan};
pub use resume::{ResumeError, ResumeFrom};
pub use slices::StepShape;

use crate::deploy;
use crate::error::Error;
use crate::output::{Manifest, MetricsEval};
use crate::pipeline::Loaded;
use crate::progress::Progress;
use crate::source::Resolver;
use crate::stop::stopped;
use crate::writing::SHOWN;
use evaluator::Evaluator;
use finish::{REPORT, finish, rejected, verify, write};
use folder::{Folder, Reserve};
use logs::Logs;
use lorac_data::{Dataset, Sampler};
use lorac_train::{Count, Evaluation, Event, Generated, History, Kept, Scores, training_program};
use rehearsal::Reserved;
use resume::{Candidates, Logged, Resumed, candidates};
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use training::{Learnt, Meanwhile, Training};
use watch::evaluating;

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

/// A run all of whose inputs are there.
enum Prepared {
    /// It was finished before, and nothing has changed since.
    Finished(Box<Outcome>),
    /// It is about to begin.
    Ready(Box<Ready>),
}

/// A run that is about to begin: all that comes after the training has been tried.
struct Ready {
    plan: Plan,
    work: Work,
    evaluator: Evaluator,
    before: Before,
    logged: Logged,
}

/// What is left to do before the result is deployed.
enum Work {
    /// To train, from the first step on or from a checkpoint's.
    Train(Box<Training>, Reserved),
    /// Nothing: it was trained before.
    Trained(Box<Learnt>),
}

/// A training that has come to its end.
struct Fitted {
    theta: Vec<f32>,
    learnt: Learnt,
    evaluator: Evaluator,
    logs: Logs,
    before: Before,
    events: Vec<Event>,
    /// Space for the manifest and the report.
    records: Reserve,
}

/// What an untrained model is scored by.
struct Before {
    scores: Scores,
    /// Some of the texts that it writes.
    texts: Vec<Generated>,
}

/// Files below a folder, with their kinds.
type Files = Vec<(String, &'static str)>;

/// Runs a pipeline. `stop` ends it after the step or batch under way.
///
/// # Errors
/// Bad input and what would fail after the training, before anything is trained, and what fails on the way. The files of
/// an earlier run in the output folder are then as they were; once there are trained parameters, they are in a checkpoint.
pub fn run(loaded: &Loaded, resolver: &Resolver, options: &RunOptions, stop: &AtomicBool) -> Result<Outcome, Error> {
    begin(loaded, resolver, options, None, stop)
}

/// Goes on with a run that has ended early, from a checkpoint, to the bits that it would have come to. Where it was
/// trained to its end already it is only deployed, and where nothing at all has changed since it was finished nothing is
/// done.
///
/// # Errors
/// As [`run`], and [`ResumeError`].
pub fn resume(
    loaded: &Loaded,
    resolver: &Resolver,
    options: &RunOptions,
    from: &ResumeFrom,
    stop: &AtomicBool,
) -> Result<Outcome, Error> {
    begin(loaded, resolver, options, Some(from), stop)
}

fn begin(
    loaded: &Loaded,
    resolver: &Resolver,
    options: &RunOptions,
    from: Option<&ResumeFrom>,
    stop: &AtomicBool,
) -> Result<Outcome, Error> {
    let progress = options.progress;
    let mut folder = Folder::open(&options.out, &options.command)?;
    if !folder.is_locked() {
        let path = folder.path().display();
        progress.warning(&format!("the file system of {path} has no locks: nothing keeps other runs out of it"));
    }
    logs::check(loaded)?;
    let candidates = from.map(|from| candidates(&folder, from)).transpose()?;
    let prepared = prepare(&folder, loaded, resolver, options, candidates.as_ref(), stop);
    stopped(stop, || untrained(from))?;
    let Ready { plan, work, mut evaluator, before, logged } = match prepared? {
        Prepared::Finished(outcome) => return Ok(*outcome),
        Prepared::Ready(ready) => *ready,
    };
    let log = folder.begin(&logged.lines)?;
    let mut logs = Logs::begin(log, &logged.lines, &folder, loaded, &plan, options)?;
    let warn = |said: Vec<String>| said.iter().for_each(|why| progress.warning(why));
    if logged.lines.is_empty() {
        warn(logs.eval(&MetricsEval::first(&before.scores).showing(&before.texts)));
    }
    let mut events = logged.events;
    let (learnt, records) = match work {
        Work::Trained(learnt) => (*learnt, Reserve::default()),
        Work::Train(mut training, reserved) => {
            let shared = RefCell::new(logs);
            let mut evaluate = evaluating(&plan, loaded, &mut evaluator, &shared, progress, stop);
            let mut observe = |event: &Event| {
                let (pace, said) = shared.borrow_mut().step(event);
                warn(said);
                events.push(*event);
                pace
            };
            let meanwhile = Meanwhile { progress, stop, evaluate: &mut evaluate, observe: &mut observe };
            let summary = training.run(&plan, loaded, &folder, meanwhile);
            drop(evaluate);
            logs = shared.into_inner();
            let summary = summary?;
            if let Some(kept) = &summary.interrupted {
                logs.close();
                logs.wait(progress);
                return Err(interrupted(loaded, options, kept, summary.steps));
            }
            progress.line(&format!(
                "trained   {} steps in {:.1} s, loss {:.4} -> {:.4}{}, engine busy {:.1}%",
                summary.steps,
                summary.seconds,
                summary.loss_first,
                summary.loss_last,
                training::speed(summary.tokens as f64 / summary.seconds, ", "),
                training.busy * 100.0
            ));
            if let Some(stream) = &plan.stream {
                progress.line(&format!("stream    {}", stream.card().describe()));
            }
            // What has been set aside is for what is written from here on.
            let Reserved { artifacts, records } = reserved;
            drop(artifacts);
            if summary.steps < plan.rate.total {
                progress.line(&format!(
                    "ended     early, behind step {} of {}: the evaluations get no better",
                    summary.steps, plan.rate.total
                ));
            }
            (training.end(&plan, loaded, &folder, progress, summary)?, records)
        }
    };
    if let Kept(Err(why)) = &learnt.kept {
        progress.warning(&format!("the trained parameters could not be saved before the model is written: {why}"));
    }
    let (kept, steps, new) = (learnt.kept.clone(), learnt.summary.steps, learnt.new);
    let theta = learnt.checkpoint.theta(&plan.training.layout)?;
    let fitted = Fitted { theta, learnt, evaluator, logs, before, events, records };
    match finish(loaded, options, &plan, &folder, fitted, stop) {
        Ok(outcome) => {
            if new {
                forget(&kept, &folder);
            }
            Ok(outcome)
        }
        Err(_) if stop.load(Ordering::Relaxed) => Err(interrupted(loaded, options, &kept, steps)),
        Err(error) => {
            let resume = continued(loaded, options, &kept);
            Err(Error::Trained { checkpoint: kept, resume, error: Box::new(error) })
        }
    }
}

/// Finds and checks all that the run needs, and tries what comes after the training.
fn prepare(
    folder: &Folder,
    loaded: &Loaded,
    resolver: &Resolver,
    options: &RunOptions,
    candidates: Option<&Candidates>,
    stop: &AtomicBool,
) -> Result<Prepared, Error> {
    let (p, progress) = (&loaded.pipeline, options.progress);
    let had = candidates.and_then(Candidates::batch);
    let mut plan = plan::going_on(loaded, resolver, progress, options.emit.as_deref(), had)?;
    // Whoever hears of it says it better.
    let untrained = || untrained(None);
    stopped(stop, untrained)?;
    let resumed = candidates.map(|all| all.choose(&plan, &p.runtime.options(), progress)).transpose()?;
    if resumed.is_some()
        && let Some(outcome) = resume::finished(loaded, &plan, folder)
    {
        progress.line("finished  the run is finished, and nothing has changed since: there is nothing to do");
        return Ok(Prepared::Finished(Box::new(outcome)));
    }
    for format in deploy::chosen(&p.deploy.formats) {
        let notes = format.check(&plan, folder.path())?;
        notes.iter().for_each(|note| progress.line(&format!("note      {note}")));
        plan.notes.extend(notes);
    }
    let start = warm::start(&plan, loaded, progress)?;
    let (work, logged) = match resumed {
        Some(resumed) if resumed.is_trained => {
            let (path, step) = (resumed.path.display(), resumed.checkpoint.step);
            progress.line(&format!("trained   before, {step} steps: the parameters are those of {path}"));
            rehearsal::in_the_way_of_records(folder)?;
            let logged = Logged::beside(&resumed.path, step);
            (Work::Trained(Box::new(Learnt::before(resumed, plan.checkpoint.as_ref()))), logged)
        }
        resumed => {
            let reserved = rehearsal::deploy(&plan, loaded, folder, &start, progress, stop)?;
            stopped(stop, untrained)?;
            let mut step = training_program(plan.engine.backend.as_ref(), &plan.training, &start, p.train.seed)?;
            rehearsal::step(&plan, &mut step)?;
            let (mut history, mut run, mut logged) = (History::default(), training::number(), Logged::default());
            if let Some(Resumed { path, checkpoint, run: number, .. }) = resumed {
                checkpoint.restore(&mut step)?;
                logged = Logged::beside(&path, checkpoint.step);
                let note = format!("continued behind step {} from {}", checkpoint.step, path.display());
                progress.line(&note);
                plan.notes.push(note);
                (history, run) = (checkpoint.history, number);
            }
            (Work::Train(Box::new(Training { step, history, run, best: None, busy: 0.0 }), reserved), logged)
        }
    };
    stopped(stop, untrained)?;
    let (mut evaluator, note) = Evaluator::open(&plan, &start)?;
    if let Some(note) = note {
        progress.warning(&note);
        plan.notes.push(note);
    }
    packed::prove(loaded, &plan, evaluator.program.as_mut())?;
    if let Some(sees) = language::causal(loaded, &plan, evaluator.program.as_mut())? {
        progress.warning(&sees);
        plan.notes.push(sees);
    }
    let found = evaluator.evaluation(&plan, progress, "before", stop)?;
    let scores = scored(&found, &plan, loaded);
    progress.line(&format!("before    {}", describe(&scores)));
    let texts = found.texts.into_iter().take(SHOWN).collect();
    let before = Before { scores, texts };
    Ok(Prepared::Ready(Box::new(Ready { plan, work, evaluator, before, logged })))
}

/// The end of a run that the user has stopped before its first step.
fn untrained(from: Option<&ResumeFrom>) -> Error {
    let left = if from.is_some() { "the checkpoint is as it was" } else { "nothing is trained yet" };
    Error::Interrupted(left.into())
}

fn interrupted(loaded: &Loaded, options: &RunOptions, kept: &Kept, steps: u64) -> Error {
    let resume = continued(loaded, options, kept);
    Error::Interrupted(format!(
        "the parameters and the state of the optimizer behind step {steps} {kept}{}",
        resume.map_or(String::new(), |command| format!("; continue with: {command}"))
    ))
}

/// The command that goes on from a checkpoint, where there is one.
fn continued(loaded: &Loaded, options: &RunOptions, Kept(kept): &Kept) -> Option<String> {
    let file = kept.as_ref().ok()?;
    let mut words = vec!["lorac".to_string(), "run".into(), loaded.path.display().to_string()];
    words.extend(loaded.sets().iter().flat_map(|set| ["--set".to_string(), set.clone()]));
    if default_folder(Path::new(""), &loaded.pipeline.name).ok().as_ref() != Some(&options.out) {
        words.extend(["--out".to_string(), options.out.display().to_string()]);
    }
    words.push("--resume".into());
    if !file.starts_with(&options.out) {
        words.push(file.display().to_string());
    }
    Some(words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "))
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./=:,@+%".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_string(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
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

pub(crate) fn describe(s: &Scores) -> String {
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
    let mut names = loaded.pipeline.metrics.names(plan.task.metrics());
    let watched: Vec<&str> = loaded.pipeline.train.watched().filter(|name| !names.contains(name)).collect();
    names.extend(watched);
    Scores::of(evaluation, &names)
}

/// Batches in the order of a sampler.
fn sampler(data: &Dataset, batch: usize, seed: u64, by_length: bool) -> Result<Sampler, Error> {
    let sampler = Sampler::new(data.len(), batch, seed, false)?;
    Ok(if by_length { sampler.by_length(data.lengths())? } else { sampler })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_needs_it() {
        let quote = |words: &[&str]| words.iter().map(|w| quoted(w)).collect::<Vec<_>>().join(" ");
        assert_eq!(quote(&["run", "a/b.yaml", "train.steps=5"]), "run a/b.yaml train.steps=5");
        assert_eq!(quote(&["it's", "a b", "", "x[*]"]), "'it'\\''s' 'a b' '' 'x[*]'");
    }
}
