//! From bytes to metadata and ranges of bytes. No length is taken from the file unchecked.

use super::blocks::Blocks;
use super::value::Value;
use crate::weights::{Form, Stored};
use bytes::Bytes;
use lorac_ir::DType;
use std::collections::HashMap;

/// Arrays in arrays beyond this depth are refused.
const DEPTH: usize = 4;
/// As many dimensions as ggml has.
const RANK: u32 = 4;
const ALIGNMENT: u64 = 32;

type Parsed = (HashMap<String, Value>, HashMap<String, Stored>);

struct Place {
    name: String,
    /// With the one that changes fastest first.
    dims: Vec<usize>,
    kind: u32,
    offset: u64,
}

/// The metadata and the tensors of a file.
///
/// # Errors
/// What is wrong, and where.
pub(super) fn parse(bytes: &Bytes) -> Result<Parsed, String> {
    let mut cursor = Cursor { bytes, at: 0 };
    if cursor.take(4)? != b"GGUF" {
        return Err("it does not begin with GGUF".into());
    }
    match cursor.u32()? {
        2 | 3 => {}
        version if version.swap_bytes() <= 3 => return Err("it is big-endian".into()),
        version => return Err(format!("version {version} is not known; known: 2, 3")),
    }
    let (tensor_count, value_count) = (cursor.u64()?, cursor.u64()?);
    let mut values = HashMap::new();
    for _ in 0..value_count {
        let key = cursor.text()?;
        let kind = cursor.u32()?;
        let value = cursor.value(kind, 0)?;
        if values.insert(key.clone(), value).is_some() {
            return Err(format!("the key `{key}` is a duplicate"));
        }
    }
    let mut places = Vec::new();
    for _ in 0..tensor_count {
        places.push(cursor.place()?);
    }
    let alignment = match values.get("general.alignment") {
        None => ALIGNMENT,
        Some(value) => value
            .size()
            .filter(|n| *n > 0 && n.is_multiple_of(8))
            .ok_or_else(|| format!("general.alignment is {}, expected a multiple of 8", value.describe()))?,
    };
    let start = (cursor.at as u64).checked_next_multiple_of(alignment).ok_or("general.alignment is too large")?;
    let mut tensors = HashMap::new();
    for place in places {
        let name = place.name.clone();
        let stored = stored(bytes, start, place).map_err(|what| format!("the tensor `{name}` {what}"))?;
        if tensors.insert(name.clone(), stored).is_some() {
            return Err(format!("the tensor `{name}` is a duplicate"));
        }
    }
    Ok((values, tensors))
}

fn stored(bytes: &Bytes, start: u64, place: Place) -> Result<Stored, String> {
    let form = form(place.kind)?;
    let (length, size) = match form {
        Form::Plain(dtype) => (1, dtype.size()),
        Form::Blocks(blocks) => blocks.size(),
    };
    if place.dims.first().is_some_and(|n| n % length != 0) {
        return Err(format!("has rows of {}, which are not whole blocks of {length}", place.dims[0]));
    }
    let count = place.dims.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
    let len = count.and_then(|n| (n / length).checked_mul(size)).ok_or("is too large")?;
    let first = start.checked_add(place.offset).and_then(|n| usize::try_from(n).ok());
    let range = first.and_then(|first| Some(first..first.checked_add(len)?)).filter(|r| r.end <= bytes.len());
    let range = range.ok_or_else(|| format!("of {len} bytes at {} ends behind the file", place.offset))?;
    let mut dims = place.dims;
    dims.reverse();
    Ok(Stored { dims, form, paired: None, bytes: bytes.slice(range) })
}

/// The `ggml_type` that `kind` stands for.
fn form(kind: u32) -> Result<Form, String> {
    Ok(match kind {
        0 => Form::Plain(DType::F32),
        1 => Form::Plain(DType::F16),
        2 => Form::Blocks(Blocks::Q4_0),
        3 => Form::Blocks(Blocks::Q4_1),
        6 => Form::Blocks(Blocks::Q5_0),
        7 => Form::Blocks(Blocks::Q5_1),
        8 => Form::Blocks(Blocks::Q8_0),
        12 => Form::Blocks(Blocks::Q4K),
        13 => Form::Blocks(Blocks::Q5K),
        14 => Form::Blocks(Blocks::Q6K),
        30 => Form::Plain(DType::BF16),
        _ => {
            let known = "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K";
            return Err(format!("has the type {kind}, which is not known; known: {known}"));
        }
    })
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| format!("expected {len} bytes at byte {}, {} are left", self.at, self.left()))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn u32(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, String> {
        self.array().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Result<String, String> {
        let at = self.at;
        let len = usize::try_from(self.u64()?).unwrap_or(usize::MAX);
        let text = std::str::from_utf8(self.take(len)?).map_err(|_| format!("the text at byte {at} is not UTF-8"))?;
        Ok(text.into())
    }

    fn value(&mut self, kind: u32, depth: usize) -> Result<Value, String> {
        Ok(match kind {
            0 => Value::Unsigned(u8::from_le_bytes(self.array()?).into()),
            1 => Value::Signed(i8::from_le_bytes(self.array()?).into()),
            2 => Value::Unsigned(u16::from_le_bytes(self.array()?).into()),
            3 => Value::Signed(i16::from_le_bytes(self.array()?).into()),
            4 => Value::Unsigned(self.u32()?.into()),
            5 => Value::Signed(i32::from_le_bytes(self.array()?).into()),
            6 => Value::Float(f32::from_le_bytes(self.array()?).into()),
            7 => Value::Bool(self.array::<1>()?[0] != 0),
            8 => Value::Text(self.text()?),
            9 if depth < DEPTH => {
                let (kind, count) = (self.u32()?, self.u64()?);
                // Every element has at least one byte: the list is no longer than the rest of the file.
                if count > self.left() as u64 {
                    return Err(format!("a list of {count} at byte {} ends behind the file", self.at));
                }
                Value::List((0..count).map(|_| self.value(kind, depth + 1)).collect::<Result<_, _>>()?)
            }
            9 => return Err(format!("the lists at byte {} are nested more than {DEPTH} deep", self.at)),
            10 => Value::Unsigned(self.u64()?),
            11 => Value::Signed(i64::from_le_bytes(self.array()?)),
            12 => Value::Float(f64::from_le_bytes(self.array()?)),
            _ => return Err(format!("the value at byte {} has the type {kind}, which is not known", self.at)),
        })
    }

    fn place(&mut self) -> Result<Place, String> {
        let name = self.text()?;
        let rank = self.u32()?;
        if rank > RANK {
            return Err(format!("the tensor `{name}` has {rank} dimensions, the most is {RANK}"));
        }
        let large = |_| format!("the tensor `{name}` is too large");
        let dim = |c: &mut Self| c.u64().and_then(|n| usize::try_from(n).map_err(large));
        let dims = (0..rank).map(|_| dim(self)).collect::<Result<_, _>>()?;
        Ok(Place { dims, kind: self.u32()?, offset: self.u64()?, name })
    }
}
