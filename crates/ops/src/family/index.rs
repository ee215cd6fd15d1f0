//! Elements by index: Gather GatherElements GatherND NonZero ScatterElements ScatterND.

use super::*;
use crate::Attribute::{Int, Str};
use crate::Operand::{Any, Ints};
use crate::{Backward, Val, case};
use ndarray::{Axis, IxDyn};

pub(super) const OPS: &[Op] = &[GATHER, GATHER_ELEMENTS, GATHER_ND, NON_ZERO, SCATTER_ELEMENTS, SCATTER_ND];

/// `index` counted from the front of an axis of length `n`.
fn wrap(index: f64, n: usize) -> Result<usize, EvalError> {
    let i = if index < 0.0 { index + n as f64 } else { index };
    if i >= 0.0 && i < n as f64 { Ok(i as usize) } else { misfit(format!("index {index} of {n}")) }
}

/// `index` as a non-negative number: negative ones count from the end. Known ones need no arithmetic.
fn from_front<'e, 'g>(index: Val<'e, 'g>, n: Val<'e, 'g>) -> Val<'e, 'g> {
    let known = index.known_ints().or_else(|| index.tensor()?.to_i64());
    match known.is_some_and(|v| v.iter().all(|i| *i >= 0)) {
        true => index,
        false => index.binary("Mod", n.cast(index.fact().dtype)),
    }
}

/// The length of one axis, as a scalar.
fn len<'e, 'g>(x: Val<'e, 'g>, axis: usize) -> Val<'e, 'g> {
    let e = x.emit();
    match x.fact().dims().and_then(|d| d.get(axis)?.known()) {
        Some(n) => e.scalar(n as f64, DType::I64),
        None => e.op("Gather", &[x.shape(), e.scalar(axis as f64, DType::I64)], &[]),
    }
}

/// Whether each index, along a new last axis, is each position `0..n`: one-hot rows of the element type of `like`.
fn one_hot<'e, 'g>(index: Val<'e, 'g>, n: Val<'e, 'g>, like: Val<'e, 'g>) -> Val<'e, 'g> {
    let e = index.emit();
    let index = from_front(index.cast(DType::I64), n);
    let positions = e.op("Range", &[e.scalar(0.0, DType::I64), n, e.scalar(1.0, DType::I64)], &[]);
    index.binary("Unsqueeze", e.ints(&[-1])).binary("Equal", positions).cast(like.fact().dtype)
}

const GATHER: Op = Op {
    name: "Gather",
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
    // Rows of a table are summed where they were taken: by scattering for the first axis, else by a product with the
    // one-hot index, which any runtime has.
    grad: Grad::rule(
        |b| {
            let (e, x, index) = (b.emit, b.x[0], b.x[1]);
            let rank = x.rank() as i64;
            let axis = b.node.int("axis", 0);
            let axis = if axis < 0 { axis + rank } else { axis };
            if axis == 0 && index.rank() > 0 && b.opset() >= 16 {
                let rows = index.cast(DType::I64).binary("Unsqueeze", e.ints(&[-1]));
                let attrs = [("reduction", "add".into())];
                return vec![Some(e.op("ScatterND", &[x.zeros_like(), rows, b.gy], &attrs)), None];
            }
            let hot = one_hot(index, len(x, axis as usize), b.gy);
            if index.rank() == 0 {
                let mask: Vec<i64> = (0..rank).filter(|i| *i != axis).collect();
                let mask = if mask.is_empty() { hot } else { hot.binary("Unsqueeze", e.ints(&mask)) };
                return vec![Some(b.gy.binary("Unsqueeze", e.ints(&[axis])) * mask), None];
            }
            // [pre, m, post] with the indices flat, from [pre, ..indices.., post].
            let part = |start: i64, end: i64| {
                let shape = e.op("Shape", &[x], &[("start", start.into()), ("end", end.into())]);
                e.op("ReduceProd", &[shape], &[("keepdims", 1i64.into())])
            };
            let dims = [part(0, axis), index.unary("Size").reshape(&[1]), part(axis + 1, rank)];
            let g = b.gy.binary("Reshape", e.op("Concat", &dims, &[("axis", 0i64.into())]));
            let flat = e.op("Flatten", &[hot], &[("axis", (-1i64).into())]);
            vec![Some(flat.t().matmul(g).binary("Reshape", x.shape())), None]
        },
        &[
            case(&[Any(&[4, 3]), Ints(&[2, 3], &[0, 2, 2, 3, -1, 0])]),
            case(&[Any(&[4, 3]), Ints(&[2], &[1, 1])]).opset(13),
            case(&[Any(&[2, 4, 3]), Ints(&[], &[-1])]).with(&[("axis", Int(1))]),
            case(&[Any(&[2, 4, 3]), Ints(&[2, 2], &[0, 3, 0, 1])]).with(&[("axis", Int(1))]),
            case(&[Any(&[4]), Ints(&[], &[2])]),
        ],
    ),
    ..GATHERING
};

const GATHERING: Op = Op { inputs: (2, 2), flops: |_, _| Dim::Known(0), ..UNARY };

/// Calls `f(row, position)` for every element of `index`, `row` being its coordinates with `axis` replaced by it.
fn each_element(
    x: &[usize],
    index: &Array,
    axis: usize,
    mut f: impl FnMut(&[usize], &[usize]),
) -> Result<(), EvalError> {
    for (at, i) in index.indexed_iter() {
        let at: Vec<usize> = (0..index.ndim()).map(|d| at[d]).collect();
        let mut row = at.clone();
        row[axis] = wrap(*i, x[axis])?;
        if row.len() != x.len() || row.iter().zip(x).any(|(r, n)| r >= n) {
            return misfit(format!("index {:?} of {x:?}", index.shape()));
        }
        f(&row, &at);
    }
    Ok(())
}

const GATHER_ELEMENTS: Op = Op {
    name: "GatherElements",
    infer: |c| one(Fact { dtype: c.dtype(), ..c.fact(1) }),
    eval: |a| {
        let (x, index) = (a.x(0)?, a.x(1)?);
        let axis = a.axis(0, x.ndim())?;
        let mut y = Array::zeros(index.raw_dim());
        each_element(x.shape(), index, axis, |row, at| y[IxDyn(at)] = x[IxDyn(row)])?;
        Ok(vec![y])
    },
    // One index a row (a label) is a mask; several may repeat, and are summed.
    grad: Grad::rule(
        |b| {
            let (e, x, index) = (b.emit, b.x[0], b.x[1]);
            let rank = x.rank();
            let axis = b.node.int("axis", 0);
            let at = if axis < 0 { axis + rank as i64 } else { axis } as usize;
            let (of_x, of_index) = (x.fact(), index.fact());
            let rest = |f: &Fact| f.dims().map(|d| [&d[..at], &d[at + 1..]].concat());
            let single = of_index.dims().is_some_and(|d| d[at] == Dim::Known(1)) && rest(&of_x) == rest(&of_index);
            if single {
                let n = len(x, at);
                let index = from_front(index.cast(DType::I64), n);
                let positions = e.op("Range", &[e.scalar(0.0, DType::I64), n, e.scalar(1.0, DType::I64)], &[]);
                let after: Vec<i64> = (1..(rank - at) as i64).collect();
                let positions =
                    if after.is_empty() { positions } else { positions.binary("Unsqueeze", e.ints(&after)) };
                return vec![Some(b.gy * index.binary("Equal", positions).cast(b.gy.fact().dtype)), None];
            }
            let attrs = [("axis", axis.into()), ("reduction", "add".into())];
            vec![Some(e.op("ScatterElements", &[x.zeros_like(), index, b.gy], &attrs)), None]
        },
        &[
            case(&[Any(&[3, 4]), Ints(&[3, 1], &[1, -1, 0])]).with(&[("axis", Int(1))]),
            case(&[Any(&[3, 4]), Ints(&[1, 4], &[1, 2, 0, 0])]),
            case(&[Any(&[3, 4]), Ints(&[2, 3], &[1, 1, 0, 3, 3, 3])]).with(&[("axis", Int(1))]),
        ],
    ),
    ..GATHERING
};

/// The batch coordinates of a row of indices, followed by the indices.
fn row_at(batch: &[usize], index: &[f64], dims: &[usize]) -> Result<Vec<usize>, EvalError> {
    let mut row = batch.to_vec();
    for (i, n) in index.iter().zip(dims.get(batch.len()..).unwrap_or_default()) {
        row.push(wrap(*i, *n)?);
    }
    Ok(row)
}

/// Batch coordinates and indices.
type IndexRow = (Vec<usize>, Vec<f64>);

/// Splits an index tensor into its rows, with the batch coordinates of each.
fn index_rows(index: &Array, batch: usize) -> Result<Vec<IndexRow>, EvalError> {
    let Some((width, outer)) = index.shape().split_last() else { return misfit("indices of rank 0") };
    let flat: Vec<f64> = index.iter().copied().collect();
    let coordinates = ndarray::indices(IxDyn(outer)).into_iter().map(|at| (0..batch).map(|d| at[d]).collect());
    Ok(coordinates.zip(flat.chunks((*width).max(1)).map(<[f64]>::to_vec)).collect())
}

const GATHER_ND: Op = Op {
    name: "GatherND",
    infer: |c| {
        let (x, index) = (c.fact(0), c.fact(1));
        let batch = c.node.int("batch_dims", 0).max(0) as usize;
        let (Some(dims), Some([outer @ .., Dim::Known(width)])) = (x.dims(), index.dims()) else {
            return one(Fact::unranked(x.dtype));
        };
        match dims.get(batch + *width as usize..) {
            Some(rest) => one(Fact::new(x.dtype, [outer, rest].concat())),
            None => Err(InferError::Mismatch(x, index)),
        }
    },
    eval: |a| {
        let (x, index) = (a.x(0)?, a.x(1)?);
        let batch = a.node.int("batch_dims", 0).max(0) as usize;
        let mut y = Vec::new();
        let mut rest = Vec::new();
        for (at, row) in index_rows(index, batch)? {
            let row = row_at(&at, &row, x.shape())?;
            let part = row.iter().fold(x.view(), |v, i| v.index_axis_move(Axis(0), *i));
            rest = part.shape().to_vec();
            y.extend(part.iter());
        }
        let outer = index.shape().split_last().map_or(&[][..], |s| s.1);
        if y.is_empty() {
            let width = index.shape().last().copied().unwrap_or(0);
            rest = x.shape().get(batch + width..).unwrap_or_default().to_vec();
        }
        Ok(vec![Array::from_shape_vec([outer, rest.as_slice()].concat(), y)?])
    },
    grad: Grad::rule(
        |b| {
            if b.node.int("batch_dims", 0) != 0 {
                let want = "batch_dims 0: the gradient of others is not written yet".into();
                let got = b.x[0].fact();
                return vec![Some(b.emit.fail(InferError::Operand { slot: 0, got, want })), None];
            }
            let attrs = [("reduction", "add".into())];
            vec![Some(b.emit.op("ScatterND", &[b.x[0].zeros_like(), b.x[1], b.gy], &attrs)), None]
        },
        &[case(&[Any(&[3, 4]), Ints(&[3, 2], &[0, 1, 2, -1, 0, 1])]), case(&[Any(&[3, 4]), Ints(&[2, 1], &[2, 2])])],
    ),
    ..GATHERING
};

const NON_ZERO: Op = Op {
    name: "NonZero",
    infer: |c| {
        let rank = c.fact(0).rank().map_or(Dim::Unknown, Dim::from);
        one(Fact::new(DType::I64, [rank, Dim::Unknown]))
    },
    eval: |a| {
        let x = a.x(0)?;
        let found: Vec<_> = x.indexed_iter().filter(|(_, x)| **x != 0.0).map(|(at, _)| at).collect();
        let rows = (0..x.ndim()).flat_map(|d| found.iter().map(move |at| at[d] as f64)).collect();
        Ok(vec![Array::from_shape_vec(vec![x.ndim(), found.len()], rows)?])
    },
    grad: Grad::Zero("positions have no gradient"),
    ..MOVES
};

/// How an update meets what is there.
fn reduction(node: &lorac_ir::Node) -> Result<fn(f64, f64) -> f64, EvalError> {
    Ok(match node.str("reduction") {
        None | Some("none") => |_, new| new,
        Some("add") => |old, new| old + new,
        Some("mul") => |old, new| old * new,
        Some("max") => f64::max,
        Some("min") => f64::min,
        Some(other) => return misfit(format!("reduction '{other}'")),
    })
}

/// Gradients of a scatter: the operand keeps what was not overwritten, the updates read where they went.
fn scatter_grad<'e, 'g>(b: &Backward<'e, 'g>, scatter: &str, gather: &str) -> Vec<Option<Val<'e, 'g>>> {
    let axis: Vec<(&str, lorac_ir::Attr)> = b.node.attrs.get("axis").map(|a| ("axis", a.clone())).into_iter().collect();
    let by_update = b.want(2, || b.emit.op(gather, &[b.gy, b.x[1]], &axis));
    let by_data = match b.node.str("reduction") {
        None | Some("none") => b.want(0, || b.emit.op(scatter, &[b.gy, b.x[1], b.x[2].zeros_like()], &axis)),
        Some("add") => Some(b.gy),
        Some(other) => {
            let want = format!("reduction 'none' or 'add': '{other}' has no gradient rule");
            Some(b.emit.fail(InferError::Operand { slot: 0, got: b.gy.fact(), want }))
        }
    };
    vec![by_data, None, by_update]
}

const SCATTER: Op = Op { inputs: (3, 3), flops: |c, _| c.fact(2).volume(), ..UNARY };

const SCATTER_ELEMENTS: Op = Op {
    name: "ScatterElements",
    eval: |a| {
        let (mut y, updates) = (a.x(0)?.clone(), a.x(2)?);
        let axis = a.axis(0, y.ndim())?;
        let dims = y.shape().to_vec();
        let meet = reduction(a.node)?;
        each_element(&dims, a.x(1)?, axis, |row, at| {
            let (old, new) = (y[IxDyn(row)], updates[IxDyn(at)]);
            y[IxDyn(row)] = meet(old, new);
        })?;
        Ok(vec![y])
    },
    grad: Grad::rule(
        |b| scatter_grad(b, "ScatterElements", "GatherElements"),
        &[
            case(&[Any(&[3, 4]), Ints(&[2, 3], &[1, 0, 2, 0, 2, 1]), Any(&[2, 3])]),
            case(&[Any(&[3]), Ints(&[3], &[1, 1, 0]), Any(&[3])]).with(&[("reduction", Str("add"))]),
        ],
    ),
    ..SCATTER
};

const SCATTER_ND: Op = Op {
    name: "ScatterND",
    eval: |a| {
        let (mut y, updates) = (a.x(0)?.as_standard_layout().into_owned(), a.x(2)?);
        let meet = reduction(a.node)?;
        let rows = index_rows(a.x(1)?, 0)?;
        let flat: Vec<f64> = updates.iter().copied().collect();
        let width = if rows.is_empty() { 1 } else { flat.len() / rows.len() };
        let dims = y.shape().to_vec();
        for ((_, row), update) in rows.iter().zip(flat.chunks(width.max(1))) {
            let row = row_at(&[], row, &dims)?;
            let part = row.iter().fold(y.view_mut(), |v, i| v.index_axis_move(Axis(0), *i));
            part.into_iter().zip(update).for_each(|(old, new)| *old = meet(*old, *new));
        }
        Ok(vec![y])
    },
    grad: Grad::rule(
        |b| scatter_grad(b, "ScatterND", "GatherND"),
        &[
            case(&[Any(&[3, 4]), Ints(&[2, 1], &[2, 0]), Any(&[2, 4])]),
            case(&[Any(&[3, 4]), Ints(&[2, 2], &[2, 0, 2, 0]), Any(&[2])]).with(&[("reduction", Str("add"))]),
        ],
    ),
    ..SCATTER
};
