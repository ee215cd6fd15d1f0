//! Precision of the spans that tags mark.

use super::average::{RATE, Rate};
use super::spans::tallies;
use super::{Definition, Evaluation, Metric, Prediction};

/// Precision of spans of all kinds together. A span is right where its kind and both of its ends are.
pub struct SpanPrecision;

impl Metric for SpanPrecision {
    fn definition(&self) -> Definition {
        Definition {
            about: "Part of the spans found that are right, by their kind and both ends",
            formula: "spans found that are right / spans found",
            source: "seqeval.metrics.precision_score",
            suits: &[Prediction::Tags],
            synonyms: &["seqeval_precision", "entity_precision", "overall_precision"],
            ..RATE
        }
    }

    fn score(&self, evaluation: &Evaluation) -> f64 {
        let kinds: Option<Vec<_>> = tallies(evaluation).map(|kinds| kinds.into_values().collect());
        kinds.map_or(f64::NAN, |kinds| Rate::Precision.of(&kinds.into_iter().sum()))
    }
}
