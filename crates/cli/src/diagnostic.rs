//! What is wrong with a pipeline, drawn with its piece of the YAML.

use crate::terminal::{covered, shown};
use lorac::pipeline::{Issue, PipelineError};
use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode, SourceSpan};
use std::fmt;

/// Every issue as a diagnostic with its piece of the file.
pub(super) fn diagnostics(error: &PipelineError) -> impl Iterator<Item = IssueDiagnostic> {
    error.issues.iter().map(|issue| IssueDiagnostic {
        span: span(&error.text, issue),
        source: NamedSource::new(shown(&error.path), covered(&error.text)).with_language("YAML"),
        issue: Issue {
            message: shown(&issue.message).into_owned(),
            help: issue.help.as_deref().map(|help| shown(help).into_owned()),
            ..issue.clone()
        },
    })
}

/// An issue with the file that it is in.
#[derive(Debug)]
pub(super) struct IssueDiagnostic {
    issue: Issue,
    span: Option<SourceSpan>,
    source: NamedSource<String>,
}

impl fmt::Display for IssueDiagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.issue.message)
    }
}

impl std::error::Error for IssueDiagnostic {}

impl Diagnostic for IssueDiagnostic {
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

#[cfg(test)]
mod tests {
    use super::*;
    use lorac::pipeline::Loaded;
    use proptest::prelude::*;
    use std::path::Path;

    const QUICKSTART: &str = include_str!("../../../pipelines/quickstart.yaml");

    fn drawn(text: &str, sets: &[String]) -> Vec<String> {
        let error = Loaded::parse(text, Path::new("p.yaml"), sets).err();
        let drawn = error.iter().flat_map(diagnostics).map(|d| format!("{:?}", miette::Report::new(d)));
        drawn.collect()
    }

    #[test]
    fn an_issue_is_drawn_where_it_stands() {
        let drawn = drawn(&QUICKSTART.replace("epochs:", "epoch:"), &[]);
        let [one] = drawn.as_slice() else { panic!("{drawn:?}") };
        for says in ["pipeline::unknown_key", "unknown key `epoch`", "p.yaml:", "epoch: 2", "here", "nearest: epochs"] {
            assert!(one.contains(says), "no '{says}' in:\n{one}");
        }
    }

    #[test]
    fn an_issue_without_a_place_is_drawn_without_the_file() {
        let drawn = drawn(QUICKSTART, &["train.epoch=1".into()]);
        let [one] = drawn.as_slice() else { panic!("{drawn:?}") };
        assert!(one.contains("--set train.epoch=1") && !one.contains("p.yaml:"), "{one}");
    }

    #[test]
    fn what_a_file_says_does_nothing_to_the_terminal() {
        let text = QUICKSTART.replace("epochs:", "\"e\u{1b}[31m\u{9b}poch\":");
        let plain = |d: &str| d.replace("\u{1b}[", "").contains(['\u{1b}', '\u{9b}']);
        for drawn in drawn(&text, &["tra\u{1b}]in=1".into()]) {
            assert!(!plain(&drawn) && !drawn.contains("\u{1b}[31mpoch"), "{drawn:?}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(cut in 0usize..QUICKSTART.len(), noise in "[ -~\n]{0,12}", set in "[ -~]{0,20}") {
            if QUICKSTART.is_char_boundary(cut) {
                drawn(&format!("{}{noise}{}", &QUICKSTART[..cut], &QUICKSTART[cut..]), &[set]);
            }
        }
    }
}
