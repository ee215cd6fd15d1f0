//! Sentences of tokens with their tags, a token a line.

use super::{Format, MOST_COLUMNS, MOST_ROW_BYTES, Rows, Written};
use crate::error::DataError;
use crate::file;
use crate::row::{Cell, Row};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

/// A token and its tags on each line, in columns between tabs or spaces, and a blank line behind each sentence
/// ([CoNLL-2003](https://aclanthology.org/W03-0419)), in UTF-8. A sentence is a row of two lists: `tokens`, the first column,
/// and `tags`, the last. Lines that begin with `-DOCSTART-` and comments of CoNLL-U (`# text = ..`) are passed over. Errors:
/// `Io`, `NotRegular`, `Utf16`, `NotUtf8`, `Ragged`, `LongRow`.
pub struct Conll;

/// Columns of the rows.
const COLUMNS: [&str; 2] = ["tokens", "tags"];

impl Format for Conll {
    fn about(&self) -> &'static str {
        "CoNLL: a token and its tag on each line, a blank line behind each sentence"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["conll", "bio", "iob"]
    }

    fn has_columns(&self) -> bool {
        true
    }

    fn usual(&self) -> Option<[&'static str; 2]> {
        Some(COLUMNS)
    }

    fn settings(&self) -> &'static [&'static str] {
        &["encoding"]
    }

    fn open(&self, path: &Path, written: &Written) -> Result<Rows, DataError> {
        let reader = BufReader::new(file::open_text(path, written.encoding)?);
        let columns: Arc<[String]> = COLUMNS.map(String::from).to_vec().into();
        let mut lines =
            Lines { path: path.into(), columns: columns.clone(), reader, bytes: Vec::new(), line: 0, sentences: 0 };
        let rows = std::iter::from_fn(move || lines.next_row().transpose());
        Ok(Rows { columns: Some(columns), rows: Box::new(rows) })
    }
}

struct Lines<R> {
    path: Arc<Path>,
    columns: Arc<[String]>,
    reader: R,
    bytes: Vec<u8>,
    /// Lines read.
    line: u64,
    /// Sentences that were begun.
    sentences: usize,
}

impl<R: BufRead> Lines<R> {
    /// The next sentence.
    fn next_row(&mut self) -> Result<Option<Row>, DataError> {
        let (mut tokens, mut tags, mut wide, mut begun) = (Vec::new(), Vec::new(), 0, 0);
        while self.next_line()? {
            let (path, row, line) = (self.path.to_path_buf(), self.sentences + 1, self.line);
            let text =
                std::str::from_utf8(&self.bytes).map_err(|_| DataError::NotUtf8 { path: path.clone(), row, line })?;
            let text = if line == 1 { text.trim_start_matches('\u{feff}') } else { text };
            let text = text.trim_end_matches(['\n', '\r']);
            if text.trim().is_empty() {
                if tokens.is_empty() {
                    continue;
                }
                break;
            }
            if text.starts_with("-DOCSTART-") || is_comment(text) {
                continue;
            }
            let cells: Vec<&str> = match text.contains('\t') {
                true => text.split('\t').map(str::trim).collect(),
                false => text.split_whitespace().collect(),
            };
            let have = cells.len() as u64;
            let want = if tokens.is_empty() { have.max(2) } else { wide };
            let ([token, .., tag], true) = (&cells[..], have == want) else {
                self.skip_sentence()?;
                return Err(DataError::Ragged { path, row, line, want, have });
            };
            if cells.len() > MOST_COLUMNS {
                return Err(DataError::ManyColumns { path, row, line, most: MOST_COLUMNS });
            }
            if tokens.is_empty() {
                begun = line;
            }
            wide = want;
            tokens.push((*token).to_owned());
            tags.push((*tag).to_owned());
        }
        if tokens.is_empty() {
            return Ok(None);
        }
        self.sentences += 1;
        let cells = [tokens, tags].into_iter().map(|list| Cell::list(&list)).collect();
        Ok(Some(Row::new(self.path.clone(), self.sentences, self.columns.clone(), cells).on_line(begun)))
    }

    /// Passes over the rest of a sentence, which counts as one.
    fn skip_sentence(&mut self) -> Result<(), DataError> {
        self.sentences += 1;
        while self.next_line()? && !self.bytes.trim_ascii().is_empty() {}
        Ok(())
    }

    /// Reads a line; false at the end.
    fn next_line(&mut self) -> Result<bool, DataError> {
        self.bytes.clear();
        let line = self.reader.by_ref().take(MOST_ROW_BYTES + 1).read_until(b'\n', &mut self.bytes);
        let length = line.map_err(|source| DataError::reading(&self.path, source))?;
        self.line += u64::from(length > 0);
        match length as u64 > MOST_ROW_BYTES {
            true => Err(DataError::LongRow {
                path: self.path.to_path_buf(),
                row: self.sentences + 1,
                line: self.line,
                most: MOST_ROW_BYTES,
            }),
            false => Ok(length > 0),
        }
    }
}

/// Whether a line is a comment as CoNLL-U has them, and not the token `#` with its tags.
fn is_comment(line: &str) -> bool {
    line.starts_with("# ") && (line.contains(" = ") || line.starts_with("# newdoc") || line.starts_with("# newpar"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Result<Vec<(usize, String, String)>, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.conll");
        std::fs::write(&path, text).unwrap();
        let row = |row: Result<Row, DataError>| {
            let row = row?;
            Ok((row.position, row.list("tokens")?.join(" "), row.list("tags")?.join(" ")))
        };
        Conll.open(&path, &Written::default())?.rows.map(row).collect()
    }

    #[test]
    fn sentences_end_with_blank_lines_and_the_last_column_is_the_tag() {
        let text = "\u{feff}-DOCSTART- -X- -X- O\n\nU.N. NNP I-NP B-ORG\nsaid VBD I-VP O\r\n\r\n\n# sent_id = 1\n#tag\tO\n# O\n \nlast\tI-\"X\"";
        let want = [(1, "U.N. said", "B-ORG O"), (2, "#tag #", "O O"), (3, "last", "I-\"X\"")];
        let want = want.map(|(at, tokens, tags)| (at, tokens.to_owned(), tags.to_owned()));
        assert_eq!(read(text.as_bytes()).unwrap(), want);
        assert_eq!(read(b"\n\n").unwrap(), []);
        assert_eq!(read(b"New York\tB-LOC\n").unwrap()[0].1, "New York", "tabs are columns, spaces are not");
    }

    #[test]
    fn lines_of_other_widths_and_encodings_are_placed() {
        assert!(matches!(read(b"a O\n\nb O\nc\n"), Err(DataError::Ragged { row: 2, line: 4, want: 2, have: 1, .. })));
        assert!(matches!(read(b"a\n"), Err(DataError::Ragged { row: 1, line: 1, want: 2, have: 1, .. })));
        assert!(matches!(read(b"a X O\nb O\n"), Err(DataError::Ragged { line: 2, want: 3, have: 2, .. })));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.conll");
        std::fs::write(&path, "a O\n\nb O\nc\nd O\n\ne O\n").unwrap();
        let rows: Vec<_> = Conll.open(&path, &Written::default()).unwrap().rows.collect();
        let places: Vec<_> = rows.iter().flatten().map(|row| (row.position, row.line)).collect();
        assert_eq!(
            (rows.len(), places),
            (3, vec![(1, Some(1)), (3, Some(7))]),
            "the rest of a wrong sentence is no other"
        );
        assert!(matches!(read(b"a O\n\xe9 O\n"), Err(DataError::NotUtf8 { line: 2, .. })));
    }
}
