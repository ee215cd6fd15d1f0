//! How often the right text is among the 10 most similar ones.

use super::retrieval::recall_definition;
use super::{Definition, Evaluation, Metric, retrieval};

/// The part of the pairs of which the second text is among the 10 most similar to the first, of all second texts.
pub struct RecallAt10;

impl Metric for RecallAt10 {
    fn definition(&self) -> Definition {
        recall_definition(
            "Part of the pairs of which the second text is among the 10 most similar ones to the first",
            "pairs whose rank is at most 10 / pairs",
            &["recall@10", "accuracy@10", "cosine_recall@10", "cosine_accuracy@10"],
        )
    }

    fn score(&self, evaluation: &Evaluation) -> f64 {
        retrieval::recall(evaluation, 10)
    }
}
