//! Reads protobuf fields without a schema, borrowing from the message.

/// One field of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// A fixed-width number, which nothing here reads.
    Fixed,
}

impl<'a> Wire<'a> {
    pub(crate) fn text(self) -> String {
        match self {
            Wire::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            _ => String::new(),
        }
    }

    pub(crate) fn number(self) -> i64 {
        match self {
            Wire::Varint(n) => n as i64,
            _ => 0,
        }
    }

    /// The fields of a nested message; none where this is no message.
    pub(crate) fn fields(self) -> Fields<'a> {
        match self {
            Wire::Bytes(bytes) => Fields { rest: bytes },
            _ => Fields { rest: &[] },
        }
    }

    /// The numbers of a repeated integer field, packed or not.
    pub(crate) fn numbers(self) -> Option<Vec<i64>> {
        match self {
            Wire::Varint(n) => Some(vec![n as i64]),
            Wire::Bytes(mut rest) => {
                let mut out = Vec::new();
                while !rest.is_empty() {
                    out.push(varint(&mut rest)? as i64);
                }
                Some(out)
            }
            Wire::Fixed => None,
        }
    }
}

/// The fields of a message, in order: field number and content, or `None` once where the bytes are no message.
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

pub(crate) fn fields(message: &[u8]) -> Fields<'_> {
    Fields { rest: message }
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn split<'a>(rest: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(n)?;
    *rest = tail;
    Some(head)
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u64, Wire<'a>)> {
        let tag = varint(&mut self.rest)?;
        let content = match tag & 7 {
            0 => Wire::Varint(varint(&mut self.rest)?),
            1 => split(&mut self.rest, 8).map(|_| Wire::Fixed)?,
            2 => {
                let len = usize::try_from(varint(&mut self.rest)?).ok()?;
                Wire::Bytes(split(&mut self.rest, len)?)
            }
            5 => split(&mut self.rest, 4).map(|_| Wire::Fixed)?,
            _ => return None,
        };
        Some((tag >> 3, content))
    }
}

impl<'a> Fields<'a> {
    /// The fields with the bytes that each is written in, tag included.
    pub(crate) fn written(mut self) -> impl Iterator<Item = Option<(u64, Wire<'a>, &'a [u8])>> {
        std::iter::from_fn(move || {
            let before = self.rest;
            let field = self.next()?;
            let length = before.len() - self.rest.len();
            Some(field.and_then(|(number, wire)| Some((number, wire, before.get(..length)?))))
        })
    }
}

/// Appends a field of bytes.
pub(crate) fn write_bytes(out: &mut Vec<u8>, number: u64, content: &[u8]) {
    for mut value in [number << 3 | 2, content.len() as u64] {
        while value >= 0x80 {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
    }
    out.extend_from_slice(content);
}

impl<'a> Iterator for Fields<'a> {
    type Item = Option<(u64, Wire<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.rest = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_fields_and_reports_a_cut_message() {
        let message = [0x08, 0x96, 0x01, 0x12, 0x02, b'h', b'i'];
        let all: Option<Vec<_>> = fields(&message).collect();
        assert_eq!(all, Some(vec![(1, Wire::Varint(150)), (2, Wire::Bytes(b"hi"))]));
        let cut: Option<Vec<_>> = fields(&message[..6]).collect();
        assert_eq!(cut, None);
        assert_eq!(Wire::Bytes(&[1, 0x96, 1]).numbers(), Some(vec![1, 150]));
        assert_eq!(Wire::Bytes(&[0x96]).numbers(), None);
    }
}
