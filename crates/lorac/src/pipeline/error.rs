//! What is wrong with a pipeline, with its place in the YAML.

use super::Place;
use serde::Serialize;
use std::fmt;

/// One thing that is wrong, by the place of the value at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Stable name: `pipeline::unknown_key`.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// Where.
    pub place: Place,
    /// What to do.
    pub help: Option<String>,
}

impl Problem {
    pub(super) fn new(code: &'static str, message: impl Into<String>, place: Place) -> Problem {
        Problem { code, message: message.into(), place, help: None }
    }
}

/// One thing that is wrong, as people and machines are told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Issue {
    /// Stable name: `pipeline::unknown_key`, `target::no_match`, ...
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// Line, from 1; 0 where the YAML is not at fault.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// What to do.
    pub help: Option<String>,
}

impl Issue {
    /// A problem whose place is in the file, or in one of the overrides.
    pub(super) fn new(problem: Problem, sets: &[String]) -> Issue {
        let Problem { code, message, place, help } = problem;
        let (line, column, message) = match place {
            Place::File { line, column } => (line, column, message),
            Place::Set { index } => {
                let set = sets.get(index).map(String::as_str).unwrap_or_default();
                (0, 0, format!("{message} (with --set {set})"))
            }
            Place::Nowhere => (0, 0, message),
        };
        Issue { code, message, line, column, help }
    }
}

/// A pipeline that cannot be run: everything that is wrong with it.
#[derive(Debug)]
pub struct PipelineError {
    /// What is wrong, in the order of the file.
    pub issues: Vec<Issue>,
    /// The file, as it was named.
    pub path: String,
    /// Its text, which the places of the issues count in; empty where it could not be read.
    pub text: String,
}

impl PipelineError {
    pub(super) fn new(path: &str, text: &str, mut issues: Vec<Issue>) -> PipelineError {
        issues.sort_by_key(|i| (i.line, i.column));
        PipelineError { issues, path: path.to_string(), text: text.to_string() }
    }
}

impl fmt::Display for PipelineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, issue) in self.issues.iter().enumerate() {
            let newline = if i > 0 { "\n" } else { "" };
            write!(f, "{newline}{}", self.path)?;
            if issue.line > 0 {
                write!(f, ":{}:{}", issue.line, issue.column)?;
            }
            write!(f, ": error[{}]: {}", issue.code, issue.message)?;
            if let Some(help) = &issue.help {
                write!(f, " ({help})")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for PipelineError {}
