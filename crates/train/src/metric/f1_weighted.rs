//! The mean of every class's F1, by support.

use super::average::{Average, RATE, Rate, averaged};
use super::{Definition, Evaluation, Metric};

/// The mean of the classes' F1, each weighted by how often it is present.
pub struct F1Weighted;

impl Metric for F1Weighted {
    fn definition(&self) -> Definition {
        Definition {
            about: "Mean of the classes' F1, each weighted by its support",
            formula: "the mean of 2 TP / (2 TP + FP + FN) over classes, weighted by TP + FN",
            source: "sklearn.metrics.f1_score(average=\"weighted\")",
            synonyms: &["weighted_f1", "f1_weighted_avg"],
            ..RATE
        }
    }

    fn score(&self, evaluation: &Evaluation) -> f64 {
        averaged(Rate::F1, Average::Weighted, evaluation)
    }
}
