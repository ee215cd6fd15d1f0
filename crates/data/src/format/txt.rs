//! Plain texts: whole files.

use super::{Format, Rows, TEXT, Written};
use crate::compression::uncompressed;
use crate::encoding::TextEncoding;
use crate::error::DataError;
use crate::file;
use crate::row::{Cell, Row};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A text file, or every `.txt` file below a folder in the order of their paths, compressed ones (`.txt.gz`) included, in
/// UTF-8, without a byte order mark. Errors: `Io`, `NotRegular`, `Utf16`, `OtherContent`, `Inflates`, `NotUtf8Text`,
/// `NoText` where a folder has no such file.
pub struct Text;

impl Format for Text {
    fn about(&self) -> &'static str {
        "Plain text: a .txt file, or a folder of them"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["txt"]
    }

    fn has_columns(&self) -> bool {
        false
    }

    fn is_typed(&self) -> bool {
        false
    }

    fn settings(&self) -> &'static [&'static str] {
        &["encoding"]
    }

    fn open(&self, path: &Path, written: &Written) -> Result<Rows, DataError> {
        let mut files = Vec::new();
        if path.is_dir() {
            below(path, &mut files)?;
            files.sort();
            if files.is_empty() {
                return Err(DataError::NoText { path: path.to_owned() });
            }
        } else {
            files.push(path.to_owned());
        }
        let columns: Arc<[String]> = vec![TEXT.to_owned()].into();
        let names = columns.clone();
        let encoding = written.encoding;
        let rows = files.into_iter().zip(1..).map(move |(file, position)| {
            let text = Cell::Text(read(&file, encoding)?);
            Ok(Row::new(file.into(), position, names.clone(), vec![text]))
        });
        Ok(Rows { columns: Some(columns), rows: Box::new(rows) })
    }
}

fn read(path: &Path, encoding: TextEncoding) -> Result<String, DataError> {
    let mut bytes = Vec::new();
    let read = file::open_text(path, encoding)?.read_to_end(&mut bytes);
    read.map_err(|source| DataError::reading(path, source))?;
    let mut text = String::from_utf8(bytes).map_err(|error| {
        let right = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + right.iter().filter(|byte| **byte == b'\n').count() as u64;
        DataError::NotUtf8Text { path: path.to_owned(), line }
    })?;
    if text.starts_with('\u{feff}') {
        text.remove(0);
    }
    Ok(text)
}

/// Links to folders are not followed, so that no walk goes round in circles. Hidden files are left out, as sums of folders
/// leave them out.
fn below(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), DataError> {
    let io = |source| DataError::Io { path: folder.to_owned(), source };
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if entry.file_type().map_err(io)?.is_dir() {
            below(&path, files)?;
        } else if path.is_file() && uncompressed(&path).extension().is_some_and(|e| e.eq_ignore_ascii_case("txt")) {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Columns, rows};

    fn texts(path: &Path) -> Result<Vec<String>, DataError> {
        let columns = Columns { needed: vec![TEXT.to_owned()], ..Columns::default() };
        rows(&Text, path, &columns)?.rows.iter().map(|row| row.text(TEXT).map(str::to_owned)).collect()
    }

    #[test]
    fn a_folder_is_read_in_the_order_of_its_paths() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        std::fs::create_dir(place("b")).unwrap();
        for (name, text) in [("c.txt", "3"), ("b/x.TXT", "\u{feff}2"), ("a.txt", "1\r\n"), ("d.md", "4")] {
            std::fs::write(place(name), text).unwrap();
        }
        assert_eq!(texts(folder.path()).unwrap(), ["1\r\n", "2", "3"]);
        assert_eq!(texts(&place("d.md")).unwrap(), ["4"], "a file that is named need not end in .txt");
        let second = Text.open(folder.path(), &Written::default()).unwrap().rows.nth(1).unwrap().unwrap();
        assert_eq!((&*second.path, second.position), (&*place("b/x.TXT"), 2));
    }

    #[test]
    fn compressed_texts_are_read_too() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.txt"), "1").unwrap();
        std::fs::write(folder.path().join("b.txt.gz"), crate::compression::tests::gzip(b"2")).unwrap();
        std::fs::write(folder.path().join("c.csv.gz"), crate::compression::tests::gzip(b"3")).unwrap();
        assert_eq!(texts(folder.path()).unwrap(), ["1", "2"]);
    }

    #[test]
    fn files_that_are_not_text_are_named() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(texts(folder.path()), Err(DataError::NoText { .. })));
        let path = folder.path().join("a.txt");
        std::fs::write(&path, b"a\ncaf\xe9").unwrap();
        assert!(matches!(texts(folder.path()), Err(DataError::NotUtf8Text { line: 2, .. })));
        assert!(matches!(texts(&folder.path().join("b.txt")), Err(DataError::Io { .. })));
    }
}
