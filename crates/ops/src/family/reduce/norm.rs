//! Norms and logarithms of sums: ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceSumSquare.

use super::*;
use crate::Attribute::Int;
use crate::Operand::{Any, Apart, Floats, Ints, Positive};
use crate::case;

pub(in crate::family) const REDUCE_L1: Op = Op {
    name: "ReduceL1",
    eval: |a| reduce(a, |row| row.iter().map(|x| x.abs()).sum()),
    flops: |c, _| c.fact(0).volume() * Dim::Known(2),
    grad: Grad::rule(
        |b| vec![Some(spread(b, b.gy) * b.x[0].unary("Sign"))],
        &[case(&[Apart(&[2, 3, 4]), Ints(&[2], &[0, -1])]).with(&[("keepdims", Int(0))]), case(&[Apart(&[2, 3])])],
    ),
    ..REDUCE
};

pub(in crate::family) const REDUCE_L2: Op = Op {
    name: "ReduceL2",
    eval: |a| reduce(a, |row| row.iter().map(|x| x * x).sum::<f64>().sqrt()),
    flops: |c, _| c.fact(0).volume() * Dim::Known(2),
    // x / y; where y is zero, so is x, and zero is among the slopes there.
    grad: Grad::rule(
        |b| {
            let length = b.y + b.y.binary("Equal", b.y.like(0.0)).cast(b.gy.fact().dtype);
            vec![Some(spread(b, b.gy / length) * b.x[0])]
        },
        &[
            case(&[Any(&[2, 3, 4]), Ints(&[1], &[1])]).with(&[("keepdims", Int(0))]),
            case(&[Any(&[2, 3])]),
            case(&[Floats(&[2, 2], &[0.0, 0.0, 3.0, -4.0]), Ints(&[1], &[1])]),
        ],
    ),
    ..REDUCE
};

pub(in crate::family) const REDUCE_LOG_SUM: Op = Op {
    name: "ReduceLogSum",
    eval: |a| reduce(a, |row| row.iter().sum::<f64>().ln()),
    grad: Grad::rule(
        |b| vec![Some((spread(b, b.gy) / again(b, "ReduceSum", b.x[0])).binary("Expand", b.x[0].shape()))],
        &[case(&[Positive(&[2, 3, 4]), Ints(&[2], &[0, 2])]).with(&[("keepdims", Int(0))]), case(&[Positive(&[2, 3])])],
    ),
    ..REDUCE
};

/// log(sum(exp(x))), for large x too.
fn log_sum_exp(row: &[f64]) -> f64 {
    let max = row.iter().copied().fold(f64::NEG_INFINITY, arithmetic::larger);
    if max.is_infinite() { max } else { max + row.iter().map(|x| (x - max).exp()).sum::<f64>().ln() }
}

pub(in crate::family) const REDUCE_LOG_SUM_EXP: Op = Op {
    name: "ReduceLogSumExp",
    eval: |a| reduce(a, log_sum_exp),
    flops: |c, _| c.fact(0).volume() * Dim::Known(3),
    // exp(x - y); a row that is masked to minus infinity as a whole has no slope.
    grad: Grad::rule(
        |b| {
            let masked = b.y.binary("Equal", b.y.like(f64::NEG_INFINITY));
            let y = b.emit.op("Where", &[masked, b.y.like(0.0), b.y], &[]);
            vec![Some(spread(b, b.gy) * (b.x[0] - spread(b, y)).unary("Exp"))]
        },
        &[
            case(&[Any(&[2, 3, 4]), Ints(&[1], &[-2])]).with(&[("keepdims", Int(0))]),
            case(&[Any(&[2, 3])]),
            case(&[Floats(&[2, 2], &[60.0, 61.0, -1e30, 0.5]), Ints(&[1], &[1])]),
        ],
    ),
    ..REDUCE
};

pub(in crate::family) const REDUCE_SUM_SQUARE: Op = Op {
    name: "ReduceSumSquare",
    eval: |a| reduce(a, |row| row.iter().map(|x| x * x).sum()),
    flops: |c, _| c.fact(0).volume() * Dim::Known(2),
    grad: Grad::rule(
        |b| vec![Some(spread(b, b.gy * 2.0) * b.x[0])],
        &[case(&[Any(&[2, 3, 4]), Ints(&[2], &[0, -1])]).with(&[("keepdims", Int(0))]), case(&[Any(&[2, 3])])],
    ),
    ..REDUCE
};
