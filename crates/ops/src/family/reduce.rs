//! Reductions: ArgMax ArgMin CumSum ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum.

use super::*;
use crate::Attribute::{Int, Ints as List};
use crate::Operand::{Any, Apart, Ints};
use crate::{Backward, Val, case};
use ndarray::Axis;

pub(super) const OPS: &[Op] =
    &[ARG_MAX, ARG_MIN, CUM_SUM, REDUCE_MAX, REDUCE_MEAN, REDUCE_MIN, REDUCE_PROD, REDUCE_SUM];

const REDUCE: Op = Op {
    inputs: (1, 2),
    infer: |c| {
        let fact = c.fact(0);
        let Some(dims) = fact.dims() else { return one(fact) };
        let keep = c.node.int("keepdims", 1) != 0;
        match axes(c, dims.len())? {
            Some(axes) => one(Fact::new(fact.dtype, without(dims, &axes, keep))),
            None if keep => one(Fact::new(fact.dtype, dims.iter().map(|_| Dim::Unknown))),
            None => one(Fact::unranked(fact.dtype)),
        }
    },
    flops: |c, _| c.fact(0).volume(),
    ..UNARY
};

/// Reduced axes; none given means all, unless the node says otherwise.
fn axes(c: &Ctx, rank: usize) -> Result<Option<Vec<usize>>, InferError> {
    let noop = c.node.int("noop_with_empty_axes", 0) != 0;
    Ok(c.axes(1, rank)?.map(|a| if a.is_empty() && !noop { (0..rank).collect() } else { a }))
}

fn without(dims: &[Dim], axes: &[usize], keep: bool) -> Vec<Dim> {
    let numbered = dims.iter().enumerate();
    let kept = numbered.filter_map(|(i, d)| match axes.contains(&i) {
        true => keep.then_some(Dim::Known(1)),
        false => Some(*d),
    });
    kept.collect()
}

fn reduce(a: &Args, f: impl Fn(&[f64]) -> f64) -> Evaluated {
    let mut y = a.x(0)?.clone();
    let mut axes = a.axes(1, y.ndim())?;
    if axes.is_empty() {
        if a.node.int("noop_with_empty_axes", 0) != 0 {
            return Ok(vec![y]);
        }
        axes = (0..y.ndim()).collect();
    }
    // All reduced axes go last and become one.
    let kept: Vec<usize> = (0..y.ndim()).filter(|i| !axes.contains(i)).collect();
    let order: Vec<usize> = kept.iter().chain(&axes).copied().collect();
    let keep = a.node.int("keepdims", 1) != 0;
    let shape: Vec<usize> = match keep {
        true => (0..y.ndim()).map(|i| if axes.contains(&i) { 1 } else { y.shape()[i] }).collect(),
        false => kept.iter().map(|i| y.shape()[*i]).collect(),
    };
    let width: usize = axes.iter().map(|i| y.shape()[*i]).product();
    y = y.permuted_axes(order);
    let flat: Vec<f64> = y.iter().copied().collect();
    let rows = if width == 0 { vec![f(&[]); shape.iter().product()] } else { flat.chunks(width).map(&f).collect() };
    Ok(vec![Array::from_shape_vec(shape, rows)?])
}

/// A reduced value with its axes of length one again, so that it broadcasts against the operand.
fn spread<'e, 'g>(b: &Backward<'e, 'g>, g: Val<'e, 'g>) -> Val<'e, 'g> {
    let dims = b.x[0].rank();
    if b.node.int("keepdims", 1) != 0 || g.rank() == dims {
        return g;
    }
    let listed = b.node.ints("axes").map(<[i64]>::to_vec);
    let given = listed.or_else(|| b.x.get(1).and_then(|v| v.present())?.known_ints());
    match given.filter(|a| !a.is_empty()) {
        Some(axes) => g.binary("Unsqueeze", b.emit.ints(&axes)),
        None => g.reshape(&vec![1; dims]),
    }
}

const REDUCE_SUM: Op = Op {
    name: "ReduceSum",
    eval: |a| reduce(a, |row| row.iter().sum()),
    grad: Grad::rule(
        |b| vec![Some(spread(b, b.gy).binary("Expand", b.x[0].shape()))],
        &[
            case(&[Any(&[2, 3, 4]), Ints(&[2], &[0, -1])]).with(&[("keepdims", Int(0))]),
            case(&[Any(&[2, 3])]),
            case(&[Any(&[2, 3])]).with(&[("keepdims", Int(0))]),
            case(&[Any(&[2, 3]), Ints(&[1], &[1])]),
        ],
    ),
    ..REDUCE
};

const REDUCE_MEAN: Op = Op {
    name: "ReduceMean",
    eval: |a| reduce(a, |row| row.iter().sum::<f64>() / row.len() as f64),
    grad: Grad::rule(
        |b| {
            let (x, dtype) = (b.x[0], b.gy.fact().dtype);
            let share = match (x.fact().volume().div_exact(b.y.fact().volume())).and_then(Dim::known) {
                Some(n) => b.gy * (1.0 / n as f64),
                None => b.gy / (x.unary("Size").cast(dtype) / b.y.unary("Size").cast(dtype)),
            };
            vec![Some(spread(b, share).binary("Expand", x.shape()))]
        },
        &[
            case(&[Any(&[2, 3, 4]), Ints(&[1], &[1])]),
            case(&[Any(&[2, 3, 4])]).with(&[("axes", List(&[-1])), ("keepdims", Int(0))]).opset(17),
            case(&[Any(&[2, 3])]).with(&[("keepdims", Int(0))]),
        ],
    ),
    ..REDUCE
};

/// The gradient goes to the elements that equal the extreme, shared evenly, as PyTorch's `amax` does.
fn extreme<'e, 'g>(b: &Backward<'e, 'g>) -> Vec<Option<Val<'e, 'g>>> {
    let dtype = b.gy.fact().dtype;
    let mask = b.x[0].binary("Equal", spread(b, b.y)).cast(dtype);
    let attrs: Vec<(&str, lorac_ir::Attr)> = vec![("keepdims", 1i64.into())];
    let axes = b.node.ints("axes").map(|a| b.emit.ints(a)).or(b.x.get(1).copied());
    let inputs: Vec<Val> = [Some(mask), axes].into_iter().flatten().collect();
    let ties = b.emit.op("ReduceSum", &inputs, &attrs);
    vec![Some(spread(b, b.gy) * mask / ties)]
}

const REDUCE_MAX: Op = Op {
    name: "ReduceMax",
    eval: |a| reduce(a, |row| row.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
    grad: Grad::rule(
        extreme,
        &[
            case(&[Apart(&[2, 3, 4]), Ints(&[1], &[1])]).with(&[("keepdims", Int(0))]),
            case(&[Apart(&[2, 3])]).with(&[("axes", List(&[1]))]).opset(17),
        ],
    ),
    ..REDUCE
};

const REDUCE_MIN: Op = Op {
    name: "ReduceMin",
    eval: |a| reduce(a, |row| row.iter().copied().fold(f64::INFINITY, f64::min)),
    grad: Grad::rule(extreme, &[case(&[Apart(&[2, 3]), Ints(&[1], &[-1])])]),
    ..REDUCE
};

const REDUCE_PROD: Op = Op {
    name: "ReduceProd",
    eval: |a| reduce(a, |row| row.iter().product()),
    grad: Grad::rule(
        |b| vec![Some(spread(b, b.gy) * spread(b, b.y) / b.x[0])],
        &[case(&[Apart(&[2, 3]), Ints(&[1], &[1])])],
    ),
    ..REDUCE
};

const ARG: Op = Op {
    inputs: (1, 1),
    infer: |c| {
        let fact = Fact { dtype: DType::I64, ..c.fact(0) };
        let Some(dims) = fact.dims() else { return one(fact) };
        let axis = c.axis(0, dims.len())?;
        one(Fact::new(DType::I64, without(dims, &[axis], c.node.int("keepdims", 1) != 0)))
    },
    grad: Grad::Zero("an index has no gradient"),
    ..REDUCE
};

fn arg(a: &Args, better: impl Fn(f64, f64) -> bool) -> Evaluated {
    let x = a.x(0)?;
    let axis = Axis(a.axis(0, x.ndim())?);
    let last = a.node.int("select_last_index", 0) != 0;
    let y = x.map_axis(axis, |row| {
        let mut at = 0;
        for i in 1..row.len() {
            if better(row[i], row[at]) || (last && row[i] == row[at]) {
                at = i;
            }
        }
        at as f64
    });
    Ok(vec![if a.node.int("keepdims", 1) != 0 { y.insert_axis(axis) } else { y }])
}

const ARG_MAX: Op = Op { name: "ArgMax", eval: |a| arg(a, |x, y| x > y), ..ARG };

const ARG_MIN: Op = Op { name: "ArgMin", eval: |a| arg(a, |x, y| x < y), ..ARG };

const CUM_SUM: Op = Op {
    name: "CumSum",
    inputs: (2, 2),
    infer: like_first,
    eval: |a| {
        let mut y = a.x(0)?.clone();
        let axis = Axis(crate::eval::axis(a.ints(1)?.first().copied().unwrap_or(0), y.ndim())?);
        let (exclusive, reverse) = (a.node.int("exclusive", 0) != 0, a.node.int("reverse", 0) != 0);
        for mut lane in y.lanes_mut(axis) {
            let mut total = 0.0;
            let n = lane.len();
            for step in 0..n {
                let x = &mut lane[if reverse { n - 1 - step } else { step }];
                let next = total + *x;
                *x = if exclusive { total } else { next };
                total = next;
            }
        }
        Ok(vec![y])
    },
    // Every element is summed into those after it, so its gradient sums theirs: the same in the other direction.
    grad: Grad::rule(
        |b| {
            let attrs =
                [("exclusive", b.node.int("exclusive", 0).into()), ("reverse", (1 - b.node.int("reverse", 0)).into())];
            vec![Some(b.emit.op("CumSum", &[b.gy, b.x[1]], &attrs)), None]
        },
        &[
            case(&[Any(&[2, 3]), Ints(&[], &[1])]),
            case(&[Any(&[3, 2]), Ints(&[], &[0])]).with(&[("exclusive", Int(1)), ("reverse", Int(1))]),
        ],
    ),
    ..UNARY
};
