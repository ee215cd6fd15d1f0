//! One JSON object per line.

use super::{Format, Rows};
use crate::error::DataError;
use crate::row::{Cell, Row};
use serde_json::{Map, Value};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;

/// One JSON object per line ([JSON Lines](https://jsonlines.org)), in UTF-8; blank lines are passed over. Errors: `Io`,
/// `NotUtf8`, `BadJson`.
pub struct JsonLines;

impl Format for JsonLines {
    fn about(&self) -> &'static str {
        "JSON Lines"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["jsonl", "ndjson", "json"]
    }

    fn has_columns(&self) -> bool {
        true
    }

    fn open(&self, path: &Path) -> Result<Rows, DataError> {
        let file = File::open(path).map_err(|source| DataError::Io { path: path.to_owned(), source })?;
        let mut lines = Lines { path: path.into(), reader: BufReader::new(file), bytes: Vec::new(), line: 0 };
        Ok(Rows { columns: None, rows: Box::new(std::iter::from_fn(move || lines.next_row().transpose())) })
    }
}

struct Lines {
    path: Arc<Path>,
    reader: BufReader<File>,
    bytes: Vec<u8>,
    /// Lines read.
    line: usize,
}

impl Lines {
    fn next_row(&mut self) -> Result<Option<Row>, DataError> {
        loop {
            self.bytes.clear();
            let length = self
                .reader
                .read_until(b'\n', &mut self.bytes)
                .map_err(|source| DataError::Io { path: self.path.to_path_buf(), source })?;
            if length == 0 {
                return Ok(None);
            }
            self.line += 1;
            let (path, row) = (&self.path, self.line);
            let text = std::str::from_utf8(&self.bytes).map_err(|_| DataError::NotUtf8 {
                path: path.to_path_buf(),
                row,
                line: row as u64,
            })?;
            let text = if row == 1 { text.trim_start_matches('\u{feff}') } else { text };
            if text.trim().is_empty() {
                continue;
            }
            let fields: Map<String, Value> = serde_json::from_str(text).map_err(|error| DataError::BadJson {
                path: path.to_path_buf(),
                row,
                what: error.to_string(),
            })?;
            let (columns, cells): (Vec<String>, Vec<Cell>) =
                fields.into_iter().map(|(name, value)| (name, cell(value))).unzip();
            return Ok(Some(Row::new(path.clone(), row, columns.into(), cells)));
        }
    }
}

fn cell(value: Value) -> Cell {
    match value {
        Value::Null => Cell::Null,
        Value::Bool(value) => Cell::Bool(value),
        Value::String(text) => Cell::Text(text),
        Value::Number(number) if number.is_f64() => Cell::Fraction(number.to_string()),
        Value::Number(number) => Cell::Integer(number.to_string()),
        Value::Array(_) => Cell::Other { kind: "an array", text: value.to_string() },
        Value::Object(_) => Cell::Other { kind: "an object", text: value.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::JsonLines;
    use crate::DataError;
    use crate::table::tests::{Pairs, pairs};

    fn read(text: &str) -> Result<Pairs, DataError> {
        pairs(&JsonLines, text.as_bytes(), None)
    }

    #[test]
    fn labels_are_strings_or_integers() {
        let seen = read("\u{feff}{\"text\":\"a\\nb\",\"label\":\"pos\"}\n\n{\"text\":\"\",\"label\":0}\r\n{\"label\":\"1\",\"text\":\"c\"}").unwrap();
        let want = [("a\nb", 1, 1), ("", 0, 3), ("c", 1, 4)];
        assert_eq!(seen, want.map(|(text, label, row)| (text.to_owned(), label, row)));
    }

    #[test]
    fn other_labels_are_refused() {
        for (label, have) in [("true", "a boolean"), ("1.0", "a fraction"), ("null", "null"), ("[1]", "an array")] {
            match read(&format!("{{\"text\":\"a\",\"label\":{label}}}\n")) {
                Err(DataError::WrongType { row: 1, have: seen, .. }) => assert_eq!(seen, have),
                other => panic!("{label}: {other:?}"),
            }
        }
        assert!(matches!(read("{\"text\":\"a\",\"label\":-1}"), Err(DataError::UnknownLabel { .. })));
        assert!(matches!(
            read("{\"text\":{},\"label\":1}"),
            Err(DataError::WrongType { want: "a string", have: "an object", .. })
        ));
    }

    #[test]
    fn a_missing_field_and_a_broken_line_are_placed() {
        match read("{\"text\":\"a\",\"label\":0}\n{\"txt\":\"a\",\"label\":0}\n") {
            Err(DataError::MissingField { row: 2, field, have, nearest, .. }) => {
                assert_eq!(
                    (field.as_str(), have, nearest),
                    ("text", vec!["txt".into(), "label".into()], vec!["txt".into()])
                );
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(read("{\"text\":\"a\",\"label\":0}\n{\"text\":"), Err(DataError::BadJson { row: 2, .. })));
        assert!(matches!(read("[{\"text\":\"a\",\"label\":0}]"), Err(DataError::BadJson { row: 1, .. })));
        let latin1 = pairs(&JsonLines, b"{\"text\":\"\xe9\"}", None);
        assert!(matches!(latin1, Err(DataError::NotUtf8 { row: 1, .. })));
    }

    #[test]
    fn filters_see_numbers_nulls_and_arrays() {
        let text = "{\"text\":\"a\",\"label\":0,\"n\":4}\n{\"text\":\"b\",\"label\":0,\"n\":null}\n{\"text\":\"c\",\"label\":0,\"n\":12.5}\n{\"text\":\"d\",\"label\":0,\"n\":[\"x\",true]}\n";
        let kept = |filter| -> Vec<String> {
            let pairs = pairs(&JsonLines, text.as_bytes(), Some(filter)).unwrap();
            pairs.into_iter().map(|(text, ..)| text).collect()
        };
        assert_eq!(kept("n > 4"), ["c"]);
        assert_eq!(kept("n == 4"), ["a"]);
        assert_eq!(kept("n != 4"), ["b", "c", "d"]);
        assert_eq!(kept("n == '[\"x\",true]'"), ["d"]);
    }

    #[test]
    fn a_row_that_is_dropped_needs_no_text_but_every_row_what_the_filter_reads() {
        let text = "{\"n\":1}\n{\"text\":\"a\",\"label\":0,\"n\":2}\n{\"text\":\"a\",\"label\":0}\n";
        match pairs(&JsonLines, text.as_bytes(), Some("n == 2")) {
            Err(DataError::MissingField { row: 3, field, .. }) => assert_eq!(field, "n"),
            other => panic!("{other:?}"),
        }
    }
}
