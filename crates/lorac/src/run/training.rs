//! The training itself, and what is kept of it.

use super::Plan;
use super::folder::Folder;
use super::logs::Pace;
use super::resume::{self, Resumed};
use super::stream::Streamed;
use crate::error::Error;
use crate::pipeline::{CheckpointOptions, Loaded};
use crate::progress::Progress;
use lorac_ir::Tensor;
use lorac_train::{
    Best, Checkpoint, Checkpoints, Evaluations, Event, Fit, History, Kept, Scores, Step, Stream, Summary, TrainError,
    fit,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// A training, from its first step on or from a checkpoint's.
pub(super) struct Training {
    /// The program.
    pub(super) step: Step,
    /// How it went so far.
    pub(super) history: History,
    /// Its number, the same in all its processes.
    pub(super) run: u64,
    /// The best parameters with their step, where this process has seen them.
    pub(super) best: Option<(u64, Vec<f32>)>,
    /// The part of the time of its steps in which the engine computed, in this process.
    pub(super) busy: f64,
}

/// What goes on beside a training.
pub(super) struct Meanwhile<'a> {
    /// What hears how far it is.
    pub(super) progress: &'a dyn Progress,
    /// Set when the user wants to stop.
    pub(super) stop: &'a AtomicBool,
    /// What scores the parameters of a step; nothing where it is stopped meanwhile.
    pub(super) evaluate: &'a mut dyn FnMut(&Step) -> Result<Option<Scores>, TrainError>,
    /// What hears of every step, and knows the pace.
    pub(super) observe: &'a mut dyn FnMut(&Event) -> Pace,
}

/// What is left of a training.
pub(super) struct Learnt {
    /// What was learnt.
    pub(super) checkpoint: Checkpoint,
    /// Where that is kept until the run has succeeded.
    pub(super) kept: Kept,
    /// Whether this process has put it there.
    pub(super) new: bool,
    /// Steps whose checkpoints stay.
    pub(super) steps: BTreeSet<u64>,
    /// How it went.
    pub(super) summary: Summary,
}

impl Learnt {
    /// What an earlier process has learnt.
    pub(super) fn before(resumed: Resumed, asked: Option<&CheckpointOptions>) -> Learnt {
        let Resumed { path, checkpoint, run, .. } = resumed;
        let folder = path.parent().unwrap_or(Path::new(""));
        let steps = steps_that_stay(run, folder, asked, &checkpoint.history);
        let summary = checkpoint.history.summary(checkpoint.step, None);
        Learnt { checkpoint: checkpoint.params_only(), kept: Kept(Ok(path)), new: false, steps, summary }
    }
}

/// Steps whose checkpoints stay when the run has succeeded: none, where none was asked for.
fn steps_that_stay(run: u64, folder: &Path, asked: Option<&CheckpointOptions>, history: &History) -> BTreeSet<u64> {
    let Some(asked) = asked else { return BTreeSet::new() };
    let all = resume::steps_of(run, folder);
    let best = history.best.map(|best| best.step).filter(|best| all.contains(best));
    all.iter().rev().take(asked.keep).copied().chain(best).collect()
}

/// The number of a training that begins.
pub(super) fn number() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or_default())
}

impl Training {
    /// Trains to the end, or until the user stops it.
    ///
    /// # Errors
    /// Those of [`fit`].
    pub(super) fn run(
        &mut self,
        plan: &Plan,
        loaded: &Loaded,
        folder: &Folder,
        meanwhile: Meanwhile,
    ) -> Result<Summary, Error> {
        let Meanwhile { progress, stop, evaluate, observe } = meanwhile;
        let to = self.checkpoints(plan, loaded, folder);
        progress.begin("training", plan.rate.total);
        let options = &loaded.pipeline.train;
        let streamed = plan.stream.as_ref().map(|rows| Streamed {
            rows,
            task: &plan.task,
            batch: plan.steps.batch,
            by_length: options.by_length,
            seed: options.seed,
        });
        let job = Fit {
            data: &plan.train,
            stream: streamed.as_ref().map(|stream| stream as &dyn Stream),
            feeds: &plan.feeds,
            sampler: &plan.sampler,
            slicing: plan.steps.most,
            rows: plan.steps.fill,
            rate: plan.rate.clone(),
            checkpoints: &to,
            unsaved: &|error| progress.warning(&format!("{error}: the training goes on without this checkpoint")),
            stop,
        };
        let mut evaluations = options.evaluated_every().map(|every| Evaluations {
            every,
            best: options.best().map(String::from),
            patience: options.patience(plan.task.metrics()),
            evaluate,
            kept: None,
        });
        let before = (self.step.engine_time, self.history.seconds);
        let summary = fit(&mut self.step, &mut self.history, &job, evaluations.as_mut(), |event| {
            let speed = speed(observe(event).tokens_per_second, "  ");
            progress.at(event.step, &format!("loss {:.4}  lr {:.2e}{speed}", event.loss, event.lr));
            Ok(())
        });
        progress.end();
        let computed = (self.step.engine_time - before.0).as_secs_f64();
        self.busy = computed / (self.history.seconds - before.1);
        self.best = evaluations.and_then(|evaluations| evaluations.kept);
        Ok(summary?)
    }

    fn checkpoints(&self, plan: &Plan, loaded: &Loaded, folder: &Folder) -> Checkpoints {
        let options = plan.checkpoint.clone().unwrap_or_else(CheckpointOptions::unasked);
        let folder = folder.checkpoints();
        Checkpoints {
            every: Some(options.every),
            keep: options.keep,
            earlier: resume::steps_of(self.run, &folder),
            about: self.about(plan, loaded),
            folder,
        }
    }

    /// The parameters behind a step, from memory or from its checkpoint.
    fn params_of(&self, step: u64, folder: &Folder) -> Option<Vec<f32>> {
        if let Some((_, theta)) = self.best.as_ref().filter(|best| best.0 == step) {
            return Some(theta.clone());
        }
        let file = folder.checkpoints().join(format!("step-{step}.safetensors"));
        Checkpoint::load(&file).ok()?.learnt(&self.step.layout).ok()
    }

    fn about(&self, plan: &Plan, loaded: &Loaded) -> BTreeMap<String, String> {
        resume::about(plan, &loaded.pipeline.runtime.options(), self.run)
    }

    /// What was learnt, kept until it is deployed: the best parameters, where those are asked for.
    ///
    /// # Errors
    /// What the engine says.
    pub(super) fn end(
        mut self,
        plan: &Plan,
        loaded: &Loaded,
        folder: &Folder,
        progress: &dyn Progress,
        mut summary: Summary,
    ) -> Result<Learnt, Error> {
        let mut learnt = self.step.update.average.is_some().then(|| self.step.learnt()).transpose()?;
        let best = self.history.best.filter(|best| best.step != self.step.taken);
        if let (Some(name), Some(best)) = (loaded.pipeline.train.best(), best) {
            let Best { step, score } = best;
            match self.params_of(step, folder) {
                Some(theta) => {
                    learnt = Some(theta);
                    self.history.deployed = Some(step);
                    summary.deployed = Some(step);
                    progress.line(&format!("best      step {step} of {}: {name} {score:.4}", summary.steps));
                }
                None => progress.warning(&format!(
                    "the parameters of step {step}, the best by {name}, are lost: those of step {} are deployed",
                    summary.steps
                )),
            }
        }
        if let Some(theta) = learnt {
            self.step.program.set_state(&self.step.names.theta, &Tensor::vector(&theta))?;
        }
        let mut about = self.about(plan, loaded);
        about.insert(resume::TRAINED.into(), "true".into());
        let checkpoint = Checkpoint::of(&self.step, &self.history, &about)?;
        let kept = checkpoint.keep(&folder.checkpoints());
        let steps = steps_that_stay(self.run, &folder.checkpoints(), plan.checkpoint.as_ref(), &self.history);
        Ok(Learnt { checkpoint: checkpoint.params_only(), kept, new: true, steps, summary })
    }
}

/// Tokens of a second, behind a separator; nothing of what is not made of tokens.
pub(super) fn speed(tokens_per_second: f64, separator: &str) -> String {
    if tokens_per_second > 0.0 { format!("{separator}{tokens_per_second:.0} tokens/s") } else { String::new() }
}
