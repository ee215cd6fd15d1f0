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

/// `x / scale + zero_point`, rounded to the nearest even number and kept in the range of `dtype`. Divides in f32 where
/// the runtime does.
fn quantize(x: f64, scale: f64, zero_point: f64, of: DType, dtype: DType) -> Result<f64, EvalError> {
    let Some((lo, hi)) = dtype.range().filter(|_| dtype.size() <= 2) else {
        return invalid(format!("quantized values of type {dtype}"));
    };
    let quotient = if of == DType::F32 { f64::from(x as f32 / scale as f32) } else { x / scale };
    Ok((quotient.round_ties_even() + zero_point).clamp(lo as f64, hi as f64))
}
