//! The mean of every class's recall, by support.

use super::average::{Average, RATE, Rate, averaged};
use super::{Definition, Evaluation, Metric};

/// The mean of the classes' recall, each weighted by how often it is present.
pub struct RecallWeighted;

impl Metric for RecallWeighted {
    fn definition(&self) -> Definition {
        Definition {
            about: "Mean of the classes' recall, each weighted by its support",
            formula: "the mean of TP / (TP + FN) over classes, weighted by TP + FN",
            source: "sklearn.metrics.recall_score(average=\"weighted\")",
            synonyms: &["weighted_recall", "recall_weighted_avg"],
            ..RATE
        }
    }

    fn score(&self, evaluation: &Evaluation) -> f64 {
        averaged(Rate::Recall, Average::Weighted, evaluation)
    }
}
