//! The mean of every class's recall.

use super::average::{Average, RATE, Rate, averaged};
use super::{Definition, Evaluation, Metric};

/// The mean of the classes' recall, each counting alike however rare it is. Classes that are neither present nor
/// predicted are left out; labels are not.
pub struct RecallMacro;

impl Metric for RecallMacro {
    fn definition(&self) -> Definition {
        Definition {
            about: "Mean of the classes' recall, each counting alike",
            formula: "the mean of TP / (TP + FN) over classes",
            source: "sklearn.metrics.recall_score(average=\"macro\")",
            synonyms: &["macro_recall", "recall_macro_avg"],
            ..RATE
        }
    }

    fn score(&self, evaluation: &Evaluation) -> f64 {
        averaged(Rate::Recall, Average::Macro, evaluation)
    }
}
