//! A training that goes on: the checkpoint that it goes on from, and what an earlier process has logged.

use super::folder::{self, Folder};
use super::keys::{Difference, Keys};
use super::{Outcome, Plan};
use crate::error::Error;
use crate::output::Manifest;
use crate::pipeline::Loaded;
use crate::progress::Progress;
use lorac_runtime::Options;
use lorac_train::{Checkpoint, Event, TrainError};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What a training goes on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResumeFrom {
    /// The newest checkpoint in the output folder.
    Newest,
    /// A checkpoint, or the newest one in the output folder of another run.
    Path(PathBuf),
}

/// Why a training cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// There is no checkpoint.
    #[error("{} holds no checkpoint that a training could go on from", .folder.display())]
    Nothing {
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// What was named is not a checkpoint.
    #[error("{0}: it is nothing that a training could go on from")]
    File(TrainError),
    /// The checkpoint is of another pipeline, model or data.
    #[error("{} is of another training: {}", .checkpoint.display(), listed(.differing))]
    Differs {
        /// The checkpoint.
        checkpoint: PathBuf,
        /// What differs.
        differing: Vec<Difference>,
    },
}

impl ResumeError {
    /// Stable name of the fault.
    pub fn code(&self) -> &'static str {
        match self {
            ResumeError::Nothing { .. } => "resume::nothing",
            ResumeError::File(_) => "resume::file",
            ResumeError::Differs { .. } => "resume::differs",
        }
    }

    /// What to do.
    pub(crate) fn advice(&self) -> &'static str {
        match self {
            ResumeError::Nothing { .. } => {
                "run the pipeline without --resume to begin, or name a checkpoint of another folder: --resume FILE"
            }
            ResumeError::File(_) => {
                "name a checkpoint, checkpoints/step-N.safetensors in an output folder; train.init_from begins with an \
                 adapter"
            }
            ResumeError::Differs { .. } => {
                "take the change back, run without --resume to begin anew, or begin with what was learnt: \
                 train.init_from: CHECKPOINT"
            }
        }
    }
}

/// More of them are a count.
const LISTED: usize = 12;

fn listed(differing: &[Difference]) -> String {
    let shown: Vec<String> = differing.iter().take(LISTED).map(ToString::to_string).collect();
    match differing.len().saturating_sub(LISTED) {
        0 => shown.join("; "),
        more => format!("{}; and {more} more keys", shown.join("; ")),
    }
}

/// Keys of what checkpoints say of their training.
const RUN: &str = "run";
const TRAINING: &str = "training";
const ENGINE: &str = "engine";
const STEPS: &str = "steps";
/// In those of a training that was done.
pub(super) const TRAINED: &str = "trained";
const EPOCH: &str = "steps_per_epoch";
const VERSION: &str = "lorac_version";

/// What computes: other numbers where it differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Engine {
    name: String,
    device: String,
    threads: usize,
}

impl Engine {
    fn of(plan: &Plan, options: &Options) -> Engine {
        let backend = &plan.engine.backend;
        Engine { name: backend.name(), device: backend.device().to_string(), threads: options.intra_threads() }
    }
}

/// What the checkpoints of a training say of it. `run` is the same in all its processes.
pub(super) fn about(plan: &Plan, options: &Options, run: u64) -> BTreeMap<String, String> {
    let json = |value: Result<String, serde_json::Error>| value.unwrap_or_default();
    let about = [
        (RUN, run.to_string()),
        (TRAINING, json(serde_json::to_string(&plan.keys))),
        (ENGINE, json(serde_json::to_string(&Engine::of(plan, options)))),
        (STEPS, plan.rate.total.to_string()),
        (EPOCH, plan.batches_per_epoch().map_or(String::new(), |epoch| epoch.to_string())),
        (VERSION, env!("CARGO_PKG_VERSION").to_string()),
    ];
    about.map(|(key, value)| (key.to_string(), value)).into()
}

/// A file that says that it is a checkpoint.
#[derive(Clone, Debug, PartialEq)]
struct Candidate {
    path: PathBuf,
    step: u64,
    /// The number of its training.
    run: u64,
    /// Whether the training was done.
    is_trained: bool,
    keys: Keys,
}

impl Candidate {
    fn read(path: &Path) -> Option<Candidate> {
        let (step, about) = folder::described(path)?;
        let number = |key: &str| about.get(key)?.parse::<u64>().ok();
        Some(Candidate {
            path: path.to_path_buf(),
            step,
            run: number(RUN).unwrap_or_default(),
            is_trained: about.contains_key(TRAINED),
            keys: about.get(TRAINING).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default(),
        })
    }
}

/// Checkpoints that a training may go on from, the likeliest first.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Candidates {
    folder: PathBuf,
    all: Vec<Candidate>,
}

/// A checkpoint that a training goes on from.
pub(super) struct Resumed {
    /// The file.
    pub(super) path: PathBuf,
    /// What it holds.
    pub(super) checkpoint: Checkpoint,
    /// The number of its training.
    pub(super) run: u64,
    /// Whether there is nothing left to train.
    pub(super) is_trained: bool,
}

/// Looks for checkpoints.
///
/// # Errors
/// [`ResumeError::Nothing`], and a file that is none.
pub(super) fn candidates(folder: &Folder, from: &ResumeFrom) -> Result<Candidates, Error> {
    let (files, folder) = match from {
        ResumeFrom::Newest => (folder::checkpoint_files(folder.path()), folder.path().to_path_buf()),
        ResumeFrom::Path(path) if path.is_dir() => (folder::checkpoint_files(path), path.clone()),
        ResumeFrom::Path(path) => {
            if Candidate::read(path).is_none() {
                // Whatever it is, this says why.
                Checkpoint::load(path).map_err(ResumeError::File)?;
            }
            (vec![path.clone()], path.clone())
        }
    };
    let mut all: Vec<Candidate> = files.iter().filter_map(|file| Candidate::read(file)).collect();
    all.sort_by_key(|c| std::cmp::Reverse((c.is_trained, c.run, c.step)));
    match all.is_empty() {
        true => Err(ResumeError::Nothing { folder }.into()),
        false => Ok(Candidates { folder, all }),
    }
}

impl Candidates {
    /// Examples of a batch of the newest.
    pub(super) fn batch(&self) -> Option<usize> {
        self.all.iter().max_by_key(|c| (c.run, c.step))?.keys.batch()
    }

    /// The one that a plan's training goes on from. One that cannot be read is told of, and the one before it is taken.
    ///
    /// # Errors
    /// [`ResumeError`], and what cannot be read where there is no other.
    pub(super) fn choose(&self, plan: &Plan, options: &Options, progress: &dyn Progress) -> Result<Resumed, Error> {
        let mut unreadable: Option<TrainError> = None;
        for candidate in self.all.iter().filter(|c| plan.keys.differing(&c.keys).is_empty()) {
            match Checkpoint::load(&candidate.path) {
                Ok(checkpoint) => {
                    warn_of_another_engine(&checkpoint, plan, options, progress);
                    let Candidate { path, run, is_trained, .. } = candidate.clone();
                    return Ok(Resumed { path, checkpoint, run, is_trained });
                }
                Err(error) => {
                    progress.warning(&format!("{error}: this checkpoint is passed over"));
                    unreadable = Some(error);
                }
            }
        }
        match (unreadable, self.all.iter().max_by_key(|c| (c.run, c.step))) {
            (Some(error), _) => Err(ResumeError::File(error).into()),
            (None, None) => Err(ResumeError::Nothing { folder: self.folder.clone() }.into()),
            (None, Some(newest)) => {
                let differing = plan.keys.differing(&newest.keys);
                Err(ResumeError::Differs { checkpoint: newest.path.clone(), differing }.into())
            }
        }
    }
}

/// The same bits are promised for the same engine only.
fn warn_of_another_engine(checkpoint: &Checkpoint, plan: &Plan, options: &Options, progress: &dyn Progress) {
    let here = Engine::of(plan, options);
    let shown = |e: &Engine, lorac: &str| {
        let threads = if e.threads == 1 { "1 thread".to_string() } else { format!("{} threads", e.threads) };
        format!("{} on {} with {threads}, lorac {lorac}", e.name, e.device)
    };
    let there = checkpoint.about.get(ENGINE).and_then(|text| serde_json::from_str::<Engine>(text).ok());
    let (version, own) = (checkpoint.about.get(VERSION).map_or("", String::as_str), env!("CARGO_PKG_VERSION"));
    match there {
        Some(there) if there == here && version == own => {}
        Some(there) => progress.warning(&format!(
            "the checkpoint was computed by {}, and the training goes on with {}: its numbers may differ in their last \
             digits from those that it would have had",
            shown(&there, version),
            shown(&here, own)
        )),
        None => progress.warning("the checkpoint does not say what engine has computed it"),
    }
}

/// What is left of the log of an earlier process: its lines up to the checkpoint's step, so that every step stands once.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Logged {
    /// The lines.
    pub(super) lines: Vec<String>,
    /// Those that are of steps.
    pub(super) events: Vec<Event>,
}

impl Logged {
    /// Reads the log beside a checkpoint; nothing where there is none of lorac's.
    pub(super) fn beside(checkpoint: &Path, step: u64) -> Logged {
        Logged::until(folder::lines_of_log_beside(checkpoint), step)
    }

    fn until(lines: Vec<String>, last: u64) -> Logged {
        let (mut logged, mut seen) = (Logged::default(), 0);
        for (i, line) in lines.into_iter().enumerate() {
            let Ok(value) = serde_json::from_str::<serde_json::Value>(&line) else { continue };
            let step = value.get("step").and_then(serde_json::Value::as_u64);
            // The first line is of the model before the training; others without a step are of none.
            if step.map_or(i > 0, |step| step > last) || value["eval"] == "after" {
                continue;
            }
            if let Ok(event) = serde_json::from_value::<Event>(value) {
                if event.step <= seen {
                    continue;
                }
                seen = event.step;
                logged.events.push(event);
            }
            logged.lines.push(line);
        }
        logged
    }
}

/// The outcome of a run that is finished as the pipeline says, with nothing changed since.
pub(super) fn finished(loaded: &Loaded, plan: &Plan, folder: &Folder) -> Option<Outcome> {
    let manifest = Manifest::read(folder.path()).ok()?;
    let own = serde_json::to_value(&loaded.pipeline).ok()?;
    let sums = |inputs: &[crate::output::InputRecord]| {
        inputs.iter().map(|i| (i.role.clone(), i.sha256.clone())).collect::<BTreeSet<_>>()
    };
    let same = manifest.pipeline.resolved == own
        && manifest.lorac_version == env!("CARGO_PKG_VERSION")
        && sums(&manifest.inputs) == sums(&plan.inputs)
        && manifest.artifacts.iter().all(|artifact| folder.holds(artifact));
    let gates = manifest.gates.iter().map(|gate| gate.message.clone()).collect();
    same.then_some(Outcome { manifest, gates })
}

/// The steps of a training whose checkpoints are in a folder.
pub(super) fn steps_of(run: u64, checkpoints: &Path) -> BTreeSet<u64> {
    let all = folder::steps_in(checkpoints).into_iter();
    let own = all.filter_map(|file| Candidate::read(&file)).filter(|c| c.run == run);
    own.map(|c| c.step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[&str]) -> Vec<String> {
        text.iter().map(|s| s.to_string()).collect()
    }

    #[test]
    fn every_step_stands_once_and_none_behind_the_checkpoint() {
        let step = |n: u64| {
            format!(
                r#"{{"step":{n},"epoch":1,"loss":0.{n},"lr":0.1,"grad_norm":1.0,"tokens":5,"seconds":{n}.5,"kind":"step"}}"#
            )
        };
        let first = r#"{"eval":"before","lorac_version":"0.1.0","loss":1.0}"#;
        let between = r#"{"eval":"between","step":2,"loss":0.5}"#;
        let later = r#"{"eval":"between","step":4,"loss":0.5}"#;
        let after = r#"{"eval":"after","step":3,"loss":0.1}"#;
        let all = [first, &step(1), &step(2), between, &step(3), &step(4), later, &step(2), after, "{\"step\":"];
        let logged = Logged::until(lines(&all), 3);
        assert_eq!(logged.lines, lines(&[first, &step(1), &step(2), between, &step(3)]));
        assert_eq!(
            logged.events.iter().map(|e| (e.step, e.seconds)).collect::<Vec<_>>(),
            [(1, 1.5), (2, 2.5), (3, 3.5)]
        );
        assert_eq!(Logged::until(Vec::new(), 3), Logged::default());
    }

    #[test]
    fn an_automatic_batch_is_that_of_the_newest_checkpoint_trained_or_not() {
        let candidate = |batch: usize, run: u64, is_trained: bool| {
            let mut keys = Keys::default();
            keys.decide("train.batch", &batch);
            Candidate { path: PathBuf::new(), step: 3, run, is_trained, keys }
        };
        let all = vec![candidate(64, 1, true), candidate(16, 2, false)];
        assert_eq!(Candidates { folder: PathBuf::new(), all }.batch(), Some(16));
    }

    #[test]
    fn a_few_differences_are_listed_and_many_counted() {
        let one = |i: usize| Difference { key: format!("k{i}"), there: Some(1.into()), here: Some(2.into()) };
        assert_eq!(listed(&[one(0), one(1)]), "`k0` is 1 there and 2 here; `k1` is 1 there and 2 here");
        assert!(
            listed(&(0..20).map(one).collect::<Vec<_>>()).ends_with("`k11` is 1 there and 2 here; and 8 more keys")
        );
    }
}
