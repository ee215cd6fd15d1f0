//! Recall of the spans that tags mark.

use super::average::{RATE, Rate};
use super::spans::tallies;
use super::{Definition, Evaluation, Metric, Prediction};

/// Recall of spans of all kinds together. A span is right where its kind and both of its ends are.
pub struct SpanRecall;

impl Metric for SpanRecall {
    fn definition(&self) -> Definition {
        Definition {
            about: "Part of the right spans that are found, by their kind and both ends",
            formula: "spans found that are right / spans that are right",
            source: "seqeval.metrics.recall_score",
            suits: &[Prediction::Tags],
            synonyms: &["seqeval_recall", "entity_recall", "overall_recall"],
            ..RATE
        }
    }

    fn score(&self, evaluation: &Evaluation) -> f64 {
        let kinds: Option<Vec<_>> = tallies(evaluation).map(|kinds| kinds.into_values().collect());
        kinds.map_or(f64::NAN, |kinds| Rate::Recall.of(&kinds.into_iter().sum()))
    }
}
