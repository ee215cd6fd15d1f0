//! What the metrics called ROUGE have in common: words, and the best of a text's references.

use super::Evaluation;

/// The mean over texts of the best F1 that one of the references gives, each by `f1` of the words of a reference and of the
/// text.
pub(super) fn mean_of_best(evaluation: &Evaluation, f1: impl Fn(&[String], &[String]) -> f64) -> f64 {
    let best = |text: &str, references: &[String]| {
        let text = words(text);
        references.iter().map(|reference| f1(&words(reference), &text)).fold(0.0, f64::max)
    };
    let sum: f64 = evaluation.texts.iter().map(|one| best(&one.text, &one.references)).sum();
    sum / evaluation.texts.len() as f64
}

/// F1 of n-grams of words.
pub(super) fn of_ngrams(reference: &[String], text: &[String], n: usize) -> f64 {
    let ngrams = |words: &[String]| {
        let mut all: Vec<Vec<String>> = words.windows(n).map(<[String]>::to_vec).collect();
        all.sort_unstable();
        all
    };
    let (reference, text) = (ngrams(reference), ngrams(text));
    let (mut both, mut at) = (0, 0);
    for ngram in &text {
        while reference.get(at).is_some_and(|other| other < ngram) {
            at += 1;
        }
        if reference.get(at) == Some(ngram) {
            (both, at) = (both + 1, at + 1);
        }
    }
    f1(both, reference.len(), text.len())
}

/// F1 of what is in both of two texts.
pub(super) fn f1(both: usize, reference: usize, text: usize) -> f64 {
    let (precision, recall) = (both as f64 / text.max(1) as f64, both as f64 / reference.max(1) as f64);
    if both == 0 { 0.0 } else { 2.0 * precision * recall / (precision + recall) }
}

/// The words of a text: letters and digits of ASCII, small; all else parts them.
fn words(text: &str) -> Vec<String> {
    let text = text.to_lowercase();
    let words = text.split(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit());
    words.filter(|word| !word.is_empty()).map(String::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_of_ascii() {
        assert_eq!(words("The café's 2nd-best, İt"), ["the", "caf", "s", "2nd", "best", "i", "t"]);
    }

    #[test]
    fn ngrams_count_as_often_as_both_have_them() {
        let of = |text: &str| words(text);
        assert_eq!(of_ngrams(&of("a b a b"), &of("a a a"), 1), f1(2, 4, 3));
        assert_eq!(of_ngrams(&of("a b a b"), &of("b a b"), 2), f1(2, 3, 2));
        assert_eq!([of_ngrams(&of("a"), &of("a"), 2), of_ngrams(&[], &[], 1)], [0.0; 2]);
    }
}
