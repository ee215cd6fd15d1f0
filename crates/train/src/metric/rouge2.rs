//! Pairs of words that a text shares with a reference.

use super::rouge::{mean_of_best, of_ngrams};
use super::{Better, Definition, Evaluation, Metric, Prediction};

/// ROUGE-2: the mean over texts of the F1 of pairs of words.
pub struct Rouge2;

impl Metric for Rouge2 {
    fn definition(&self) -> Definition {
        Definition {
            about: "ROUGE-2: mean over generated texts of the F1 of pairs of words, with the best of their references",
            formula: "mean of 2PR / (P + R); P, R: pairs of words in both / those of the text, those of the reference",
            source: "rouge_score's rouge2 (fmeasure of score_multi, without stemmer), evaluate's rouge",
            range: "0 to 1",
            better: Better::Higher,
            suits: &[Prediction::Tokens],
            classes: None,
            synonyms: &["rouge-2", "rouge_2"],
        }
    }

    fn score(&self, evaluation: &Evaluation) -> f64 {
        mean_of_best(evaluation, |reference, text| of_ngrams(reference, text, 2))
    }

    fn reads_texts(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::tests::texts;

    #[test]
    fn the_best_reference_counts() {
        let e = texts(&[("The cat sat.", &["a dog", "the cat sat down there"]), ("", &["x"])]);
        let want = 2.0 / 3.0;
        assert!((Rouge2.score(&e) - want / 2.0).abs() < 1e-12);
    }
}
