//! How often the right text is among the 5 most similar ones.

use super::retrieval::recall_definition;
use super::{Definition, Evaluation, Metric, retrieval};

/// The part of the pairs of which the second text is among the 5 most similar to the first, of all second texts.
pub struct RecallAt5;

impl Metric for RecallAt5 {
    fn definition(&self) -> Definition {
        recall_definition(
            "Part of the pairs of which the second text is among the 5 most similar ones to the first",
            "pairs whose rank is at most 5 / pairs",
            &["recall@5", "accuracy@5", "cosine_recall@5", "cosine_accuracy@5"],
        )
    }

    fn score(&self, evaluation: &Evaluation) -> f64 {
        retrieval::recall(evaluation, 5)
    }
}
