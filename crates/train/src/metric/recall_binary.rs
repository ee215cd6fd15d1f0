//! Recall of the positive class.

use super::average::{Average, RATE, Rate, averaged};
use super::{Definition, Evaluation, Metric, Prediction};

/// TP / (TP + FN) of the last of two classes, the positive one.
pub struct RecallBinary;

impl Metric for RecallBinary {
    fn definition(&self) -> Definition {
        Definition {
            about: "Recall of the last of two classes, the positive one",
            formula: "TP / (TP + FN) of the last of two classes",
            source: "sklearn.metrics.recall_score(average=\"binary\")",
            suits: &[Prediction::Classes],
            classes: Some(2),
            synonyms: &["recall", "binary_recall"],
            ..RATE
        }
    }

    fn score(&self, evaluation: &Evaluation) -> f64 {
        averaged(Rate::Recall, Average::Binary, evaluation)
    }
}
