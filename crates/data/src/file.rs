//! Opening files that others wrote.

use crate::compression::Compression;
use crate::encoding::TextEncoding;
use crate::error::DataError;
use std::fs::File;
use std::io::{Cursor, Error, ErrorKind, Read, Seek};
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

/// Opens what a regular file holds, decompressed where the end of its name says that it is compressed, and the bytes that it
/// begins with.
///
/// # Errors
/// `Io`, `NotRegular`, `OtherContent` where the file is not compressed as its name says.
pub(crate) fn open_content(path: &Path) -> Result<(Vec<u8>, Box<dyn Read>), DataError> {
    let io = |source| DataError::reading(path, source);
    let mut file = open(path)?;
    let bytes = file.metadata().map_err(io)?.len();
    let mut begin = Vec::new();
    let mut content: Box<dyn Read> = match Compression::of(path) {
        None => Box::new(file),
        Some(compression) => {
            file.by_ref().take(BEGIN).read_to_end(&mut begin).map_err(io)?;
            if !compression.begins(&begin) {
                let have = kind(&begin).unwrap_or("something else");
                let path = path.to_owned();
                return Err(DataError::OtherContent { path, want: compression.about(), have });
            }
            begin.clear();
            file.rewind().map_err(io)?;
            compression.decoder(file, bytes)
        }
    };
    content.by_ref().take(BEGIN).read_to_end(&mut begin).map_err(io)?;
    Ok((begin.clone(), Box::new(Cursor::new(begin).chain(content))))
}

/// Opens a regular file of text, compressed or not, which comes in UTF-8 whatever it is in.
///
/// # Errors
/// `Io`, `NotRegular`, `Utf16`, `OtherContent`.
pub(crate) fn open_text(path: &Path, encoding: TextEncoding) -> Result<Box<dyn Read>, DataError> {
    let (begin, content) = open_content(path)?;
    if let Some(have) = kind(&begin) {
        return Err(DataError::OtherContent { path: path.to_owned(), want: "a text", have });
    }
    match encoding.is_utf8() && is_utf16(&begin) {
        true => Err(DataError::Utf16 { path: path.to_owned() }),
        false => Ok(encoding.decoded(content)),
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

/// Bytes that tell of what kind a file is.
const BEGIN: u64 = 16;

/// What the bytes that a file begins with say that it is; none where they may be those of a text.
pub(crate) fn kind(begin: &[u8]) -> Option<&'static str> {
    const KINDS: [(&[u8], &str); 9] = [
        (b"PAR1", "a Parquet file"),
        (b"ARROW1", "an Arrow file"),
        (b"PK\x03\x04", "a zip archive, as .zip, .xlsx, .npz and .pt files are"),
        (b"\xd0\xcf\x11\xe0", "an old Office file"),
        (b"SQLite format 3\0", "an SQLite database"),
        (b"\x89HDF", "an HDF5 file"),
        (b"BZh", "a bzip2 file"),
        (b"\xfd7zXZ", "an xz file"),
        (b"%PDF-", "a PDF file"),
    ];
    let compressed = [Compression::Gzip, Compression::Zstd].into_iter().find(|one| one.begins(begin));
    let known = KINDS.iter().find(|(magic, _)| begin.starts_with(magic)).map(|(_, kind)| *kind);
    compressed.map(Compression::about).or(known)
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
    fn what_is_not_what_its_name_says_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let gz = crate::compression::tests::gzip(b"text\na\n");
        for (name, bytes, says) in [
            ("a.csv", &gz[..], "expected a text, found a gzip file"),
            ("a.csv.gz", b"text\na\n", "expected a gzip file, found something else"),
            ("a.csv.zst", &gz[..], "expected a zstd file, found a gzip file"),
            ("b.csv", b"PK\x03\x04\0\0", "expected a text, found a zip archive, as .zip, .xlsx"),
            ("c.csv", b"PAR1\x15\x04", "expected a text, found a Parquet file"),
        ] {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            let error = open_text(&path, TextEncoding::default()).map(drop).unwrap_err();
            assert!(error.to_string().contains(says), "{name}: {error}");
        }
        let path = folder.path().join("d.csv.gz");
        std::fs::write(&path, &gz).unwrap();
        assert_eq!(std::io::read_to_string(open_text(&path, TextEncoding::default()).unwrap()).unwrap(), "text\na\n");
        std::fs::write(&path, &gz[..gz.len() - 6]).unwrap();
        assert!(
            open_text(&path, TextEncoding::default())
                .and_then(|text| std::io::read_to_string(text).map_err(|e| DataError::reading(&path, e)))
                .is_err()
        );
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
