//! Parts of a tensor by position: Slice Split Trilu.

use super::*;
use crate::Attribute::Int;
use crate::Operand::{Absent, Any, Ints};
use crate::{Val, case};
use lorac_ir::Tensor;
use ndarray::{Axis, Slice as Steps};

pub(super) const OPS: &[Op] = &[SLICE, SPLIT, TRILU];

/// One axis of a Slice: `(axis, start, end, step)`.
type Cut = (usize, Dim, Dim, i64);

const SLICE: Op = Op {
    name: "Slice",
    inputs: (3, 5),
    infer: |c| {
        let fact = c.fact(0);
        let Some(dims) = fact.dims() else { return one(fact) };
        let unknown = || Fact::new(fact.dtype, dims.iter().map(|_| Dim::Unknown));
        let Some(cuts) = cuts(c, dims.len())? else { return one(unknown()) };
        let mut out = dims.to_vec();
        for (axis, start, end, step) in &cuts {
            out[*axis] = cut_len(dims[*axis], *start, *end, *step);
        }
        let content = match (c.content(0), cuts.as_slice()) {
            (Some(v), [(0, Dim::Known(start), Dim::Known(end), step)]) => {
                Some(positions(v.len(), *start, *end, *step).into_iter().map(|i| v[i]).collect())
            }
            _ => None,
        };
        known(Fact::new(fact.dtype, out), content)
    },
    eval: |a| {
        let mut y = a.x(0)?.clone();
        for (axis, start, end, step) in eval_cuts(a)? {
            let at = positions(y.shape()[axis], start, end, step);
            y = y.select(Axis(axis), &at);
        }
        Ok(vec![y])
    },
    // The gradient goes back to where the part was cut: zeros around it. Padding says so for steps of one, scattering
    // onto zeros for the rest.
    grad: Grad::rule(
        |b| {
            let x = b.x[0];
            let at = Val::zeros_like(x);
            let positions = cut_positions(b);
            vec![Some(b.emit.op("ScatterND", &[at, positions, b.gy.reshape(&[-1])], &[]))]
        },
        &[
            case(&[Any(&[4, 5]), Ints(&[1], &[1]), Ints(&[1], &[3]), Ints(&[1], &[1])]),
            case(&[Any(&[4, 5]), Ints(&[2], &[-1, 0]), Ints(&[2], &[-4, 9]), Absent, Ints(&[2], &[-2, 2])]),
        ],
    ),
    ..MOVES
};

/// The coordinates of the elements that a Slice takes, one row each: every coordinate of the operand, sliced alike.
fn cut_positions<'e, 'g>(b: &crate::Backward<'e, 'g>) -> Val<'e, 'g> {
    let (e, x) = (b.emit, b.x[0]);
    let rank = x.rank();
    let ones = e.op("ConstantOfShape", &[x.shape()], &[("value", Tensor::vector(&[1i64]).into())]);
    let coordinates = e.op("Transpose", &[ones.unary("NonZero")], &[]);
    let shape = e.op("Concat", &[x.shape(), e.ints(&[rank as i64])], &[("axis", 0i64.into())]);
    let mut inputs = vec![coordinates.binary("Reshape", shape)];
    inputs.extend(&b.x[1..]);
    if inputs.get(3).is_none_or(|v| v.is_absent()) {
        let axes: Vec<i64> = (0..inputs[1].content().map_or(0, |c| c.len() as i64)).collect();
        inputs.truncate(3);
        inputs.push(e.ints(&axes));
        inputs.extend(b.x.get(4));
    }
    e.op("Slice", &inputs, &[]).reshape(&[-1, rank as i64])
}

fn cuts(c: &Ctx, rank: usize) -> Result<Option<Vec<Cut>>, InferError> {
    let (Some(starts), Some(ends)) = (c.content(1), c.content(2)) else { return Ok(None) };
    let listed = |slot: usize, default: Vec<i64>| match c.input(slot) {
        Some(_) => c.ints(slot),
        None => Some(default),
    };
    let axes = listed(3, (0..starts.len() as i64).collect());
    let (Some(axes), Some(steps)) = (axes, listed(4, vec![1; starts.len()])) else { return Ok(None) };
    if starts.len() != ends.len() || axes.len() != starts.len() || steps.len() != starts.len() {
        return Err(InferError::Mismatch(c.fact(1), c.fact(2)));
    }
    let mut cuts = Vec::new();
    for (i, axis) in axes.iter().enumerate() {
        let at = if *axis < 0 { axis + rank as i64 } else { *axis };
        let wrong =
            |got: i64, want: &str| InferError::Attribute { name: "axes", got: got.to_string(), want: want.into() };
        let at = usize::try_from(at).ok().filter(|a| *a < rank).ok_or_else(|| wrong(*axis, "an axis"))?;
        if steps[i] == 0 {
            return Err(wrong(0, "a step"));
        }
        cuts.push((at, starts[i], ends[i], steps[i]));
    }
    Ok(Some(cuts))
}

/// The length that a cut leaves of a dimension.
fn cut_len(dim: Dim, start: Dim, end: Dim, step: i64) -> Dim {
    match (dim, start, end) {
        (Dim::Known(n), Dim::Known(a), Dim::Known(b)) => {
            Dim::Known(positions(n.max(0) as usize, a, b, step).len() as i64)
        }
        (n, Dim::Known(0), Dim::Known(b)) if step == 1 && b >= i64::from(i32::MAX) => n,
        (n, Dim::Known(a), Dim::Known(b)) if step == 1 && a < 0 && b >= i64::from(i32::MAX) => {
            // The last -a elements, where there are as many: true of every symbol but too small a one.
            if n == Dim::Unknown { Dim::Unknown } else { Dim::Known(-a) }
        }
        // An end computed from another shape is taken to lie inside, as the exporter's model had it.
        (_, Dim::Known(0), end @ Dim::Sym(_)) if step == 1 => end,
        _ => Dim::Unknown,
    }
}

/// The positions of an axis of length `n` that a cut takes, in order.
fn positions(n: usize, start: i64, end: i64, step: i64) -> Vec<usize> {
    let n = n as i64;
    let from_front = |i: i64| if i < 0 { i.saturating_add(n) } else { i };
    let (lo, hi) = if step > 0 { (0, n) } else { (-1, n - 1) };
    let mut at = from_front(start).clamp(lo.max(0), hi.max(0));
    let end = from_front(end).clamp(lo, hi);
    let mut out = Vec::new();
    while (step > 0 && at < end) || (step < 0 && at > end && at < n) {
        out.push(at as usize);
        at = at.saturating_add(step);
    }
    out
}

fn eval_cuts(a: &Args) -> Result<Vec<(usize, i64, i64, i64)>, EvalError> {
    let (starts, ends) = (a.ints(1)?, a.ints(2)?);
    let rank = a.x(0)?.ndim();
    let axes = if a.opt(3).is_some() { a.ints(3)? } else { (0..starts.len() as i64).collect() };
    let steps = if a.opt(4).is_some() { a.ints(4)? } else { vec![1; starts.len()] };
    let rows = axes.iter().zip(starts).zip(ends).zip(steps);
    rows.map(|(((axis, start), end), step)| match step {
        0 => misfit("a step of zero"),
        _ => Ok((crate::eval::axis(*axis, rank)?, start, end, step)),
    })
    .collect()
}

const SPLIT: Op = Op {
    name: "Split",
    inputs: (1, 2),
    outputs: (1, usize::MAX),
    infer: |c| {
        let fact = c.fact(0);
        let Some(dims) = fact.dims() else { return Ok(vec![fact.into(); c.outputs]) };
        let axis = c.axis(0, dims.len())?;
        let lens: Vec<Dim> = match (c.content(1), c.input(1), dims[axis]) {
            (Some(lens), _, _) => lens.to_vec(),
            (None, None, Dim::Known(n)) => even(n, c.outputs as i64).into_iter().map(Dim::Known).collect(),
            (None, None, d) => {
                let share = d.div_exact(Dim::Known(c.outputs as i64)).unwrap_or(Dim::Unknown);
                vec![share; c.outputs]
            }
            _ => vec![Dim::Unknown; c.outputs],
        };
        let part = |len: &Dim| {
            let mut dims = dims.to_vec();
            dims[axis] = *len;
            Known::from(Fact::new(fact.dtype, dims))
        };
        Ok(lens.iter().map(part).collect())
    },
    eval: |a| {
        let x = a.x(0)?;
        let axis = a.axis(0, x.ndim())?;
        let n = x.shape()[axis];
        let lens = if a.opt(1).is_some() { a.ints(1)? } else { even(n as i64, a.outputs as i64) };
        let mut at = 0isize;
        let mut parts = Vec::new();
        for len in lens {
            let end = at + len as isize;
            if len < 0 || end > n as isize {
                return misfit(format!("Split past the end of {:?}", x.shape()));
            }
            parts.push(x.slice_axis(Axis(axis), Steps::new(at, Some(end), 1)).to_owned());
            at = end;
        }
        Ok(parts)
    },
    grad: Grad::rule_of_all(
        |b| {
            let parts: Vec<Val> = b.gys.iter().zip(&b.ys).map(|(g, y)| g.unwrap_or_else(|| y.zeros_like())).collect();
            vec![Some(b.emit.op("Concat", &parts, &[("axis", b.node.int("axis", 0).into())])), None]
        },
        &[
            case(&[Any(&[2, 5]), Ints(&[2], &[2, 3])]).with(&[("axis", Int(1))]).outputs(2),
            case(&[Any(&[4, 2])]).with(&[("num_outputs", Int(2))]).outputs(2),
        ],
    ),
    ..MOVES
};

/// `n` in `parts` equal shares, the last one smaller where they do not divide it.
fn even(n: i64, parts: i64) -> Vec<i64> {
    let share = (n + parts - 1) / parts.max(1);
    (0..parts).map(|i| share.min(n - i * share).max(0)).collect()
}

const TRILU: Op = Op {
    name: "Trilu",
    since: 14,
    inputs: (1, 2),
    eval: |a| {
        let mut y = a.x(0)?.as_standard_layout().into_owned();
        let k = if a.opt(1).is_some() { a.ints(1)?.first().copied().unwrap_or(0) } else { 0 };
        let upper = a.node.int("upper", 1) != 0;
        let [.., rows, cols] = *y.shape() else { return misfit("Trilu of a vector") };
        for (at, y) in y.iter_mut().enumerate() {
            let (row, col) = ((at / cols.max(1) % rows.max(1)) as i64, (at % cols.max(1)) as i64);
            let keep = if upper { col - row >= k } else { col - row <= k };
            *y = if keep { *y } else { 0.0 };
        }
        Ok(vec![y])
    },
    grad: Grad::rule(
        |b| {
            let inputs: Vec<Val> = [b.gy].into_iter().chain(b.x.get(1).copied()).collect();
            vec![Some(b.emit.op("Trilu", &inputs, &[("upper", b.node.int("upper", 1).into())])), None]
        },
        &[case(&[Any(&[3, 4])]), case(&[Any(&[2, 3, 3]), Ints(&[], &[-1])]).with(&[("upper", Int(0))])],
    ),
    ..MOVES
};
