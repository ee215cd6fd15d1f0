//! Words and phrases that a text shares with its references.

use super::tokens_13a::tokens_13a;
use super::{Better, Definition, Evaluation, Metric, Prediction};
use std::collections::HashMap;

/// BLEU of all texts together.
pub struct Bleu;

/// Words of the longest phrases.
const ORDER: usize = 4;

impl Metric for Bleu {
    fn definition(&self) -> Definition {
        Definition {
            about: "BLEU of all generated texts together: phrases of up to 4 words that they share with their references",
            formula: "100 min(1, e^(1 - reference words / words)) (p1 p2 p3 p4)^(1/4); pn: n-grams in a reference / n-grams; \
                      tokens of mteval-v13a, exponential smoothing",
            source: "sacrebleu.corpus_bleu (13a, exp), evaluate's sacrebleu; as 100 times evaluate's bleu of the same tokens",
            range: "0 to 100",
            better: Better::Higher,
            suits: &[Prediction::Tokens],
            classes: None,
            synonyms: &["sacrebleu", "corpus_bleu", "bleu4", "bleu-4"],
        }
    }

    fn score(&self, evaluation: &Evaluation) -> f64 {
        let mut all = Counts::default();
        for one in &evaluation.texts {
            all.add(&one.text, &one.references);
        }
        if evaluation.texts.is_empty() { f64::NAN } else { all.score() }
    }

    fn reads_texts(&self) -> bool {
        true
    }
}

/// What BLEU is computed from.
#[derive(Default)]
struct Counts {
    words: usize,
    reference_words: usize,
    correct: [usize; ORDER],
    total: [usize; ORDER],
}

impl Counts {
    /// Adds a text. Of its references the one counts whose length is nearest, the shorter of two.
    fn add(&mut self, text: &str, references: &[String]) {
        let words = tokens_13a(text.trim_end());
        let references: Vec<Vec<String>> = references.iter().map(|text| tokens_13a(text.trim_end())).collect();
        let nearest = references.iter().map(Vec::len).min_by_key(|len| (len.abs_diff(words.len()), *len));
        self.words += words.len();
        self.reference_words += nearest.unwrap_or(0);
        for n in 1..=ORDER {
            let mut most: HashMap<&[String], usize> = HashMap::new();
            for reference in &references {
                for (phrase, count) in phrases(reference, n) {
                    let most = most.entry(phrase).or_default();
                    *most = count.max(*most);
                }
            }
            for (phrase, count) in phrases(&words, n) {
                self.total[n - 1] += count;
                self.correct[n - 1] += count.min(most.get(phrase).copied().unwrap_or(0));
            }
        }
    }

    fn score(&self) -> f64 {
        if self.correct.iter().all(|n| *n == 0) {
            return 0.0;
        }
        let (words, reference) = (self.words as f64, self.reference_words as f64);
        let brevity = if words < reference { (1.0 - reference / words).exp() } else { 1.0 };
        let (mut smooth, mut logs) = (1.0, 0.0);
        for (correct, total) in self.correct.iter().zip(self.total) {
            if total == 0 {
                return 0.0;
            }
            let precision = match correct {
                0 => {
                    smooth *= 2.0;
                    100.0 / (smooth * total as f64)
                }
                _ => 100.0 * *correct as f64 / total as f64,
            };
            logs += precision.ln();
        }
        brevity * (logs / ORDER as f64).exp()
    }
}

/// The phrases of so many words, each with how often it comes.
fn phrases(words: &[String], n: usize) -> HashMap<&[String], usize> {
    let mut counts = HashMap::new();
    words.windows(n).for_each(|phrase| *counts.entry(phrase).or_default() += 1);
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::tests::texts;

    #[test]
    fn what_is_said_twice_counts_as_often_as_a_reference_says_it() {
        let mut counts = Counts::default();
        counts.add("the the the cat", &["the cat the".into(), "the dog".into()]);
        assert_eq!((counts.correct, counts.total), ([3, 1, 0, 0], [4, 3, 2, 1]));
        assert_eq!((counts.words, counts.reference_words), (4, 3));
    }

    #[test]
    fn a_text_is_as_good_as_its_reference_and_nothing_is_worth_nothing() {
        let same = "The cat, who sat on the mat.";
        assert!((Bleu.score(&texts(&[(same, &["x", same])])) - 100.0).abs() < 1e-9);
        assert_eq!(Bleu.score(&texts(&[("", &[same])])), 0.0);
        assert_eq!(Bleu.score(&texts(&[("too short", &["too short"])])), 0.0, "as sacrebleu has it of a whole corpus");
    }
}
