//! The spans that tags mark: `B-PER I-PER O` is one, of the kind `PER`.

use super::Evaluation;
use super::average::Tally;
use super::confusion::predicted;
use std::collections::{BTreeMap, BTreeSet};

/// How often spans of each kind are predicted, present, and both; none where nothing is tagged or classes have no names.
pub(super) fn tallies(evaluation: &Evaluation) -> Option<BTreeMap<String, Tally>> {
    if evaluation.targets.is_empty() || evaluation.classes.is_empty() {
        return None;
    }
    // What is not a class begins and ends nothing.
    let name = |class: Option<usize>| class.and_then(|i| evaluation.classes.get(i)).map_or("O", String::as_str);
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    for tokens in evaluation.examples() {
        let found: Vec<&str> = tokens.iter().map(|(row, _)| name(predicted(row))).collect();
        let right: Vec<&str> =
            tokens.iter().map(|(_, target)| name((*target >= 0.0).then_some(*target as usize))).collect();
        let (found, right) = (spans(&found), spans(&right));
        for span in &found {
            let tally = tallies.entry(span.kind.to_string()).or_default();
            tally.predicted += 1;
            tally.right += u64::from(right.contains(span));
        }
        for span in &right {
            tallies.entry(span.kind.to_string()).or_default().present += 1;
        }
    }
    Some(tallies)
}

/// Whether classes have names that mark spans: `O`, `B-PER`, `I-PER`. Names of parts of speech do not.
pub(super) fn mark_spans(classes: &[String]) -> bool {
    let marks = |name: &str| {
        matches!(name, "B" | "I" | "E" | "S") || ["B-", "I-", "E-", "S-"].iter().any(|s| name.starts_with(s))
    };
    let mut names = classes.iter().map(String::as_str).filter(|name| *name != "O").peekable();
    names.peek().is_some() && names.all(marks)
}

/// A span of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Span<'a> {
    kind: &'a str,
    first: usize,
    last: usize,
}

/// The spans of a text by the tags of its tokens, as seqeval reads them where no scheme is named (its `get_entities`, after
/// conlleval): B and S begin one, E and S end one, I and E go on with one of their kind and else begin one.
fn spans<'a>(tags: &[&'a str]) -> BTreeSet<Span<'a>> {
    let mut found = BTreeSet::new();
    let (mut before, mut before_kind, mut first) = ('O', "", 0);
    for (i, name) in tags.iter().copied().chain(["O"]).enumerate() {
        let (tag, kind) = parts(name);
        if ends(before, tag, before_kind != kind) {
            found.insert(Span { kind: before_kind, first, last: i.saturating_sub(1) });
        }
        if begins(before, tag, before_kind != kind) {
            first = i;
        }
        (before, before_kind) = (tag, kind);
    }
    found
}

/// The letter of a tag, and its kind: what is behind the first hyphen that follows the letter; `_` where nothing is.
fn parts(name: &str) -> (char, &str) {
    let mut characters = name.chars();
    let tag = characters.next().unwrap_or('O');
    let rest = characters.as_str();
    let kind = rest.split_once('-').map_or(rest, |(_, kind)| kind);
    (tag, if kind.is_empty() { "_" } else { kind })
}

fn ends(before: char, tag: char, other_kind: bool) -> bool {
    match (before, tag) {
        ('E' | 'S', _) | ('B' | 'I', 'B' | 'S' | 'O') => true,
        _ => !matches!(before, 'O' | '.') && other_kind,
    }
}

fn begins(before: char, tag: char, other_kind: bool) -> bool {
    match (before, tag) {
        (_, 'B' | 'S') | ('E' | 'S' | 'O', 'E' | 'I') => true,
        _ => !matches!(tag, 'O' | '.') && other_kind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(tags: &str) -> Vec<(String, usize, usize)> {
        let tags: Vec<&str> = tags.split_whitespace().collect();
        spans(&tags).into_iter().map(|s| (s.kind.to_string(), s.first, s.last)).collect()
    }

    #[test]
    fn names_of_spans_are_known_by_their_letters() {
        let marks = |names: &[&str]| mark_spans(&names.iter().map(|name| name.to_string()).collect::<Vec<_>>());
        assert!(marks(&["O", "B-PER", "I-PER"]) && marks(&["B", "I", "O"]) && marks(&["S-LOC"]));
        assert!(!marks(&["NOUN", "VERB"]) && !marks(&["O", "B-PER", "Inside"]) && !marks(&["O"]) && !marks(&[]));
    }

    #[test]
    fn spans_begin_and_end_as_in_seqeval() {
        let span = |kind: &str, first, last| (kind.to_string(), first, last);
        assert_eq!(read("B-PER I-PER O B-LOC"), [span("LOC", 3, 3), span("PER", 0, 1)]);
        assert_eq!(read("B-A B-A I-A"), [span("A", 0, 0), span("A", 1, 2)]);
        assert_eq!(read("I-A I-A I-B"), [span("A", 0, 1), span("B", 2, 2)]);
        assert_eq!(read("S-A B-A E-A I-A"), [span("A", 0, 0), span("A", 1, 2), span("A", 3, 3)]);
        assert_eq!(read("B I O B-a-b"), [span("_", 0, 1), span("a-b", 3, 3)]);
        assert_eq!(read("O O"), []);
        assert_eq!(read(""), []);
    }
}
