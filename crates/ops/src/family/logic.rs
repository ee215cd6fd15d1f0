//! Comparisons and booleans: And Equal Greater GreaterOrEqual Less LessOrEqual Not Or Where Xor.

use super::*;
use crate::Operand::{Any, Bools};
use crate::case;
use crate::eval::zip;

pub(super) const OPS: &[Op] = &[AND, EQUAL, GREATER, GREATER_OR_EQUAL, LESS, LESS_OR_EQUAL, NOT, OR, WHERE, XOR];

const COMPARISON: Op = Op { infer: |c| pair(c, DType::Bool), grad: Grad::Zero("a boolean has no gradient"), ..BINARY };

const AND: Op = Op { name: "And", eval: |a| zip2(a, |x, y| x * y), ..COMPARISON };

const EQUAL: Op = Op {
    name: "Equal",
    infer: |c| pair_content(c, DType::Bool, equal),
    eval: |a| zip2(a, |x, y| f64::from(u8::from(x == y))),
    ..COMPARISON
};

/// Dimensions are never negative, so a symbol is not -1: exporters ask that before every Expand.
fn equal(x: Dim, y: Dim) -> Dim {
    match (x, y) {
        (Dim::Known(m), Dim::Known(n)) => Dim::Known(i64::from(m == n)),
        (Dim::Sym(_), Dim::Known(n)) | (Dim::Known(n), Dim::Sym(_)) if n < 0 => Dim::Known(0),
        _ if x.same(y) => Dim::Known(1),
        _ => Dim::Unknown,
    }
}

const GREATER: Op = Op { name: "Greater", eval: |a| zip2(a, |x, y| f64::from(u8::from(x > y))), ..COMPARISON };

const GREATER_OR_EQUAL: Op =
    Op { name: "GreaterOrEqual", eval: |a| zip2(a, |x, y| f64::from(u8::from(x >= y))), ..COMPARISON };

const LESS: Op = Op { name: "Less", eval: |a| zip2(a, |x, y| f64::from(u8::from(x < y))), ..COMPARISON };

const LESS_OR_EQUAL: Op =
    Op { name: "LessOrEqual", eval: |a| zip2(a, |x, y| f64::from(u8::from(x <= y))), ..COMPARISON };

const NOT: Op = Op {
    name: "Not",
    eval: |a| map(a, |x| f64::from(u8::from(x == 0.0))),
    grad: Grad::Zero("a boolean has no gradient"),
    ..UNARY
};

const OR: Op = Op { name: "Or", eval: |a| zip2(a, f64::max), ..COMPARISON };

const XOR: Op = Op { name: "Xor", eval: |a| zip2(a, |x, y| (x - y).abs()), ..COMPARISON };

const WHERE: Op = Op {
    name: "Where",
    traits: Traits::CARRIES,
    inputs: (3, 3),
    infer: |c| {
        let shape = broadcast(&c.fact(1), &c.fact(2))?;
        let both = Fact { dtype: c.fact(1).dtype, shape };
        let shape = broadcast(&c.fact(0), &both)?;
        let (yes, no) = (c.content(1), c.content(2));
        let len = shape.as_ref().map(|s| s.first().map_or(Some(1), |d| d.known()));
        let pick = |i: usize| {
            let at = |v: &[Dim]| v.get(if v.len() == 1 { 0 } else { i }).copied();
            match at(c.content(0)?)?.known()? {
                0 => at(no?),
                _ => at(yes?),
            }
        };
        let content = len.flatten().filter(|_| both.rank().is_some_and(|r| r < 2));
        let content = content.and_then(|n| (0..n as usize).map(pick).collect());
        known(Fact { dtype: both.dtype, shape }, content)
    },
    eval: |a| {
        let paired = zip(a.x(1)?, a.x(2)?, |_, _| 0.0)?;
        let dims = crate::eval::broadcast(a.x(0)?.shape(), paired.shape())?;
        let stretch = |slot: usize| a.x(slot).map(|x| x.broadcast(dims.clone()).map(|v| v.to_owned()));
        let (Some(c), Some(x), Some(y)) = (stretch(0)?, stretch(1)?, stretch(2)?) else {
            return invalid("operands do not broadcast");
        };
        let picked = c.iter().zip(x.iter().zip(y.iter())).map(|(c, (x, y))| if *c != 0.0 { *x } else { *y });
        Ok(vec![Array::from_shape_vec(dims.clone(), picked.collect())?])
    },
    grad: Grad::rule(
        |b| {
            let zero = b.gy.like(0.0);
            let pick = |x, y| b.emit.op("Where", &[b.x[0], x, y], &[]);
            vec![None, b.want(1, || pick(b.gy, zero)), b.want(2, || pick(zero, b.gy))]
        },
        &[
            case(&[Bools(&[2, 3], &[true, false, true, true, false, false]), Any(&[2, 3]), Any(&[3])]),
            case(&[Bools(&[2, 1], &[true, false]), Any(&[]), Any(&[2, 3])]),
            case(&[Bools(&[2, 1, 3], &[true, false, false, false, true, true]), Any(&[3]), Any(&[2, 1])]),
        ],
    ),
    ..UNARY
};
