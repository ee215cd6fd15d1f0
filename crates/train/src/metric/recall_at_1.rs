//! How often the right text is the most similar one.

use super::retrieval::recall_definition;
use super::{Definition, Evaluation, Metric, retrieval};

/// The part of the pairs of which the second text is the most similar to the first, of all second texts.
pub struct RecallAt1;

impl Metric for RecallAt1 {
    fn definition(&self) -> Definition {
        recall_definition(
            "Part of the pairs of which the second text is the most similar one to the first",
            "pairs whose rank is at most 1 / pairs",
            &["recall@1", "accuracy@1", "cosine_recall@1", "cosine_accuracy@1"],
        )
    }

    fn score(&self, evaluation: &Evaluation) -> f64 {
        retrieval::recall(evaluation, 1)
    }
}
