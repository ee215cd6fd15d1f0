//! F1 of the positive class.

use super::average::{Average, RATE, Rate, averaged};
use super::{Definition, Evaluation, Metric, Prediction};

/// 2 TP / (2 TP + FP + FN) of the last of two classes, the positive one.
pub struct F1Binary;

impl Metric for F1Binary {
    fn definition(&self) -> Definition {
        Definition {
            about: "F1 of the last of two classes, the positive one",
            formula: "2 TP / (2 TP + FP + FN) of the last of two classes",
            source: "sklearn.metrics.f1_score(average=\"binary\")",
            suits: &[Prediction::Classes],
            classes: Some(2),
            synonyms: &["binary_f1"],
            ..RATE
        }
    }

    fn score(&self, evaluation: &Evaluation) -> f64 {
        averaged(Rate::F1, Average::Binary, evaluation)
    }
}
