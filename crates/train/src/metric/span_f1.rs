//! F1 of the spans that tags mark.

use super::average::{RATE, Rate};
use super::spans::tallies;
use super::{Definition, Evaluation, Metric, Prediction};

/// F1 of spans of all kinds together. A span is right where its kind and both of its ends are.
pub struct SpanF1;

impl Metric for SpanF1 {
    fn definition(&self) -> Definition {
        Definition {
            about: "F1 of spans, by their kind and both ends",
            formula: "2 precision recall / (precision + recall) of spans",
            source: "seqeval.metrics.f1_score",
            suits: &[Prediction::Tags],
            synonyms: &["seqeval_f1", "entity_f1", "overall_f1"],
            ..RATE
        }
    }

    fn score(&self, evaluation: &Evaluation) -> f64 {
        let kinds: Option<Vec<_>> = tallies(evaluation).map(|kinds| kinds.into_values().collect());
        kinds.map_or(f64::NAN, |kinds| Rate::F1.of(&kinds.into_iter().sum()))
    }
}
