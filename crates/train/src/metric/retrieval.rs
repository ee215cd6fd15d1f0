//! What the places of right texts say.

use super::{Better, Definition, Evaluation, Prediction};

/// The part of the right texts that are among the `most` first ones; NaN where there are none.
pub(super) fn recall(evaluation: &Evaluation, most: u64) -> f64 {
    let found = evaluation.ranks.iter().filter(|rank| **rank <= most).count();
    found as f64 / evaluation.ranks.len() as f64
}

/// What a recall is.
pub(super) fn recall_definition(
    about: &'static str,
    formula: &'static str,
    synonyms: &'static [&'static str],
) -> Definition {
    Definition {
        about,
        formula,
        source: "sentence_transformers.evaluation.InformationRetrievalEvaluator, accuracy@k by cosine similarity",
        range: "0 to 1",
        better: Better::Higher,
        suits: &[Prediction::Embeddings],
        classes: None,
        synonyms,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Metric, Mrr, RecallAt1, RecallAt5, RecallAt10};
    use super::*;

    #[test]
    fn ranks_are_counted_up_to_the_most() {
        let of = |ranks: &[u64]| Evaluation { ranks: ranks.to_vec(), ..Evaluation::new(Prediction::Embeddings) };
        let e = of(&[1, 2, 5, 10]);
        assert_eq!([RecallAt1.score(&e), RecallAt5.score(&e), RecallAt10.score(&e)], [0.25, 0.75, 1.0]);
        assert_eq!(Mrr.score(&e), (1.0 + 0.5 + 0.2 + 0.1) / 4.0);
        assert!(RecallAt1.score(&of(&[])).is_nan() && Mrr.score(&of(&[])).is_nan());
    }
}
