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
    /// Columns that a row may lack where no header says what all rows have: its cell is [`Cell::Null`] then.
    pub optional: Vec<String>,
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
/// a row, or of all where they lack an optional column; `ManyErrors` where more rows are wrong than may be left out; `Empty`
/// when no row is kept.
pub fn rows(format: &dyn Format, path: &Path, columns: &Columns) -> Result<Table, DataError> {
    let mut rows = each_row(format, path, columns)?;
    let (mut read, mut kept, mut skipped) = (0, Vec::new(), Skipped::new(columns.max_errors));
    for row in rows.by_ref() {
        read += 1;
        match row {
            Ok(row) => kept.extend(row),
            Err(error) => skipped.leave_out(error)?,
        }
    }
    if kept.is_empty() {
        return Err(DataError::Empty { path: path.to_owned(), read, skipped: skipped.count() });
    }
    match rows.absent() {
        Some(error) => Err(error),
        None => Ok(Table { rows: kept, read, skipped }),
    }
}

/// The same rows, each as it is read: no more of the file is held than that. The first wrong row ends them with its error.
///
/// # Errors
/// Those of [`rows`] that come before a row; the others stand in place of one.
pub fn stream(
    format: &dyn Format,
    path: &Path,
    columns: &Columns,
) -> Result<impl Iterator<Item = Result<Row, DataError>> + use<>, DataError> {
    let mut ended = false;
    let kept = each_row(format, path, columns)?.filter_map(Result::transpose);
    Ok(kept.take_while(move |row| !std::mem::replace(&mut ended, row.is_err())))
}

/// Every row of a file as it is read, with the needed columns alone: nothing in place of one that the filter drops, an error in
/// place of a wrong one. One that is not of its row alone ([`DataError::is_of_a_row`]) is the last.
pub struct EachRow {
    keep: Keep,
    rows: Box<dyn Iterator<Item = Result<Row, DataError>>>,
}

impl EachRow {
    /// What is wrong with all rows so far, where they lack an optional column.
    pub fn absent(&mut self) -> Option<DataError> {
        self.keep.absent.iter_mut().find_map(|(_, error)| error.take())
    }
}

impl Iterator for EachRow {
    type Item = Result<Option<Row>, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.rows.next()?.and_then(|row| self.keep.row(row)))
    }
}

/// The rows of a file, none of them held.
///
/// # Errors
/// Those of [`rows`] that come before a row.
pub fn each_row(format: &dyn Format, path: &Path, columns: &Columns) -> Result<EachRow, DataError> {
    let keep = Keep::new(columns);
    let named = || columns.needed.iter().chain(&columns.optional).chain(&keep.filtered);
    let needed = named().cloned().collect();
    let Rows { columns: header, rows } = format.open(path, &Written { needed, ..columns.written.clone() })?;
    if let Some(header) = &header {
        named().try_for_each(|name| check(path, header, name))?;
    }
    Ok(EachRow { keep, rows })
}

/// Which rows are kept, and what of them.
struct Keep {
    filter: Option<Filter>,
    /// The columns that the filter reads.
    filtered: Vec<String>,
    /// Those that are kept, and how many of them a row must have.
    columns: Arc<[String]>,
    must: usize,
    /// Paths into columns.
    paths: Vec<String>,
    /// The columns that no row has had yet, each with the error of the first that lacks it.
    absent: Vec<(String, Option<DataError>)>,
}

impl Keep {
    fn new(columns: &Columns) -> Keep {
        let filtered = columns.filter.iter().flat_map(Filter::columns).map(str::to_owned).collect::<Vec<_>>();
        let must = unique(&columns.needed).len();
        let named = unique(&[&columns.needed[..], &columns.optional].concat());
        let paths = named.iter().chain(&filtered).filter(|name| name.contains('.')).cloned().collect();
        let absent = named[must..].iter().map(|name| (name.clone(), None)).collect();
        Keep { filter: columns.filter.clone(), filtered, columns: named, must, paths, absent }
    }

    /// What is kept of a row, where anything is.
    fn row(&mut self, mut row: Row) -> Result<Option<Row>, DataError> {
        self.paths.iter().for_each(|path| row.add_path(path));
        if let Some(filter) = &self.filter {
            self.filtered.iter().try_for_each(|name| row.need(name).map(drop))?;
            if !filter.keep(|name| row.cell(name).and_then(Cell::as_written)) {
                return Ok(None);
            }
        }
        self.columns[..self.must].iter().try_for_each(|name| row.need(name).map(drop))?;
        self.absent.retain(|(name, _)| row.cell(name).is_none());
        for (name, error) in self.absent.iter_mut().filter(|(_, error)| error.is_none()) {
            *error = row.need(name).err();
        }
        Ok(Some(row.keep_columns(&self.columns)))
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
    fn an_optional_column_may_be_absent_but_not_from_all_rows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        std::fs::write(&path, "{\"a\":\"1\"}\n{\"a\":\"2\",\"b\":\"x\"}\n").unwrap();
        let columns = |optional: &str| Columns {
            needed: vec!["a".into()],
            optional: vec![optional.into(), "a".into()],
            ..Columns::default()
        };
        let table = rows(&JsonLines, &path, &columns("b")).unwrap();
        let cells: Vec<_> = table.rows.iter().map(|row| row.cell("b").cloned()).collect();
        assert_eq!(cells, [Some(Cell::Null), Some(Cell::Text("x".into()))]);
        let error = rows(&JsonLines, &path, &columns("c")).unwrap_err().to_string();
        assert!(error.contains("row 1 has no field `c`"), "{error}");
    }

    #[test]
    fn rows_come_as_they_are_read_up_to_the_first_wrong_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        std::fs::write(&path, "a,n\nx,1\ny,2\nz\nw,1\n").unwrap();
        let columns = Columns { needed: vec!["a".into()], ..Columns::default() };
        let kept: Vec<_> = stream(&Csv, &path, &columns).unwrap().collect();
        let texts: Vec<_> = kept.iter().flatten().map(|row| row.text("a").unwrap()).collect();
        assert_eq!((kept.len(), texts), (3, vec!["x", "y"]));
        assert!(matches!(kept[2], Err(DataError::Ragged { row: 3, .. })));
        let filter = Some(Filter::parse("n == 2").unwrap());
        let mut two = stream(&Csv, &path, &Columns { filter, ..columns }).unwrap();
        assert_eq!(two.next().unwrap().unwrap().position, 2);
        let missing = Columns { needed: vec!["b".into()], ..Columns::default() };
        assert!(matches!(stream(&Csv, &path, &missing).map(drop), Err(DataError::MissingColumn { .. })));
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
