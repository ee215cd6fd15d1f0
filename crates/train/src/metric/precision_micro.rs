//! Precision of all counts.

use super::average::{Average, RATE, Rate, averaged};
use super::{Definition, Evaluation, Metric};

/// Precision of all classes counted together: each prediction counts alike. Of one class an example that is the accuracy.
pub struct PrecisionMicro;

impl Metric for PrecisionMicro {
    fn definition(&self) -> Definition {
        Definition {
            about: "Precision of all classes counted together",
            formula: "sum TP / sum (TP + FP)",
            source: "sklearn.metrics.precision_score(average=\"micro\")",
            synonyms: &["micro_precision", "precision_micro_avg"],
            ..RATE
        }
    }

    fn score(&self, evaluation: &Evaluation) -> f64 {
        averaged(Rate::Precision, Average::Micro, evaluation)
    }
}
