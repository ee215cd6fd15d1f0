//! F1 of all counts.

use super::average::{Average, RATE, Rate, averaged};
use super::{Definition, Evaluation, Metric};

/// F1 of all classes counted together: each prediction counts alike. Of one class an example that is the accuracy.
pub struct F1Micro;

impl Metric for F1Micro {
    fn definition(&self) -> Definition {
        Definition {
            about: "F1 of all classes counted together",
            formula: "2 sum TP / sum (2 TP + FP + FN)",
            source: "sklearn.metrics.f1_score(average=\"micro\")",
            synonyms: &["micro_f1", "f1_micro_avg"],
            ..RATE
        }
    }

    fn score(&self, evaluation: &Evaluation) -> f64 {
        averaged(Rate::F1, Average::Micro, evaluation)
    }
}
