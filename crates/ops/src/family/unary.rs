//! Elementwise functions of one operand: Abs Ceil Erf Exp Floor Identity IsInf IsNaN Log Neg Reciprocal Round Sign Sqrt.
//! Angles and their inverses are in `trig.rs`.

use super::*;
use crate::Operand::{Any, Apart, Positive};
use crate::case;

const STEP: &str = "constant almost everywhere";

pub(super) const OPS: &[Op] =
    &[ABS, CEIL, ERF, EXP, FLOOR, IDENTITY, IS_INF, IS_NAN, LOG, NEG, RECIPROCAL, ROUND, SIGN, SQRT];

const ABS: Op = Op {
    name: "Abs",
    traits: Traits::CARRIES,
    eval: |a| integer::map_numbers(a, f64::abs, i128::wrapping_abs),
    grad: Grad::rule(|b| vec![Some(b.gy * b.x[0].unary("Sign"))], &[case(&[Apart(&[2, 3])])]),
    ..UNARY
};

const CEIL: Op = Op { name: "Ceil", eval: |a| map(a, f64::ceil), grad: Grad::Zero(STEP), ..UNARY };

const ERF: Op = Op {
    name: "Erf",
    traits: Traits::ACTIVATION,
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
    traits: Traits::CARRIES,
    eval: |a| map(a, f64::exp),
    grad: Grad::rule(
        |b| {
            let y = if guard::is_shared_out(b.emit.graph(), b.node) { guard::settled(b) } else { b.y };
            vec![Some(b.gy * y)]
        },
        &[case(&[Any(&[2, 3])])],
    ),
    ..UNARY
};

const FLOOR: Op = Op { name: "Floor", eval: |a| map(a, f64::floor), grad: Grad::Zero(STEP), ..UNARY };

const IDENTITY: Op = Op {
    name: "Identity",
    traits: Traits::RESHAPES,
    infer: |c| known(c.fact(0), c.content(0).map(<[Dim]>::to_vec)),
    eval: |a| map(a, |x| x),
    grad: Grad::rule(|b| vec![Some(b.gy)], &[case(&[Any(&[2, 3])])]),
    ..MOVES
};

/// A question about each element.
const TEST: Op = Op {
    infer: |c| one(Fact { dtype: DType::Bool, ..c.fact(0) }),
    grad: Grad::Zero("a boolean has no gradient"),
    ..UNARY
};

const IS_INF: Op = Op {
    name: "IsInf",
    eval: |a| {
        let negative = a.node.int("detect_negative", 1) != 0;
        let positive = a.node.int("detect_positive", 1) != 0;
        let found = |x: f64| (positive && x == f64::INFINITY) || (negative && x == f64::NEG_INFINITY);
        map(a, |x| f64::from(u8::from(found(x))))
    },
    ..TEST
};

const IS_NAN: Op = Op { name: "IsNaN", eval: |a| map(a, |x| f64::from(u8::from(x.is_nan()))), ..TEST };

const LOG: Op = Op {
    name: "Log",
    eval: |a| map(a, f64::ln),
    grad: Grad::rule(|b| vec![Some(b.gy / b.x[0])], &[case(&[Positive(&[2, 3])])]),
    ..UNARY
};

const NEG: Op = Op {
    name: "Neg",
    traits: Traits::CARRIES,
    infer: |c| {
        let negated = c.content(0).map(|v| v.iter().map(|d| Dim::Known(0) - *d).collect());
        known(c.fact(0), held(negated, c.fact(0).dtype))
    },
    eval: |a| integer::map_numbers(a, |x| -x, i128::wrapping_neg),
    grad: Grad::rule(|b| vec![Some(-b.gy)], &[case(&[Any(&[2, 3])])]),
    ..UNARY
};

const RECIPROCAL: Op = Op {
    name: "Reciprocal",
    traits: Traits::CARRIES,
    eval: |a| map(a, f64::recip),
    grad: Grad::rule(|b| vec![Some(-(b.gy * (b.y * b.y)))], &[case(&[Positive(&[2, 3])])]),
    ..UNARY
};

const ROUND: Op = Op { name: "Round", eval: |a| map(a, f64::round_ties_even), grad: Grad::Zero(STEP), ..UNARY };

const SIGN: Op =
    Op { name: "Sign", eval: |a| map(a, |x| if x == 0.0 { 0.0 } else { x.signum() }), grad: Grad::Zero(STEP), ..UNARY };

const SQRT: Op = Op {
    name: "Sqrt",
    traits: Traits::CARRIES,
    eval: |a| map(a, f64::sqrt),
    grad: Grad::rule(|b| vec![Some(b.gy * 0.5 / b.y)], &[case(&[Positive(&[2, 3])])]),
    ..UNARY
};
