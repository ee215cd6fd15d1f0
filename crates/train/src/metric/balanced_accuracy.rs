//! The mean of every class's recall.

use super::average::{Average, Rate, Tally};
use super::confusion::Confusion;
use super::{Better, Definition, Evaluation, Metric, Prediction};

/// The mean of the recall of the classes that are present: guessing has 1 / classes, however rare some of them are.
pub struct BalancedAccuracy;

impl Metric for BalancedAccuracy {
    fn definition(&self) -> Definition {
        Definition {
            about: "Mean of the recall of the classes that are present",
            formula: "the mean of TP / (TP + FN) over classes that are present",
            source: "sklearn.metrics.balanced_accuracy_score",
            range: "0 to 1",
            better: Better::Higher,
            suits: &[Prediction::Classes, Prediction::Tags],
            classes: None,
            synonyms: &["balanced_accuracy_score"],
        }
    }

    fn score(&self, evaluation: &Evaluation) -> f64 {
        let present: Vec<Tally> =
            Confusion::of(evaluation).tallies().into_iter().filter(|tally| tally.present > 0).collect();
        Average::Macro.of(Rate::Recall, &present)
    }
}
