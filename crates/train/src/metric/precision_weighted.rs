//! The mean of every class's precision, by support.

use super::average::{Average, RATE, Rate, averaged};
use super::{Definition, Evaluation, Metric};

/// The mean of the classes' precision, each weighted by how often it is present.
pub struct PrecisionWeighted;

impl Metric for PrecisionWeighted {
    fn definition(&self) -> Definition {
        Definition {
            about: "Mean of the classes' precision, each weighted by its support",
            formula: "the mean of TP / (TP + FP) over classes, weighted by TP + FN",
            source: "sklearn.metrics.precision_score(average=\"weighted\")",
            synonyms: &["weighted_precision", "precision_weighted_avg"],
            ..RATE
        }
    }

    fn score(&self, evaluation: &Evaluation) -> f64 {
        averaged(Rate::Precision, Average::Weighted, evaluation)
    }
}
