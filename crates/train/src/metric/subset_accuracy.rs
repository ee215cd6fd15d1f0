//! The part of the examples whose labels are all right.

use super::average::RATE;
use super::label_counts::LabelCounts;
use super::{Definition, Evaluation, Metric, Prediction};

/// The part of the examples of which every label is given that is right, and no other.
pub struct SubsetAccuracy;

impl Metric for SubsetAccuracy {
    fn definition(&self) -> Definition {
        Definition {
            about: "Part of the examples whose labels are all right",
            formula: "examples with all labels right / examples",
            source: "sklearn.metrics.accuracy_score of label indicators",
            suits: &[Prediction::Labels],
            synonyms: &["exact_match_ratio"],
            ..RATE
        }
    }

    fn score(&self, evaluation: &Evaluation) -> f64 {
        let examples = LabelCounts::of(evaluation).examples;
        examples.iter().filter(|example| example.wrong == 0).count() as f64 / examples.len() as f64
    }
}
