//! The rows and columns that are selected of a file, whatever its format.

use crate::error::DataError;
use crate::filter::Filter;
use crate::format::{Format, Rows};
use crate::row::{Cell, Row};
use lorac_config::nearest;
use std::path::Path;
use std::sync::Arc;

/// What to take from a file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Columns {
    /// Columns that every kept row must have.
    pub needed: Vec<String>,
    /// Rows to keep; all of them when absent.
    pub filter: Option<Filter>,
}

/// The rows that are kept of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// The kept rows, in the file's order.
    pub rows: Vec<Row>,
    /// How many rows the file has.
    pub read: usize,
}

/// Reads `path` and keeps the rows that the filter keeps, repeated ones included, in the file's order, each with the
/// needed columns alone.
///
/// A row that the filter drops need not have the needed columns, unless a header says what all rows have.
///
/// # Errors
/// What the format refuses; `MissingColumn` and `DuplicateColumn` of a header, before any row is read; `MissingField` of
/// a row; `Empty` when no row is kept.
pub fn rows(format: &dyn Format, path: &Path, columns: &Columns) -> Result<Table, DataError> {
    let Rows { columns: header, rows } = format.open(path)?;
    let filter = columns.filter.as_ref().map(|filter| (filter, filter.columns()));
    if let Some(header) = &header {
        let needed = columns.needed.iter().map(String::as_str);
        let filtered = filter.iter().flat_map(|(_, names)| names.iter().copied());
        needed.chain(filtered).try_for_each(|name| check(path, header, name))?;
    }
    let needed = unique(&columns.needed);
    let (mut read, mut kept) = (0, Vec::new());
    for row in rows {
        let row = row?;
        read += 1;
        if let Some((filter, names)) = &filter {
            names.iter().try_for_each(|name| row.need(name).map(drop))?;
            if !filter.keep(|name| row.cell(name).and_then(Cell::as_written)) {
                continue;
            }
        }
        kept.push(row.keep_columns(&needed)?);
    }
    match kept.is_empty() {
        true => Err(DataError::Empty { path: path.to_owned(), read }),
        false => Ok(Table { rows: kept, read }),
    }
}

fn check(path: &Path, header: &[String], name: &str) -> Result<(), DataError> {
    let (path, column) = (path.to_owned(), name.to_owned());
    match header.iter().filter(|have| *have == name).count() {
        1 => Ok(()),
        0 => Err(DataError::MissingColumn { path, column, nearest: nearest(name, header), have: header.to_vec() }),
        _ => Err(DataError::DuplicateColumn { path, column }),
    }
}

fn unique(names: &[String]) -> Arc<[String]> {
    let first = |(i, name): (usize, &String)| (!names[..i].contains(name)).then(|| name.clone());
    names.iter().enumerate().filter_map(first).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::format::{Csv, JsonLines};
    use crate::label::Labels;

    /// Text, label and position of every row.
    pub(crate) type Pairs = Vec<(String, usize, usize)>;

    /// Writes `bytes` to a file and reads them back with columns `text` and `label`, labels `neg` and `pos`.
    pub(crate) fn pairs(format: &dyn Format, bytes: &[u8], filter: Option<&str>) -> Result<Pairs, DataError> {
        let labels = Labels::new(&["neg", "pos"], None)?;
        let rows = read(format, bytes, &["text", "label"], filter)?;
        let pair = |row: &Row| Ok((row.text("text")?.to_owned(), labels.index(row, "label")?, row.position));
        rows.iter().map(pair).collect()
    }

    fn read(format: &dyn Format, bytes: &[u8], needed: &[&str], filter: Option<&str>) -> Result<Vec<Row>, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        std::fs::write(&path, bytes).unwrap();
        let needed = needed.iter().map(|name| (*name).to_owned()).collect();
        Ok(rows(format, &path, &Columns { needed, filter: filter.map(Filter::parse).transpose()? })?.rows)
    }

    #[test]
    fn a_column_may_be_needed_twice_and_others_are_let_go() {
        let rows = read(&Csv, b"a,b,c\n1,2,3\n", &["b", "b"], Some("c == 3")).unwrap();
        assert_eq!(rows[0].text("b").unwrap(), "2");
        assert_eq!(rows[0].cell("c"), None);
    }

    #[test]
    fn nothing_kept_is_an_error_that_says_how_many_were_read() {
        match read(&Csv, b"text,label\na,neg\nb,neg\n", &["text"], Some("label == pos")) {
            Err(error @ DataError::Empty { read: 2, .. }) => {
                assert!(error.to_string().ends_with("the filter keeps none of its 2 rows"), "{error}");
            }
            other => panic!("{other:?}"),
        }
        for format in [&Csv as &dyn Format, &JsonLines] {
            let empty = read(format, b"", &[], None).unwrap_err();
            assert!(empty.to_string().ends_with("it has no rows"), "{empty}");
        }
    }
}
