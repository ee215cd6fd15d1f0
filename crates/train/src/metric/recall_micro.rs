//! Recall of all counts.

use super::average::{Average, RATE, Rate, averaged};
use super::{Definition, Evaluation, Metric};

/// Recall of all classes counted together: each prediction counts alike. Of one class an example that is the accuracy.
pub struct RecallMicro;

impl Metric for RecallMicro {
    fn definition(&self) -> Definition {
        Definition {
            about: "Recall of all classes counted together",
            formula: "sum TP / sum (TP + FN)",
            source: "sklearn.metrics.recall_score(average=\"micro\")",
            synonyms: &["micro_recall", "recall_micro_avg"],
            ..RATE
        }
    }

    fn score(&self, evaluation: &Evaluation) -> f64 {
        averaged(Rate::Recall, Average::Micro, evaluation)
    }
}
