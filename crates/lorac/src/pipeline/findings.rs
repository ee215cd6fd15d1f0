//! What a reading of a document finds, and what it passes over therefore.

use super::document::{Node, Place, Spanned};
use super::{Problem, unknown_key, unknown_value};
use serde::de;
use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;

/// More than anybody reads: with so many, the file is not a pipeline.
pub(super) const MOST_FINDINGS: usize = 50;

/// What a reading finds, and what it passes over therefore.
#[derive(Default)]
pub(super) struct Findings {
    problems: RefCell<Vec<Problem>>,
    /// Values that cannot be read, by their addresses.
    faulty: RefCell<HashSet<*const Spanned<Node>>>,
    /// Those that a problem is about.
    blamed: RefCell<HashSet<*const Spanned<Node>>>,
    /// Maps with a key that stands for an unknown one.
    meant: RefCell<HashSet<(*const Spanned<Node>, String)>>,
    /// Whether the document ends too early, so that what it lacks may have been meant to come.
    cut: bool,
}

impl Findings {
    /// Nothing yet, of a document that may be cut.
    pub(super) fn new(cut: bool) -> Findings {
        Findings { cut, ..Findings::default() }
    }

    /// Everything that was found.
    pub(super) fn problems(self) -> Vec<Problem> {
        self.problems.into_inner()
    }

    /// Whether something is known of the value of `key` in `map`, or of one that was meant to be it.
    pub(super) fn known(&self, map: &Spanned<Node>, key: &str) -> bool {
        let entry = map.get(key).is_some_and(|node| self.is_faulty(node));
        self.cut || entry || self.meant.borrow().contains(&(std::ptr::from_ref(map), key.to_string()))
    }

    /// Whether a problem is noted about the value at a path, about what it is in, or about what is in it.
    pub(super) fn explain(&self, root: &Spanned<Node>, path: &str) -> bool {
        let blamed = |node: &Spanned<Node>| self.blamed.borrow().contains(&std::ptr::from_ref(node));
        let mut at = root;
        for part in path.split('.').filter(|part| !part.is_empty()) {
            if self.cut || self.meant.borrow().contains(&(std::ptr::from_ref(at), part.to_string())) {
                return true;
            }
            match at.get(part) {
                Some(node) if blamed(node) => return true,
                Some(node) => at = node,
                None => return false,
            }
        }
        at.any(&blamed)
    }

    /// Whether the value cannot be read.
    pub(super) fn is_faulty(&self, node: &Spanned<Node>) -> bool {
        self.faulty.borrow().contains(&std::ptr::from_ref(node))
    }

    /// Notes that an unknown key of `map` stands for `meant`.
    pub(super) fn stands_for(&self, map: &Spanned<Node>, meant: &str) {
        self.meant.borrow_mut().insert((std::ptr::from_ref(map), meant.to_string()));
    }

    /// Whether so much is found that the rest would not be read.
    pub(super) fn is_full(&self) -> bool {
        self.problems.borrow().len() >= MOST_FINDINGS
    }

    /// Notes that `node` cannot be read, and why.
    pub(super) fn fault(&self, node: &Spanned<Node>, error: DeError) -> DeError {
        match error {
            DeError::Noted => return DeError::Noted,
            DeError::Wrong { problem, .. } => {
                self.problems.borrow_mut().push(*problem);
                self.blamed.borrow_mut().insert(node);
            }
            DeError::Missing(_) | DeError::Follows => {}
        }
        self.faulty.borrow_mut().insert(node);
        DeError::Noted
    }
}

/// Why a node is not what was asked for.
#[derive(Debug)]
pub(super) enum DeError {
    /// What is wrong, and for an unknown key, the one that may have been meant.
    Wrong { problem: Box<Problem>, meant: Option<String> },
    /// A key is missing.
    Missing(&'static str),
    /// It follows from what is noted already.
    Follows,
    /// It is noted: the reading begins again.
    Noted,
}

impl DeError {
    pub(super) fn new(problem: Problem) -> DeError {
        DeError::Wrong { problem: Box::new(problem), meant: None }
    }

    /// The place of what was being read, where none is known yet.
    pub(super) fn at(mut self, place: Place) -> DeError {
        if let DeError::Wrong { problem, .. } = &mut self
            && problem.place == Place::Nowhere
        {
            problem.place = place;
        }
        self
    }
}

impl fmt::Display for DeError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            DeError::Wrong { problem, .. } => f.write_str(&problem.message),
            DeError::Missing(key) => write!(f, "the key `{key}` is missing"),
            DeError::Follows | DeError::Noted => f.write_str("it was found before"),
        }
    }
}

impl std::error::Error for DeError {}

impl de::Error for DeError {
    fn custom<T: fmt::Display>(message: T) -> DeError {
        DeError::new(Problem::new("pipeline::value", message.to_string(), Place::Nowhere))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> DeError {
        let (problem, meant) = unknown_key(field, expected);
        DeError::Wrong { problem: Box::new(problem), meant }
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> DeError {
        DeError::new(unknown_value(variant, expected))
    }

    fn missing_field(field: &'static str) -> DeError {
        DeError::Missing(field)
    }
}

/// What a user typed, not longer than a line.
pub(super) fn shortened(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_string(),
    }
}
