//! One text as tokens, and what tokenizing did to it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One text as tokens, without padding. Both lists are equally long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Token ids.
    pub ids: Vec<i64>,
    /// Segment ids, which BERT calls token types.
    pub type_ids: Vec<i64>,
    /// What was cut off, and what is unknown.
    pub measure: Measure,
}

/// What tokenizing did to the text of an example. Special tokens do not count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Measure {
    /// Tokens that are there.
    pub tokens: usize,
    /// Those of them that stand for what the vocabulary does not have.
    pub unknown: usize,
    /// Tokens that were cut off.
    pub lost: usize,
    /// Whether they are more: of a very long text no more is looked at than is needed.
    pub more: bool,
}

impl Measure {
    /// Whether the text was longer, and cut.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.more || self.lost > 0
    }
}

/// What becomes of a text that is longer than the maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Truncate {
    /// Its end is cut off
    Right,
    /// Its beginning is cut off
    Left,
    /// It is an error of its row
    Refuse,
}
