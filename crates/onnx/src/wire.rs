//! The protobuf wire format, for stepping over a message without decoding it.

use std::ops::Range;

/// One field of a message. All positions are offsets in the whole file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    /// Its number.
    pub(crate) number: u32,
    /// Tag and content.
    pub(crate) whole: Range<usize>,
    /// Where its length is written; empty unless it has one.
    pub(crate) length: Range<usize>,
    /// Its content.
    pub(crate) payload: Range<usize>,
}

/// The fields of the message at `range`. After a malformed field, whose offset is given, there are no more.
pub(crate) fn fields(file: &[u8], range: Range<usize>) -> impl Iterator<Item = Result<Field, usize>> {
    let mut at = range.start;
    let end = range.end.min(file.len());
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let start = at;
        let field = field(&file[..end], start);
        at = field.as_ref().map_or(end, |f| f.whole.end);
        Some(field.ok_or(start))
    })
}

fn field(bytes: &[u8], start: usize) -> Option<Field> {
    let (tag, content) = varint(bytes, start)?;
    let number = u32::try_from(tag >> 3).ok().filter(|n| *n > 0)?;
    let (length, payload) = match tag & 7 {
        0 => (content..content, content..varint(bytes, content)?.1),
        1 => (content..content, content..content + 8),
        2 => {
            let (len, from) = varint(bytes, content)?;
            (content..from, from..from.checked_add(usize::try_from(len).ok()?)?)
        }
        5 => (content..content, content..content + 4),
        // Groups were withdrawn before ONNX began.
        _ => return None,
    };
    (payload.end <= bytes.len()).then_some(Field { number, whole: start..payload.end, length, payload })
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
pub(crate) fn put_varint(out: &mut Vec<u8>, n: u64) {
    prost::encoding::encode_varint(n, out);
}

/// Appends the tag and the length of a length-delimited field.
pub(crate) fn put_header(out: &mut Vec<u8>, number: u32, len: u64) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, len);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn steps_over_every_kind_of_field() {
        let mut bytes = vec![0x08, 0x96, 0x01, 0x11];
        bytes.extend([0; 8]);
        put_header(&mut bytes, 5, 3);
        bytes.extend(*b"abc");
        bytes.extend([0x1d, 1, 2, 3, 4]);
        let found: Vec<_> = fields(&bytes, 0..bytes.len()).map(|f| f.expect("well formed")).collect();
        assert_eq!(found.iter().map(|f| f.number).collect::<Vec<_>>(), [1, 2, 5, 3]);
        assert_eq!(&bytes[found[2].payload.clone()], b"abc");
        assert_eq!(bytes[found[2].length.clone()], [3]);
        assert_eq!(found[3].whole.end, bytes.len());
    }

    proptest! {
        #[test]
        fn any_bytes_are_stepped_over_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut end = 0;
            for field in fields(&bytes, 0..bytes.len()).flatten() {
                prop_assert!(field.whole.start == end && field.whole.end <= bytes.len());
                end = field.whole.end;
            }
        }
    }
}
