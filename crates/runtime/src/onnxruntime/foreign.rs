//! The seam to foreign memory: tensors of ours as values of ONNX Runtime and back.

use crate::RuntimeError;
use bytes::Bytes;
use lorac_ir::{DType, Tensor};
use ort::AsPointer;
use ort::memory::{Allocator, MemoryInfo};
use ort::value::{DynTensor, DynValue, TensorElementType};
use std::ptr::NonNull;

/// A value over the bytes of a tensor, without a copy where the bytes are aligned. ONNX Runtime reads `value` as long
/// as anything that was built with it lives, so `bytes` must live as long.
pub(crate) struct Foreign {
    pub(crate) value: DynValue,
    pub(crate) bytes: Bytes,
}

/// ONNX Runtime's name for an element type; `None` where it cannot be exchanged as plain bytes.
pub(crate) fn element_type(dtype: DType) -> Option<TensorElementType> {
    Some(match dtype {
        DType::F32 => TensorElementType::Float32,
        DType::F64 => TensorElementType::Float64,
        DType::F16 => TensorElementType::Float16,
        DType::BF16 => TensorElementType::Bfloat16,
        DType::I8 => TensorElementType::Int8,
        DType::I16 => TensorElementType::Int16,
        DType::I32 => TensorElementType::Int32,
        DType::I64 => TensorElementType::Int64,
        DType::U8 => TensorElementType::Uint8,
        DType::U16 => TensorElementType::Uint16,
        DType::U32 => TensorElementType::Uint32,
        DType::U64 => TensorElementType::Uint64,
        DType::Bool => TensorElementType::Bool,
        DType::Str | DType::Opaque => return None,
    })
}

fn dtype(element: TensorElementType) -> Option<DType> {
    const ALL: [DType; 13] = {
        use DType::*;
        [F32, F64, F16, BF16, I8, I16, I32, I64, U8, U16, U32, U64, Bool]
    };
    ALL.into_iter().find(|d| element_type(*d) == Some(element))
}

/// Bytes at an address that elements of this size may be read from: the same bytes, or a copy.
fn aligned(bytes: &Bytes, size: usize) -> Bytes {
    struct Words(Vec<u64>, usize);
    impl AsRef<[u8]> for Words {
        fn as_ref(&self) -> &[u8] {
            let all: &[u8] = bytemuck::cast_slice(&self.0);
            all.get(..self.1).unwrap_or(all)
        }
    }
    if size == 0 || (bytes.as_ptr() as usize).is_multiple_of(size) {
        return bytes.clone();
    }
    let mut words = vec![0u64; bytes.len().div_ceil(8)];
    if let Some(buffer) = bytemuck::cast_slice_mut::<u64, u8>(&mut words).get_mut(..bytes.len()) {
        buffer.copy_from_slice(bytes);
    }
    Bytes::from_owner(Words(words, bytes.len()))
}

/// Lends a tensor to ONNX Runtime. Nothing may write through the value.
#[allow(unsafe_code, reason = "the seam to foreign memory")]
pub(crate) fn lend(backend: &str, name: &str, tensor: &Tensor) -> Result<Foreign, RuntimeError> {
    let fail =
        |why: String| RuntimeError::Run { backend: backend.to_string(), node: None, why: format!("`{name}`: {why}") };
    let element = element_type(tensor.dtype()).ok_or_else(|| RuntimeError::DType {
        backend: backend.to_string(),
        value: name.to_string(),
        dtype: tensor.dtype().to_string(),
    })?;
    let bytes = aligned(tensor.bytes(), tensor.dtype().size());
    let shape: Vec<i64> = tensor.dims().iter().map(|d| *d as i64).collect();
    let info = MemoryInfo::default();
    let mut value = std::ptr::null_mut();
    // SAFETY: pointer and length are those of `bytes`, which `Foreign` keeps, and its owners keep it until the last use
    // of the value; the length is that of the shape, which `Tensor` guarantees; the address is aligned for the element.
    // ONNX Runtime takes a mutable pointer but only reads inputs and initializers.
    let status = unsafe {
        (ort::api().CreateTensorWithDataAsOrtValue)(
            info.ptr(),
            bytes.as_ptr().cast_mut().cast(),
            bytes.len(),
            shape.as_ptr(),
            shape.len(),
            element.into(),
            &mut value,
        )
    };
    // SAFETY: the status comes from the call above and is consumed once.
    unsafe { ort::Error::result_from_status(status) }.map_err(|e| fail(e.to_string()))?;
    let value = NonNull::new(value).ok_or_else(|| fail("no value was created".to_string()))?;
    // SAFETY: the value is fresh and owned by nothing else. The allocator is only there to be kept alive: a value over
    // lent memory frees nothing but itself.
    let value = unsafe { DynValue::from_ptr(value, Some(&Allocator::default())) };
    Ok(Foreign { value, bytes })
}

/// Copies a tensor of ONNX Runtime in host memory.
#[allow(unsafe_code, reason = "the seam to foreign memory")]
pub(crate) fn copy_out(backend: &str, name: &str, value: &DynTensor) -> Result<Tensor, RuntimeError> {
    let fail =
        |why: String| RuntimeError::Run { backend: backend.to_string(), node: None, why: format!("`{name}`: {why}") };
    if !value.memory_info().is_cpu_accessible() {
        return Err(fail("the value is not in host memory".to_string()));
    }
    let element = *value.data_type();
    let dtype = dtype(element).ok_or_else(|| RuntimeError::DType {
        backend: backend.to_string(),
        value: name.to_string(),
        dtype: format!("{element:?}"),
    })?;
    let dims: Option<Vec<usize>> = value.shape().iter().map(|d| usize::try_from(*d).ok()).collect();
    let dims = dims.ok_or_else(|| fail("the shape is not concrete".to_string()))?;
    let len =
        dims.iter().try_fold(dtype.size(), |n, d| n.checked_mul(*d)).ok_or_else(|| fail("too large".to_string()))?;
    let data = value.data_ptr().cast::<u8>();
    let bytes = if len == 0 || data.is_null() {
        Bytes::new()
    } else {
        // SAFETY: the value owns `len` bytes of host memory at `data`, the size of its own shape and element type, and
        // is borrowed for the length of the copy.
        Bytes::copy_from_slice(unsafe { std::slice::from_raw_parts(data, len) })
    };
    Tensor::new(dtype, dims, bytes).map_err(|e| fail(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misaligned_bytes_are_copied_and_aligned_ones_are_not() {
        let all = aligned(&Bytes::from(vec![7u8; 33]), 8);
        let odd = all.slice(1..);
        let copy = aligned(&odd, 4);
        assert_eq!(copy, odd);
        assert!((copy.as_ptr() as usize).is_multiple_of(8) && copy.as_ptr() != odd.as_ptr());
        let even = all.slice(8..);
        assert_eq!(aligned(&even, 4).as_ptr(), even.as_ptr());
    }
}
