//! Element types.

/// The element type of a tensor, as in ONNX's `TensorProto.DataType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum DType {
    F32,
    F64,
    F16,
    BF16,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    Bool,
    Str,
    /// Anything else (8-bit floats, 4-bit integers, sequences, ...): carried, never computed with.
    Opaque,
}

/// Name, bytes of an element, and ONNX's code.
const TABLE: [(DType, &str, usize, Option<i64>); 15] = [
    (DType::F32, "f32", 4, Some(1)),
    (DType::F64, "f64", 8, Some(11)),
    (DType::F16, "f16", 2, Some(10)),
    (DType::BF16, "bf16", 2, Some(16)),
    (DType::I8, "i8", 1, Some(3)),
    (DType::I16, "i16", 2, Some(5)),
    (DType::I32, "i32", 4, Some(6)),
    (DType::I64, "i64", 8, Some(7)),
    (DType::U8, "u8", 1, Some(2)),
    (DType::U16, "u16", 2, Some(4)),
    (DType::U32, "u32", 4, Some(12)),
    (DType::U64, "u64", 8, Some(13)),
    (DType::Bool, "bool", 1, Some(9)),
    (DType::Str, "str", 0, Some(8)),
    (DType::Opaque, "opaque", 0, None),
];

impl DType {
    /// Bytes of one element; 0 where elements have no fixed size.
    pub fn size(self) -> usize {
        TABLE.iter().find(|n| n.0 == self).map_or(0, |n| n.2)
    }

    /// Whether gradients can flow through values of this type.
    pub fn is_float(self) -> bool {
        matches!(self, DType::F32 | DType::F64 | DType::F16 | DType::BF16)
    }

    /// Signed or unsigned integers, not booleans.
    pub fn is_int(self) -> bool {
        use DType::*;
        matches!(self, I8 | I16 | I32 | I64 | U8 | U16 | U32 | U64)
    }

    /// The least and the greatest number that an integer type holds; `None` for other types.
    pub fn range(self) -> Option<(i128, i128)> {
        let bits = 8 * self.size() as u32;
        match self {
            DType::I8 | DType::I16 | DType::I32 | DType::I64 => Some((-(1 << (bits - 1)), (1 << (bits - 1)) - 1)),
            DType::U8 | DType::U16 | DType::U32 | DType::U64 => Some((0, (1 << bits) - 1)),
            _ => None,
        }
    }

    /// The name used by the text form: `f32`, `i64`, ...
    pub fn name(self) -> &'static str {
        TABLE.iter().find(|n| n.0 == self).map_or("opaque", |n| n.1)
    }

    /// The type called `name`, as [`DType::name`] writes it.
    pub fn from_name(name: &str) -> Option<DType> {
        TABLE.iter().find(|n| n.1 == name).map(|n| n.0)
    }

    /// The number that ONNX has for this type (`TensorProto.DataType`, as in `Cast`'s attribute `to`); `None` for opaque
    /// ones.
    pub fn onnx_code(self) -> Option<i64> {
        TABLE.iter().find(|n| n.0 == self).and_then(|n| n.3)
    }

    /// The type that ONNX numbers `code`; opaque where lorac computes with no such type.
    pub fn from_onnx_code(code: i64) -> DType {
        TABLE.iter().find(|n| n.3 == Some(code)).map_or(DType::Opaque, |n| n.0)
    }
}

impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_codes_lead_back() {
        for (dtype, ..) in TABLE {
            assert_eq!(DType::from_name(dtype.name()), Some(dtype));
            assert_eq!(dtype.onnx_code().map_or(DType::Opaque, DType::from_onnx_code), dtype);
        }
        for none in [i64::MIN, -1, 0, 14, 15, 17, i64::MAX] {
            assert_eq!(DType::from_onnx_code(none), DType::Opaque);
        }
    }

    #[test]
    fn ranges_of_integers() {
        assert_eq!(DType::I8.range(), Some((i8::MIN.into(), i8::MAX.into())));
        assert_eq!(DType::U16.range(), Some((0, u16::MAX.into())));
        assert_eq!(DType::I64.range(), Some((i64::MIN.into(), i64::MAX.into())));
        assert_eq!(DType::U64.range(), Some((0, u64::MAX.into())));
        assert!(TABLE.iter().all(|(dtype, ..)| dtype.range().is_some() == dtype.is_int()));
    }
}
