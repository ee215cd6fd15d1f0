//! Arithmetic on operands that broadcast: Add Div Max Min Mod Mul Pow Sub Sum.

use super::*;
use crate::Attribute::Int;
use crate::Operand::{Any, Apart, Positive};
use crate::case;

pub(super) const OPS: &[Op] = &[ADD, DIV, MAX, MIN, MOD, MUL, POW, SUB, SUM];

const ADD: Op = Op {
    name: "Add",
    infer: |c| pair_content(c, c.dtype(), |x, y| x + y),
    eval: |a| zip2(a, |x, y| x + y),
    grad: Grad::rule(
        |b| vec![Some(b.gy), Some(b.gy)],
        &[case(&[Any(&[2, 3]), Any(&[2, 3])]), case(&[Any(&[3]), Any(&[2, 1])]), case(&[Any(&[]), Any(&[2, 3])])],
    ),
    ..BINARY
};

const SUB: Op = Op {
    name: "Sub",
    infer: |c| pair_content(c, c.dtype(), |x, y| x - y),
    eval: |a| zip2(a, |x, y| x - y),
    grad: Grad::rule(|b| vec![Some(b.gy), b.want(1, || -b.gy)], &[case(&[Any(&[2, 3]), Any(&[3])])]),
    ..BINARY
};

const MUL: Op = Op {
    name: "Mul",
    infer: |c| pair_content(c, c.dtype(), |x, y| x * y),
    eval: |a| zip2(a, |x, y| x * y),
    grad: Grad::rule(
        |b| vec![b.want(0, || b.gy * b.x[1]), b.want(1, || b.gy * b.x[0])],
        &[case(&[Any(&[2, 3]), Any(&[2, 3])]), case(&[Any(&[1, 3]), Any(&[2, 1])])],
    ),
    ..BINARY
};

const DIV: Op = Op {
    name: "Div",
    infer: |c| {
        pair_content(c, c.dtype(), |x, y| match (x, y) {
            (Dim::Known(m), Dim::Known(n)) => m.checked_div(n).map_or(Dim::Unknown, Dim::Known),
            _ => x.div_exact(y).unwrap_or(Dim::Unknown),
        })
    },
    eval: |a| {
        if a.dtype(0).is_float() {
            return zip2(a, |x, y| x / y);
        }
        match a.x(1)?.iter().any(|y| *y == 0.0) {
            true => misfit("an integer is divided by zero"),
            false => zip2(a, |x, y| (x / y).trunc()),
        }
    },
    grad: Grad::rule(
        |b| vec![b.want(0, || b.gy / b.x[1]), b.want(1, || -(b.gy * b.y / b.x[1]))],
        &[case(&[Any(&[2, 3]), Positive(&[3])])],
    ),
    ..BINARY
};

const MAX: Op = Op {
    name: "Max",
    inputs: (1, usize::MAX),
    infer: all,
    eval: |a| fold(a, f64::max),
    grad: Grad::rule(pick, &[case(&[Apart(&[2, 3]), Apart(&[2, 3])])]),
    ..UNARY
};

const MIN: Op = Op {
    name: "Min",
    inputs: (1, usize::MAX),
    infer: all,
    eval: |a| fold(a, f64::min),
    grad: Grad::rule(pick, &[case(&[Apart(&[2, 3]), Apart(&[3])])]),
    ..UNARY
};

/// The gradient goes to every operand that equals the result, whole: where two are equal, each is picked.
fn pick<'e, 'g>(b: &crate::Backward<'e, 'g>) -> Vec<Option<crate::Val<'e, 'g>>> {
    let dtype = b.gy.fact().dtype;
    let mask = |slot: usize| b.x[slot].binary("Equal", b.y).cast(dtype);
    (0..b.x.len()).map(|slot| b.want(slot, || b.gy * mask(slot))).collect()
}

fn fold(a: &Args, f: impl Fn(f64, f64) -> f64) -> Evaluated {
    let mut y = a.x(0)?.clone();
    for slot in 1..a.inputs.len() {
        y = crate::eval::zip(&y, a.x(slot)?, &f)?;
    }
    Ok(vec![y])
}

const MOD: Op = Op {
    name: "Mod",
    eval: |a| match (a.node.int("fmod", 0), a.x(1)?.iter().any(|y| *y == 0.0) && a.dtype(0).is_int()) {
        (_, true) => misfit("an integer is divided by zero"),
        (0, _) => zip2(a, |x, y| x - y * (x / y).floor()),
        _ => zip2(a, |x, y| x % y),
    },
    // x - y * trunc(x / y): the quotient is constant almost everywhere.
    grad: Grad::rule(
        |b| {
            let quotient = (b.x[0] - b.y) / b.x[1];
            vec![Some(b.gy), b.want(1, || -(b.gy * quotient.unary("Round")))]
        },
        &[case(&[Apart(&[2, 3]), Positive(&[3])]).with(&[("fmod", Int(1))])],
    ),
    ..BINARY
};

const POW: Op = Op {
    name: "Pow",
    eval: |a| zip2(a, f64::powf),
    grad: Grad::rule(
        |b| {
            let (x, p) = (b.x[0], b.x[1]);
            let by_base = || match p.tensor().and_then(|t| t.to_f64()).as_deref() {
                // x^2 has a slope at negative x, and Pow(x, 1) costs more than x.
                Some([two]) if *two == 2.0 => b.gy * (x * 2.0),
                _ => b.gy * (p.cast(x.fact().dtype) * x.binary("Pow", p - p.like(1.0))),
            };
            vec![b.want(0, by_base), b.want(1, || b.gy * (b.y * x.unary("Log")))]
        },
        &[
            case(&[Positive(&[2, 3]), Any(&[3])]),
            case(&[Any(&[2, 3]), crate::Operand::Floats(&[], &[2.0])]),
            case(&[Any(&[2, 3]), crate::Operand::Floats(&[], &[3.0])]),
        ],
    ),
    ..BINARY
};

const SUM: Op = Op {
    name: "Sum",
    inputs: (1, usize::MAX),
    infer: all,
    eval: |a| fold(a, |x, y| x + y),
    grad: Grad::rule(|b| b.x.iter().map(|_| Some(b.gy)).collect(), &[case(&[Any(&[2, 3]), Any(&[3]), Any(&[2, 1])])]),
    ..UNARY
};
