//! Elementwise functions of one operand:
//! Abs Ceil Cos Erf Exp Floor Identity Log Neg Reciprocal Round Sign Sin Sqrt.

use super::*;
use crate::Operand::{Any, Apart, Positive};
use crate::case;

const STEP: &str = "constant almost everywhere";

pub(super) const OPS: &[Op] =
    &[ABS, CEIL, COS, ERF, EXP, FLOOR, IDENTITY, LOG, NEG, RECIPROCAL, ROUND, SIGN, SIN, SQRT];

const ABS: Op = Op {
    name: "Abs",
    eval: |a| map(a, f64::abs),
    grad: Grad::rule(|b| vec![Some(b.gy * b.x[0].unary("Sign"))], &[case(&[Apart(&[2, 3])])]),
    ..UNARY
};

const CEIL: Op = Op { name: "Ceil", eval: |a| map(a, f64::ceil), grad: Grad::Zero(STEP), ..UNARY };

const COS: Op = Op {
    name: "Cos",
    eval: |a| map(a, f64::cos),
    grad: Grad::rule(|b| vec![Some(-(b.gy * b.x[0].unary("Sin")))], &[case(&[Any(&[2, 3])])]),
    ..UNARY
};

const ERF: Op = Op {
    name: "Erf",
    eval: |a| map(a, libm::erf),
    grad: Grad::rule(
        |b| {
            // 2 / sqrt(pi) exp(-x^2), with the factor in the exponent.
            let bell = (std::f64::consts::FRAC_2_SQRT_PI.ln() - b.x[0] * b.x[0]).unary("Exp");
            vec![Some(b.gy * bell)]
        },
        &[case(&[Any(&[2, 3])])],
    ),
    ..UNARY
};

const EXP: Op = Op {
    name: "Exp",
    eval: |a| map(a, f64::exp),
    grad: Grad::rule(|b| vec![Some(b.gy * b.y)], &[case(&[Any(&[2, 3])])]),
    ..UNARY
};

const FLOOR: Op = Op { name: "Floor", eval: |a| map(a, f64::floor), grad: Grad::Zero(STEP), ..UNARY };

const IDENTITY: Op = Op {
    name: "Identity",
    infer: |c| known(c.fact(0), c.content(0).map(<[Dim]>::to_vec)),
    eval: |a| map(a, |x| x),
    grad: Grad::rule(|b| vec![Some(b.gy)], &[case(&[Any(&[2, 3])])]),
    ..MOVES
};

const LOG: Op = Op {
    name: "Log",
    eval: |a| map(a, f64::ln),
    grad: Grad::rule(|b| vec![Some(b.gy / b.x[0])], &[case(&[Positive(&[2, 3])])]),
    ..UNARY
};

const NEG: Op = Op {
    name: "Neg",
    infer: |c| known(c.fact(0), c.content(0).map(|v| v.iter().map(|d| Dim::Known(0) - *d).collect())),
    eval: |a| map(a, |x| -x),
    grad: Grad::rule(|b| vec![Some(-b.gy)], &[case(&[Any(&[2, 3])])]),
    ..UNARY
};

const RECIPROCAL: Op = Op {
    name: "Reciprocal",
    eval: |a| map(a, f64::recip),
    grad: Grad::rule(|b| vec![Some(-(b.gy * (b.y * b.y)))], &[case(&[Positive(&[2, 3])])]),
    ..UNARY
};

const ROUND: Op = Op { name: "Round", eval: |a| map(a, f64::round_ties_even), grad: Grad::Zero(STEP), ..UNARY };

const SIGN: Op =
    Op { name: "Sign", eval: |a| map(a, |x| if x == 0.0 { 0.0 } else { x.signum() }), grad: Grad::Zero(STEP), ..UNARY };

const SIN: Op = Op {
    name: "Sin",
    eval: |a| map(a, f64::sin),
    grad: Grad::rule(|b| vec![Some(b.gy * b.x[0].unary("Cos"))], &[case(&[Any(&[2, 3])])]),
    ..UNARY
};

const SQRT: Op = Op {
    name: "Sqrt",
    eval: |a| map(a, f64::sqrt),
    grad: Grad::rule(|b| vec![Some(b.gy * 0.5 / b.y)], &[case(&[Positive(&[2, 3])])]),
    ..UNARY
};
