//! Texts in other encodings than UTF-8, decoded as they are read.

use encoding_rs::{Decoder, DecoderResult, Encoding, REPLACEMENT, UTF_8, X_USER_DEFINED};
use lorac_config::nearest;
use std::fmt::{self, Display, Formatter};
use std::io::{self, Error, ErrorKind, Read};

/// How the bytes of a file stand for its characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TextEncoding(Kind);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Utf8,
    /// ISO 8859-1: a byte is the character of its number.
    Latin1,
    Other(&'static Encoding),
}

/// Some that people have, by their names.
const USUAL: [&str; 10] = [
    "utf-8",
    "utf-16",
    "latin-1",
    "windows-1252",
    "windows-1251",
    "iso-8859-15",
    "gb18030",
    "shift_jis",
    "euc-kr",
    "big5",
];

/// Names of ISO 8859-1, which are names of windows-1252 on the Web.
const LATIN1: [&str; 7] = ["latin-1", "latin1", "iso-8859-1", "iso8859-1", "iso88591", "8859", "l1"];

/// Names of ASCII, which is UTF-8.
const ASCII: [&str; 4] = ["ascii", "us-ascii", "utf-8-sig", "utf8-sig"];

impl TextEncoding {
    /// The encoding of this name: one of the [Encoding Standard](https://encoding.spec.whatwg.org/#names-and-labels), and
    /// `latin-1`, which is ISO 8859-1 as in Python, not windows-1252. Case does not count, `_` is as `-`.
    ///
    /// # Errors
    /// Names that may be meant by another one.
    pub fn named(name: &str) -> Result<TextEncoding, Vec<String>> {
        let label = name.trim().to_ascii_lowercase();
        let dashed = label.replace('_', "-");
        if LATIN1.contains(&dashed.as_str()) {
            return Ok(TextEncoding(Kind::Latin1));
        }
        let found = [&label, &dashed].into_iter().find_map(|label| Encoding::for_label(label.as_bytes()));
        match found.filter(|one| ![REPLACEMENT, X_USER_DEFINED].contains(one)) {
            Some(one) if one != UTF_8 && !ASCII.contains(&dashed.as_str()) => Ok(TextEncoding(Kind::Other(one))),
            Some(_) => Ok(TextEncoding::default()),
            None if ASCII.contains(&dashed.as_str()) => Ok(TextEncoding::default()),
            None => Err(match nearest(&dashed, USUAL) {
                near if near.is_empty() => USUAL.map(str::to_owned).to_vec(),
                near => near,
            }),
        }
    }

    /// Whether texts are read as they are.
    pub(crate) fn is_utf8(self) -> bool {
        self.0 == Kind::Utf8
    }

    /// A text in UTF-8, decoded as it is read. A byte order mark of another encoding of Unicode counts more than the name. What is not in
    /// this encoding ends the text with an error that says so.
    #[must_use]
    pub fn decoded(self, content: Box<dyn Read>) -> Box<dyn Read> {
        let decoder = match self.0 {
            Kind::Utf8 => return content,
            Kind::Latin1 => None,
            Kind::Other(encoding) => Some(encoding.new_decoder()),
        };
        let (raw, text) = (Vec::new(), Vec::new());
        Box::new(Decoded {
            content,
            decoder,
            raw,
            at: 0,
            read: 0,
            ended: false,
            done: false,
            text,
            given: 0,
            line: 1,
            wrong: None,
        })
    }
}

/// Bytes that are read, and decoded, at a time.
const CHUNK: usize = 16 << 10;

/// A file whose text is decoded as it is read.
struct Decoded<R> {
    content: R,
    /// None of ISO 8859-1.
    decoder: Option<Decoder>,
    /// What was read last, and how much of it is decoded.
    raw: Vec<u8>,
    at: usize,
    /// Bytes of the file before that.
    read: u64,
    /// Whether the file has come to its end.
    ended: bool,
    /// Whether all of it is decoded, or what is wrong was said: nothing follows.
    done: bool,
    /// What was decoded last, and how much of it is given out.
    text: Vec<u8>,
    given: usize,
    /// The line that it ends on, from 1.
    line: u64,
    /// What is wrong behind it.
    wrong: Option<Malformed>,
}

impl<R: Read> Decoded<R> {
    /// Reads more of the file, where all was decoded.
    fn fill(&mut self) -> io::Result<()> {
        if self.at < self.raw.len() || self.ended {
            return Ok(());
        }
        self.read += self.raw.len() as u64;
        self.raw.resize(CHUNK, 0);
        let read = self.content.read(&mut self.raw);
        self.raw.truncate(*read.as_ref().unwrap_or(&0));
        self.at = 0;
        self.ended = read? == 0;
        Ok(())
    }

    /// Decodes what was read; false where nothing is left.
    fn decode(&mut self) -> bool {
        let left = self.raw.get(self.at..).unwrap_or_default();
        self.text.resize(3 * CHUNK, 0);
        self.given = 0;
        let (read, written, more) = match &mut self.decoder {
            None => {
                let (read, written) = encoding_rs::mem::convert_latin1_to_utf8_partial(left, &mut self.text);
                (read, written, read < left.len())
            }
            Some(decoder) => {
                let (result, read, written) =
                    decoder.decode_to_utf8_without_replacement(left, &mut self.text, self.ended);
                if let DecoderResult::Malformed(bytes, behind) = result {
                    let end = self.read + (self.at + read) as u64;
                    let byte = end.saturating_sub(u64::from(bytes) + u64::from(behind));
                    self.wrong = Some(Malformed { encoding: decoder.encoding().name(), byte, line: 0 });
                }
                (read, written, result == DecoderResult::OutputFull)
            }
        };
        self.at += read;
        self.text.truncate(written);
        self.line += self.text.iter().filter(|byte| **byte == b'\n').count() as u64;
        if let Some(wrong) = &mut self.wrong {
            wrong.line = self.line;
        }
        more || !self.ended
    }
}

impl<R: Read> Read for Decoded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let text = self.text.get(self.given..).unwrap_or_default();
            if !text.is_empty() {
                let given = text.len().min(buffer.len());
                buffer[..given].copy_from_slice(&text[..given]);
                self.given += given;
                return Ok(given);
            }
            if let Some(wrong) = self.wrong.take() {
                self.done = true;
                return Err(Error::new(ErrorKind::InvalidData, wrong));
            }
            if self.done {
                return Ok(0);
            }
            self.fill()?;
            self.done = !self.decode();
        }
    }
}

/// Bytes that are no text in the encoding that was named; an error of reading carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// The name of the encoding.
    pub(crate) encoding: &'static str,
    /// The first of them, from 0.
    pub(crate) byte: u64,
    /// The line that they are on, from 1.
    pub(crate) line: u64,
}

impl Display for Malformed {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "line {} (byte {} of the file) is not {}", self.line, self.byte, self.encoding)
    }
}

impl std::error::Error for Malformed {}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> TextEncoding {
        TextEncoding::named(name).unwrap_or_else(|near| panic!("{name}: {near:?}"))
    }

    fn read(name: &str, bytes: &[u8]) -> io::Result<String> {
        io::read_to_string(named(name).decoded(Box::new(io::Cursor::new(bytes.to_vec()))))
    }

    #[test]
    fn encodings_are_those_of_python_and_the_web() {
        assert_eq!(read("latin-1", b"caf\xe9 \x93").unwrap(), "café \u{93}");
        assert_eq!(read("windows-1252", b"caf\xe9 \x93a\x94 \x80").unwrap(), "café “a” €");
        assert_eq!(named("cp1252"), named("Windows-1252"));
        assert_eq!((named("ISO_8859_1"), named("latin1")), (named("latin-1"), named("latin-1")));
        assert_ne!(named("latin-1"), named("windows-1252"));
        assert_eq!(read("cp1251", b"\xcf\xf0\xe8").unwrap(), "При");
        assert_eq!(read("shift_jis", b"\x93\x8c\x8b\x9e").unwrap(), "東京");
        for name in ["utf-8", "UTF8", "utf_8", "utf-8-sig", "ascii"] {
            assert!(named(name).is_utf8(), "{name}");
        }
        assert_eq!(TextEncoding::named("windows1252x").unwrap_err()[0], "windows-1252");
        assert!(TextEncoding::named("klingon").unwrap_err().contains(&"latin-1".to_owned()));
        assert!(TextEncoding::named("replacement").is_err());
    }

    #[test]
    fn utf16_has_a_mark_or_is_little_endian() {
        let text = "a é 東 😀\n".repeat(5000);
        let units = |of: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(of).collect::<Vec<u8>>();
        let (little, big) = (units(u16::to_le_bytes), units(u16::to_be_bytes));
        assert_eq!(read("utf-16", &[&b"\xff\xfe"[..], &little].concat()).unwrap(), text);
        assert_eq!(read("utf-16", &[&b"\xfe\xff"[..], &big].concat()).unwrap(), text);
        assert_eq!((read("utf-16", &little).unwrap(), read("utf-16be", &big).unwrap()), (text.clone(), text.clone()));
        let mut one = named("utf-16").decoded(Box::new(io::Cursor::new(little)));
        let (mut byte, mut all) = ([0], Vec::new());
        while one.read(&mut byte).unwrap() > 0 {
            all.push(byte[0]);
        }
        assert_eq!(String::from_utf8(all).unwrap(), text, "a byte at a time");
    }

    #[test]
    fn nothing_follows_the_end() {
        for (name, bytes, text) in [
            ("windows-1252", &b"caf\xe9"[..], "café"),
            ("utf-16", b"a\0\xe9\0", "aé"),
            ("shift_jis", b"\x93\x8c", "東"),
            ("latin-1", b"\xe9", "é"),
        ] {
            let mut one = named(name).decoded(Box::new(io::Cursor::new(bytes.to_vec())));
            let mut all = String::new();
            one.read_to_string(&mut all).unwrap();
            assert_eq!(all, text, "{name}");
            assert_eq!([(); 3].map(|()| one.read(&mut [0; 8]).unwrap()), [0; 3], "{name}");
        }
        let mut wrong = named("utf-16").decoded(Box::new(io::Cursor::new(b"a\0b".to_vec())));
        assert!(wrong.read_to_string(&mut String::new()).is_err());
        assert_eq!(wrong.read(&mut [0; 8]).unwrap(), 0);
    }

    #[test]
    fn files_of_texts_may_end_without_the_end_of_a_line() {
        use crate::format::{FORMATS, Written};
        let folder = tempfile::tempdir().unwrap();
        for (name, format) in FORMATS.iter().filter(|(_, format)| format.settings().contains(&"encoding")) {
            let content = match *name {
                "csv" => "text\ncafé",
                "tsv" => "text\tlabel\ncafé\ta",
                "jsonl" => r#"{"text": "café"}"#,
                "conll" => "café O",
                _ => "café",
            };
            for encoding in ["windows-1252", "utf-16"] {
                let bytes: Vec<u8> = match encoding {
                    "utf-16" => content.encode_utf16().flat_map(u16::to_le_bytes).collect(),
                    _ => content.chars().map(|c| c as u8).collect(),
                };
                let path = folder.path().join("file");
                std::fs::write(&path, bytes).unwrap();
                let written = Written { encoding: named(encoding), ..Written::default() };
                let mut rows = format.open(&path, &written).unwrap().rows;
                let row = rows.next().unwrap().unwrap();
                assert!(format!("{row:?}").contains("café"), "{name} in {encoding}: {row:?}");
                assert!(rows.next().is_none() && rows.next().is_none(), "{name} in {encoding}");
            }
        }
    }

    #[test]
    fn what_is_no_text_is_placed() {
        let malformed = |name: &str, bytes: &[u8]| {
            let error = read(name, bytes).unwrap_err();
            error.get_ref().and_then(|inner| inner.downcast_ref::<Malformed>()).cloned().unwrap()
        };
        let lone: Vec<u8> = [0x61, 0x0a, 0xd800, 0x62].into_iter().flat_map(u16::to_le_bytes).collect();
        assert_eq!(malformed("utf-16", &lone), Malformed { encoding: "UTF-16LE", byte: 4, line: 2 });
        assert_eq!(malformed("utf-16", b"a\0b").byte, 2, "half a unit");
        assert_eq!(malformed("shift_jis", b"a\nb\n\x93").line, 3);
    }
}
