//! What is wrong with a pipeline, with its place in the YAML.

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode, SourceSpan};
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
    path: String,
    text: String,
}

impl PipelineError {
    pub(super) fn new(path: &str, text: &str, mut issues: Vec<Issue>) -> PipelineError {
        issues.sort_by_key(|i| (i.line, i.column));
        PipelineError { issues, path: path.to_string(), text: text.to_string() }
    }

    /// Every issue as a diagnostic with its piece of the file.
    pub fn diagnostics(&self) -> impl Iterator<Item = Pointed> {
        self.issues.iter().map(|issue| Pointed {
            span: span(&self.text, issue),
            source: NamedSource::new(&self.path, self.text.clone()).with_language("YAML"),
            issue: issue.clone(),
        })
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

/// The word at an issue's place.
fn span(text: &str, issue: &Issue) -> Option<SourceSpan> {
    let line = text.lines().nth(issue.line.checked_sub(1)?)?;
    let start: usize = text.split_inclusive('\n').take(issue.line - 1).map(str::len).sum();
    let skip: usize = line.chars().take(issue.column.saturating_sub(1)).map(char::len_utf8).sum();
    let rest = &line[skip.min(line.len())..];
    let quoted = rest.starts_with('"').then(|| rest[1..].find('"').map(|i| i + 2)).flatten();
    let len = quoted.unwrap_or_else(|| rest.find([',', ' ', ':', ']', '}', '#']).unwrap_or(rest.len()));
    Some((start + skip, len.max(1)).into())
}

/// An issue with the file that it is in.
#[derive(Debug)]
pub struct Pointed {
    issue: Issue,
    span: Option<SourceSpan>,
    source: NamedSource<String>,
}

impl fmt::Display for Pointed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.issue.message)
    }
}

impl std::error::Error for Pointed {}

impl Diagnostic for Pointed {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.issue.code))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.issue.help.as_ref().map(|h| Box::new(h) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.span.map(|_| &self.source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = self.span?;
        Some(Box::new(std::iter::once(LabeledSpan::new_with_span(Some("here".into()), span))))
    }
}
