//! The mean F1 of the examples' labels.

use super::average::{RATE, Rate};
use super::label_counts::LabelCounts;
use super::{Definition, Evaluation, Metric, Prediction};

/// F1 of the labels of each example, and the mean over examples; 0 of an example that has no label and is given none.
pub struct F1Samples;

impl Metric for F1Samples {
    fn definition(&self) -> Definition {
        Definition {
            about: "Mean of the F1 of each example's labels",
            formula: "the mean of 2 TP / (2 TP + FP + FN) over examples",
            source: "sklearn.metrics.f1_score(average=\"samples\")",
            suits: &[Prediction::Labels],
            synonyms: &["samples_f1", "f1_example"],
            ..RATE
        }
    }

    fn score(&self, evaluation: &Evaluation) -> f64 {
        let examples = LabelCounts::of(evaluation).examples;
        examples.iter().map(|example| Rate::F1.of(&example.tally)).sum::<f64>() / examples.len() as f64
    }
}
