//! The mean squared error.

use super::{Better, Definition, Evaluation, Metric, Prediction};

/// The mean of the squared differences of prediction and target.
pub struct Mse;

impl Metric for Mse {
    fn definition(&self) -> Definition {
        Definition {
            about: "Mean of the squared errors",
            formula: "the mean of (y - t)^2",
            source: "sklearn.metrics.mean_squared_error",
            range: "infinity to 0",
            better: Better::Lower,
            suits: &[Prediction::Values],
            classes: None,
            synonyms: &["mean_squared_error"],
        }
    }

    fn score(&self, evaluation: &Evaluation) -> f64 {
        let squares: f64 = evaluation.rows().map(|(row, target)| (f64::from(row[0]) - target).powi(2)).sum();
        squares / evaluation.targets.len() as f64
    }
}
