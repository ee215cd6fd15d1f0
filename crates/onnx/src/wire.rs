//! The protobuf wire format: steps over the fields of a message without a schema, and decodes nothing but what is asked.
//!
//! ```
//! use lorac_onnx::wire::{fields, put_bytes, put_integer};
//! let mut message = Vec::new();
//! put_integer(&mut message, 1, 10);
//! put_bytes(&mut message, 2, b"lorac");
//! let all = fields(&message).collect::<Result<Vec<_>, _>>()?;
//! assert_eq!((all[0].number, all[0].integer()), (1, 10));
//! assert_eq!((all[1].number, all[1].text()), (2, "lorac".to_string()));
//! # Ok::<(), lorac_onnx::wire::Malformed>(())
//! ```

use std::fmt;
use std::ops::Range;

/// Bytes that are not a field that can be stepped over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed protobuf field at byte {at}")]
pub struct Malformed {
    /// Where the field begins in the bytes given to [`fields`].
    pub at: usize,
}

/// One field of a message. All positions are offsets in the bytes given to [`fields`], for nested messages too.
#[derive(Clone)]
pub struct Field<'a> {
    file: &'a [u8],
    kind: Kind,
    /// Its number.
    pub number: u32,
    /// Tag and content.
    pub whole: Range<usize>,
    /// Where its length is written; empty unless it has one.
    pub length: Range<usize>,
    /// Its content.
    pub payload: Range<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A number of one to ten bytes.
    Varint,
    /// A number of four or eight bytes.
    Fixed,
    /// A text, bytes, a message or packed numbers.
    Bytes,
}

impl<'a> Field<'a> {
    /// Tag and content as they are written.
    pub fn written(&self) -> &'a [u8] {
        &self.file[self.whole.clone()]
    }

    /// The content of a text, of bytes or of a message; none of a number.
    pub fn bytes(&self) -> &'a [u8] {
        match self.kind {
            Kind::Bytes => &self.file[self.payload.clone()],
            _ => &[],
        }
    }

    /// The content as text, with U+FFFD for what is not UTF-8; empty for a number.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }

    /// The integer of an `int32`, `int64` or `enum` field; 0 for other kinds.
    pub fn integer(&self) -> i64 {
        match self.kind {
            Kind::Varint => varint(self.file, self.payload.start).map_or(0, |(n, _)| n as i64),
            _ => 0,
        }
    }

    /// The integers of a repeated integer field, packed or not.
    ///
    /// # Errors
    /// Packed content that ends within a number, and fields of numbers that are not integers.
    pub fn integers(&self) -> Result<Vec<i64>, Malformed> {
        let malformed = Malformed { at: self.whole.start };
        let mut all = Vec::new();
        if self.kind == Kind::Fixed {
            return Err(malformed);
        }
        let mut at = self.payload.start;
        while at < self.payload.end {
            let (n, next) = varint(&self.file[..self.payload.end], at).ok_or(malformed)?;
            all.push(n as i64);
            at = next;
        }
        Ok(all)
    }

    /// The fields of a nested message; none of a number.
    pub fn fields(&self) -> Fields<'a> {
        let Range { start, end } = self.payload;
        Fields { file: self.file, at: start, end: if self.kind == Kind::Bytes { end } else { start } }
    }

    /// The last field of that number in a nested message: the one that counts.
    ///
    /// # Errors
    /// A malformed field in the message.
    pub fn find(&self, number: u32) -> Result<Option<Field<'a>>, Malformed> {
        let mut last = None;
        for field in self.fields() {
            last = Some(field?).filter(|f| f.number == number).or(last);
        }
        Ok(last)
    }

    /// The text of the last field of that number in a nested message; empty where there is none.
    ///
    /// # Errors
    /// As [`Field::find`].
    pub fn find_text(&self, number: u32) -> Result<String, Malformed> {
        Ok(self.find(number)?.map(|f| f.text()).unwrap_or_default())
    }

    /// Appends the fields of a nested message but those of these numbers, as they are written.
    ///
    /// # Errors
    /// A malformed field in the message; those before it are appended.
    pub fn put_without(&self, out: &mut Vec<u8>, numbers: &[u32]) -> Result<(), Malformed> {
        for field in self.fields() {
            let field = field?;
            if !numbers.contains(&field.number) {
                out.extend_from_slice(field.written());
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Field");
        shown.field("number", &self.number).field("kind", &self.kind).field("whole", &self.whole);
        shown.field("payload", &self.payload).finish()
    }
}

/// The fields of a message, in order. After a malformed one there are no more.
#[derive(Clone)]
pub struct Fields<'a> {
    file: &'a [u8],
    at: usize,
    end: usize,
}

/// The fields of a message.
pub fn fields(message: &[u8]) -> Fields<'_> {
    Fields { file: message, at: 0, end: message.len() }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.end {
            return None;
        }
        let start = self.at;
        let field = field(self.file, start, self.end);
        self.at = field.as_ref().map_or(self.end, |f| f.whole.end);
        Some(field.ok_or(Malformed { at: start }))
    }
}

fn field(file: &[u8], start: usize, end: usize) -> Option<Field<'_>> {
    let bytes = &file[..end];
    let (tag, content) = varint(bytes, start)?;
    let number = u32::try_from(tag >> 3).ok().filter(|n| *n > 0)?;
    let (kind, length, payload) = match tag & 7 {
        0 => (Kind::Varint, content..content, content..varint(bytes, content)?.1),
        1 => (Kind::Fixed, content..content, content..content + 8),
        2 => {
            let (len, from) = varint(bytes, content)?;
            (Kind::Bytes, content..from, from..from.checked_add(usize::try_from(len).ok()?)?)
        }
        5 => (Kind::Fixed, content..content, content..content + 4),
        // Groups were withdrawn before ONNX began.
        _ => return None,
    };
    (payload.end <= end).then_some(Field { file, kind, number, whole: start..payload.end, length, payload })
}

/// The number at `at`, and the offset behind it.
fn varint(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    let mut value = 0u64;
    for (i, byte) in bytes.get(at..)?.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((value, at + i + 1));
        }
    }
    None
}

/// Appends `n` as protobuf writes it.
pub fn put_varint(out: &mut Vec<u8>, n: u64) {
    prost::encoding::encode_varint(n, out);
}

/// Appends a field of an unsigned integer, or of an `enum`.
pub fn put_integer(out: &mut Vec<u8>, number: u32, n: u64) {
    put_varint(out, u64::from(number) << 3);
    put_varint(out, n);
}

/// Appends the tag and the length of a field whose content of `len` bytes is to follow.
pub fn put_header(out: &mut Vec<u8>, number: u32, len: u64) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, len);
}

/// Appends a field of text, bytes or a message.
pub fn put_bytes(out: &mut Vec<u8>, number: u32, content: &[u8]) {
    put_header(out, number, content.len() as u64);
    out.extend_from_slice(content);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn steps_over_every_kind_of_field() {
        let mut bytes = vec![0x08, 0x96, 0x01, 0x11];
        bytes.extend([0; 8]);
        put_bytes(&mut bytes, 5, b"abc");
        bytes.extend([0x1d, 1, 2, 3, 4]);
        let found: Vec<_> = fields(&bytes).map(|f| f.expect("well formed")).collect();
        assert_eq!(found.iter().map(|f| f.number).collect::<Vec<_>>(), [1, 2, 5, 3]);
        assert_eq!(found.iter().map(Field::integer).collect::<Vec<_>>(), [150, 0, 0, 0]);
        assert_eq!(found.iter().map(Field::text).collect::<Vec<_>>(), ["", "", "abc", ""]);
        assert_eq!(bytes[found[2].length.clone()], [3]);
        assert_eq!((found[3].written(), found[3].whole.end), (&bytes[bytes.len() - 5..], bytes.len()));
        assert_eq!(fields(&bytes[..bytes.len() - 1]).last().map(|f| f.is_err()), Some(true));
    }

    #[test]
    fn reads_nested_messages_and_packed_integers() {
        let mut inner = Vec::new();
        put_bytes(&mut inner, 1, b"old");
        put_bytes(&mut inner, 2, &[1, 0x96, 1]);
        put_bytes(&mut inner, 1, b"new");
        let mut bytes = vec![0x18, 7];
        put_bytes(&mut bytes, 4, &inner);
        let outer: Vec<_> = fields(&bytes).map(|f| f.expect("well formed")).collect();
        assert_eq!((outer[0].integers(), outer[0].fields().count()), (Ok(vec![7]), 0));
        assert_eq!(outer[1].find_text(1), Ok("new".to_string()));
        assert_eq!(outer[1].find(2).ok().flatten().map(|f| f.integers()), Some(Ok(vec![1, 150])));
        assert_eq!(outer[1].find(3).ok().flatten().map(|f| f.number), None);
        let mut rest = Vec::new();
        outer[1].put_without(&mut rest, &[1]).expect("well formed");
        assert_eq!(rest, [0x12, 3, 1, 0x96, 1]);
        let cut = [0x12, 1, 0x96];
        assert_eq!(fields(&cut).next().map(|f| f.and_then(|f| f.integers())), Some(Err(Malformed { at: 0 })));
    }

    proptest! {
        #[test]
        fn any_bytes_are_stepped_over_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut end = 0;
            for field in fields(&bytes).flatten() {
                prop_assert!(field.whole.start == end && field.whole.end <= bytes.len());
                let nested = field.fields().flatten().chain(field.find(1).ok().flatten());
                prop_assert!(nested.map(|f| f.whole).all(|w| field.payload.start <= w.start && w.end <= field.payload.end));
                let _ = (field.integer(), field.integers(), field.text());
                end = field.whole.end;
            }
        }
    }
}
