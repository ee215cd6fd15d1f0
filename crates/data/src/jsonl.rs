//! One JSON object a line.

use crate::error::DataError;
use crate::label::Labels;
use crate::nearest::nearest;
use crate::read::{Example, ReadSpec};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// Appends the kept rows to `kept`; returns how many rows were read.
pub(crate) fn read_json_lines(
    path: &Path,
    file: File,
    spec: &ReadSpec,
    labels: &Labels<'_>,
    kept: &mut Vec<Example>,
) -> Result<usize, DataError> {
    let mut reader = BufReader::new(file);
    let mut bytes = Vec::new();
    let (mut row, mut read) = (0, 0);
    loop {
        bytes.clear();
        let length =
            reader.read_until(b'\n', &mut bytes).map_err(|source| DataError::Io { path: path.to_owned(), source })?;
        if length == 0 {
            return Ok(read);
        }
        row += 1;
        let line = std::str::from_utf8(&bytes).map_err(|_| DataError::NotUtf8 {
            path: path.to_owned(),
            row,
            line: row as u64,
        })?;
        let line = if row == 1 { line.trim_start_matches('\u{feff}') } else { line };
        if line.trim().is_empty() {
            continue;
        }
        read += 1;
        let fields = serde_json::from_str(line).map_err(|error| DataError::BadJson {
            path: path.to_owned(),
            row,
            what: error.to_string(),
        })?;
        let line = Line { path, row, fields };
        if line.kept_by(spec)? {
            kept.push(line.example(spec, labels)?);
        }
    }
}

struct Line<'a> {
    path: &'a Path,
    row: usize,
    fields: Map<String, Value>,
}

impl Line<'_> {
    fn kept_by(&self, spec: &ReadSpec) -> Result<bool, DataError> {
        let Some(filter) = &spec.filter else { return Ok(true) };
        let mut cells: Vec<(&str, Option<Cow<'_, str>>)> = Vec::new();
        for name in filter.columns() {
            let cell = match self.field(name)? {
                Value::Null => None,
                Value::String(text) => Some(Cow::Borrowed(text.as_str())),
                other => Some(Cow::Owned(other.to_string())),
            };
            cells.push((name, cell));
        }
        Ok(filter.keep(|name| cells.iter().find(|(known, _)| *known == name).and_then(|(_, cell)| cell.as_deref())))
    }

    fn example(&self, spec: &ReadSpec, labels: &Labels<'_>) -> Result<Example, DataError> {
        let Value::String(text) = self.field(&spec.text)? else {
            return Err(self.wrong_type(&spec.text, "a string"));
        };
        let label = match spec.label.as_deref() {
            None => 0,
            Some(name) => match self.field(name)? {
                Value::String(raw) => labels.index(self.path, self.row, raw)?,
                Value::Number(raw) if !raw.is_f64() => labels.index(self.path, self.row, &raw.to_string())?,
                _ => return Err(self.wrong_type(name, "a string or an integer")),
            },
        };
        Ok(Example { text: text.clone(), label, row: self.row })
    }

    fn field(&self, name: &str) -> Result<&Value, DataError> {
        self.fields.get(name).ok_or_else(|| {
            let have: Vec<String> = self.fields.keys().cloned().collect();
            DataError::MissingField {
                path: self.path.to_owned(),
                row: self.row,
                field: name.to_owned(),
                nearest: nearest(name, &have),
                have,
            }
        })
    }

    fn wrong_type(&self, name: &str, want: &'static str) -> DataError {
        let have = match self.fields.get(name) {
            None | Some(Value::Null) => "null",
            Some(Value::Bool(_)) => "a boolean",
            Some(Value::Number(number)) if number.is_f64() => "a fraction",
            Some(Value::Number(_)) => "an integer",
            Some(Value::String(_)) => "a string",
            Some(Value::Array(_)) => "an array",
            Some(Value::Object(_)) => "an object",
        };
        DataError::WrongType { path: self.path.to_owned(), row: self.row, field: name.to_owned(), want, have }
    }
}

#[cfg(test)]
mod tests {
    use crate::read::tests::read_bytes;
    use crate::{DataError, Example, Format};

    fn read(text: &str) -> Result<Vec<Example>, DataError> {
        read_bytes(text.as_bytes(), Format::JsonLines, None)
    }

    #[test]
    fn labels_are_strings_or_integers() {
        let examples = read("\u{feff}{\"text\":\"a\\nb\",\"label\":\"pos\"}\n\n{\"text\":\"\",\"label\":0}\r\n{\"label\":\"1\",\"text\":\"c\"}").unwrap();
        let seen: Vec<_> = examples.iter().map(|e| (e.text.as_str(), e.label, e.row)).collect();
        assert_eq!(seen, [("a\nb", 1, 1), ("", 0, 3), ("c", 1, 4)]);
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
        assert!(matches!(
            read_bytes(b"{\"text\":\"\xe9\"}", Format::JsonLines, None),
            Err(DataError::NotUtf8 { row: 1, .. })
        ));
    }

    #[test]
    fn filters_see_numbers_and_nulls() {
        let text = "{\"text\":\"a\",\"label\":0,\"n\":4}\n{\"text\":\"b\",\"label\":0,\"n\":null}\n{\"text\":\"c\",\"label\":0,\"n\":12.5}\n";
        let kept = |filter| -> Vec<String> {
            let examples = read_bytes(text.as_bytes(), Format::JsonLines, Some(filter)).unwrap();
            examples.into_iter().map(|example| example.text).collect()
        };
        assert_eq!(kept("n > 4"), ["c"]);
        assert_eq!(kept("n == 4"), ["a"]);
        assert_eq!(kept("n != 4"), ["b", "c"]);
    }
}
