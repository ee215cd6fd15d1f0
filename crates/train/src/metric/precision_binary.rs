//! Precision of the positive class.

use super::average::{Average, RATE, Rate, averaged};
use super::{Definition, Evaluation, Metric, Prediction};

/// TP / (TP + FP) of the last of two classes, the positive one.
pub struct PrecisionBinary;

impl Metric for PrecisionBinary {
    fn definition(&self) -> Definition {
        Definition {
            about: "Precision of the last of two classes, the positive one",
            formula: "TP / (TP + FP) of the last of two classes",
            source: "sklearn.metrics.precision_score(average=\"binary\")",
            suits: &[Prediction::Classes],
            classes: Some(2),
            synonyms: &["precision", "binary_precision"],
            ..RATE
        }
    }

    fn score(&self, evaluation: &Evaluation) -> f64 {
        averaged(Rate::Precision, Average::Binary, evaluation)
    }
}
