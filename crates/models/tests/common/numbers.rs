//! Tensors as numbers, and how far apart they are.

use crate::common::Stored;
use lorac_ops::Array;
use safetensors::Dtype;

pub(crate) fn array(stored: &Stored) -> Array {
    let data: Vec<f64> = match stored.dtype {
        Dtype::F32 => stored.bytes.as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
        Dtype::I64 => stored.bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as f64).collect(),
        other => panic!("{other:?} is not expected"),
    };
    Array::from_shape_vec(stored.dims.clone(), data).expect("fits")
}

/// The largest difference of two arrays of one shape; NaN where either has one.
pub(crate) fn distance(a: &Array, b: &Array) -> f64 {
    assert_eq!(a.shape(), b.shape());
    a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, |m, d| if d > m || d.is_nan() { d } else { m })
}
