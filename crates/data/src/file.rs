//! Opening files that others wrote.

use crate::error::DataError;
use std::fs::File;
use std::io::{Cursor, Error, ErrorKind, Read};
use std::path::Path;

/// Opens a regular file. A pipe or device is refused before it is opened, which could wait forever or have no end.
///
/// # Errors
/// `Io`, `NotRegular`.
pub(crate) fn open(path: &Path) -> Result<File, DataError> {
    let io = |source| DataError::Io { path: path.to_owned(), source };
    let kind = std::fs::metadata(path).map_err(io)?;
    match kind.is_file() {
        true => File::open(path).map_err(io),
        false => Err(DataError::NotRegular {
            path: path.to_owned(),
            what: if kind.is_dir() { "a folder" } else { "a pipe or device" },
        }),
    }
}

/// Opens a regular file of text.
///
/// # Errors
/// `Io`, `NotRegular`, `Utf16`.
pub(crate) fn open_text(path: &Path) -> Result<impl Read + use<>, DataError> {
    let mut file = open(path)?;
    let mut begin = Vec::new();
    let read = file.by_ref().take(4).read_to_end(&mut begin);
    read.map_err(|source| DataError::Io { path: path.to_owned(), source })?;
    match is_utf16(&begin) {
        true => Err(DataError::Utf16 { path: path.to_owned() }),
        false => Ok(Cursor::new(begin).chain(file)),
    }
}

/// Reads a regular file of at most so many bytes.
///
/// # Errors
/// `Io`, `NotRegular`.
pub(crate) fn read(path: &Path, most: u64) -> Result<Vec<u8>, DataError> {
    let io = |source| DataError::Io { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    open(path)?.take(most + 1).read_to_end(&mut bytes).map_err(io)?;
    match bytes.len() as u64 > most {
        true => Err(io(Error::new(ErrorKind::FileTooLarge, format!("it has more than {most} bytes")))),
        false => Ok(bytes),
    }
}

/// Whether bytes begin as a text in UTF-16 does: with its mark, or with a letter of ASCII in two bytes.
fn is_utf16(begin: &[u8]) -> bool {
    matches!(begin, [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [1..=0x7f, 0, ..] | [0, 1..=0x7f, ..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_and_long_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(open(folder.path()), Err(DataError::NotRegular { what: "a folder", .. })));
        let path = folder.path().join("f");
        std::fs::write(&path, "abc").unwrap();
        assert_eq!(read(&path, 3).unwrap(), b"abc");
        assert!(read(&path, 2).unwrap_err().to_string().contains("more than 2 bytes"));
        #[cfg(unix)]
        assert!(matches!(open(Path::new("/dev/zero")), Err(DataError::NotRegular { what: "a pipe or device", .. })));
    }

    #[test]
    fn utf16_is_known_by_its_mark_or_its_zeros() {
        for text in [&b"\xff\xfet\0"[..], b"\xfe\xff\0t", b"t\0e\0", b"\0t\0e"] {
            assert!(is_utf16(text));
        }
        for text in [&b""[..], b"t", b"text", b"\xef\xbb\xbft", "é".as_bytes(), b"\0\0"] {
            assert!(!is_utf16(text));
        }
    }
}
