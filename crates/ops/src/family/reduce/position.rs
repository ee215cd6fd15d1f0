//! By position along an axis: ArgMax ArgMin CumSum.

use super::*;
use crate::Attribute::Int;
use crate::Operand::{Any, Ints};
use crate::case;
use ndarray::Axis;

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

fn arg(a: &Args, better: impl Fn(f64, f64) -> bool) -> EvalResult {
    let x = a.x(0)?;
    let axis = Axis(a.axis(0, x.ndim())?);
    if x.len_of(axis) == 0 {
        return invalid("no element to choose from");
    }
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

pub(in crate::family) const ARG_MAX: Op = Op { name: "ArgMax", eval: |a| arg(a, |x, y| x > y), ..ARG };

pub(in crate::family) const ARG_MIN: Op = Op { name: "ArgMin", eval: |a| arg(a, |x, y| x < y), ..ARG };

pub(in crate::family) const CUM_SUM: Op = Op {
    name: "CumSum",
    inputs: (2, 2),
    infer: like_first,
    eval: |a| {
        let (mut y, dtype) = (a.x(0)?.clone(), a.dtype(0));
        let Some(axis) = a.ints(1)?.first().copied() else { return invalid("no axis") };
        let axis = Axis(crate::eval::axis(axis, y.ndim())?);
        let (exclusive, reverse) = (a.node.int("exclusive", 0) != 0, a.node.int("reverse", 0) != 0);
        for mut lane in y.lanes_mut(axis) {
            let mut total = 0.0;
            let n = lane.len();
            for step in 0..n {
                let x = &mut lane[if reverse { n - 1 - step } else { step }];
                let sum = total + *x;
                let next = if dtype.is_int() { wrapped(dtype, sum as i128) } else { sum };
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
            case(&[Any(&[3, 2]), Ints(&[], &[-2])]).with(&[("reverse", Int(1))]),
        ],
    ),
    ..REDUCE
};
