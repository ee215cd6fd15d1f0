//! Comma-separated rows.

use super::{Format, MOST_COLUMNS, MOST_ROW_BYTES, Quote, Rows, Written};
use crate::error::DataError;
use crate::file;
use crate::row::{Cell, Row};
use ::csv::{ErrorKind, Position, ReaderBuilder, StringRecord, StringRecordsIntoIter};
use std::cell::{Cell as Shared, RefCell};
use std::io::{self, Read};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

/// Comma-separated values with a header row ([RFC 4180](https://www.rfc-editor.org/rfc/rfc4180)), in UTF-8; or with the
/// separator, the quote and the columns that [`Written`] names. Every cell is a text. Errors: `Io`, `NotRegular`, `Utf16`,
/// `OtherContent`, `Inflates`, `NotUtf8`, `Ragged`, `OpenQuote`, `LongRow`, `ManyColumns`.
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

    fn is_typed(&self) -> bool {
        false
    }

    fn settings(&self) -> &'static [&'static str] {
        &["separator", "quote", "columns", "encoding"]
    }

    fn open(&self, path: &Path, written: &Written) -> Result<Rows, DataError> {
        let mut reader = ReaderBuilder::new();
        match written.quote {
            None => {}
            Some(Quote::Sign(quote)) => drop(reader.quote(quote)),
            Some(Quote::Absent) => drop(reader.quoting(false)),
        }
        open(path, &mut reader, written.separator.unwrap_or(b','), written, MOST_ROW_BYTES)
    }
}

/// The rows of a file, split as the reader says and at `delimiter`, none of them longer than `most` bytes. The first is the
/// header, unless the columns are named.
pub(super) fn open(
    path: &Path,
    reader: &mut ReaderBuilder,
    delimiter: u8,
    written: &Written,
    most: u64,
) -> Result<Rows, DataError> {
    let state = Rc::new(State::default());
    let source =
        Watched { inner: file::open_text(path, written.encoding)?, state: state.clone(), delimiter, most, end: END };
    let records = reader.delimiter(delimiter).has_headers(false).flexible(true).from_reader(source).into_records();
    let mut records = Records { records, state, path: path.into(), most };
    let columns: Arc<[String]> = match &written.columns {
        Some(columns) => columns.clone().into(),
        None => {
            let header = records.next(0).transpose()?.unwrap_or_default();
            if header.len() > MOST_COLUMNS {
                let line = header.position().map_or(1, Position::line);
                return Err(DataError::ManyColumns { path: path.to_owned(), row: 0, line, most: MOST_COLUMNS });
            }
            header.iter().map(str::to_owned).collect()
        }
    };
    let names = columns.clone();
    let rows = (1..).map_while(move |position| {
        let record = match records.next(position)? {
            Ok(record) => record,
            Err(error) => return Some(Err(error)),
        };
        let path = records.path.clone();
        if record.len() != names.len() {
            let (want, have) = (names.len() as u64, record.len() as u64);
            let line = record.position().map_or(0, Position::line);
            return Some(Err(DataError::Ragged { path: path.to_path_buf(), row: position, line, want, have }));
        }
        let cells = record.iter().map(|cell| Cell::Text(cell.to_owned())).collect();
        let row = Row::new(path, position, names.clone(), cells);
        Some(Ok(match record.position() {
            Some(at) => row.on_line(at.line()),
            None => row,
        }))
    });
    Ok(Rows { columns: Some(columns), rows: Box::new(rows) })
}

/// A row of its own behind the file's last: where it does not come out as one, a quote is open.
const END: &[u8] = b"\n\0\n";

/// Delimiters in a row, those in quotes too, beyond which it is not a text with a few commas: each takes memory when read.
const MOST_DELIMITERS: usize = 1 << 24;

/// What is read of a file.
#[derive(Default)]
struct State {
    /// Bytes since the last row.
    bytes: Shared<u64>,
    /// Delimiters among them.
    delimiters: Shared<usize>,
    /// Whether the file has come to its end.
    ended: Shared<bool>,
    /// What was last read, and the place of its end in the file.
    chunk: RefCell<Vec<u8>>,
    end: Shared<u64>,
    /// Line ends before the row that is being read: the one behind a `\r` that ended the last row, and empty lines.
    before: Shared<u64>,
    /// Whether there may be more of them.
    at_row: Shared<bool>,
}

impl State {
    /// A row begins at this place of the file, or behind empty lines there.
    fn begin(&self, place: u64) {
        self.bytes.set(0);
        self.delimiters.set(0);
        self.before.set(0);
        self.at_row.set(true);
        let chunk = self.chunk.borrow();
        let left = usize::try_from(self.end.get().saturating_sub(place)).unwrap_or(chunk.len()).min(chunk.len());
        self.pass(&chunk[chunk.len() - left..]);
    }

    /// Counts the line ends that these bytes begin with.
    fn pass(&self, bytes: &[u8]) {
        for byte in bytes.iter().take_while(|_| self.at_row.get()) {
            match byte {
                b'\n' => self.before.set(self.before.get() + 1),
                b'\r' => {}
                _ => self.at_row.set(false),
            }
        }
    }
}

/// A file whose rows are no longer than `most`, with [`END`] behind it.
struct Watched<R> {
    inner: R,
    state: Rc<State>,
    delimiter: u8,
    most: u64,
    end: &'static [u8],
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.state.bytes.get() > self.most || self.state.delimiters.get() > MOST_DELIMITERS {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let mut read = self.inner.read(buffer)?;
        if read == 0 && !buffer.is_empty() {
            self.state.ended.set(true);
            read = self.end.read(buffer)?;
        }
        self.state.bytes.set(self.state.bytes.get() + read as u64);
        let delimiters = buffer[..read].iter().filter(|byte| **byte == self.delimiter).count();
        self.state.delimiters.set(self.state.delimiters.get() + delimiters);
        self.state.pass(&buffer[..read]);
        self.state.end.set(self.state.end.get() + read as u64);
        let mut chunk = self.state.chunk.borrow_mut();
        chunk.clear();
        chunk.extend_from_slice(&buffer[..read]);
        Ok(read)
    }
}

struct Records<R> {
    records: StringRecordsIntoIter<Watched<R>>,
    state: Rc<State>,
    path: Arc<Path>,
    most: u64,
}

impl<R: Read> Records<R> {
    /// The next row, which is the one at `row`.
    fn next(&mut self, row: usize) -> Option<Result<StringRecord, DataError>> {
        let at = self.records.reader().position().clone();
        self.state.begin(at.byte());
        let mut record = match self.records.next()? {
            Ok(record) => record,
            Err(error) => return Some(Err(self.fault(row, at.line() + self.state.before.get(), error))),
        };
        let mut at = record.position().cloned().unwrap_or(at);
        at.set_line(at.line() + self.state.before.get());
        let line = at.line();
        record.set_position(Some(at));
        match record.iter().next_back() {
            Some("\0") if self.state.ended.get() && record.len() == 1 => None,
            Some(last) if self.state.ended.get() && last.ends_with("\n\0\n") => {
                Some(Err(DataError::OpenQuote { path: self.path.to_path_buf(), row, line }))
            }
            _ => Some(Ok(record)),
        }
    }

    fn fault(&self, row: usize, line: u64, error: ::csv::Error) -> DataError {
        let path = self.path.to_path_buf();
        match error.into_kind() {
            ErrorKind::Io(_) if self.state.delimiters.get() > MOST_DELIMITERS => {
                DataError::ManyColumns { path, row, line, most: MOST_DELIMITERS }
            }
            ErrorKind::Io(source) if source.kind() == io::ErrorKind::FileTooLarge => {
                DataError::LongRow { path, row, line, most: self.most }
            }
            ErrorKind::Io(source) => DataError::reading(&path, source),
            ErrorKind::Utf8 { .. } => DataError::NotUtf8 { path, row, line },
            other => DataError::Io { path, source: io::Error::other(format!("{other:?}")) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Csv, Quote, Written};
    use crate::DataError;
    use crate::format::Format;
    use crate::table::tests::{Pairs, pairs};
    use crate::table::{Columns, rows};

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
    fn a_quote_that_is_never_closed_is_placed() {
        for (bytes, row, line) in [
            (&b"text,label\na,0\nb,\"1\nc,0\n"[..], 2, 3),
            (b"text,label\n\"a,0\nb,1", 1, 2),
            (b"text,\"label\na,0\n", 0, 1),
            (b"text,label\na,\"", 1, 2),
        ] {
            match read(bytes) {
                Err(DataError::OpenQuote { row: r, line: l, .. }) => assert_eq!((r, l), (row, line)),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(read(b"text,label\n\"a\n\",\"0\"").unwrap(), [("a\n".to_owned(), 0, 1)]);
    }

    #[test]
    fn ends_of_files_and_lines_are_as_they_come() {
        for bytes in [
            &b"text,label\na,0\nb,1"[..],
            b"text,label\na,0\nb,1\n",
            b"text,label\r\na,0\r\nb,1\r\n",
            b"\xef\xbb\xbftext,label\r\n\r\na,0\r\nb,1\r\n\r\n\r\n",
            b"text,label\ra,0\rb,1",
        ] {
            assert_eq!(read(bytes).unwrap(), [("a".to_owned(), 0, 1), ("b".to_owned(), 1, 2)]);
        }
        for bytes in [&b"text,label\n"[..], b"text,label", b"text,label\r\n\r\n"] {
            assert!(matches!(read(bytes), Err(DataError::Empty { read: 0, .. })));
        }
        assert!(matches!(read(b""), Err(DataError::MissingColumn { .. } | DataError::Empty { .. })));
        let one = pairs_of_one_column(b"text\na\n\0");
        assert_eq!(one.unwrap(), ["a"]);
    }

    fn written(bytes: &[u8], written: Written) -> Result<Vec<[String; 2]>, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.csv");
        std::fs::write(&path, bytes).unwrap();
        let columns = ["text", "label"].map(str::to_owned).to_vec();
        let rows = rows(&Csv, &path, &Columns { needed: columns, written, ..Columns::default() })?.rows;
        rows.iter().map(|row| Ok([row.text("text")?.to_owned(), row.text("label")?.to_owned()])).collect()
    }

    #[test]
    fn separators_quotes_and_columns_are_those_that_are_named() {
        let semicolons = Written { separator: Some(b';'), ..Written::default() };
        assert_eq!(written(b"label;text\n1;\"a;b, c\"\n", semicolons).unwrap(), [["a;b, c", "1"]]);
        let apostrophes = Written { quote: Some(Quote::Sign(b'\'')), ..Written::default() };
        assert_eq!(written(b"text,label\n'a, \"b\"',1\n", apostrophes).unwrap(), [["a, \"b\"", "1"]]);
        let plain = Written { separator: Some(b'|'), quote: Some(Quote::Absent), ..Written::default() };
        assert_eq!(written(b"text|label\n\"a|1\n", plain).unwrap(), [["\"a", "1"]]);
        let columns = ["id", "label", "text"].map(str::to_owned).to_vec();
        let bare = Written { columns: Some(columns), ..Written::default() };
        assert_eq!(written(b"7,1,a\n8,0,b\n", bare.clone()).unwrap(), [["a", "1"], ["b", "0"]]);
        match written(b"7,1,a\n8,0\n", bare) {
            Err(DataError::Ragged { row: 2, line: 2, want: 3, have: 2, .. }) => {}
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_row_knows_its_line() {
        let columns = Columns { needed: vec!["text".into(), "label".into()], ..Columns::default() };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.csv");
        std::fs::write(&path, "text,label\n\"a\nb\",0\nc,2\n").unwrap();
        let rows = rows(&Csv, &path, &columns).unwrap().rows;
        let labels = crate::Labels::new(&["neg", "pos"], None).unwrap();
        let error = labels.index(&rows[1], "label").unwrap_err().to_string();
        assert!(error.contains("f.csv: row 2 (line 4) has the unknown label `2` in `label`"), "{error}");
    }

    #[test]
    fn lines_are_counted_whatever_ends_them_and_stands_between() {
        let many = "x,0\r\n".repeat(4000);
        let lines = |bytes: &str| -> Vec<u64> {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("f.csv");
            std::fs::write(&path, bytes).unwrap();
            let rows = Csv.open(&path, &Written::default()).unwrap().rows;
            rows.map(|row| row.unwrap().line.unwrap()).collect()
        };
        assert_eq!(lines("text,label\n\"a\nb\",0\n\n\nc,2\nd,1\n"), [2, 6, 7]);
        assert_eq!(lines("text,label\r\n\"a\r\nb\",0\r\n\r\nc,2\r\nd,1"), [2, 5, 6]);
        assert_eq!(lines(&format!("text,label\r\n{many}")), (2..4002).collect::<Vec<_>>());
        let wrong = read(format!("text,label\r\n{many}c\r\n").as_bytes()).unwrap_err();
        assert!(matches!(wrong, DataError::Ragged { row: 4001, line: 4002, .. }), "{wrong:?}");
        let wrong = read(b"text,label\r\n\r\na,0\r\ncaf\xe9,0\r\n").unwrap_err();
        assert!(matches!(wrong, DataError::NotUtf8 { row: 2, line: 4, .. }), "{wrong:?}");
    }

    fn pairs_of_one_column(bytes: &[u8]) -> Result<Vec<String>, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one.csv");
        std::fs::write(&path, bytes).unwrap();
        let rows = super::open(&path, &mut ::csv::ReaderBuilder::new(), b',', &Written::default(), 100)?.rows;
        rows.map(|row| row.and_then(|row| row.text("text").map(str::to_owned))).collect()
    }

    #[test]
    fn rows_longer_than_any_text_are_placed() {
        let long = "x".repeat(40_000);
        match pairs_of_one_column(format!("text\na\nb\n\"{long}").as_bytes()) {
            Err(DataError::LongRow { row: 3, line: 4, most: 100, .. }) => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(pairs_of_one_column(format!("text\n{}", "a\n".repeat(40_000)).as_bytes()).unwrap().len(), 40_000);
    }

    #[test]
    fn more_columns_than_any_table_has_are_refused_before_they_take_memory() {
        match read(",".repeat(100_000).as_bytes()) {
            Err(DataError::ManyColumns { row: 0, line: 1, most: 100_000, .. }) => {}
            other => panic!("{:?}", other.err().map(|error| error.to_string())),
        }
        for (bytes, at) in [("", 0), ("text,label\n", 1)] {
            match read(format!("{bytes}{}", ",".repeat((1 << 24) + (1 << 20))).as_bytes()) {
                Err(DataError::ManyColumns { row, most: 16_777_216, .. }) => assert_eq!(row, at),
                other => panic!("{:?}", other.err().map(|error| error.to_string())),
            }
        }
        let most = format!("text,label{}\na,0{}\n", ",x".repeat(99_998), ",".repeat(99_998));
        assert_eq!(read(most.as_bytes()).unwrap().len(), 1);
    }

    #[test]
    fn utf16_is_named() {
        for mark in [true, false] {
            let bytes: Vec<u8> = "text,label\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
            let bytes = if mark { [&b"\xff\xfe"[..], &bytes].concat() } else { bytes };
            assert!(matches!(read(&bytes), Err(DataError::Utf16 { .. })));
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
