//! Comma-separated rows.

use super::{Format, Rows};
use crate::error::DataError;
use crate::row::{Cell, Row};
use ::csv::{ErrorKind, Position, ReaderBuilder};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// Comma-separated values with a header row ([RFC 4180](https://www.rfc-editor.org/rfc/rfc4180)), in UTF-8. Every cell is
/// a text. Errors: `Io`, `NotUtf8`, `Ragged`.
pub struct Csv;

impl Format for Csv {
    fn about(&self) -> &'static str {
        "Comma-separated values with a header"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["csv"]
    }

    fn has_columns(&self) -> bool {
        true
    }

    fn open(&self, path: &Path) -> Result<Rows, DataError> {
        open(path, &ReaderBuilder::new())
    }
}

/// The rows of a file with a header, split as the reader says.
pub(super) fn open(path: &Path, reader: &ReaderBuilder) -> Result<Rows, DataError> {
    let file = File::open(path).map_err(|source| DataError::Io { path: path.to_owned(), source })?;
    let path: Arc<Path> = path.into();
    let mut reader = reader.from_reader(file);
    let header = reader.headers().map_err(|error| fault(&path, 0, error))?;
    let columns: Arc<[String]> = header.iter().map(str::to_owned).collect();
    let names = columns.clone();
    let rows = reader.into_records().zip(1..).map(move |(record, position)| {
        let record = record.map_err(|error| fault(&path, position, error))?;
        let cells = record.iter().map(|cell| Cell::Text(cell.to_owned())).collect();
        Ok(Row::new(path.clone(), position, names.clone(), cells))
    });
    Ok(Rows { columns: Some(columns), rows: Box::new(rows) })
}

fn fault(path: &Path, row: usize, error: ::csv::Error) -> DataError {
    let path = path.to_owned();
    let line = error.position().map_or(0, Position::line);
    match error.into_kind() {
        ErrorKind::Io(source) => DataError::Io { path, source },
        ErrorKind::Utf8 { .. } => DataError::NotUtf8 { path, row, line },
        ErrorKind::UnequalLengths { expected_len: want, len: have, .. } => {
            DataError::Ragged { path, row, line, want, have }
        }
        other => DataError::Io { path, source: std::io::Error::other(format!("{other:?}")) },
    }
}

#[cfg(test)]
mod tests {
    use super::Csv;
    use crate::DataError;
    use crate::table::tests::{Pairs, pairs};

    fn read(bytes: &[u8]) -> Result<Pairs, DataError> {
        pairs(&Csv, bytes, None)
    }

    #[test]
    fn quotes_newlines_and_repeats_survive() {
        let seen = read(b"id,text,label\n1,\"a \"\"b\"\",\nc\",pos\r\n2,,0\n3,x,1\n3,x,1\n").unwrap();
        let want = [("a \"b\",\nc", 1, 1), ("", 0, 2), ("x", 1, 3), ("x", 1, 4)];
        assert_eq!(seen, want.map(|(text, label, row)| (text.to_owned(), label, row)));
    }

    #[test]
    fn a_byte_order_mark_is_not_part_of_the_first_column() {
        assert_eq!(read(b"\xef\xbb\xbftext,label\na,0\n").unwrap().len(), 1);
    }

    #[test]
    fn a_missing_column_names_the_nearest() {
        match read(b"texts,label\na,0\n") {
            Err(DataError::MissingColumn { column, nearest, have, .. }) => {
                assert_eq!((column.as_str(), nearest, have.len()), ("text", vec!["texts".to_owned()], 2));
            }
            other => panic!("{other:?}"),
        }
        match pairs(&Csv, b"text,label,stars\na,0,1\n", Some("star > 0")) {
            Err(DataError::MissingColumn { column, nearest, .. }) => {
                assert_eq!((column.as_str(), nearest), ("star", vec!["stars".to_owned()]));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_column_may_be_there_twice_where_nothing_needs_it() {
        assert!(matches!(read(b"text,label,text\na,0,b\n"), Err(DataError::DuplicateColumn { .. })));
        assert_eq!(read(b"text,id,label,id\na,1,0,2\n").unwrap().len(), 1);
    }

    #[test]
    fn ragged_rows_and_other_encodings_are_placed() {
        match read(b"text,label\n\"a\nb\",0\nc,0,1\n") {
            Err(DataError::Ragged { row: 2, line: 4, want: 2, have: 3, .. }) => {}
            other => panic!("{other:?}"),
        }
        match read(b"text,label\na,0\ncaf\xe9,0\n") {
            Err(DataError::NotUtf8 { row: 2, line: 3, .. }) => {}
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_filtered_row_may_have_any_label() {
        let bytes = b"text,label\na,neutral\nb,pos\n";
        assert!(matches!(read(bytes), Err(DataError::UnknownLabel { row: 1, .. })));
        let kept = pairs(&Csv, bytes, Some("label != neutral")).unwrap();
        assert_eq!(kept, [("b".to_owned(), 1, 2)]);
    }
}
