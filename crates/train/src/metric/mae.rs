//! The mean absolute error.

use super::{Better, Definition, Evaluation, Metric, Prediction};

/// The mean of the absolute differences of prediction and target.
pub struct Mae;

impl Metric for Mae {
    fn definition(&self) -> Definition {
        Definition {
            about: "Mean of the absolute errors",
            formula: "the mean of |y - t|",
            source: "sklearn.metrics.mean_absolute_error",
            range: "infinity to 0",
            better: Better::Lower,
            suits: &[Prediction::Values],
            classes: None,
            synonyms: &["mean_absolute_error"],
        }
    }

    fn score(&self, evaluation: &Evaluation) -> f64 {
        let errors: f64 = evaluation.rows().map(|(row, target)| (f64::from(row[0]) - target).abs()).sum();
        errors / evaluation.targets.len() as f64
    }
}
