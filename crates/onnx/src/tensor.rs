//! `TensorProto` to [`Tensor`].

use crate::external::Externals;
use crate::proto::{TensorProto, tensor_proto};
use crate::{Location, TensorFault};
use bytes::Bytes;
use lorac_ir::{DType, Tensor, TensorError};
use std::ops::Range;
use tensor_proto::DataType;

/// The element type of an ONNX type code.
pub(crate) fn dtype(code: i32) -> DType {
    DType::from_onnx_code(code.into())
}

/// The ONNX type code of an element type, as messages have it; `None` for opaque ones.
pub(crate) fn code(dtype: DType) -> Option<i32> {
    dtype.onnx_code().and_then(|code| i32::try_from(code).ok())
}

/// Reads a tensor whose data is in the message itself. Raw data is shared, not copied; elements of strings and opaque
/// types are left behind.
///
/// # Errors
/// Shapes that are not filled by the data, and external data.
pub fn read_tensor(proto: &TensorProto) -> Result<Tensor, TensorFault> {
    locate_tensor(proto, &Bytes::new(), &mut Externals::new(None)).map(|(tensor, _)| tensor)
}

/// Reads a tensor and says where in `file`, or in which external file, its bytes lie.
pub(crate) fn locate_tensor(
    proto: &TensorProto,
    file: &Bytes,
    externals: &mut Externals,
) -> Result<(Tensor, Location), TensorFault> {
    if proto.data_type() == DataType::Undefined as i32 {
        return Err(TensorFault::Untyped);
    }
    if proto.segment.is_some() {
        return Err(TensorFault::Segmented);
    }
    let dtype = dtype(proto.data_type());
    let dims = dims(&proto.dims)?;
    if matches!(dtype, DType::Str | DType::Opaque) {
        let why = if dtype == DType::Str { "string_data" } else { "opaque elements" };
        return Ok((Tensor::new(dtype, dims, Bytes::new())?, Location::Encoded { why }));
    }
    if proto.data_location() == tensor_proto::DataLocation::External {
        let too_large = || TensorError::Overflow { dims: dims.clone() };
        let want = dims.iter().try_fold(dtype.size(), |n, d| n.checked_mul(*d)).ok_or_else(too_large)?;
        let (path, range, bytes) = externals.find(proto, want as u64)?;
        return Ok((Tensor::new(dtype, dims, bytes)?, Location::External { path, range }));
    }
    let (bytes, location) = match proto.raw_data.as_ref().filter(|raw| !raw.is_empty()) {
        Some(raw) => {
            let place = range_in(file, raw).map(|range| Location::Inline { range });
            (raw.clone(), place.unwrap_or(Location::Encoded { why: "raw_data" }))
        }
        None => typed_data(proto, dtype),
    };
    let location = if bytes.is_empty() { Location::Inline { range: 0..0 } } else { location };
    Ok((Tensor::new(dtype, dims, bytes)?, location))
}

fn dims(dims: &[i64]) -> Result<Vec<usize>, TensorFault> {
    let known = dims.iter().map(|d| usize::try_from(*d).map_err(|_| TensorFault::NegativeDim(*d)));
    let dims: Vec<usize> = known.collect::<Result<_, _>>()?;
    // The product must exist even where the bytes of an element have no size.
    match dims.iter().try_fold(1usize, |n, d| n.checked_mul(*d)) {
        Some(_) => Ok(dims),
        None => Err(TensorError::Overflow { dims }.into()),
    }
}

fn range_in(file: &Bytes, part: &Bytes) -> Option<Range<u64>> {
    let start = (part.as_ptr() as usize).checked_sub(file.as_ptr() as usize)?;
    let end = start.checked_add(part.len())?;
    (end <= file.len()).then_some(start as u64..end as u64)
}

fn typed_data(t: &TensorProto, dtype: DType) -> (Bytes, Location) {
    fn le<T: Copy, const N: usize>(data: &[T], f: impl Fn(T) -> [u8; N]) -> Bytes {
        data.iter().flat_map(|x| f(*x)).collect::<Vec<u8>>().into()
    }
    let ints = &t.int32_data;
    let (why, bytes) = match dtype {
        DType::F32 => ("float_data", le(&t.float_data, f32::to_le_bytes)),
        DType::F64 => ("double_data", le(&t.double_data, f64::to_le_bytes)),
        DType::I64 => ("int64_data", le(&t.int64_data, i64::to_le_bytes)),
        DType::U64 => ("uint64_data", le(&t.uint64_data, u64::to_le_bytes)),
        DType::U32 => ("uint64_data", le(&t.uint64_data, |x| (x as u32).to_le_bytes())),
        DType::I32 => ("int32_data", le(ints, i32::to_le_bytes)),
        // Halves are stored as their bits.
        DType::F16 | DType::BF16 | DType::I16 | DType::U16 => ("int32_data", le(ints, |x| (x as u16).to_le_bytes())),
        DType::I8 | DType::U8 => ("int32_data", le(ints, |x| [x as u8])),
        DType::Bool => ("int32_data", le(ints, |x| [u8::from(x != 0)])),
        DType::Str | DType::Opaque => ("string_data", Bytes::new()),
    };
    (bytes, Location::Encoded { why })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proto(ty: DataType, dims: &[i64]) -> TensorProto {
        TensorProto { data_type: Some(ty as i32), dims: dims.to_vec(), ..TensorProto::default() }
    }

    #[test]
    fn typed_fields_become_bytes() {
        let t = TensorProto { int32_data: vec![0x3c00, 0xc000], ..proto(DataType::Float16, &[2]) };
        assert_eq!(read_tensor(&t).ok().and_then(|t| t.to_f64()), Some(vec![1.0, -2.0]));
        let t = TensorProto { int32_data: vec![0, 2], ..proto(DataType::Bool, &[2]) };
        assert_eq!(read_tensor(&t).ok().map(|t| t.bytes().to_vec()), Some(vec![0, 1]));
        let t = TensorProto { int32_data: vec![-3, 255], ..proto(DataType::Int8, &[2]) };
        assert_eq!(read_tensor(&t).ok().and_then(|t| t.to_f64()), Some(vec![-3.0, -1.0]));
        let t = TensorProto { uint64_data: vec![7], ..proto(DataType::Uint32, &[]) };
        assert_eq!(read_tensor(&t).ok().and_then(|t| t.to_f64()), Some(vec![7.0]));
        let t = TensorProto { double_data: vec![0.5], ..proto(DataType::Double, &[1]) };
        assert_eq!(read_tensor(&t).ok().and_then(|t| t.to_f64()), Some(vec![0.5]));
    }

    #[test]
    fn codes_are_those_of_the_format() {
        use DataType::{Bfloat16, Bool, Double, Float, Float16, Int4, Undefined};
        use DataType::{Int8, Int16, Int32, Int64, String, Uint8, Uint16, Uint32, Uint64};
        let float = [(Float, DType::F32), (Double, DType::F64), (Float16, DType::F16), (Bfloat16, DType::BF16)];
        let int = [(Int8, DType::I8), (Int16, DType::I16), (Int32, DType::I32), (Int64, DType::I64)];
        let uint = [(Uint8, DType::U8), (Uint16, DType::U16), (Uint32, DType::U32), (Uint64, DType::U64)];
        for (format, ours) in [float, int, uint].concat().into_iter().chain([(Bool, DType::Bool), (String, DType::Str)])
        {
            assert_eq!((dtype(format as i32), code(ours)), (ours, Some(format as i32)));
        }
        assert_eq!([Undefined, Int4].map(|t| dtype(t as i32)), [DType::Opaque; 2]);
        assert_eq!(code(DType::Opaque), None);
    }

    #[test]
    fn wrong_sizes_are_faults_and_unknown_types_are_opaque() {
        assert!(matches!(read_tensor(&proto(DataType::Float, &[1 << 40])), Err(TensorFault::Size(_))));
        assert!(matches!(read_tensor(&proto(DataType::Float, &[-1])), Err(TensorFault::NegativeDim(-1))));
        assert!(matches!(read_tensor(&proto(DataType::Int4, &[1 << 40, 1 << 40])), Err(TensorFault::Size(_))));
        assert_eq!(read_tensor(&proto(DataType::Undefined, &[1])), Err(TensorFault::Untyped));
        let t = read_tensor(&proto(DataType::Float8e4m3fn, &[4])).expect("carried");
        assert_eq!((t.dtype(), t.dims()), (DType::Opaque, &[4usize][..]));
    }
}
