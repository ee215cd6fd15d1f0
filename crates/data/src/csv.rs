//! Comma-separated rows.

use crate::error::DataError;
use crate::label::Labels;
use crate::nearest::nearest;
use crate::read::{Example, ReadSpec};
use ::csv::{ErrorKind, ReaderBuilder, StringRecord};
use std::fs::File;
use std::path::Path;

/// Appends the kept rows to `kept`; returns how many rows were read.
pub(crate) fn read_csv(
    path: &Path,
    file: File,
    spec: &ReadSpec,
    labels: &Labels<'_>,
    kept: &mut Vec<Example>,
) -> Result<usize, DataError> {
    let mut reader = ReaderBuilder::new().from_reader(file);
    let header = reader.headers().map_err(|error| fault(path, 0, error))?.clone();
    let text_at = column(path, &header, &spec.text)?;
    let label_at = spec.label.as_deref().map(|label| column(path, &header, label)).transpose()?;
    let mut filter_at = Vec::new();
    if let Some(filter) = &spec.filter {
        for name in filter.columns() {
            filter_at.push((name, column(path, &header, name)?));
        }
    }

    let mut record = StringRecord::new();
    let mut row = 0;
    while reader.read_record(&mut record).map_err(|error| fault(path, row + 1, error))? {
        row += 1;
        if let Some(filter) = &spec.filter {
            let get =
                |name: &str| filter_at.iter().find(|(known, _)| *known == name).and_then(|(_, at)| record.get(*at));
            if !filter.keep(get) {
                continue;
            }
        }
        let label = match label_at {
            Some(at) => labels.index(path, row, &record[at])?,
            None => 0,
        };
        kept.push(Example { text: record[text_at].to_owned(), label, row });
    }
    Ok(row)
}

fn column(path: &Path, header: &StringRecord, name: &str) -> Result<usize, DataError> {
    let mut places = header.iter().enumerate().filter(|(_, have)| *have == name).map(|(at, _)| at);
    match (places.next(), places.next()) {
        (Some(at), None) => Ok(at),
        (Some(_), Some(_)) => Err(DataError::DuplicateColumn { path: path.to_owned(), column: name.to_owned() }),
        (None, _) => {
            let have: Vec<String> = header.iter().map(str::to_owned).collect();
            Err(DataError::MissingColumn {
                path: path.to_owned(),
                column: name.to_owned(),
                nearest: nearest(name, &have),
                have,
            })
        }
    }
}

fn fault(path: &Path, row: usize, error: ::csv::Error) -> DataError {
    let path = path.to_owned();
    let line = error.position().map_or(0, ::csv::Position::line);
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
    use crate::read::tests::read_bytes;
    use crate::{DataError, Example, Format};

    fn read(bytes: &[u8]) -> Result<Vec<Example>, DataError> {
        read_bytes(bytes, Format::Csv, None)
    }

    #[test]
    fn quotes_newlines_and_repeats_survive() {
        let examples = read(b"id,text,label\n1,\"a \"\"b\"\",\nc\",pos\r\n2,,0\n3,x,1\n3,x,1\n").unwrap();
        let seen: Vec<_> = examples.iter().map(|e| (e.text.as_str(), e.label, e.row)).collect();
        assert_eq!(seen, [("a \"b\",\nc", 1, 1), ("", 0, 2), ("x", 1, 3), ("x", 1, 4)]);
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_column() {
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
        match read_bytes(b"text,label,stars\na,0,1\n", Format::Csv, Some("star > 0")) {
            Err(DataError::MissingColumn { column, nearest, .. }) => {
                assert_eq!((column.as_str(), nearest), ("star", vec!["stars".to_owned()]));
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(read(b"text,label,text\na,0,b\n"), Err(DataError::DuplicateColumn { .. })));
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
        let kept = read_bytes(bytes, Format::Csv, Some("label != neutral")).unwrap();
        assert_eq!((kept.len(), kept[0].row), (1, 2));
    }
}
