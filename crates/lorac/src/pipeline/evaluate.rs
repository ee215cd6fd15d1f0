//! `train.evaluate:` and `train.stop:`: evaluations while a training goes on, and what ends it early.

use super::metrics::{unknown_metric, unsuited};
use super::{Data, Train};
use crate::task::TaskChoice;
use lorac_config::{Check, Problems};
use lorac_train::{Every, Patience};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Evaluations while a training goes on, on the held-out examples
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EvaluateOptions {
    /// How often, by steps or epochs
    pub every: Every,
}

impl Check for EvaluateOptions {
    fn check(&self, problems: &mut Problems) {
        if let Every::Seconds(_) = self.every {
            let message = format!(
                "`every` is {}: evaluations decide what is trained and deployed, which must not depend on the clock",
                self.every
            );
            let help = Some("count steps or epochs: `200 steps`, `1 epoch`".to_string());
            problems.report_with_help("every", "pipeline::range", message, help);
        }
    }
}

/// An early end: a training that gets no better ends behind an evaluation
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StopOptions {
    /// The metric that is watched. Default: the first of the task
    pub metric: Option<String>,
    /// Evaluations in a row that are no better than the best before
    pub patience: u64,
    /// What a better one is better by, at least
    pub min_delta: f64,
}

impl Default for StopOptions {
    fn default() -> StopOptions {
        StopOptions { metric: None, patience: 3, min_delta: 0.0 }
    }
}

impl Check for StopOptions {
    fn check(&self, problems: &mut Problems) {
        problems.range("patience", self.patience as f64, 1.0, 1e9);
        problems.range("min_delta", self.min_delta, 0.0, 1e9);
        self.metric.iter().for_each(|name| unknown_metric("metric", name, problems));
    }
}

impl Train {
    /// How often the training is evaluated, if it is.
    pub fn evaluated_every(&self) -> Option<Every> {
        let asked = self.evaluate.as_ref().map(|evaluate| evaluate.every);
        let needed = self.stop.is_some() || self.best().is_some();
        asked.or(needed.then_some(Every::Epochs(1.0)))
    }

    /// The metric by which the parameters that are deployed are chosen; the last ones are, where there is none.
    pub fn best(&self) -> Option<&str> {
        self.checkpoint.as_ref()?.best.as_deref()
    }

    /// What ends the training early, for a task with these metrics.
    pub fn patience(&self, metrics: &[&str]) -> Option<Patience> {
        let StopOptions { metric, patience, min_delta } = self.stop.clone()?;
        let metric = metric.or_else(|| Some(metrics.first()?.to_string()))?;
        Some(Patience { metric, evaluations: patience, min_delta })
    }

    /// Metrics that are named here.
    pub fn watched(&self) -> impl Iterator<Item = &str> {
        self.best().into_iter().chain(self.stop.as_ref().and_then(|stop| stop.metric.as_deref()))
    }

    /// Reports what needs an evaluation, and evaluations that the data or the task do not have.
    pub(super) fn check_evaluations(&self, data: &Data, task: &TaskChoice, problems: &mut Problems) {
        let best = self.best().map(|name| ("checkpoint", "best", Some(name)));
        let stop = self.stop.as_ref().map(|stop| ("stop", "metric", stop.metric.as_deref()));
        let evaluate = self.evaluate.as_ref().map(|_| ("evaluate", "every", None));
        let classes = Some(task.labels().len()).filter(|classes| *classes > 0);
        for (section, key, name) in [evaluate, stop, best].into_iter().flatten() {
            problems.within(section, |p| {
                if data.eval.is_none() {
                    let message = format!("`{section}` needs held-out examples, and there are none");
                    let help = "give data.eval: a file, or a part of the training set: { split: 0.1 }";
                    p.report_with_help(
                        if name.is_some() { key } else { "" },
                        "pipeline::metrics",
                        message,
                        Some(help.into()),
                    );
                } else if let Some(name) = name {
                    unsuited(key, name, task.prediction(), classes, p);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(section: &dyn Check) -> Vec<String> {
        let mut problems = Problems::default();
        section.check(&mut problems);
        problems.finish().into_iter().map(|p| p.path).collect()
    }

    #[test]
    fn clocks_and_empty_patience_are_refused() {
        assert_eq!(found(&EvaluateOptions { every: Every::Seconds(60.0) }), ["every"]);
        assert!(found(&EvaluateOptions { every: Every::Epochs(0.5) }).is_empty());
        assert!(found(&StopOptions::default()).is_empty());
        let wrong = StopOptions { metric: Some("acuracy".into()), patience: 0, min_delta: -1.0 };
        assert_eq!(found(&wrong), ["patience", "min_delta", "metric"]);
    }
}
