//! Letters that a text shares with its references.

use super::tokens_13a::is_space;
use super::{Better, Definition, Evaluation, Metric, Prediction};
use std::collections::HashMap;

/// chrF2 of all texts together.
pub struct Chrf;

/// Letters of the longest n-grams.
const ORDER: usize = 6;

/// How much more recall counts than precision.
const BETA: f64 = 2.0;

impl Metric for Chrf {
    fn definition(&self) -> Definition {
        Definition {
            about: "chrF2 of all generated texts together: n-grams of up to 6 letters that they share with the best of their references",
            formula: "100 (1 + 2^2) P R / (2^2 P + R); P, R: means over n = 1..6 of the precision and recall of n-grams of letters, without \
                      white space",
            source: "sacrebleu.corpus_chrf (char_order 6, word_order 0, beta 2), evaluate's chrf",
            range: "0 to 100",
            better: Better::Higher,
            suits: &[Prediction::Tokens],
            classes: None,
            synonyms: &["chrf2", "corpus_chrf"],
        }
    }

    fn score(&self, evaluation: &Evaluation) -> f64 {
        let mut all = Counts::default();
        for one in &evaluation.texts {
            let text = ngrams(&one.text);
            let mut best: Option<(f64, Counts)> = None;
            for reference in &one.references {
                let counts = matches(&text, &ngrams(reference));
                let score = f_score(&counts);
                if best.as_ref().is_none_or(|best| score > best.0) {
                    best = Some((score, counts));
                }
            }
            let best = best.map_or(Counts::default(), |best| best.1);
            all.iter_mut().zip(best).for_each(|(all, one)| all.iter_mut().zip(one).for_each(|(a, n)| *a += n));
        }
        if evaluation.texts.is_empty() { f64::NAN } else { f_score(&all) }
    }

    fn reads_texts(&self) -> bool {
        true
    }
}

/// Of n-grams of each length: how many the text has, how many the reference has, and how many both.
type Counts = [[usize; 3]; ORDER];

/// How often each n-gram of letters comes, by its length.
type Ngrams = [HashMap<String, usize>; ORDER];

fn ngrams(text: &str) -> Ngrams {
    let letters: Vec<char> = text.chars().filter(|c| !is_space(*c)).collect();
    std::array::from_fn(|n| {
        let mut counts = HashMap::new();
        letters.windows(n + 1).for_each(|letters| *counts.entry(letters.iter().collect()).or_default() += 1);
        counts
    })
}

fn matches(text: &Ngrams, reference: &Ngrams) -> Counts {
    std::array::from_fn(|n| {
        let (text, reference) = (&text[n], &reference[n]);
        let both = text.iter().map(|(ngram, count)| *count.min(reference.get(ngram).unwrap_or(&0))).sum();
        // Without a reference of that length there is nothing to miss.
        let has = if reference.is_empty() { 0 } else { text.values().sum() };
        [has, reference.values().sum(), both]
    })
}

fn f_score(counts: &Counts) -> f64 {
    let (mut precision, mut recall, mut orders) = (0.0, 0.0, 0.0);
    for [text, reference, both] in counts.iter().filter(|counts| counts[0] > 0 && counts[1] > 0) {
        precision += *both as f64 / *text as f64;
        recall += *both as f64 / *reference as f64;
        orders += 1.0;
    }
    if precision + recall == 0.0 {
        return 0.0;
    }
    let (precision, recall, factor) = (precision / orders, recall / orders, BETA * BETA);
    100.0 * ((1.0 + factor) * precision * recall / (factor * precision + recall))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::tests::texts;

    #[test]
    fn the_best_reference_counts_and_spaces_do_not() {
        let score = |text: &str, references: &[&str]| Chrf.score(&texts(&[(text, references)]));
        assert_eq!(score("a b c", &["xyz", "ab c"]), 100.0);
        assert_eq!([score("", &["abc"]), score("abc", &[""]), score("x", &["abc"])], [0.0; 3]);
    }
}
