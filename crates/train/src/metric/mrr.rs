//! The mean reciprocal rank of the right text.

use super::{Better, Definition, Evaluation, Metric, Prediction};

/// The mean of the reciprocals of the ranks of second texts among all that a first one is compared with.
pub struct Mrr;

impl Metric for Mrr {
    fn definition(&self) -> Definition {
        Definition {
            about: "Mean of the reciprocal ranks of second texts by their similarity to the first, among all second texts",
            formula: "mean of 1 / rank",
            source: "sentence_transformers.evaluation.InformationRetrievalEvaluator, mrr@k with all texts for k",
            range: "0 to 1",
            better: Better::Higher,
            suits: &[Prediction::Embeddings],
            classes: None,
            synonyms: &["mean_reciprocal_rank"],
        }
    }

    fn score(&self, evaluation: &Evaluation) -> f64 {
        let sum: f64 = evaluation.ranks.iter().map(|rank| 1.0 / *rank as f64).sum();
        sum / evaluation.ranks.len() as f64
    }
}
