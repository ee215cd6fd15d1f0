//! `train:`: how long and how fast the model learns.

use super::{BatchChoice, CheckpointOptions, EvaluateOptions, MemoryLimit, SliceChoice, SourceSpec, StopOptions};
use lorac_config::{Check, Problems};
use lorac_passes::{AdamW, Average, Clip, Groups, OptimizerChoice, ParamGroup};
use lorac_train::{LearningRate, Linear, ScheduleChoice};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How long and how fast the model learns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Train {
    /// Passes over the examples, where steps are not given
    pub epochs: f64,
    /// Steps of the whole training: where they are given, they alone decide
    pub steps: Option<usize>,
    /// Batch size: examples of a step, where `accumulate` is 1. auto: the largest power of two, up to 64 and to as many as there
    /// are, whose longest rows are computed at once within `memory`, or, where that is not given, within half of the memory that is
    /// free. The learning rate stays as it is, and a training that goes on has the number that it began with
    pub batch: BatchChoice,
    /// Gradient accumulation: batches of a step, which sees batch x accumulate examples and changes the parameters once
    pub accumulate: usize,
    /// How much of a batch is computed at once: so many rows, each such slice padded to its own longest, with the loss and the
    /// gradient of the whole batch. auto: about 1,000 tokens on a processor, where that is fastest, and all on a GPU
    pub slice: SliceChoice,
    /// The most memory that a step takes, by an estimate of the model, what is trained and what lies between: less of a batch
    /// is computed at once where that is needed, and nothing else changes. The engine itself takes more. Default: any
    pub memory: Option<MemoryLimit>,
    /// The optimizer
    pub optimizer: OptimizerChoice,
    /// The learning rate over time
    pub schedule: ScheduleChoice,
    /// Longest gradient (global norm); 0 for any. `{ value: 0.5 }` cuts its elements instead
    pub clip: Clip,
    /// Parameters with a learning rate or a weight decay of their own
    pub groups: Vec<ParamGroup>,
    /// Parameters without weight decay: names, globs over them, or roles, as in `groups`
    pub no_decay: Vec<String>,
    /// LoRA+ (Hayou et al. 2024): how many times the learning rate of A that of B is, for example 16
    pub lora_plus: Option<f64>,
    /// A running mean of the parameters, which is evaluated and deployed in their place: { decay: 0.999 }. Default: none
    pub ema: Option<Average>,
    /// Seed of the first parameters and of the order of examples
    pub seed: u64,
    /// Batches of texts of similar length: less padding
    pub by_length: bool,
    /// Examples at once in evaluation
    pub eval_batch: usize,
    /// Evaluations on the way. Default: none, or every epoch where `stop` or `checkpoint.best` needs them
    pub evaluate: Option<EvaluateOptions>,
    /// An early end: where the evaluations get no better. Default: none
    pub stop: Option<StopOptions>,
    /// What is saved on the way. Default: the newest state every 10 minutes, until the run has succeeded
    pub checkpoint: Option<CheckpointOptions>,
    /// What the params are before the first step, in place of drawn values: an adapter of PEFT, or a checkpoint
    pub init_from: Option<SourceSpec>,
}

impl Default for Train {
    fn default() -> Train {
        Train {
            epochs: 1.0,
            steps: None,
            batch: BatchChoice::Examples(16),
            accumulate: 1,
            slice: SliceChoice::Auto,
            memory: None,
            optimizer: AdamW::default().into(),
            schedule: Linear::default().into(),
            clip: Clip::Norm(1.0),
            groups: Vec::new(),
            no_decay: Vec::new(),
            lora_plus: None,
            ema: None,
            seed: 0,
            by_length: true,
            eval_batch: 32,
            evaluate: None,
            stop: None,
            checkpoint: None,
            init_from: None,
        }
    }
}

impl Train {
    /// What is not the same for all parameters.
    pub fn groups(&self) -> Groups<'_> {
        Groups { groups: &self.groups, no_decay: &self.no_decay, lora_plus: self.lora_plus }
    }

    /// Steps of the whole training.
    pub fn total_steps(&self, per_epoch: usize) -> usize {
        self.steps.unwrap_or((self.epochs * per_epoch as f64).round().max(1.0) as usize)
    }

    /// Reports a warm-up that is longer than a training of so many steps.
    pub fn check_length(&self, total: u64, problems: &mut Problems) {
        let warmup = self.schedule.warmup().steps(total);
        if warmup > total {
            let message = format!("`warmup` is {warmup} steps, and the whole training has {total}");
            let help = Some("shorten it, or train longer: train.steps, train.epochs".to_string());
            problems.within("train.schedule", |p| {
                p.within(self.schedule.name(), |p| p.report_with_help("warmup", "pipeline::range", message, help));
            });
        }
    }

    /// The learning rate over so many steps.
    pub fn learning_rate(&self, total: u64) -> LearningRate {
        LearningRate { lr: self.optimizer.lr(), total, schedule: self.schedule.clone() }
    }
}

impl Check for Train {
    fn check(&self, problems: &mut Problems) {
        problems.positive("epochs", self.epochs, 1e6);
        self.batch.check("batch", problems);
        problems.range("accumulate", self.accumulate as f64, 1.0, 1e5);
        self.slice.check("slice", problems);
        if let Some(limit) = self.memory {
            limit.check("memory", problems);
        }
        problems.range("eval_batch", self.eval_batch as f64, 1.0, 1e5);
        self.clip.check("clip", problems);
        if let Some(average) = &self.ema {
            problems.within("ema", |p| average.check(p));
        }
        for (i, group) in self.groups.iter().enumerate() {
            problems.within("groups", |p| p.within(i, |p| group.check(p)));
        }
        if let Some(ratio) = self.lora_plus {
            problems.positive("lora_plus", ratio, 1e4);
        }
        problems.range("steps", self.steps.unwrap_or(1) as f64, 1.0, 1e9);
        if let Some(evaluate) = &self.evaluate {
            problems.within("evaluate", |p| evaluate.check(p));
        }
        if let Some(stop) = &self.stop {
            problems.within("stop", |p| stop.check(p));
        }
        if let Some(checkpoint) = &self.checkpoint {
            problems.within("checkpoint", |p| checkpoint.check(p));
        }
        problems.within("optimizer", |p| self.optimizer.check(p));
        problems.within("schedule", |p| self.schedule.check(p));
        if let Some((key, rate)) = self.schedule.final_rate() {
            let lr = self.optimizer.lr();
            problems.within("schedule", |p| p.within(self.schedule.name(), |p| rate.check(key, lr, p)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lorac_train::{Cosine, FinalRate, Warmup};

    #[test]
    fn steps_alone_decide_where_they_are_given() {
        let steps = |epochs, steps| Train { epochs, steps, ..Train::default() }.total_steps(8);
        assert_eq!((steps(1.0, Some(100)), steps(50.0, Some(6))), (100, 6));
        assert_eq!((steps(2.5, None), steps(0.01, None)), (20, 1));
    }

    fn problems(train: &Train, total: u64) -> Vec<(String, String)> {
        let mut problems = Problems::default();
        train.check(&mut problems);
        train.check_length(total, &mut problems);
        problems.finish().into_iter().map(|p| (p.path, p.message)).collect()
    }

    #[test]
    fn schedules_that_cannot_be_followed_are_reported_at_their_keys() {
        let with = |schedule: ScheduleChoice| Train { schedule, ..Train::default() };
        let long = with(Linear { warmup: Warmup::Steps(9) }.into());
        assert_eq!(problems(&long, 9), []);
        let message = "`warmup` is 9 steps, and the whole training has 8".to_string();
        assert_eq!(problems(&long, 8), [("train.schedule.linear.warmup".to_string(), message)]);
        let high = with(Cosine { min: FinalRate::Rate(0.1), ..Cosine::default() }.into());
        assert_eq!(problems(&high, 8)[0].0, "schedule.cosine.min");
        let over = with(Linear { warmup: Warmup::Share(1.5) }.into());
        assert_eq!(problems(&over, 8)[0].0, "schedule.linear.warmup");
    }
}
