//! Reading by index: Gather GatherElements GatherND.

use super::*;
use crate::Attribute::Int;
use crate::Operand::{Any, Ints, Of};
use crate::{Backward, Val, case};
use ndarray::{Axis, IxDyn};

const GATHERING: Op = Op { inputs: (2, 2), ..MOVES };

pub(super) const GATHER: Op = Op {
    name: "Gather",
    traits: Traits::MOVES,
    infer: |c| {
        let (x, index) = (c.fact(0), c.fact(1));
        let (Some(dims), Some(at)) = (x.dims(), index.dims()) else { return one(Fact::unranked(x.dtype)) };
        let axis = c.axis(0, dims.len())?;
        let content = match (c.content(0), c.ints(1)) {
            (Some(v), Some(index)) if at.len() < 2 => {
                let n = v.len() as i64;
                index.iter().map(|i| v.get(usize::try_from(if *i < 0 { i + n } else { *i }).ok()?).copied()).collect()
            }
            _ => None,
        };
        known(Fact::new(x.dtype, [&dims[..axis], at, &dims[axis + 1..]].concat()), content)
    },
    eval: |a| {
        let (x, index) = (a.x(0)?, a.x(1)?);
        let axis = a.axis(0, x.ndim())?;
        let at = index.iter().map(|i| wrap(*i, x.shape()[axis])).collect::<Result<Vec<_>, _>>()?;
        let dims = [&x.shape()[..axis], index.shape(), &x.shape()[axis + 1..]].concat();
        Ok(vec![crate::eval::reshape(&x.select(Axis(axis), &at), &dims)?])
    },
    grad: Grad::rule(
        |b| vec![Some(ungather(b)), None],
        &[
            case(&[Any(&[4, 3]), Ints(&[2, 3], &[0, 2, 2, 3, -1, 0])]),
            case(&[Any(&[4, 3]), Of(DType::I32, &[2], &[1, 1])]).opset(18),
            case(&[Any(&[2, 4, 3]), Ints(&[], &[-1])]).with(&[("axis", Int(1))]),
            case(&[Any(&[2, 4, 3]), Ints(&[2, 2], &[0, 3, 0, -4])]).with(&[("axis", Int(-2))]),
            case(&[Any(&[4]), Ints(&[], &[2])]),
        ],
    ),
    ..GATHERING
};

/// Slices are summed where they were taken: by scattering, or by a mask for a single one.
fn ungather<'e, 'g>(b: &Backward<'e, 'g>) -> Val<'e, 'g> {
    let (e, x, index) = (b.emit, b.x[0], b.x[1]);
    let rank = x.rank();
    let axis = axis_of(e, b.node, 0, rank);
    if index.rank() == 0 {
        let n = x.len(axis);
        let index = from_front(index.cast(DType::I64), n);
        let hot = index.binary("Equal", n.numbers()).cast(b.gy.fact().dtype);
        let others: Vec<i64> = (1..rank.saturating_sub(axis) as i64).collect();
        let mask = if others.is_empty() { hot } else { hot.binary("Unsqueeze", e.ints(&others)) };
        return b.gy.binary("Unsqueeze", e.ints(&[axis as i64])) * mask;
    }
    if axis == 0 {
        let rows = index.cast(DType::I64).binary("Unsqueeze", e.ints(&[-1]));
        return accumulate("ScatterND", [x.zeros_like(), rows, b.gy], &[("reduction", "add".into())]);
    }
    // [pre, m, post] with the indices flat, from [pre, ..indices.., post].
    let part = |start: usize, end: usize| {
        let dims = x.lens(start..end);
        match dims.known_ints() {
            Some(dims) => e.ints(&[dims.iter().product()]),
            None => e.op("ReduceProd", &[dims], &[("keepdims", 1i64.into())]),
        }
    };
    let flat = [part(0, axis), index.unary("Size").reshape(&[1]), part(axis + 1, rank)];
    let g = b.gy.binary("Reshape", e.op("Concat", &flat, &[("axis", 0i64.into())]));
    let rows = scatter_rows(g, 1, x.lens(axis..axis + 1), index.reshape(&[-1]), "add");
    rows.binary("Reshape", x.shape())
}

pub(super) const GATHER_ELEMENTS: Op = Op {
    name: "GatherElements",
    // Every element from a place of its own: positions are mixed.
    traits: Traits { moves: 1, ..Traits::NONE },
    infer: |c| one(Fact { dtype: c.dtype(), ..c.fact(1) }),
    eval: |a| {
        let (x, index) = (a.x(0)?, a.x(1)?);
        let axis = a.axis(0, x.ndim())?;
        let mut y = Array::zeros(index.raw_dim());
        each_element(x.shape(), index, axis, |row, at| y[IxDyn(at)] = x[IxDyn(row)])?;
        Ok(vec![y])
    },
    // One index per row (a label) is a mask; several may repeat, and are summed.
    grad: Grad::rule(
        |b| {
            let (e, x, index) = (b.emit, b.x[0], b.x[1]);
            let rank = x.rank();
            let at = axis_of(e, b.node, 0, rank);
            let (of_x, of_index) = (x.fact(), index.fact());
            let rest = |f: &Fact| f.dims().and_then(|d| Some([d.get(..at)?, d.get(at + 1..)?].concat()));
            let one = of_index.dims().and_then(|d| d.get(at)?.known()) == Some(1);
            let certain = rest(&of_x).is_some_and(|d| d.iter().all(|d| *d != Dim::Unknown));
            if one && certain && rest(&of_x) == rest(&of_index) {
                let n = x.len(at);
                let index = from_front(index.cast(DType::I64), n);
                let after: Vec<i64> = (1..(rank - at) as i64).collect();
                let all = n.numbers();
                let all = if after.is_empty() { all } else { all.binary("Unsqueeze", e.ints(&after)) };
                return vec![Some(b.gy * index.binary("Equal", all).cast(b.gy.fact().dtype)), None];
            }
            let attrs = [("axis", (at as i64).into()), ("reduction", "add".into())];
            vec![Some(accumulate("ScatterElements", [x.zeros_like(), index, b.gy], &attrs)), None]
        },
        &[
            case(&[Any(&[3, 4]), Ints(&[3, 1], &[1, -1, 0])]).with(&[("axis", Int(1))]),
            case(&[Any(&[3, 4]), Ints(&[1, 4], &[1, 2, 0, 0])]),
            case(&[Any(&[3, 4]), Ints(&[2, 3], &[1, 1, 0, 3, 3, 3])]).with(&[("axis", Int(-1))]),
        ],
    ),
    ..GATHERING
};

/// The attribute `batch_dims`, if the ranks of the operand and the indices allow it.
fn batch_dims(node: &lorac_ir::Node, ranks: [usize; 2]) -> Option<usize> {
    let batch = usize::try_from(node.int("batch_dims", 0)).ok()?;
    (batch < ranks[0] && batch < ranks[1]).then_some(batch)
}

fn wrong_batch(node: &lorac_ir::Node) -> InferError {
    let want = "fewer axes than the operand and the indices have".into();
    InferError::Attribute { name: "batch_dims", got: node.int("batch_dims", 0).to_string(), want }
}

pub(super) const GATHER_ND: Op = Op {
    name: "GatherND",
    traits: Traits::MOVES,
    infer: |c| {
        let (x, index) = (c.fact(0), c.fact(1));
        let (Some(dims), Some(at)) = (x.dims(), index.dims()) else { return one(Fact::unranked(x.dtype)) };
        let batch = batch_dims(c.node, [dims.len(), at.len()]).ok_or_else(|| wrong_batch(c.node))?;
        let Some((Dim::Known(width), outer)) = at.split_last() else { return one(Fact::unranked(x.dtype)) };
        match usize::try_from(*width).ok().and_then(|width| dims.get(batch.checked_add(width)?..)) {
            Some(rest) => one(Fact::new(x.dtype, [outer, rest].concat())),
            None => Err(InferError::Mismatch(x, index)),
        }
    },
    eval: |a| {
        let (x, index) = (a.x(0)?, a.x(1)?);
        let Some(batch) = batch_dims(a.node, [x.ndim(), index.ndim()]) else { return invalid("batch_dims") };
        let mut y = Vec::new();
        for (at, row) in index_rows(index, batch)? {
            let row = row_at(&at, &row, x.shape())?;
            y.extend(row.iter().fold(x.view(), |v, i| v.index_axis_move(Axis(0), *i)).iter());
        }
        let Some((width, outer)) = index.shape().split_last() else { return invalid("indices of rank 0") };
        let rest = x.shape().get(batch + width..).unwrap_or_default();
        Ok(vec![Array::from_shape_vec([outer, rest].concat(), y)?])
    },
    // With batch axes, their coordinates stand before the indices.
    grad: Grad::rule(
        |b| {
            let (e, x, index) = (b.emit, b.x[0], b.x[1]);
            let rank = index.rank();
            let Some(batch) = batch_dims(b.node, [x.rank(), rank]) else {
                return vec![Some(e.fail(wrong_batch(b.node))), None];
            };
            let index = index.cast(DType::I64);
            let mut parts = Vec::new();
            if batch > 0 {
                let column = e.op("Concat", &[index.lens(0..rank - 1), e.ints(&[1])], &[("axis", 0i64.into())]);
                for axis in 0..batch {
                    let after: Vec<i64> = (1..(rank - axis) as i64).collect();
                    let at = index.positions(axis).binary("Unsqueeze", e.ints(&after));
                    parts.push(at.binary("Expand", column));
                }
            }
            parts.push(index);
            let index = if batch == 0 { index } else { e.op("Concat", &parts, &[("axis", (-1i64).into())]) };
            vec![Some(accumulate("ScatterND", [x.zeros_like(), index, b.gy], &[("reduction", "add".into())])), None]
        },
        &[
            case(&[Any(&[3, 4]), Ints(&[3, 2], &[0, 1, 2, -1, 0, 1])]),
            case(&[Any(&[3, 4]), Ints(&[2, 1], &[2, 2])]),
            case(&[Any(&[2, 3, 2]), Ints(&[2, 2, 1], &[0, 0, 2, -2])]).with(&[("batch_dims", Int(1))]),
            case(&[Any(&[2, 2, 3]), Ints(&[2, 2, 1], &[0, 2, 1, 1])]).with(&[("batch_dims", Int(2))]),
        ],
    ),
    ..GATHERING
};
