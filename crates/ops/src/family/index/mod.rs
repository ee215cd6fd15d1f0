//! Elements by index: Compress EyeLike Gather GatherElements GatherND NonZero OneHot ReverseSequence ScatterElements
//! ScatterND TensorScatter TopK Unique.

use super::*;
use crate::{Emit, Val};
use lorac_ir::{Attr, Tensor};
use ndarray::IxDyn;

mod gather;
mod one_hot;
mod order;
mod scatter;
mod select;

pub(super) const OPS: &[Op] = &[
    gather::GATHER,
    gather::GATHER_ELEMENTS,
    gather::GATHER_ND,
    one_hot::EYE_LIKE,
    one_hot::ONE_HOT,
    order::REVERSE_SEQUENCE,
    order::TOP_K,
    order::UNIQUE,
    scatter::SCATTER_ELEMENTS,
    scatter::SCATTER_ND,
    scatter::TENSOR_SCATTER,
    select::COMPRESS,
    select::NON_ZERO,
];

/// `index` counted from the front of an axis of length `n`.
fn wrap(index: f64, n: usize) -> Result<usize, EvalError> {
    let i = if index < 0.0 { index + n as f64 } else { index };
    if i >= 0.0 && i < n as f64 { Ok(i as usize) } else { invalid(format!("index {index} of {n}")) }
}

/// The attribute `axis` counted from the front; 0 with the error kept where it is out of range.
fn axis_of(e: &Emit, node: &lorac_ir::Node, default: i64, rank: usize) -> usize {
    let axis = node.int("axis", default);
    let at = usize::try_from(if axis < 0 { axis + rank as i64 } else { axis }).ok().filter(|a| *a < rank);
    at.unwrap_or_else(|| {
        let want = format!("one of {rank} axes");
        e.fail(InferError::Attribute { name: "axis", got: axis.to_string(), want });
        0
    })
}

/// `index` as a non-negative number: negative ones count from the end. Known ones need no arithmetic.
fn from_front<'e, 'g>(index: Val<'e, 'g>, n: Val<'e, 'g>) -> Val<'e, 'g> {
    let known = index.known_ints().or_else(|| index.tensor()?.to_i64());
    match known.is_some_and(|v| v.iter().all(|i| *i >= 0)) {
        true => index,
        false => index.binary("Mod", n.cast(index.fact().dtype)),
    }
}

/// `element` everywhere in a shape.
fn full<'e, 'g>(shape: Val<'e, 'g>, dtype: DType, element: f64) -> Val<'e, 'g> {
    let value = Tensor::from_f64(dtype, &[1], &[element]);
    let attrs: Vec<(&str, Attr)> = value.into_iter().map(|t| ("value", t.into())).collect();
    shape.emit().op("ConstantOfShape", &[shape], &attrs)
}

/// The same elements, said to have the shape of `x`.
pub(super) fn shaped_like<'e, 'g>(g: Val<'e, 'g>, x: Val<'e, 'g>) -> Val<'e, 'g> {
    let (from, to) = (g.fact(), x.fact());
    let certain = from.dims().is_some_and(|d| d.iter().all(|d| *d != Dim::Unknown));
    if certain && from.shape == to.shape { g } else { g.binary("Reshape", x.shape()) }
}

/// `op`, a scatter whose updates meet what is there (`reduction` is one of its `attrs`): in f32 for narrower types, in which
/// stock ONNX Runtime has no such kernel, and sums of many terms no precision.
pub(super) fn accumulate<'e, 'g>(
    op: &str,
    [onto, at, updates]: [Val<'e, 'g>; 3],
    attrs: &[(&str, Attr)],
) -> Val<'e, 'g> {
    let narrow = onto.fact().dtype;
    onto.emit().op(op, &[wide(onto), at, wide(updates)], attrs).cast(narrow)
}

/// Slices of `g` along `axis` put at `positions` of an axis of length `n` (a vector of one element), onto zeros.
pub(super) fn scatter_rows<'e, 'g>(
    g: Val<'e, 'g>,
    axis: usize,
    n: Val<'e, 'g>,
    positions: Val<'e, 'g>,
    reduction: &str,
) -> Val<'e, 'g> {
    let e = g.emit();
    let rank = g.rank();
    if axis >= rank {
        return e.fail(InferError::Operand { slot: 0, got: g.fact(), want: format!("an axis {axis}") });
    }
    let first: Vec<usize> = [axis].into_iter().chain((0..rank).filter(|i| *i != axis)).collect();
    let rows = if axis == 0 { g } else { g.transpose(&first) };
    let rest = rows.lens(1..rank);
    let shape = match (n.known_ints(), rest.known_ints()) {
        (Some(n), Some(rest)) => e.ints(&[n, rest].concat()),
        _ => e.op("Concat", &[n, rest], &[("axis", 0i64.into())]),
    };
    let at = positions.cast(DType::I64).binary("Unsqueeze", e.ints(&[-1]));
    let operands = [full(shape, g.fact().dtype, 0.0), at, rows];
    let y = match reduction {
        "none" => e.op("ScatterND", &operands, &[]),
        _ => accumulate("ScatterND", operands, &[("reduction", reduction.into())]),
    };
    let mut back = vec![0; rank];
    first.iter().enumerate().for_each(|(i, p)| back[*p] = i);
    if axis == 0 { y } else { y.transpose(&back) }
}

/// Calls `f(row, position)` for every element of `index`, `row` being its coordinates with `axis` replaced by it.
fn each_element(
    x: &[usize],
    index: &Array,
    axis: usize,
    mut f: impl FnMut(&[usize], &[usize]),
) -> Result<(), EvalError> {
    if index.ndim() != x.len() || axis >= x.len() {
        return invalid(format!("indices {:?} of {x:?}", index.shape()));
    }
    for (at, i) in index.indexed_iter() {
        let at: Vec<usize> = (0..index.ndim()).map(|d| at[d]).collect();
        let mut row = at.clone();
        row[axis] = wrap(*i, x[axis])?;
        if row.iter().zip(x).any(|(r, n)| r >= n) {
            return invalid(format!("indices {:?} of {x:?}", index.shape()));
        }
        f(&row, &at);
    }
    Ok(())
}

/// The batch coordinates of a row of indices, followed by the indices.
fn row_at(batch: &[usize], index: &[f64], dims: &[usize]) -> Result<Vec<usize>, EvalError> {
    let Some(indexed) = dims.get(batch.len()..).filter(|d| index.len() <= d.len()) else {
        return invalid(format!("{} indices of {dims:?}", index.len()));
    };
    if batch.iter().zip(dims).any(|(at, n)| at >= n) {
        return invalid(format!("batch {batch:?} of {dims:?}"));
    }
    let mut row = batch.to_vec();
    for (i, n) in index.iter().zip(indexed) {
        row.push(wrap(*i, *n)?);
    }
    Ok(row)
}

/// Batch coordinates and indices.
type IndexRow = (Vec<usize>, Vec<f64>);

/// Splits an index tensor into its rows, with the batch coordinates of each.
fn index_rows(index: &Array, batch: usize) -> Result<Vec<IndexRow>, EvalError> {
    let Some((width, outer)) = index.shape().split_last() else { return invalid("indices of rank 0") };
    if batch > outer.len() {
        return invalid(format!("batch_dims {batch} of indices {:?}", index.shape()));
    }
    let flat: Vec<f64> = index.iter().copied().collect();
    let coordinates = ndarray::indices(IxDyn(outer)).into_iter();
    let rows = coordinates.enumerate().map(|(i, at)| {
        let row = flat.get(i * width..(i + 1) * width).unwrap_or_default().to_vec();
        ((0..batch).map(|d| at[d]).collect(), row)
    });
    Ok(rows.collect())
}
