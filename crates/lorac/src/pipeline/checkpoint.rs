//! `train.checkpoint:`: what of a training is saved on the way.

use super::offer_value;
use lorac_config::{Check, Problems};
use lorac_train::{Every, METRICS, metric};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What of a training is saved on the way: `lorac run PIPELINE --resume` goes on from it
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckpointOptions {
    /// How often
    pub every: Every,
    /// How many of the newest stay; they stay when the run has succeeded, too
    #[serde(default = "usual_keep")]
    pub keep: usize,
    /// A metric by which the best parameters of all evaluations are deployed, not the last; their checkpoint stays as well
    #[serde(default)]
    pub best: Option<String>,
}

fn usual_keep() -> usize {
    3
}

impl CheckpointOptions {
    /// What is saved where the pipeline says nothing of it. Nothing of that stays when the run has succeeded.
    pub fn unasked() -> CheckpointOptions {
        CheckpointOptions { every: Every::Seconds(600.0), keep: 1, best: None }
    }
}

impl Check for CheckpointOptions {
    fn check(&self, problems: &mut Problems) {
        problems.range("keep", self.keep as f64, 1.0, 1e6);
        if let Some(name) = self.best.as_ref().filter(|name| metric(name).is_none()) {
            let known: Vec<&str> = METRICS.iter().map(|m| m.0).collect();
            let help = Some(offer_value(name, &known));
            problems.report_with_help("best", "pipeline::unknown_value", format!("unknown metric `{name}`"), help);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keep_and_best_are_checked() {
        let mut problems = Problems::default();
        CheckpointOptions { keep: 0, best: Some("acuracy".into()), ..CheckpointOptions::unasked() }
            .check(&mut problems);
        let found: Vec<_> = problems.finish().into_iter().map(|p| (p.path, p.help)).collect();
        assert_eq!(found, [("keep".to_string(), None), ("best".to_string(), Some("nearest: accuracy".to_string()))]);
        let mut problems = Problems::default();
        CheckpointOptions { best: Some("loss".into()), ..CheckpointOptions::unasked() }.check(&mut problems);
        assert_eq!(problems.finish(), []);
    }
}
