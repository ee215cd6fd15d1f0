//! The tensors of mapped weight files as f32.

mod safetensors;

pub(crate) use safetensors::open;

use crate::ShapeMismatch;
use crate::gguf::Blocks;
use bytes::Bytes;
use lorac_ir::{DType, Fact, Tensor};
use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// The tensors of a model: ranges of mapped files.
pub(crate) struct Weights {
    /// What errors name: the file, or the index of several.
    pub(crate) file: PathBuf,
    tensors: HashMap<String, Stored>,
}

/// A tensor as a file has it.
pub(crate) struct Stored {
    pub(crate) dims: Vec<usize>,
    pub(crate) form: Form,
    /// The rows of each of so many heads are in the order that rotates neighbouring pairs.
    pub(crate) paired: Option<usize>,
    pub(crate) bytes: Bytes,
}

/// What bytes mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// One element after the other.
    Plain(DType),
    /// Blocks of small integers with common factors.
    Blocks(Blocks),
}

/// Why a tensor cannot be had.
#[derive(Debug, PartialEq)]
pub(crate) enum Lack {
    Missing,
    Wrong(ShapeMismatch),
}

/// How a tensor is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// As the file has it.
    Stored,
    /// A matrix with its axes swapped.
    Transposed,
}

/// The bytes of a file.
#[allow(unsafe_code, reason = "a memory map")]
pub(crate) fn map(file: &Path) -> std::io::Result<Bytes> {
    // Opening a pipe would wait for its writer.
    if !std::fs::metadata(file)?.is_file() {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let file = File::open(file)?;
    // SAFETY: the map is private and only read. Another process that writes to the file can change the bytes, and one
    // that shortens it ends this process; no length is taken from the bytes unchecked.
    Ok(Bytes::from_owner(unsafe { memmap2::Mmap::map(&file)? }))
}

impl Weights {
    pub(crate) fn new(file: &Path, tensors: HashMap<String, Stored>) -> Weights {
        Weights { file: file.into(), tensors }
    }

    /// Number of tensors.
    pub(crate) fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether any tensor's name begins with `prefix`.
    pub(crate) fn any(&self, prefix: &str) -> bool {
        self.tensors.keys().any(|name| name.starts_with(prefix))
    }

    /// The dimensions of a tensor, if it is there.
    pub(crate) fn dims(&self, name: &str) -> Option<&[usize]> {
        self.stored(name).map(|stored| stored.dims.as_slice())
    }

    /// The first converted checkpoints call a normalisation's weight and bias gamma and beta.
    fn stored(&self, name: &str) -> Option<&Stored> {
        let older = |new: &str, old: &str| Some(format!("{}{old}", name.strip_suffix(new)?));
        let named = |name: String| self.tensors.get(&name);
        let stored = self.tensors.get(name);
        stored.or_else(|| older(".weight", ".gamma").or_else(|| older(".bias", ".beta")).and_then(named))
    }

    /// The tensor `name`, stored with the dimensions `dims`, as f32: a range of the file where no byte has to change.
    pub(crate) fn tensor(&self, name: &str, dims: &[usize], order: Order) -> Result<Tensor, Lack> {
        let stored = self.stored(name).ok_or(Lack::Missing)?;
        let got = match stored.form {
            Form::Plain(dtype) => dtype,
            Form::Blocks(_) => DType::F32,
        };
        let mismatch = || {
            let dtype = if got == DType::Opaque { DType::F32 } else { got };
            let fact = |d, dims: &[usize]| Fact::new(d, dims.iter().copied());
            let want = if dtype.is_float() { dtype } else { DType::F32 };
            Lack::Wrong(ShapeMismatch { tensor: name.into(), want: fact(want, dims), got: fact(got, &stored.dims) })
        };
        if stored.dims != dims {
            return Err(mismatch());
        }
        let bytes = &stored.bytes;
        let widened = match stored.form {
            Form::Plain(DType::F32) => None,
            Form::Plain(DType::F16) => Some(widen(bytes, |b| half::f16::from_le_bytes(b).to_f32())),
            Form::Plain(DType::BF16) => Some(widen(bytes, |b| half::bf16::from_le_bytes(b).to_f32())),
            Form::Plain(_) => return Err(mismatch()),
            Form::Blocks(blocks) => Some(blocks.elements(bytes)),
        };
        let widened = match stored.paired {
            Some(heads) => {
                let x = widened.as_deref().unwrap_or_else(|| bytes.as_chunks().0);
                Some(halves(x, dims, heads).ok_or_else(mismatch)?)
            }
            None => widened,
        };
        let (dims, bytes) = match (order, dims, widened) {
            (Order::Transposed, [rows, cols], None) => {
                (vec![*cols, *rows], transpose(bytes.as_chunks().0, *rows, *cols).into())
            }
            (Order::Transposed, [rows, cols], Some(wide)) => {
                (vec![*cols, *rows], transpose(&wide, *rows, *cols).into())
            }
            (_, dims, None) => (dims.to_vec(), bytes.clone()),
            (_, dims, Some(wide)) => (dims.to_vec(), wide.into_flattened().into()),
        };
        Tensor::new(DType::F32, dims, bytes).map_err(|_| mismatch())
    }
}

/// Rows of each head from neighbouring pairs (0, 1), (2, 3), ... to halves: the first of every pair, then the second.
/// `None` where the rows are not whole heads of pairs.
fn halves(x: &[[u8; 4]], dims: &[usize], heads: usize) -> Option<Vec<[u8; 4]>> {
    let rows = *dims.first()?;
    let width = x.len().checked_div(rows)?;
    let head = rows.checked_div(heads)?;
    if head * heads != rows || head % 2 != 0 {
        return None;
    }
    let order = (0..rows).map(|row| {
        let (first, at) = (row / head * head, row % head);
        first + 2 * (at % (head / 2)) + at / (head / 2)
    });
    Some(order.flat_map(|row| x[row * width..(row + 1) * width].iter().copied()).collect())
}

fn widen(halves: &[u8], f: impl Fn([u8; 2]) -> f32) -> Vec<[u8; 4]> {
    halves.as_chunks::<2>().0.iter().map(|b| f(*b).to_le_bytes()).collect()
}

/// Side of a square that is transposed at once: two of them fit the first-level cache.
const SIDE: usize = 32;

/// The bytes of a `rows` by `cols` matrix with its axes swapped.
fn transpose(x: &[[u8; 4]], rows: usize, cols: usize) -> Vec<u8> {
    let mut y = vec![0u8; x.len() * 4];
    let (out, _) = y.as_chunks_mut::<4>();
    for top in (0..rows).step_by(SIDE) {
        let bottom = rows.min(top + SIDE);
        for left in (0..cols).step_by(SIDE) {
            for col in left..cols.min(left + SIDE) {
                let line = &mut out[col * rows + top..col * rows + bottom];
                let column = x[top * cols + col..].iter().step_by(cols);
                line.iter_mut().zip(column).for_each(|(to, from)| *to = *from);
            }
        }
    }
    y
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::safetensors::Dtype;
    use ::safetensors::tensor::TensorView;

    fn file(tensors: &[(&str, Dtype, &[usize], Vec<u8>)]) -> (tempfile::TempDir, Weights) {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("model.safetensors");
        let views = tensors.iter().map(|t| (t.0, TensorView::new(t.1, t.2.to_vec(), &t.3).expect("fits")));
        std::fs::write(&path, ::safetensors::serialize(views, None).expect("serializes")).expect("writes");
        let weights = open(dir.path()).expect("opens");
        (dir, weights)
    }

    fn bytes<const N: usize, T>(n: usize, f: impl Fn(f32) -> T, raw: impl Fn(T) -> [u8; N]) -> Vec<u8> {
        (0..n).flat_map(|i| raw(f(i as f32))).collect()
    }

    #[test]
    fn transposes_whole_and_partial_squares() {
        for (rows, cols) in [(1, 1), (3, 70), (64, 32), (33, 65)] {
            let x: Vec<[u8; 4]> = (0..(rows * cols) as u32).map(u32::to_le_bytes).collect();
            let y = transpose(&x, rows, cols);
            let (y, _) = y.as_chunks::<4>();
            for (i, from) in x.iter().enumerate() {
                assert_eq!(y[(i % cols) * rows + i / cols], *from, "{rows} by {cols}, element {i}");
            }
        }
        assert!(transpose(&[], 5, 0).is_empty() && transpose(&[], 0, 5).is_empty());
    }

    #[test]
    fn neighbours_become_halves() {
        let x: Vec<[u8; 4]> = (0..16u32).map(u32::to_le_bytes).collect();
        let y = halves(&x, &[8, 2], 2).expect("whole heads");
        let rows: Vec<u32> = y.iter().step_by(2).map(|b| u32::from_le_bytes(*b) / 2).collect();
        assert_eq!(rows, [0, 2, 1, 3, 4, 6, 5, 7]);
        assert!(halves(&x, &[8, 2], 3).is_none() && halves(&x, &[8, 2], 8).is_none());
        assert!(halves(&x, &[8, 2], 0).is_none() && halves(&x, &[], 2).is_none());
    }

    #[test]
    fn half_floats_become_singles() {
        let f16 = bytes(6, half::f16::from_f32, half::f16::to_le_bytes);
        let bf16 = bytes(6, half::bf16::from_f32, half::bf16::to_le_bytes);
        let (_dir, w) = file(&[("a", Dtype::F16, &[2, 3], f16), ("b", Dtype::BF16, &[2, 3], bf16)]);
        let elements = |name, order| w.tensor(name, &[2, 3], order).map(|t| (t.dims().to_vec(), t.to_vec::<f32>()));
        for name in ["a", "b"] {
            let stored = (vec![2, 3], Ok(vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]));
            assert_eq!(elements(name, Order::Stored), Ok(stored));
            let transposed = (vec![3, 2], Ok(vec![0.0, 3.0, 1.0, 4.0, 2.0, 5.0]));
            assert_eq!(elements(name, Order::Transposed), Ok(transposed));
        }
    }

    #[test]
    fn what_need_not_change_is_a_range_of_the_file() {
        let (_dir, w) = file(&[("n.gamma", Dtype::F32, &[4], bytes(4, |x| x, f32::to_le_bytes))]);
        let tensor = w.tensor("n.weight", &[4], Order::Stored).expect("the older name");
        assert_eq!(tensor.bytes().as_ptr(), w.tensors["n.gamma"].bytes.as_ptr());
        assert_eq!(w.tensor("n.bias", &[4], Order::Stored), Err(Lack::Missing));
        let Err(Lack::Wrong(mismatch)) = w.tensor("n.weight", &[2, 2], Order::Stored) else { panic!("accepted") };
        assert_eq!(mismatch.to_string(), "n.weight is f32[4], expected f32[2,2]");
    }
}
