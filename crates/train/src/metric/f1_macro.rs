//! The mean of every class's F1.

use super::average::{Average, RATE, Rate, averaged};
use super::{Definition, Evaluation, Metric};

/// The mean of the classes' F1, each counting alike however rare it is. Classes that are neither present nor
/// predicted are left out; labels are not.
pub struct F1Macro;

impl Metric for F1Macro {
    fn definition(&self) -> Definition {
        Definition {
            about: "Mean of the classes' F1, each counting alike",
            formula: "the mean of 2 TP / (2 TP + FP + FN) over classes",
            source: "sklearn.metrics.f1_score(average=\"macro\")",
            synonyms: &["macro_f1", "f1_macro_avg"],
            ..RATE
        }
    }

    fn score(&self, evaluation: &Evaluation) -> f64 {
        averaged(Rate::F1, Average::Macro, evaluation)
    }
}
