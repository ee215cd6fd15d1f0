//! What is wrong with a pipeline, with its place in the YAML.

use serde::Serialize;
use std::fmt;

/// One thing that is wrong.
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
