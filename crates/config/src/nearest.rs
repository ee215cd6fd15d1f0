//! The names that a user most likely meant.

use std::cmp::Reverse;
use strsim::{jaro_winkler, normalized_damerau_levenshtein};

/// Names are compared by their beginning only: the distance costs the product of the lengths, and a wrong column can hold
/// whole documents.
const LONGEST: usize = 96;

/// Names that are less alike are not offered.
const LEAST: f64 = 0.6;

/// How many are offered.
const SHOWN: usize = 3;

/// Up to three of `known`, the most alike first. Letter case, surrounding spaces and the `*` of a pattern do not count, a
/// last part of a dotted or slashed name stands for the whole one, and the word itself is never its own nearest.
pub fn nearest<S: AsRef<str>>(word: &str, known: impl IntoIterator<Item = S>) -> Vec<String> {
    let typed = folded(word);
    let mut scored: Vec<(u64, String)> = known
        .into_iter()
        .filter(|name| name.as_ref() != word)
        .map(|name| ((likeness(&typed, &folded(name.as_ref())) * 1e9) as u64, name.as_ref().to_string()))
        .filter(|(score, _)| *score >= (LEAST * 1e9) as u64)
        .collect();
    scored.sort_by(|a, b| (Reverse(a.0), &a.1).cmp(&(Reverse(b.0), &b.1)));
    scored.dedup_by(|a, b| a.1 == b.1);
    scored.into_iter().take(SHOWN).map(|(_, name)| name).collect()
}

/// Between 0 and 1. Transposed and missing letters are the common slips; a common beginning counts for more.
fn likeness(typed: &str, name: &str) -> f64 {
    let alike = |a: &str, b: &str| normalized_damerau_levenshtein(a, b).max(jaro_winkler(a, b) - 0.15);
    let parts = name.split(['/', '.']).map(|part| alike(typed, part));
    parts.fold(alike(typed, name), f64::max)
}

fn folded(name: &str) -> String {
    name.trim().chars().filter(|c| *c != '*').take(LONGEST).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_comes_first_and_the_distant_not_at_all() {
        let known = ["text", "test_id", "label", "texts"];
        assert_eq!(nearest("texs", known)[..2], ["texts", "text"]);
        assert_eq!(nearest("Label ", known), ["label"]);
        assert!(nearest("zzz", known).is_empty());
        assert_eq!(nearest("epoch", ["batch", "epochs", "eps", "steps"])[0], "epochs");
    }

    #[test]
    fn parts_of_long_names_count_and_the_word_itself_does_not() {
        let known = ["encoder.layer.0.attention.self.query", "pooler.dense", "role:query"];
        assert_eq!(nearest("*.querry", known)[0], "encoder.layer.0.attention.self.query");
        assert_eq!(nearest("role:query", known), Vec::<String>::new().as_slice());
    }
}
