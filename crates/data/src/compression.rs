//! Compressed files: gzip and zstd, known by the end of the file's name.

use crate::error::DataError;
use crate::row::Cell;
use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use std::ffi::OsStr;
use std::fmt::{self, Display, Formatter};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Error, ErrorKind, Read};
use std::path::{Path, PathBuf};

/// How the bytes of a file are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    /// [RFC 1952](https://www.rfc-editor.org/rfc/rfc1952), of any number of members: `.gz`.
    Gzip,
    /// [RFC 8878](https://www.rfc-editor.org/rfc/rfc8878), of any number of frames: `.zst`, `.zstd`.
    Zstd,
}

impl Compression {
    /// What the end of a file's name says; case does not count.
    pub(crate) fn of(path: &Path) -> Option<Compression> {
        let end = path.extension()?.to_str()?.to_ascii_lowercase();
        match end.as_str() {
            "gz" => Some(Self::Gzip),
            "zst" | "zstd" => Some(Self::Zstd),
            _ => None,
        }
    }

    /// What it is, for messages.
    pub(crate) fn about(self) -> &'static str {
        match self {
            Self::Gzip => "a gzip file",
            Self::Zstd => "a zstd file",
        }
    }

    /// Whether bytes begin as such a file does.
    pub(crate) fn begins(self, bytes: &[u8]) -> bool {
        match self {
            Self::Gzip => bytes.starts_with(&[0x1f, 0x8b]),
            // A skippable frame may come first.
            Self::Zstd => {
                matches!(bytes, [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
            }
        }
    }

    /// What a file of this many bytes holds, as long as it is no more than files of texts hold.
    pub(crate) fn decoder(self, file: File, bytes: u64) -> Box<dyn Read> {
        let file = BufReader::new(file);
        let inner: Box<dyn Read> = match self {
            Self::Gzip => Box::new(MultiGzDecoder::new(file)),
            Self::Zstd => Box::new(Zstd { source: file, decoder: FrameDecoder::new(), open: false }),
        };
        Box::new(Bounded { inner, left: most(bytes) })
    }
}

/// The path without the end that says how it is compressed: `a.csv` of `a.csv.gz`.
pub(crate) fn uncompressed(path: &Path) -> PathBuf {
    match Compression::of(path) {
        Some(_) => path.with_extension(OsStr::new("")),
        None => path.to_owned(),
    }
}

/// Bytes that a compressed file may hold however small it is, that it may hold for each of its own, and that none holds.
const ALWAYS: u64 = 256 << 20;
const TIMES: u64 = 100;
const MOST: u64 = 64 << 30;

/// The most that a compressed file of this many bytes may hold.
pub(crate) fn most(bytes: u64) -> u64 {
    bytes.saturating_mul(TIMES).clamp(ALWAYS, MOST)
}

/// What of a file whose format compresses what it holds may still be read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowance(u64);

impl Allowance {
    /// That of a file of this many bytes.
    pub(crate) fn of(bytes: u64) -> Self {
        Self(most(bytes))
    }

    /// Takes so many bytes of it.
    ///
    /// # Errors
    /// `Inflates` where they are more than are left.
    pub(crate) fn take(&mut self, bytes: u64, path: &Path) -> Result<(), DataError> {
        let left = self.0.checked_sub(bytes);
        self.0 = left.ok_or_else(|| DataError::Inflates { path: path.to_owned(), what: Inflates.to_string() })?;
        Ok(())
    }

    /// Takes what a row holds.
    ///
    /// # Errors
    /// As [`Allowance::take`].
    pub(crate) fn take_row(&mut self, cells: &[Cell], path: &Path) -> Result<(), DataError> {
        // A cell without a text takes room, too.
        let bytes = cells.iter().map(|cell| cell.as_written().map_or(0, str::len) as u64 + 8);
        self.take(bytes.sum(), path)
    }
}

/// Why no more is read of a compressed file, which an error of reading carries.
#[derive(Debug)]
struct Inflates;

impl Display for Inflates {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (always, most) = (ALWAYS >> 20, MOST >> 30);
        write!(f, "it holds more than {TIMES} times its size beyond {always} MiB, or more than {most} GiB")
    }
}

impl std::error::Error for Inflates {}

/// Whether reading ended because a compressed file holds more than any does.
pub(crate) fn inflates(error: &Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Inflates>())
}

/// A reader that ends with an error behind so many bytes.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| Error::new(ErrorKind::InvalidData, Inflates))?;
        Ok(read)
    }
}

/// The frames of a file, one behind the other, each held against its checksum.
struct Zstd<R> {
    source: R,
    decoder: FrameDecoder,
    /// Whether a frame was begun and is not used up.
    open: bool,
}

impl<R: BufRead> Zstd<R> {
    /// Begins the next frame; false at the end of the file.
    fn begin(&mut self) -> io::Result<bool> {
        loop {
            if self.source.fill_buf()?.is_empty() {
                return Ok(false);
            }
            match self.decoder.init(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    let skipped = io::copy(&mut (&mut self.source).take(length.into()), &mut io::sink())?;
                    if skipped < u64::from(length) {
                        return Err(ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(Error::new(ErrorKind::InvalidData, error.to_string())),
            }
        }
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.open {
                self.open = self.begin()?;
                if !self.open {
                    return Ok(0);
                }
            }
            let read = self.decoder.read(buffer)?;
            if read > 0 {
                return Ok(read);
            }
            if self.decoder.is_finished() {
                let sums = (self.decoder.get_checksum_from_data(), self.decoder.get_calculated_checksum());
                if matches!(sums, (Some(want), Some(have)) if want != have) {
                    return Err(Error::new(ErrorKind::InvalidData, "the checksum of a zstd frame is another"));
                }
                self.open = false;
                continue;
            }
            let decoded = self.decoder.decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1));
            decoded.map_err(|error| Error::new(ErrorKind::InvalidData, error.to_string()))?;
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use flate2::write::GzEncoder;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};
    use std::io::Write;

    pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
        compress_to_vec(bytes, CompressionLevel::Fastest)
    }

    fn read(compression: Compression, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        std::fs::write(&path, bytes).unwrap();
        let mut out = Vec::new();
        compression.decoder(File::open(&path)?, bytes.len() as u64).read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn ends_of_names_say_how_files_are_compressed() {
        for (path, want) in
            [("a.csv.gz", Some(Compression::Gzip)), ("a.ZST", Some(Compression::Zstd)), ("a.csv", None), ("gz", None)]
        {
            assert_eq!(Compression::of(Path::new(path)), want, "{path}");
        }
        assert_eq!(uncompressed(Path::new("b/a.csv.gz")), Path::new("b/a.csv"));
        assert_eq!(uncompressed(Path::new("a.csv")), Path::new("a.csv"));
    }

    #[test]
    fn members_and_frames_follow_each_other() {
        let long: Vec<u8> = (0..300_000u32).flat_map(|i| i.to_le_bytes()).collect();
        let skipped = [&[0x51, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        for (compression, make, between) in
            [(Compression::Gzip, gzip as fn(&[u8]) -> Vec<u8>, vec![]), (Compression::Zstd, zstd, skipped)]
        {
            let two = [make(&long), between, make(b"end")].concat();
            assert!(compression.begins(&two));
            assert_eq!(read(compression, &two).unwrap(), [&long[..], b"end"].concat());
            assert!(read(compression, &two[..two.len() - 9]).is_err(), "{compression:?}: cut");
            let mut damaged = two.clone();
            damaged[700] ^= 1;
            assert!(read(compression, &damaged).is_err(), "{compression:?}: damaged");
        }
    }

    #[test]
    fn what_holds_more_than_any_file_of_texts_is_refused() {
        let bomb = zstd(&vec![0; 1 << 20]);
        let source = Zstd { source: &bomb[..], decoder: FrameDecoder::new(), open: false };
        let error = io::copy(&mut Bounded { inner: source, left: 1 << 19 }, &mut io::sink()).unwrap_err();
        assert!(inflates(&error) && error.to_string().contains("100 times its size beyond 256 MiB"), "{error}");
        assert!(!inflates(&ErrorKind::InvalidData.into()));
        assert_eq!((most(10), most(1 << 30), most(u64::MAX)), (256 << 20, 64 << 30, 64 << 30));
    }
}
