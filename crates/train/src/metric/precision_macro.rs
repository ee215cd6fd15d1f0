//! The mean of every class's precision.

use super::average::{Average, RATE, Rate, averaged};
use super::{Definition, Evaluation, Metric};

/// The mean of the classes' precision, each counting alike however rare it is. Classes that are neither present nor
/// predicted are left out; labels are not.
pub struct PrecisionMacro;

impl Metric for PrecisionMacro {
    fn definition(&self) -> Definition {
        Definition {
            about: "Mean of the classes' precision, each counting alike",
            formula: "the mean of TP / (TP + FP) over classes",
            source: "sklearn.metrics.precision_score(average=\"macro\")",
            synonyms: &["macro_precision", "precision_macro_avg"],
            ..RATE
        }
    }

    fn score(&self, evaluation: &Evaluation) -> f64 {
        averaged(Rate::Precision, Average::Macro, evaluation)
    }
}
