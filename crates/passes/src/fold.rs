//! Folding: the bytes that take the place of a weight's.

use crate::{LayoutError, Matrix, Target};
use bytes::Bytes;
use lorac_ir::{DType, Tensor, TensorError};

/// Why a branch cannot be folded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
    /// A or B does not fit the matrix.
    #[error("`{name}` is {want_in} x {want_out}: A has {a} and B has {b} elements")]
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
    #[error("`{name}` is {dtype}: only f32, f64, f16 and bf16 weights can be folded into")]
    DType {
        /// The matrix.
        name: String,
        /// Its element type.
        dtype: DType,
    },
    /// The result is not finite.
    #[error("folding into `{name}` gives values that are not finite")]
    NotFinite {
        /// The matrix.
        name: String,
    },
    /// Values of another number than the weight has.
    #[error("`{name}` has {want} elements, and {got} are to take their place")]
    Length {
        /// The weight.
        name: String,
        /// Its elements.
        want: usize,
        /// Elements given.
        got: usize,
    },
    /// A change that the method does not make.
    #[error("`{name}` was not adapted by this method")]
    Foreign {
        /// The weight.
        name: String,
    },
    /// The tensor's bytes are broken.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// A param that theta does not have.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

impl FoldError {
    /// Stable name of the fault.
    pub fn code(&self) -> &'static str {
        match self {
            FoldError::Shape { .. } => "fold::shape",
            FoldError::DType { .. } => "fold::dtype",
            FoldError::NotFinite { .. } => "fold::not_finite",
            FoldError::Length { .. } => "fold::length",
            FoldError::Foreign { .. } => "fold::foreign",
            FoldError::Tensor(e) => e.code(),
            FoldError::Layout(_) => "fold::layout",
        }
    }
}

/// The bytes of `W0 + scale B A` in the layout and type of W0, of a slice of a matrix in the slice's columns only: the
/// bytes of the others stay. A is `[r, in]`, B `[out, r]`, both row-major, of a stack one such after the other for every matrix; the
/// product is summed in f64 and rounded once.
///
/// # Errors
/// A target that is not a matrix, factors of other shapes, a type that is not a float, results that are not finite.
pub fn fold_low_rank(target: &Target, w0: &Tensor, a: &[f32], b: &[f32], scale: f64) -> Result<Bytes, FoldError> {
    let count = target.count();
    if count <= 1 || w0.dims().first() != Some(&count) {
        return Sum::new(target, w0, a, b, scale)?.bytes(None);
    }
    // Of a stack, matrix by matrix.
    let (dims, [size, of_a, of_b]) = (&w0.dims()[1..], [w0.bytes().len(), a.len(), b.len()].map(|all| all / count));
    let mut out = Vec::with_capacity(w0.bytes().len());
    for i in 0..count {
        let one = Tensor::new(w0.dtype(), dims.to_vec(), w0.bytes().slice(i * size..(i + 1) * size))?;
        let (a, b) = (&a[i * of_a..(i + 1) * of_a], &b[i * of_b..(i + 1) * of_b]);
        out.extend_from_slice(&Sum::new(target, &one, a, b, scale)?.bytes(None)?);
    }
    Ok(out.into())
}

/// The same with every column brought to its magnitude: `m (W0 + scale B A) / |W0 + scale B A|`.
///
/// # Errors
/// As [`fold_low_rank`], and magnitudes of another number than there are columns.
pub fn fold_magnitude(
    target: &Target,
    w0: &Tensor,
    a: &[f32],
    b: &[f32],
    scale: f64,
    m: &[f32],
) -> Result<Bytes, FoldError> {
    let sum = Sum::new(target, w0, a, b, scale)?;
    let (name, want) = (target.name(), sum.columns.len());
    if m.len() != want {
        return Err(FoldError::Length { name, want, got: m.len() });
    }
    let ratios: Vec<f64> = m.iter().zip(sum.norms()?).map(|(m, norm)| f64::from(*m) / norm).collect();
    sum.bytes(Some(&ratios))
}

/// The lengths of a target's columns, in f64; none of what is not a matrix of floats.
pub fn column_norms(target: &Target, w0: &Tensor) -> Option<Vec<f64>> {
    Sum::new(target, w0, &[], &[], 0.0).ok()?.norms().ok()
}

/// `W0 + scale B A`, a row of the stored matrix at a time, so that only the result is held in memory.
struct Sum<'a> {
    name: String,
    matrix: &'a Matrix,
    w0: &'a Tensor,
    a: &'a [f32],
    b: &'a [f32],
    scale: f64,
    /// The target's columns, in order.
    columns: Vec<usize>,
}

impl<'a> Sum<'a> {
    fn new(target: &'a Target, w0: &'a Tensor, a: &'a [f32], b: &'a [f32], scale: f64) -> Result<Sum<'a>, FoldError> {
        let (name, width) = (target.name(), target.cols());
        let Some(matrix) = &target.matrix else { return Err(FoldError::Foreign { name }) };
        let (rows, cols) = (matrix.rows, matrix.cols);
        let rank = a.len() / rows.max(1);
        if a.len() != rank * rows || b.len() != rank * width || w0.len() != rows * cols {
            return Err(FoldError::Shape { name, want_in: rows, want_out: width, a: a.len(), b: b.len() });
        }
        if !w0.dtype().is_float() {
            return Err(FoldError::DType { name, dtype: w0.dtype() });
        }
        let columns = target.slice.as_ref().map_or_else(|| (0..cols).collect(), |p| p.columns.clone());
        Ok(Sum { name, matrix, w0, a, b, scale, columns })
    }

    /// Rows of the stored matrix, and the elements of each.
    fn sides(&self) -> [usize; 2] {
        let Matrix { rows, cols, .. } = *self.matrix;
        if self.matrix.transposed { [cols, rows] } else { [rows, cols] }
    }

    fn unfit(&self) -> FoldError {
        FoldError::DType { name: self.name.clone(), dtype: self.w0.dtype() }
    }

    fn stored(&self, row: usize) -> Bytes {
        let (size, [_, inner]) = (self.w0.dtype().size(), self.sides());
        self.w0.bytes().slice(row * inner * size..(row + 1) * inner * size)
    }

    /// A row of the sum; none where it is a column of another part.
    fn row(&self, i: usize) -> Result<Option<Vec<f64>>, FoldError> {
        let ([_, inner], rows) = (self.sides(), self.matrix.rows);
        let rank = self.a.len() / rows.max(1);
        let mut delta = vec![0.0f64; inner];
        match (self.matrix.transposed, self.columns.binary_search(&i)) {
            (true, Err(_)) => return Ok(None),
            (true, Ok(at)) => {
                for k in 0..rank {
                    let factor = f64::from(self.b[at * rank + k]);
                    delta.iter_mut().zip(&self.a[k * rows..]).for_each(|(d, a)| *d += factor * f64::from(*a));
                }
            }
            (false, _) => {
                for k in 0..rank {
                    let factor = f64::from(self.a[k * rows + i]);
                    let columns = self.columns.iter().enumerate();
                    columns.for_each(|(at, j)| delta[*j] += factor * f64::from(self.b[at * rank + k]));
                }
            }
        }
        let row = Tensor::new(self.w0.dtype(), vec![inner], self.stored(i))?.to_f64().ok_or_else(|| self.unfit())?;
        Ok(Some(row.iter().zip(delta).map(|(w, d)| w + self.scale * d).collect()))
    }

    /// The lengths of the target's columns.
    fn norms(&self) -> Result<Vec<f64>, FoldError> {
        let [outer, inner] = self.sides();
        let mut squares = vec![0.0f64; if self.matrix.transposed { outer } else { inner }];
        for i in 0..outer {
            let Some(row) = self.row(i)? else { continue };
            match self.matrix.transposed {
                true => squares[i] = row.iter().map(|x| x * x).sum(),
                false => squares.iter_mut().zip(row).for_each(|(s, x)| *s += x * x),
            }
        }
        Ok(self.columns.iter().map(|j| squares[*j].sqrt()).collect())
    }

    /// The bytes, with each column times its ratio where there are such.
    fn bytes(&self, ratios: Option<&[f64]>) -> Result<Bytes, FoldError> {
        let (dtype, size, [outer, inner]) = (self.w0.dtype(), self.w0.dtype().size(), self.sides());
        let mut out = Vec::with_capacity(self.w0.bytes().len());
        for i in 0..outer {
            let bytes = self.stored(i);
            let Some(mut sum) = self.row(i)? else {
                out.extend_from_slice(&bytes);
                continue;
            };
            match (ratios, self.matrix.transposed) {
                (None, _) => {}
                (Some(ratios), true) => {
                    let at = self.columns.binary_search(&i).unwrap_or_default();
                    sum.iter_mut().for_each(|x| *x *= ratios[at]);
                }
                (Some(ratios), false) => self.columns.iter().zip(ratios).for_each(|(j, ratio)| sum[*j] *= ratio),
            }
            let sum = Tensor::from_f64(dtype, &[inner], &sum).ok_or_else(|| self.unfit())?;
            if !is_finite(&sum) {
                return Err(FoldError::NotFinite { name: self.name.clone() });
            }
            match self.matrix.transposed || self.columns.len() == self.matrix.cols {
                true => out.extend_from_slice(sum.bytes()),
                false => {
                    // Minus zero, for one, would not stay what it is.
                    let start = out.len();
                    out.extend_from_slice(&bytes);
                    for j in &self.columns {
                        let at = j * size..(j + 1) * size;
                        out[start + at.start..start + at.end].copy_from_slice(&sum.bytes()[at]);
                    }
                }
            }
        }
        Ok(out.into())
    }
}

/// The bytes of `values` in the type of W0, in whose place they come.
///
/// # Errors
/// Values of another number, a type that is not a float, values that are not finite.
pub fn fold_values(target: &Target, w0: &Tensor, values: &[f32]) -> Result<Bytes, FoldError> {
    let (name, dtype) = (target.name(), w0.dtype());
    if values.len() != w0.len() {
        return Err(FoldError::Length { name, want: w0.len(), got: values.len() });
    }
    let wide: Vec<f64> = values.iter().copied().map(f64::from).collect();
    let unfit = FoldError::DType { name: name.clone(), dtype };
    let tensor = Tensor::from_f64(dtype, w0.dims(), &wide).filter(|_| dtype.is_float()).ok_or(unfit)?;
    match is_finite(&tensor) {
        true => Ok(tensor.bytes().clone()),
        false => Err(FoldError::NotFinite { name }),
    }
}

/// Whether the type of the weight holds all values: f16 ends at 65504.
fn is_finite(tensor: &Tensor) -> bool {
    tensor.to_f64().is_some_and(|values| values.iter().all(|x| x.is_finite()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrices;

    fn target(w0: &[f64]) -> (Target, Tensor) {
        let text = "graph g(%x: f16[N,2]) -> %y { %w = weight \"w\" f16[2,2]\n%y = MatMul(%x, %w) : f16[N,2] }";
        let matrix = matrices(&lorac_ir::parse(text).expect("parses")).remove(0);
        (Target::of_matrix(&matrix, Default::default(), "w"), Tensor::from_f64(DType::F16, &[2, 2], w0).expect("f16"))
    }

    #[test]
    fn a_fold_into_halves_is_rounded_once_and_held_by_them() {
        let (target, w0) = target(&[1.0, -2.0, 0.5, 0.0]);
        // f32 would round 1 + 2^-11 + 2^-41 to the middle between two halves.
        let (a, b) = ([2f32.powi(-11), 0.0, 2f32.powi(-41), 0.0], [1.0, 1.0, 0.0, 0.0]);
        let folded = fold_low_rank(&target, &w0, &a, &b, 1.0).expect("folds");
        let folded = Tensor::new(DType::F16, vec![2, 2], folded).map(|t| t.to_f64()).expect("f16");
        assert_eq!(folded.expect("floats")[0], 1.0 + 2f64.powi(-10));
        let large = fold_low_rank(&target, &w0, &[7e4, 0.0], &[1.0, 0.0], 1.0);
        assert!(matches!(large, Err(FoldError::NotFinite { .. })), "{large:?}");
        assert!(matches!(fold_values(&target, &w0, &[7e4; 4]), Err(FoldError::NotFinite { .. })));
    }
}
