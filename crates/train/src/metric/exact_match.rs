//! Texts that are right to the letter.

use super::{Better, Definition, Evaluation, Metric, Prediction};

/// The part of the generated texts that are one of their references, white space around them aside.
pub struct ExactMatch;

impl Metric for ExactMatch {
    fn definition(&self) -> Definition {
        Definition {
            about: "Part of the generated texts that are one of their references, white space around them aside",
            formula: "texts that are equal to one of their references / texts",
            source: "evaluate's exact_match, of texts without white space around them",
            range: "0 to 1",
            better: Better::Higher,
            suits: &[Prediction::Tokens],
            classes: None,
            synonyms: &["em", "exact"],
        }
    }

    fn score(&self, evaluation: &Evaluation) -> f64 {
        let texts = &evaluation.texts;
        let is_right = |references: &[String], text: &str| references.iter().any(|r| r.trim() == text.trim());
        let right = texts.iter().filter(|one| is_right(&one.references, &one.text)).count();
        right as f64 / texts.len() as f64
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
    fn any_reference_will_do_and_letters_count() {
        let e = texts(&[("a b\n", &["x", " a b"]), ("A b", &["a b"]), ("a  b", &["a b"]), ("", &["", "a"])]);
        assert_eq!(ExactMatch.score(&e), 0.5);
    }
}
