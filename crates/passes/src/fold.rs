//! Folding: `W0 + s B A` in the place of W0.

use crate::Matrix;
use bytes::Bytes;
use lorac_ir::{DType, Tensor, TensorError};

/// Why a branch cannot be folded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
    /// A or B does not fit the matrix.
    #[error("'{name}' is {want_in} x {want_out}: A has {a} and B has {b} elements")]
    Shape {
        /// The matrix.
        name: String,
        /// Its rows.
        want_in: usize,
        /// Its columns.
        want_out: usize,
        /// Elements of A.
        a: usize,
        /// Elements of B.
        b: usize,
    },
    /// The matrix is of a type that cannot hold the sum.
    #[error("'{name}' is {dtype}: only f32, f64, f16 and bf16 weights can be folded into")]
    DType {
        /// The matrix.
        name: String,
        /// Its element type.
        dtype: DType,
    },
    /// The result is not finite.
    #[error("folding into '{name}' gives values that are not finite")]
    NotFinite {
        /// The matrix.
        name: String,
    },
    /// The tensor's bytes are broken.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// The bytes of `W0 + scale B A` in the layout and type of W0. A is `[r, in]`, B `[out, r]`, both row-major; the product
/// is summed in f64 and rounded once.
pub fn fold_lora(matrix: &Matrix, w0: &Tensor, a: &[f32], b: &[f32], scale: f64) -> Result<Bytes, FoldError> {
    let (rows, cols, name) = (matrix.rows, matrix.cols, matrix.name.clone());
    let rank = a.len() / rows.max(1);
    if a.len() != rank * rows || b.len() != rank * cols || w0.len() != rows * cols {
        return Err(FoldError::Shape { name, want_in: rows, want_out: cols, a: a.len(), b: b.len() });
    }
    let dtype = w0.dtype();
    let size = dtype.size();
    if !dtype.is_float() {
        return Err(FoldError::DType { name, dtype });
    }
    let mut out = Vec::with_capacity(w0.bytes().len());
    // One row of the stored matrix at a time, so that only the result is held in memory.
    let (outer, inner) = if matrix.transposed { (cols, rows) } else { (rows, cols) };
    for i in 0..outer {
        let mut delta = vec![0.0f64; inner];
        for k in 0..rank {
            let at = |j: usize| match matrix.transposed {
                true => f64::from(b[i * rank + k]) * f64::from(a[k * rows + j]),
                false => f64::from(a[k * rows + i]) * f64::from(b[j * rank + k]),
            };
            delta.iter_mut().enumerate().for_each(|(j, d)| *d += at(j));
        }
        let bytes = w0.bytes().slice(i * inner * size..(i + 1) * inner * size);
        let row = Tensor::new(dtype, vec![inner], bytes)?.to_f64().unwrap_or_default();
        let sum: Vec<f64> = row.iter().zip(delta).map(|(w, d)| w + scale * d).collect();
        if sum.iter().any(|x| !x.is_finite()) {
            return Err(FoldError::NotFinite { name });
        }
        if let Some(t) = Tensor::from_f64(dtype, &[inner], &sum) {
            out.extend_from_slice(t.bytes());
        }
    }
    Ok(out.into())
}
