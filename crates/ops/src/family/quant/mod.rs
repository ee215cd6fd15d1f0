//! Quantized values and products of them: ConvInteger DequantizeLinear DynamicQuantizeLinear MatMulInteger QLinearConv
//! QLinearMatMul QuantizeLinear.

use super::*;

mod integer;
mod linear;

pub(super) const OPS: &[Op] = &[
    integer::CONV_INTEGER,
    integer::MATMUL_INTEGER,
    integer::Q_LINEAR_CONV,
    integer::Q_LINEAR_MATMUL,
    linear::DEQUANTIZE_LINEAR,
    linear::DYNAMIC_QUANTIZE_LINEAR,
    linear::QUANTIZE_LINEAR,
];

/// The numbers that an integer type holds.
fn range(dtype: DType) -> Option<(f64, f64)> {
    Some(match dtype {
        DType::I8 => (-128.0, 127.0),
        DType::U8 => (0.0, 255.0),
        DType::I16 => (-32768.0, 32767.0),
        DType::U16 => (0.0, 65535.0),
        _ => return None,
    })
}

/// `x / scale + zero_point`, rounded to the nearest even number and kept in the range of `dtype`. Divides in f32 where
/// the runtime does.
fn quantize(x: f64, scale: f64, zero_point: f64, of: DType, dtype: DType) -> Result<f64, EvalError> {
    let Some((lo, hi)) = range(dtype) else { return misfit(format!("quantized values of type {dtype}")) };
    let quotient = if of == DType::F32 { f64::from(x as f32 / scale as f32) } else { x / scale };
    Ok((quotient.round_ties_even() + zero_point).clamp(lo, hi))
}
