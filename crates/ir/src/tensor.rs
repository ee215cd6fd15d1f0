//! Tensors: a shape, an element type, and bytes that belong to a mapped file or to the tensor.

use crate::{DType, Fact};
use bytes::Bytes;
use std::fmt;

/// A dense, row-major, little-endian tensor. Cloning shares the bytes; editing replaces, never mutates.
#[derive(Clone, PartialEq, Eq)]
pub struct Tensor {
    dtype: DType,
    dims: Vec<usize>,
    bytes: Bytes,
}

/// Why bytes are not a tensor, or a tensor not of the expected type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// The bytes do not fill the shape.
    #[error("{dtype}{dims:?} needs {want} bytes, got {got}")]
    Length {
        /// Element type.
        dtype: DType,
        /// Shape.
        dims: Vec<usize>,
        /// Bytes that the shape needs.
        want: usize,
        /// Bytes that were given.
        got: usize,
    },
    /// The shape's byte count does not fit the address space.
    #[error("{dims:?} is too large")]
    Overflow {
        /// Shape.
        dims: Vec<usize>,
    },
    /// Another element type was asked for.
    #[error("expected elements of {want}, the tensor has {got}")]
    DType {
        /// Type asked for.
        want: DType,
        /// Type of the tensor.
        got: DType,
    },
}

impl TensorError {
    /// A stable name of the fault, for programs and for looking it up: `tensor::...`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Length { .. } => "tensor::length",
            Self::Overflow { .. } => "tensor::overflow",
            Self::DType { .. } => "tensor::dtype",
        }
    }
}

/// A Rust type that is the element type of a [`Tensor`].
pub trait Element: Copy + Send + Sync + 'static {
    /// The element type.
    const DTYPE: DType;
    /// Reads one element from exactly `DTYPE.size()` little-endian bytes.
    fn read(bytes: &[u8]) -> Self;
    /// Appends the element's little-endian bytes.
    fn write(self, out: &mut Vec<u8>);
}

macro_rules! element {
    ($($ty:ty => $dtype:ident),*) => {$(
        impl Element for $ty {
            const DTYPE: DType = DType::$dtype;
            fn read(bytes: &[u8]) -> $ty {
                let mut raw = [0u8; size_of::<$ty>()];
                raw.copy_from_slice(bytes);
                <$ty>::from_le_bytes(raw)
            }
            fn write(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}
element!(f32 => F32, f64 => F64, i8 => I8, i16 => I16, i32 => I32, i64 => I64, u8 => U8, u16 => U16, u32 => U32,
    u64 => U64, half::f16 => F16, half::bf16 => BF16);

impl Element for bool {
    const DTYPE: DType = DType::Bool;
    fn read(bytes: &[u8]) -> bool {
        bytes.first().is_some_and(|b| *b != 0)
    }
    fn write(self, out: &mut Vec<u8>) {
        out.push(u8::from(self));
    }
}

impl Tensor {
    /// A tensor over `bytes`, little-endian and row-major, at any alignment.
    pub fn new(dtype: DType, dims: Vec<usize>, bytes: Bytes) -> Result<Tensor, TensorError> {
        let want = dims
            .iter()
            .try_fold(dtype.size(), |n, d| n.checked_mul(*d))
            .ok_or_else(|| TensorError::Overflow { dims: dims.clone() })?;
        if want != bytes.len() {
            let got = bytes.len();
            return Err(TensorError::Length { dtype, dims, want, got });
        }
        Ok(Tensor { dtype, dims, bytes })
    }

    /// A tensor that owns a copy of `data`.
    pub fn from_slice<T: Element>(dims: &[usize], data: &[T]) -> Result<Tensor, TensorError> {
        let mut bytes = Vec::with_capacity(data.len() * T::DTYPE.size());
        data.iter().for_each(|x| x.write(&mut bytes));
        Tensor::new(T::DTYPE, dims.to_vec(), bytes.into())
    }

    /// A rank-0 tensor.
    pub fn scalar<T: Element>(x: T) -> Tensor {
        let mut bytes = Vec::new();
        x.write(&mut bytes);
        Tensor { dtype: T::DTYPE, dims: Vec::new(), bytes: bytes.into() }
    }

    /// A rank-1 tensor.
    pub fn vector<T: Element>(data: &[T]) -> Tensor {
        let mut bytes = Vec::new();
        data.iter().for_each(|x| x.write(&mut bytes));
        Tensor { dtype: T::DTYPE, dims: vec![data.len()], bytes: bytes.into() }
    }

    /// A tensor of `len` zero bytes' worth of elements.
    pub fn zeros(dtype: DType, dims: &[usize]) -> Result<Tensor, TensorError> {
        let len = dims
            .iter()
            .try_fold(dtype.size(), |n, d| n.checked_mul(*d))
            .ok_or_else(|| TensorError::Overflow { dims: dims.to_vec() })?;
        Tensor::new(dtype, dims.to_vec(), vec![0u8; len].into())
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Shape, outermost first.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements' bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Element type and shape.
    pub fn fact(&self) -> Fact {
        Fact::new(self.dtype, self.dims.iter().copied())
    }

    /// The elements, copied out (the bytes may be misaligned).
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>, TensorError> {
        if T::DTYPE != self.dtype {
            return Err(TensorError::DType { want: T::DTYPE, got: self.dtype });
        }
        Ok(self.bytes.chunks_exact(T::DTYPE.size()).map(T::read).collect())
    }

    /// The elements converted to f64; `None` for strings and opaque types. Integers beyond 2^53 are rounded.
    pub fn to_f64(&self) -> Option<Vec<f64>> {
        fn all<T: Element>(t: &Tensor, f: impl Fn(T) -> f64) -> Option<Vec<f64>> {
            t.to_vec::<T>().ok().map(|v| v.into_iter().map(f).collect())
        }
        match self.dtype {
            DType::F32 => all::<f32>(self, f64::from),
            DType::F64 => all::<f64>(self, |x| x),
            DType::F16 => all::<half::f16>(self, f64::from),
            DType::BF16 => all::<half::bf16>(self, f64::from),
            DType::I8 => all::<i8>(self, f64::from),
            DType::I16 => all::<i16>(self, f64::from),
            DType::I32 => all::<i32>(self, f64::from),
            DType::I64 => all::<i64>(self, |x| x as f64),
            DType::U8 => all::<u8>(self, f64::from),
            DType::U16 => all::<u16>(self, f64::from),
            DType::U32 => all::<u32>(self, f64::from),
            DType::U64 => all::<u64>(self, |x| x as f64),
            DType::Bool => all::<bool>(self, |x| f64::from(u8::from(x))),
            DType::Str | DType::Opaque => None,
        }
    }

    /// The tensor of `dtype` whose elements are `data` converted (saturating for integers); `None` where the type
    /// cannot be converted to or the count is not the shape's.
    pub fn from_f64(dtype: DType, dims: &[usize], data: &[f64]) -> Option<Tensor> {
        fn all<T: Element>(dims: &[usize], data: &[f64], f: impl Fn(f64) -> T) -> Option<Tensor> {
            let v: Vec<T> = data.iter().map(|x| f(*x)).collect();
            Tensor::from_slice(dims, &v).ok()
        }
        match dtype {
            DType::F32 => all(dims, data, |x| x as f32),
            DType::F64 => all(dims, data, |x| x),
            DType::F16 => all(dims, data, |x| half::f16::from_f32(to_odd(x))),
            DType::BF16 => all(dims, data, |x| half::bf16::from_f32(to_odd(x))),
            DType::I8 => all(dims, data, |x| x as i8),
            DType::I16 => all(dims, data, |x| x as i16),
            DType::I32 => all(dims, data, |x| x as i32),
            DType::I64 => all(dims, data, |x| x as i64),
            DType::U8 => all(dims, data, |x| x as u8),
            DType::U16 => all(dims, data, |x| x as u16),
            DType::U32 => all(dims, data, |x| x as u32),
            DType::U64 => all(dims, data, |x| x as u64),
            DType::Bool => all(dims, data, |x| x != 0.0),
            DType::Str | DType::Opaque => None,
        }
    }

    /// The elements of an integer tensor as i64; `None` for other types.
    pub fn to_i64(&self) -> Option<Vec<i64>> {
        match self.dtype {
            DType::I64 => self.to_vec().ok(),
            DType::I32 => Some(self.to_vec::<i32>().ok()?.into_iter().map(i64::from).collect()),
            d if d.is_int() => Some(self.to_f64()?.into_iter().map(|x| x as i64).collect()),
            _ => None,
        }
    }
}

/// `x` as f32, rounded to odd: where it is not exact, of its two neighbours the one whose last bit is 1. What is then
/// rounded to a type with two bits less, or fewer still, is rounded as if it had been once (Boldo & Melquiond 2005); the
/// conversions of `half` drop low bits, or round twice.
fn to_odd(x: f64) -> f32 {
    let near = x as f32;
    if !near.is_finite() || f64::from(near) == x || near.to_bits() & 1 == 1 {
        return near;
    }
    // Magnitudes are ordered as their bits are.
    let outward = f64::from(near).abs() < x.abs();
    match near.to_bits() {
        bits if outward => f32::from_bits(bits + 1),
        bits if bits << 1 == 0 => near,
        bits => f32::from_bits(bits - 1),
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({})", self.fact())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_misaligned_bytes() {
        let all = Bytes::from([&[9u8][..], &1.5f32.to_le_bytes(), &(-2.0f32).to_le_bytes()].concat());
        let t = Tensor::new(DType::F32, vec![2], all.slice(1..)).expect("fits");
        assert_eq!(t.to_vec::<f32>(), Ok(vec![1.5, -2.0]));
        assert_eq!(t.to_vec::<f64>(), Err(TensorError::DType { want: DType::F64, got: DType::F32 }));
    }

    #[test]
    fn a_wrong_length_is_named() {
        let err = Tensor::new(DType::I64, vec![2, 3], Bytes::from_static(&[0; 40])).expect_err("short");
        assert_eq!(err.to_string(), "i64[2, 3] needs 48 bytes, got 40");
        let err = Tensor::new(DType::I64, vec![usize::MAX, 2], Bytes::new()).expect_err("huge");
        assert!(matches!(err, TensorError::Overflow { .. }));
    }

    #[test]
    fn f64_conversion_saturates_integers() {
        let t = Tensor::from_f64(DType::I64, &[2], &[9.3e18, -1.0]).expect("converts");
        assert_eq!(t.to_i64(), Some(vec![i64::MAX, -1]));
    }

    #[test]
    fn halves_are_rounded_once() {
        let to = |dtype, x: f64| Tensor::from_f64(dtype, &[1], &[x]).and_then(|t| t.to_f64()).expect("converts")[0];
        // Halfway between two numbers, and a little more than f32 can say.
        for (dtype, bits) in [(DType::F16, 10), (DType::BF16, 7)] {
            let (step, little) = (2f64.powi(-bits), 2f64.powi(-45));
            assert_eq!(to(dtype, 1.0 + step / 2.0), 1.0, "{dtype}");
            assert_eq!(to(dtype, 1.0 + step / 2.0 + little), 1.0 + step, "{dtype}");
            assert_eq!(to(dtype, -1.0 - step / 2.0 - little), -1.0 - step, "{dtype}");
            assert_eq!(to(dtype, 1.0 + 1.5 * step), 1.0 + 2.0 * step, "{dtype}");
            assert_eq!(to(dtype, 1.0 + 1.5 * step - little), 1.0 + step, "{dtype}");
        }
        assert_eq!(to(DType::F16, 65519.999999999), 65504.0);
        assert_eq!(to(DType::F16, 65520.0), f64::INFINITY);
        assert_eq!(to(DType::F16, 2f64.powi(-25)), 0.0);
        assert_eq!(to(DType::F16, 2f64.powi(-25) + 2f64.powi(-60)), 2f64.powi(-24));
        assert_eq!((to(DType::F16, 1e-300), to(DType::BF16, f64::MAX)), (0.0, f64::INFINITY));
        assert!(to(DType::F16, f64::NAN).is_nan());
    }
}
