//! Tensors of ours as tract's and back. Each way copies once: tract owns its memory.

use super::NAME;
use crate::RuntimeError;
use crate::error::node_in;
use lorac_ir::{DType, Tensor};
use tract_onnx::prelude::{DatumType, TractError, TractResult};
use tract_onnx::tract_hir::internal::Tensor as TractTensor;

/// A tract error as a compile error.
pub(super) fn refused(error: TractError) -> RuntimeError {
    let why = format!("{error:#}");
    RuntimeError::Compile { backend: NAME.to_string(), node: node_in(&why), why }
}

/// A tract error as a run error.
pub(super) fn failed(error: TractError) -> RuntimeError {
    let why = format!("{error:#}");
    RuntimeError::Run { backend: NAME.to_string(), node: node_in(&why), why }
}

/// tract's element type; an error for bf16, strings and opaque types, which it cannot exchange.
pub(super) fn datum_type(value: &str, dtype: DType) -> Result<DatumType, RuntimeError> {
    Ok(match dtype {
        DType::F32 => DatumType::F32,
        DType::F64 => DatumType::F64,
        DType::F16 => DatumType::F16,
        DType::I8 => DatumType::I8,
        DType::I16 => DatumType::I16,
        DType::I32 => DatumType::I32,
        DType::I64 => DatumType::I64,
        DType::U8 => DatumType::U8,
        DType::U16 => DatumType::U16,
        DType::U32 => DatumType::U32,
        DType::U64 => DatumType::U64,
        DType::Bool => DatumType::Bool,
        DType::BF16 | DType::Str | DType::Opaque => {
            let dtype = dtype.to_string();
            return Err(RuntimeError::DType { backend: NAME.to_string(), value: value.to_string(), dtype });
        }
    })
}

#[allow(unsafe_code, reason = "tract has no other way to copy elements of a type that is known at run time only")]
pub(super) fn copy_in(value: &str, tensor: &Tensor) -> Result<TractTensor, RuntimeError> {
    let datum = datum_type(value, tensor.dtype())?;
    if datum == DatumType::Bool {
        let bits: Vec<bool> = tensor.bytes().iter().map(|b| *b != 0).collect();
        return TractTensor::from_shape(tensor.dims(), &bits).map_err(failed);
    }
    // SAFETY: every bit pattern is a value of a number type; length and shape are checked by the call.
    unsafe { TractTensor::from_raw_dt(datum, tensor.dims(), tensor.bytes()) }.map_err(failed)
}

/// Copies out with the element type that the graph declares: tract computes shapes in a type of its own.
pub(super) fn copy_out(value: &str, declared: DType, tensor: &TractTensor) -> Result<Tensor, RuntimeError> {
    let datum = datum_type(value, declared)?;
    let bytes = || -> TractResult<Vec<u8>> {
        let tensor = tensor.cast_to_dt(datum)?;
        Ok(if tensor.len() == 0 { Vec::new() } else { tensor.as_bytes().to_vec() })
    };
    let bytes = bytes().map_err(failed)?;
    Tensor::new(declared, tensor.shape().to_vec(), bytes.into()).map_err(|e| RuntimeError::Run {
        backend: NAME.to_string(),
        node: None,
        why: format!("`{value}`: {e}"),
    })
}
