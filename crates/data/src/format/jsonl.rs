//! One JSON object per line, or a list of them.

mod array;
mod object;

use super::{Format, MOST_ROW_BYTES, Rows, Written};
use crate::error::DataError;
use crate::file;
use crate::row::Row;
use array::Items;
use object::Objects;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

/// One JSON object per line ([JSON Lines](https://jsonlines.org)); blank lines are passed over. Or one list of objects, as many `.json`
/// files have it, which is read an object at a time. What is in objects and lists is named by a dotted path: `answer.text`,
/// `answers.0`. Errors: `Io`, `NotRegular`, `Utf16`, `OtherContent`, `Inflates`, `NotUtf8`, `NotEncoded`, `BadJson`, `BadList`,
/// `LongRow`.
pub struct JsonLines;

impl Format for JsonLines {
    fn about(&self) -> &'static str {
        "JSON Lines, or one list of JSON objects"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["jsonl", "ndjson", "json"]
    }

    fn has_columns(&self) -> bool {
        true
    }

    fn settings(&self) -> &'static [&'static str] {
        &["encoding"]
    }

    fn open(&self, path: &Path, written: &Written) -> Result<Rows, DataError> {
        let mut reader = BufReader::new(file::open_text(path, written.encoding)?);
        let path: Arc<Path> = path.into();
        let begin = reader.fill_buf().map_err(|source| DataError::reading(&path, source))?;
        if let Some((bytes, line)) = list(begin) {
            reader.consume(bytes);
            let (mut items, mut objects) = (Items::new(reader, line), Objects::new(path, written.clone()));
            let mut next = move || {
                let item = items.next(&objects.path)?;
                item.map(|item| objects.row(&item.bytes, item.position, item.line)).transpose()
            };
            return Ok(Rows { columns: None, rows: Box::new(std::iter::from_fn(move || next().transpose())) });
        }
        let mut lines = Lines { objects: Objects::new(path, written.clone()), reader, bytes: Vec::new(), line: 0 };
        Ok(Rows { columns: None, rows: Box::new(std::iter::from_fn(move || lines.next_row().transpose())) })
    }
}

/// How many bytes a list begins with, its bracket included, and the line that this is on; none where a file is none.
fn list(begin: &[u8]) -> Option<(usize, u64)> {
    let mark = if begin.starts_with(MARK) { MARK.len() } else { 0 };
    let at = mark + begin[mark..].iter().position(|byte| !byte.is_ascii_whitespace())?;
    let line = 1 + begin[..at].iter().filter(|byte| **byte == b'\n').count() as u64;
    (begin[at] == b'[').then_some((at + 1, line))
}

/// What a text in UTF-8 may begin with.
const MARK: &[u8] = b"\xef\xbb\xbf";

struct Lines<R> {
    objects: Objects,
    reader: R,
    bytes: Vec<u8>,
    /// Lines read.
    line: usize,
}

impl<R: BufRead> Lines<R> {
    fn next_row(&mut self) -> Result<Option<Row>, DataError> {
        loop {
            self.bytes.clear();
            let length = self
                .reader
                .by_ref()
                .take(MOST_ROW_BYTES + 1)
                .read_until(b'\n', &mut self.bytes)
                .map_err(|source| DataError::reading(&self.objects.path, source))?;
            if length == 0 {
                return Ok(None);
            }
            self.line += 1;
            let row = self.line;
            if length as u64 > MOST_ROW_BYTES {
                let path = self.objects.path.to_path_buf();
                return Err(DataError::LongRow { path, row, line: row as u64, most: MOST_ROW_BYTES });
            }
            let bytes = self.bytes.strip_prefix(MARK).filter(|_| row == 1).unwrap_or(&self.bytes);
            let bytes = bytes.trim_ascii_end();
            if !bytes.is_empty() {
                return self.objects.row(bytes, row, row as u64).map(Some);
            }
        }
    }
}

/// What is wrong with a line, by its column.
fn fault(text: &str, error: &serde_json::Error) -> String {
    let what = error.to_string();
    let what = what.strip_suffix(&format!(" at line {} column {}", error.line(), error.column())).unwrap_or(&what);
    // The column counts bytes, from 1.
    let rest = text.as_bytes().get(error.column().saturating_sub(1)..).unwrap_or_default();
    let number = ["NaN", "nan", "Infinity", "inf"].iter().find(|word| rest.starts_with(word.as_bytes()));
    match (number, text.trim_start().as_bytes().first(), error.is_eof()) {
        (Some(word), ..) => format!("JSON has no `{word}`, column {}", error.column()),
        (None, Some(b'['), _) => "it is an array; in JSON Lines, every line is an object".into(),
        (None, Some(b'{'), true) => format!("{what}, column {}; an object stands on one line", error.column()),
        _ => format!("{what}, column {}", error.column()),
    }
}

#[cfg(test)]
mod tests {
    use super::JsonLines;
    use crate::DataError;
    use crate::format::{Format, Written};
    use crate::table::tests::{Pairs, pairs};

    fn read(text: &str) -> Result<Pairs, DataError> {
        pairs(&JsonLines, text.as_bytes(), None)
    }

    #[test]
    fn labels_are_strings_numbers_or_booleans() {
        let seen = read("\u{feff}{\"text\":\"a\\nb\",\"label\":\"pos\"}\n\n{\"text\":\"\",\"label\":0}\r\n{\"label\":\"1\",\"text\":\"c\"}").unwrap();
        let want = [("a\nb", 1, 1), ("", 0, 3), ("c", 1, 4)];
        assert_eq!(seen, want.map(|(text, label, row)| (text.to_owned(), label, row)));
        assert_eq!(read("{\"text\":\"a\",\"label\":1.0}").unwrap(), [("a".to_owned(), 1, 1)]);
    }

    #[test]
    fn other_labels_are_refused() {
        for (label, have) in [("null", "null"), ("[1]", "an array")] {
            match read(&format!("{{\"text\":\"a\",\"label\":{label}}}\n")) {
                Err(DataError::WrongType { row: 1, have: seen, .. }) => assert_eq!(seen, have),
                other => panic!("{label}: {other:?}"),
            }
        }
        for label in ["-1", "true", "0.5"] {
            let error = read(&format!("{{\"text\":\"a\",\"label\":{label}}}")).unwrap_err().to_string();
            assert!(error.contains(&format!("row 1 has the unknown label `{label}` in `label`")), "{error}");
        }
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
                    (&*field, &*have, &*nearest),
                    ("text", &["txt".into(), "label".into()][..], &["txt".into()][..])
                );
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(read("{\"text\":\"a\",\"label\":0}\n{\"text\":"), Err(DataError::BadJson { row: 2, .. })));
        let later = read("{\"text\":\"a\",\"label\":0}\n[{\"text\":\"a\",\"label\":0}]");
        assert!(matches!(later, Err(DataError::BadJson { row: 2, .. })));
        let latin1 = pairs(&JsonLines, b"{\"text\":\"\xe9\"}", None);
        assert!(matches!(latin1, Err(DataError::NotUtf8 { row: 1, .. })));
    }

    #[test]
    fn what_json_does_not_have_is_named() {
        for (line, says) in [
            ("{\"text\":\"a\",\"label\":NaN}", "row 1 is not a JSON object: JSON has no `NaN`, column 21"),
            ("{\"text\":\"a\",\"label\":-Infinity}", "JSON has no `Infinity`"),
            ("{\"text\":\"a\",\"label\":0,\"text\":\"b\"}", "the field `text` is there twice"),
            (
                "{\"text\":\"a\",\"label\":0}\n[{\"text\":\"a\"}]",
                "it is an array; in JSON Lines, every line is an object",
            ),
            ("{\n\"text\": \"a\"}", "an object stands on one line"),
            ("{\"text\":\"a\",\"label\":1e999}", "number out of range"),
            ("{'text': 1}", "key must be a string"),
        ] {
            let error = read(line).unwrap_err().to_string();
            assert!(error.contains(says) && !error.contains("at line"), "{error}");
        }
        let deep = format!("{{\"text\":{}1{}}}", "[".repeat(10_000), "]".repeat(10_000));
        assert!(read(&deep).unwrap_err().to_string().contains("recursion limit"));
        let utf16: Vec<u8> = "{\"a\":1}".encode_utf16().flat_map(u16::to_be_bytes).collect();
        assert!(matches!(pairs(&JsonLines, &utf16, None), Err(DataError::Utf16 { .. })));
    }

    #[test]
    fn a_list_of_objects_is_read_an_object_at_a_time() {
        let text = "\u{feff}\n [\n {\"text\": \"a]}\\\"\", \"label\": 0},{\"label\":1,\n\"text\":\"b\",\"x\":[{\"y\":[]}]}\n]\n";
        assert_eq!(read(text).unwrap(), [("a]}\"".to_owned(), 0, 1), ("b".to_owned(), 1, 2)]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        std::fs::write(&path, text).unwrap();
        let rows = JsonLines.open(&path, &Written::default()).unwrap().rows;
        assert_eq!(rows.map(|row| row.unwrap().line.unwrap()).collect::<Vec<_>>(), [3, 3]);
        assert!(matches!(read("[]"), Err(DataError::Empty { read: 0, .. })));
        for (text, says) in [
            (
                "[\n{\"text\":\"a\",\"label\":0},\n{\"text\":NaN}]",
                "row 2 is not a JSON object: JSON has no `NaN`, column 9 of line 3",
            ),
            ("[{\"text\":\"a\",\"label\":0}\n{}]", "row 2 (line 2): a comma, or the end of the list, is expected"),
            ("[{\"text\":\"a\",\"label\":0},", "row 2 (line 1): the list is never closed"),
            ("[{\"text\":\"a\"", "row 1 (line 1): the object is never closed"),
            ("[1, 2]", "row 1 (line 1): the items of the list are objects, and this is none"),
            ("[{\"text\":\"a\",\"label\":0}]\n[]", "row 2 (line 2): something stands behind the list"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
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
            Err(DataError::MissingField { row: 3, field, .. }) => assert_eq!(&*field, "n"),
            other => panic!("{other:?}"),
        }
    }
}
