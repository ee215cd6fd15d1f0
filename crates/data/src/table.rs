//! The rows and columns that are selected of a file, whatever its format.

use crate::error::DataError;
use crate::filter::Filter;
use crate::format::{Format, Rows, Written};
use crate::row::{Cell, Row};
use crate::skip::Skipped;
use lorac_config::nearest;
use std::path::Path;
use std::sync::Arc;

/// What to take from a file, and how it is read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Columns {
    /// Columns that every kept row must have; of formats with objects and lists, dotted paths too.
    pub needed: Vec<String>,
    /// Rows to keep; all of them when absent.
    pub filter: Option<Filter>,
    /// How the file is written.
    pub written: Written,
    /// How many wrong rows are left out; with 0 the first one is an error.
    pub max_errors: usize,
}

/// The rows that are kept of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// The kept rows, in the file's order.
    pub rows: Vec<Row>,
    /// How many rows the file has.
    pub read: usize,
    /// Those that are left out because something is wrong with them.
    pub skipped: Skipped,
}

/// Reads `path` and keeps the rows that the filter keeps, repeated ones included, in the file's order, each with the
/// needed columns alone.
///
/// A row that the filter drops need not have the needed columns, unless a header says what all rows have.
///
/// # Errors
/// What the format refuses; `MissingColumn` and `DuplicateColumn` of a header, before any row is read; `MissingField` of
/// a row; `ManyErrors` where more rows are wrong than may be left out; `Empty` when no row is kept.
pub fn rows(format: &dyn Format, path: &Path, columns: &Columns) -> Result<Table, DataError> {
    let filter = columns.filter.as_ref().map(|filter| (filter, filter.columns()));
    let filtered = || filter.iter().flat_map(|(_, names)| names.iter().copied());
    let all: Vec<&str> = columns.needed.iter().map(String::as_str).chain(filtered()).collect();
    let needed = all.iter().map(|name| (*name).to_owned()).collect();
    let Rows { columns: header, rows } = format.open(path, &Written { needed, ..columns.written.clone() })?;
    if let Some(header) = &header {
        all.iter().try_for_each(|name| check(path, header, name))?;
    }
    let paths: Vec<&str> = all.into_iter().filter(|name| name.contains('.')).collect();
    let needed = unique(&columns.needed);
    let keep = |row: Row| -> Result<Option<Row>, DataError> {
        let mut row = row;
        paths.iter().for_each(|path| row.add_path(path));
        if let Some((filter, names)) = &filter {
            names.iter().try_for_each(|name| row.need(name).map(drop))?;
            if !filter.keep(|name| row.cell(name).and_then(Cell::as_written)) {
                return Ok(None);
            }
        }
        row.keep_columns(&needed).map(Some)
    };
    let (mut read, mut kept, mut skipped) = (0, Vec::new(), Skipped::new(columns.max_errors));
    for row in rows {
        read += 1;
        match row.and_then(keep) {
            Ok(row) => kept.extend(row),
            Err(error) => skipped.leave_out(error)?,
        }
    }
    match kept.is_empty() {
        true => Err(DataError::Empty { path: path.to_owned(), read, skipped: skipped.count() }),
        false => Ok(Table { rows: kept, read, skipped }),
    }
}

fn check(path: &Path, header: &[String], name: &str) -> Result<(), DataError> {
    let (path, column) = (path.to_owned(), name.to_owned());
    match header.iter().filter(|have| *have == name).count() {
        1 => Ok(()),
        // A path into a column; whether it leads to something, each row says.
        0 if name.match_indices('.').any(|(at, _)| header.iter().any(|have| *have == name[..at])) => Ok(()),
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
        Ok(rows(
            format,
            &path,
            &Columns { needed, filter: filter.map(Filter::parse).transpose()?, ..Columns::default() },
        )?
        .rows)
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
            Err(error @ DataError::Empty { read: 2, skipped: 0, .. }) => {
                assert!(error.to_string().ends_with("the filter keeps none of its 2 rows"), "{error}");
            }
            other => panic!("{other:?}"),
        }
        for format in [&Csv as &dyn Format, &JsonLines] {
            let empty = read(format, b"", &[], None).unwrap_err();
            assert!(empty.to_string().ends_with("it has no rows"), "{empty}");
        }
    }

    #[test]
    fn wrong_rows_are_passed_over_where_they_may_be() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let lines = "{\"text\":\"a\",\"n\":1}\n{\"text\":\n{\"txt\":\"b\",\"n\":1}\n{\"text\":\"c\"}\n{\"text\":\"d\",\"n\":2}\n{\"text\":\"e\",\"n\":1}\n";
        std::fs::write(&path, lines).unwrap();
        let filter = Some(Filter::parse("n == 1").unwrap());
        let columns = Columns { needed: vec!["text".into()], filter, max_errors: 3, ..Columns::default() };
        let table = rows(&JsonLines, &path, &columns).unwrap();
        let texts: Vec<&str> = table.rows.iter().map(|row| row.text("text").unwrap()).collect();
        assert_eq!((texts, table.read, table.skipped.count()), (vec!["a", "e"], 6, 3));
        for (shown, says) in
            table.skipped.shown().iter().zip(["row 2 is not a JSON object", "row 3 has no", "row 4 has no"])
        {
            assert!(shown.contains(says), "{shown}");
        }
        let two = rows(&JsonLines, &path, &Columns { max_errors: 2, ..columns.clone() });
        assert!(matches!(two, Err(DataError::ManyErrors { most: 2, .. })));
        assert!(matches!(
            rows(&JsonLines, &path, &Columns { max_errors: 0, ..columns }),
            Err(DataError::BadJson { row: 2, .. })
        ));

        std::fs::write(&path, b"text,label\na,0,1\ncaf\xe9,1\n\"b\nc\",0\nd\n").unwrap();
        let columns = Columns { needed: vec!["text".into()], max_errors: 9, ..Columns::default() };
        let table = rows(&Csv, &path, &columns).unwrap();
        assert_eq!((table.rows.len(), table.rows[0].position, table.rows[0].line), (1, 3, Some(4)));
        let says = ["row 1 (line 2) has 3 cells", "row 2 (line 3) is not UTF-8", "row 4 (line 6) has 1 cells"];
        for (shown, says) in table.skipped.shown().iter().zip(says) {
            assert!(shown.contains(says), "{shown}");
        }
        std::fs::write(&path, "text,label\na\n").unwrap();
        let none = rows(&Csv, &path, &columns).unwrap_err().to_string();
        assert!(none.ends_with("its only row is wrong, and is left out"), "{none}");
    }

    #[test]
    fn paths_lead_into_the_objects_of_a_row() {
        let lines = b"{\"q\":{\"text\":\"a\"},\"label\":0,\"m\":{\"lang\":\"en\"}}\n{\"q\":{\"text\":\"b\"},\"label\":1,\"m\":{\"lang\":\"de\"}}\n";
        let kept = read(&JsonLines, lines, &["q.text", "label"], Some("m.lang == de")).unwrap();
        assert_eq!((kept.len(), kept[0].text("q.text").unwrap()), (1, "b"));
        let error = read(&JsonLines, lines, &["q.txt"], None).unwrap_err().to_string();
        assert!(error.contains("row 1 has no field `q.txt` (nearest: `q.text`)"), "{error}");
    }
}
