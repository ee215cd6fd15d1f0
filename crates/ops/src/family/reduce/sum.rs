//! ReduceMean ReduceProd ReduceSum.

use super::*;
use crate::Attribute::{Int, Ints as List};
use crate::Operand::{Absent, Any, Apart, Floats, Ints};
use crate::case;

pub(in crate::family) const REDUCE_SUM: Op = Op {
    name: "ReduceSum",
    eval: |a| reduce(a, |row| row.iter().sum()),
    grad: Grad::rule(
        |b| vec![Some(spread(b, b.gy).binary("Expand", b.x[0].shape()))],
        &[
            case(&[Any(&[2, 3, 4]), Ints(&[2], &[0, -1])]).with(&[("keepdims", Int(0))]),
            case(&[Any(&[2, 3])]),
            case(&[Any(&[2, 3])]).with(&[("keepdims", Int(0))]),
            case(&[Any(&[2, 3]), Ints(&[1], &[1])]),
            case(&[Any(&[2, 3]), Ints(&[0], &[])]).with(&[("keepdims", Int(0))]),
            case(&[Any(&[2, 3]), Absent]).with(&[("keepdims", Int(0)), ("noop_with_empty_axes", Int(1))]),
        ],
    ),
    ..REDUCE
};

pub(in crate::family) const REDUCE_MEAN: Op = Op {
    name: "ReduceMean",
    eval: |a| reduce(a, |row| row.iter().sum::<f64>() / row.len() as f64),
    grad: Grad::rule(
        |b| {
            let x = b.x[0];
            let share = match (x.fact().volume().div_exact(b.y.fact().volume())).and_then(Dim::known) {
                Some(n) => b.gy * (1.0 / n as f64),
                None => b.gy * part(b.y, x),
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

pub(in crate::family) const REDUCE_PROD: Op = Op {
    name: "ReduceProd",
    // Integers wrap around as they are multiplied: a product beyond 2^53 would lose its low bits.
    eval: |a| match a.dtype(0).is_int() {
        true => reduce(a, |row| {
            let product = row.iter().fold(1i128, |p, x| p.wrapping_mul(*x as i128));
            wrapped(a.dtype(0), product)
        }),
        false => reduce(a, |row| row.iter().product()),
    },
    // The product of the others: none of them is zero where the product is not, or where only this element is. With
    // zeros replaced by ones nothing is divided by zero.
    grad: Grad::rule(
        |b| {
            let (x, dtype) = (b.x[0], b.gy.fact().dtype);
            let zero = x.binary("Equal", x.like(0.0)).cast(dtype);
            let filled = x + zero;
            let other_zeros = again(b, "ReduceSum", zero) - zero;
            let alone = other_zeros.binary("Equal", x.like(0.0)).cast(dtype);
            vec![Some(spread(b, b.gy) * again(b, "ReduceProd", filled) / filled * alone)]
        },
        &[
            case(&[Apart(&[2, 3]), Ints(&[1], &[1])]).with(&[("keepdims", Int(0))]),
            case(&[Any(&[2, 3])]),
            case(&[Floats(&[3, 3], &[2.0, 0.0, -3.0, 0.0, 0.0, 5.0, 1.5, 2.5, 3.0]), Ints(&[1], &[-1])]),
        ],
    ),
    ..REDUCE
};
