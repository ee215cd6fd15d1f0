//! Words that a text has in the order of a reference.

use super::rouge::{f1, mean_of_best};
use super::{Better, Definition, Evaluation, Metric, Prediction};

/// ROUGE-L: the mean over texts of the F1 of the longest common subsequence of words.
pub struct RougeL;

impl Metric for RougeL {
    fn definition(&self) -> Definition {
        Definition {
            about: "ROUGE-L: mean over generated texts of the F1 of the longest common subsequence of words, with the best of their references",
            formula: "mean of 2PR / (P + R); P, R: words of the longest common subsequence / those of the text, those of the reference",
            source: "rouge_score's rougeL (fmeasure of score_multi, without stemmer), evaluate's rouge",
            range: "0 to 1",
            better: Better::Higher,
            suits: &[Prediction::Tokens],
            classes: None,
            synonyms: &["rougel", "rouge-l", "rouge_l", "rouge"],
        }
    }

    fn score(&self, evaluation: &Evaluation) -> f64 {
        mean_of_best(evaluation, |reference, text| f1(longest_common(reference, text), reference.len(), text.len()))
    }

    fn reads_texts(&self) -> bool {
        true
    }
}

/// Words of the longest subsequence that two lists have in common.
fn longest_common(a: &[String], b: &[String]) -> usize {
    let mut row = vec![0; b.len() + 1];
    for one in a {
        let mut before = 0;
        for (at, other) in b.iter().enumerate() {
            let above = row[at + 1];
            row[at + 1] = if one == other { before + 1 } else { above.max(row[at]) };
            before = above;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::tests::texts;

    #[test]
    fn words_in_their_order_count_with_others_between() {
        let words = |text: &str| text.split(' ').map(String::from).collect::<Vec<_>>();
        let of = |a: &str, b: &str| longest_common(&words(a), &words(b));
        assert_eq!([of("a b c d", "b x d"), of("a b", "b a"), of("x a x b x", "a b"), of("a", "b")], [2, 1, 2, 0]);
        let e = texts(&[("the mat sat on the cat", &["the cat sat on the mat"])]);
        assert!((RougeL.score(&e) - 4.0 / 6.0).abs() < 1e-12);
    }
}
