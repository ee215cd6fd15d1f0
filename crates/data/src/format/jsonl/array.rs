//! The items of one list of objects, as `.json` files of data sets have them.

use crate::error::DataError;
use crate::format::MOST_ROW_BYTES;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// Reads the items of a list one after the other: no more than one of them is held.
pub(super) struct Items<R> {
    reader: BufReader<R>,
    /// Lines read.
    line: u64,
    /// Items read.
    items: usize,
    /// Whether an item, or the end, comes without a comma.
    first: bool,
}

/// An item of a list.
pub(super) struct Item {
    /// Its JSON.
    pub(super) bytes: Vec<u8>,
    /// Its number, from 1.
    pub(super) position: usize,
    /// The line that it begins on, from 1.
    pub(super) line: u64,
}

impl<R: Read> Items<R> {
    /// The items of a list whose opening bracket was read, on this line.
    pub(super) fn new(reader: BufReader<R>, line: u64) -> Self {
        Self { reader, line, items: 0, first: true }
    }

    /// The next item; none behind the last.
    ///
    /// # Errors
    /// `Io`, `BadJson` where the list goes on otherwise, `LongRow`.
    pub(super) fn next(&mut self, path: &Path) -> Result<Option<Item>, DataError> {
        let wrong = |items: usize, line: u64, what: &str| DataError::BadList {
            path: path.to_owned(),
            row: items + 1,
            line,
            what: what.to_owned(),
        };
        let mut begin = self.skip(path)?;
        if begin == Some(b',') && !self.first {
            begin = self.skip(path)?;
        } else if begin != Some(b']') && !self.first {
            return Err(wrong(self.items, self.line, "a comma, or the end of the list, is expected behind an object"));
        }
        match begin {
            Some(b']') => {
                return match self.skip(path)? {
                    None => Ok(None),
                    Some(_) => Err(wrong(self.items, self.line, "something stands behind the list")),
                };
            }
            Some(b'{') => {}
            Some(_) => return Err(wrong(self.items, self.line, "the items of the list are objects, and this is none")),
            None => return Err(wrong(self.items, self.line, "the list is never closed")),
        }
        self.first = false;
        self.items += 1;
        let (position, line) = (self.items, self.line);
        let (mut bytes, mut depth, mut string, mut escaped) = (vec![b'{'], 1_usize, false, false);
        while depth > 0 {
            let Some(byte) = self.byte(path)? else {
                return Err(wrong(position - 1, line, "the object is never closed"));
            };
            bytes.push(byte);
            if bytes.len() as u64 > MOST_ROW_BYTES {
                return Err(DataError::LongRow { path: path.to_owned(), row: position, line, most: MOST_ROW_BYTES });
            }
            match (string, byte) {
                (true, _) if escaped => escaped = false,
                (true, b'\\') => escaped = true,
                (_, b'"') => string = !string,
                (false, b'{' | b'[') => depth += 1,
                (false, b'}' | b']') => depth -= 1,
                _ => {}
            }
        }
        Ok(Some(Item { bytes, position, line }))
    }

    /// The next byte that is not white space.
    fn skip(&mut self, path: &Path) -> Result<Option<u8>, DataError> {
        loop {
            match self.byte(path)? {
                Some(b' ' | b'\t' | b'\r' | b'\n') => {}
                other => return Ok(other),
            }
        }
    }

    fn byte(&mut self, path: &Path) -> Result<Option<u8>, DataError> {
        let buffer = self.reader.fill_buf().map_err(|source| DataError::reading(path, source))?;
        let Some(byte) = buffer.first().copied() else { return Ok(None) };
        self.reader.consume(1);
        self.line += u64::from(byte == b'\n');
        Ok(Some(byte))
    }
}
