//! The names a user most likely meant.

use strsim::damerau_levenshtein;

/// Names longer than this are compared by their beginning only: the distance costs the product of the lengths, and a
/// wrong column can hold whole documents.
const LONGEST: usize = 64;

/// Up to three of `known`, closest first, each within a third of the name's length (at least one edit). Letter case
/// costs nothing.
pub(crate) fn nearest<S: AsRef<str>>(name: &str, known: &[S]) -> Vec<String> {
    let name = folded(name);
    let allowed = (name.chars().count() / 3).max(1);
    let mut scored: Vec<(usize, &str)> = known
        .iter()
        .map(|candidate| (damerau_levenshtein(&name, &folded(candidate.as_ref())), candidate.as_ref()))
        .filter(|(distance, _)| *distance <= allowed)
        .collect();
    scored.sort();
    scored.into_iter().take(3).map(|(_, candidate)| candidate.to_owned()).collect()
}

fn folded(name: &str) -> String {
    name.trim().chars().take(LONGEST).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_comes_first_and_the_distant_not_at_all() {
        let known = ["text", "test_id", "label", "texts"];
        assert_eq!(nearest("texs", &known), ["text", "texts"]);
        assert_eq!(nearest("Label ", &known), ["label"]);
        assert!(nearest("sentence", &known).is_empty());
    }
}
