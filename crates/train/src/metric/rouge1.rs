//! Words that a text shares with a reference.

use super::rouge::{mean_of_best, of_ngrams};
use super::{Better, Definition, Evaluation, Metric, Prediction};

/// ROUGE-1: the mean over texts of the F1 of words.
pub struct Rouge1;

impl Metric for Rouge1 {
    fn definition(&self) -> Definition {
        Definition {
            about: "ROUGE-1: mean over generated texts of the F1 of words, with the best of their references",
            formula: "mean of 2PR / (P + R); P, R: words in both / those of the text, those of the reference",
            source: "rouge_score's rouge1 (fmeasure of score_multi, without stemmer), evaluate's rouge",
            range: "0 to 1",
            better: Better::Higher,
            suits: &[Prediction::Tokens],
            classes: None,
            synonyms: &["rouge-1", "rouge_1"],
        }
    }

    fn score(&self, evaluation: &Evaluation) -> f64 {
        mean_of_best(evaluation, |reference, text| of_ngrams(reference, text, 1))
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
        // Three words of three, and of the five of the reference; a text without words has none.
        let best = 2.0 * 3.0 / (3.0 + 5.0);
        assert!((Rouge1.score(&e) - best / 2.0).abs() < 1e-12);
    }
}
