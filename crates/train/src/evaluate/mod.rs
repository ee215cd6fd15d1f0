//! How good a program is on held-out examples. A task's scores are one file here.

mod causal_lm;
mod classify;

pub use causal_lm::{LanguageScores, NLL, TOKENS, evaluate_language};
pub use classify::{ClassScores, evaluate_classes};

use serde::{Deserialize, Serialize};

/// How good a model is at its task.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Scores {
    /// At naming classes.
    Classes(ClassScores),
    /// At predicting the next token.
    Language(LanguageScores),
}

impl Scores {
    /// Every score with its name, the telling one first.
    pub fn named(&self) -> Vec<(&'static str, f64)> {
        match self {
            Scores::Classes(s) => vec![("accuracy", s.accuracy), ("F1", s.f1), ("loss", s.loss)],
            Scores::Language(s) => vec![("perplexity", s.perplexity), ("loss", s.loss)],
        }
    }

    /// What was scored: `1000 examples`.
    pub fn of(&self) -> String {
        match self {
            Scores::Classes(s) => format!("{} examples", s.rows),
            Scores::Language(s) => format!("{} tokens", s.tokens),
        }
    }
}
