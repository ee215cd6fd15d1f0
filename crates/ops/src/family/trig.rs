//! Angles, their hyperbolic kin, and the inverses:
//! Acos Acosh Asin Asinh Atan Atanh Cos Cosh Sin Sinh Tan.

use super::*;
use crate::Operand::{Any, Floats};
use crate::case;

pub(super) const OPS: &[Op] = &[ACOS, ACOSH, ASIN, ASINH, ATAN, ATANH, COS, COSH, SIN, SINH, TAN];

// CUDA: of these ONNX Runtime has kernels for Cos and Sin alone; the rules of Cosh and Sinh, which name each other, run
// where the operator itself does.

const ACOS: Op = Op {
    name: "Acos",
    eval: |a| map(a, f64::acos),
    grad: Grad::rule(
        |b| vec![Some(-(b.gy / (1.0 - b.x[0] * b.x[0]).unary("Sqrt")))],
        &[case(&[Floats(&[3], &[-0.8, 0.1, 0.7])])],
    ),
    ..UNARY
};

const ACOSH: Op = Op {
    name: "Acosh",
    eval: |a| map(a, f64::acosh),
    grad: Grad::rule(
        |b| vec![Some(b.gy / (b.x[0] * b.x[0] - 1.0).unary("Sqrt"))],
        &[case(&[Floats(&[3], &[1.5, 2.0, 30.0])])],
    ),
    ..UNARY
};

const ASIN: Op = Op {
    name: "Asin",
    eval: |a| map(a, f64::asin),
    grad: Grad::rule(
        |b| vec![Some(b.gy / (1.0 - b.x[0] * b.x[0]).unary("Sqrt"))],
        &[case(&[Floats(&[3], &[-0.8, 0.1, 0.7])])],
    ),
    ..UNARY
};

const ASINH: Op = Op {
    name: "Asinh",
    eval: |a| map(a, f64::asinh),
    grad: Grad::rule(|b| vec![Some(b.gy / (b.x[0] * b.x[0] + 1.0).unary("Sqrt"))], &[case(&[Any(&[2, 3])])]),
    ..UNARY
};

const ATAN: Op = Op {
    name: "Atan",
    eval: |a| map(a, f64::atan),
    grad: Grad::rule(|b| vec![Some(b.gy / (b.x[0] * b.x[0] + 1.0))], &[case(&[Any(&[2, 3])])]),
    ..UNARY
};

const ATANH: Op = Op {
    name: "Atanh",
    eval: |a| map(a, f64::atanh),
    grad: Grad::rule(|b| vec![Some(b.gy / (1.0 - b.x[0] * b.x[0]))], &[case(&[Floats(&[3], &[-0.8, 0.1, 0.7])])]),
    ..UNARY
};

const COS: Op = Op {
    name: "Cos",
    eval: |a| map(a, f64::cos),
    grad: Grad::rule(|b| vec![Some(-(b.gy * b.x[0].unary("Sin")))], &[case(&[Any(&[2, 3])])]),
    ..UNARY
};

const COSH: Op = Op {
    name: "Cosh",
    eval: |a| map(a, f64::cosh),
    grad: Grad::rule(|b| vec![Some(b.gy * b.x[0].unary("Sinh"))], &[case(&[Any(&[2, 3])])]),
    ..UNARY
};

const SIN: Op = Op {
    name: "Sin",
    eval: |a| map(a, f64::sin),
    grad: Grad::rule(|b| vec![Some(b.gy * b.x[0].unary("Cos"))], &[case(&[Any(&[2, 3])])]),
    ..UNARY
};

const SINH: Op = Op {
    name: "Sinh",
    eval: |a| map(a, f64::sinh),
    grad: Grad::rule(|b| vec![Some(b.gy * b.x[0].unary("Cosh"))], &[case(&[Any(&[2, 3])])]),
    ..UNARY
};

const TAN: Op = Op {
    name: "Tan",
    eval: |a| map(a, f64::tan),
    grad: Grad::rule(|b| vec![Some(b.gy * (b.y * b.y + 1.0))], &[case(&[Floats(&[4], &[-1.2, 0.1, 1.0, 2.5])])]),
    ..UNARY
};
