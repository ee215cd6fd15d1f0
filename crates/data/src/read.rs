//! Reading a file of labelled texts.

use crate::error::DataError;
use crate::filter::Filter;
use crate::label::Labels;
use crate::{csv, jsonl};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated values with a header row ([RFC 4180](https://www.rfc-editor.org/rfc/rfc4180)), in UTF-8.
    Csv,
    /// One JSON object a line, in UTF-8; blank lines are passed over.
    JsonLines,
}

impl Format {
    /// The format a file's name promises: `.csv`, or `.jsonl`, `.ndjson` and `.json`.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "csv" => Some(Self::Csv),
            "jsonl" | "ndjson" | "json" => Some(Self::JsonLines),
            _ => None,
        }
    }
}

/// What to take from each row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReadSpec {
    /// The column that holds the text.
    pub text: String,
    /// The column that holds the label; without one, every example has label 0.
    pub label: Option<String>,
    /// Rows to keep; all of them when absent.
    pub filter: Option<Filter>,
    /// The task's label names; a label's index is its place here.
    pub labels: Vec<String>,
    /// Raw values, each with the label name it stands for. It is asked first, then the names, then a number in
    /// `0..labels.len()` counts as an index.
    pub label_map: Option<BTreeMap<String, String>>,
}

/// One labelled text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// The text as it stands in the file; it may be empty.
    pub text: String,
    /// The label's index in [`ReadSpec::labels`].
    pub label: usize,
    /// The data record, from 1, a header excluded; in JSON lines, the line.
    pub row: usize,
}

/// Reads `path` a row at a time and keeps the rows the filter keeps, repeated ones included, in the file's order.
///
/// A row the filter drops need not have a known label, or a text.
///
/// # Errors
/// `Io`, `NotUtf8`, `Ragged`, `BadJson`, `MissingColumn`, `DuplicateColumn`, `MissingField`, `WrongType`,
/// `UnknownLabel`, `UnknownMapping`, `DuplicateLabel`, and `Empty` when no row is kept.
pub fn read(path: &Path, format: Format, spec: &ReadSpec) -> Result<Vec<Example>, DataError> {
    let labels = Labels::new(&spec.labels, spec.label_map.as_ref())?;
    let file = File::open(path).map_err(|source| DataError::Io { path: path.to_owned(), source })?;
    let mut kept = Vec::new();
    let read = match format {
        Format::Csv => csv::read_csv(path, file, spec, &labels, &mut kept)?,
        Format::JsonLines => jsonl::read_json_lines(path, file, spec, &labels, &mut kept)?,
    };
    if kept.is_empty() {
        return Err(DataError::Empty { path: path.to_owned(), read, kept: 0 });
    }
    Ok(kept)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Writes `bytes` to a file and reads them back with columns `text` and `label`, labels `neg` and `pos`.
    pub(crate) fn read_bytes(bytes: &[u8], format: Format, filter: Option<&str>) -> Result<Vec<Example>, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        std::fs::write(&path, bytes).unwrap();
        let spec = ReadSpec {
            text: "text".into(),
            label: Some("label".into()),
            filter: filter.map(Filter::parse).transpose()?,
            labels: vec!["neg".into(), "pos".into()],
            label_map: None,
        };
        read(&path, format, &spec)
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read(Path::new("no/such.csv"), Format::Csv, &ReadSpec::default()).unwrap_err();
        assert!(error.to_string().contains("such.csv"), "{error}");
    }

    #[test]
    fn formats_by_name() {
        assert_eq!(Format::of(Path::new("a/B.CSV")), Some(Format::Csv));
        assert_eq!(Format::of(Path::new("b.jsonl")), Some(Format::JsonLines));
        assert_eq!(Format::of(Path::new("b.parquet")), None);
    }

    #[test]
    fn without_a_label_column_every_label_is_zero() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.csv");
        std::fs::write(&path, "text\na\nb\n").unwrap();
        let examples = read(&path, Format::Csv, &ReadSpec { text: "text".into(), ..ReadSpec::default() }).unwrap();
        assert_eq!(examples.iter().map(|example| example.label).collect::<Vec<_>>(), [0, 0]);
    }

    #[test]
    fn nothing_kept_is_an_error_that_says_how_many_were_read() {
        match read_bytes(b"text,label\na,neg\nb,neg\n", Format::Csv, Some("label == pos")) {
            Err(DataError::Empty { read: 2, kept: 0, .. }) => {}
            other => panic!("{other:?}"),
        }
    }
}
