//! Smooth: Gelu Mish Sigmoid Softplus Softsign Swish Tanh.

use super::*;
use crate::Attribute::{Float, Str};
use crate::Operand::{Any, Apart, Floats};
use crate::case;
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, SQRT_2};

const TANH_SCALE: f64 = 0.797_884_560_802_865_4; // sqrt(2 / pi)
const TANH_CUBE: f64 = 0.044715;

pub(super) const GELU: Op = Op {
    name: "Gelu",
    traits: Traits::ACTIVATION,
    since: 20,
    eval: |a| match a.node.str("approximate") {
        Some("tanh") => map(a, |x| 0.5 * x * (1.0 + (TANH_SCALE * (x + TANH_CUBE * x * x * x)).tanh())),
        _ => map(a, |x| 0.5 * x * (1.0 + libm::erf(x / SQRT_2))),
    },
    flops: |c, k| elementwise(c, k) * Dim::Known(8),
    grad: Grad::rule(
        |b| {
            let x = b.x[0];
            if b.node.str("approximate") == Some("tanh") {
                let square = x * x;
                let t = (x * (square * (TANH_SCALE * TANH_CUBE) + TANH_SCALE)).unary("Tanh");
                let inner = square * (3.0 * TANH_SCALE * TANH_CUBE) + TANH_SCALE;
                return vec![Some(b.gy * 0.5 * (t + 1.0 + x * (1.0 - t * t) * inner))];
            }
            // 2 gelu'(x) = 1 + erf(u) + (2 / sqrt(pi)) u exp(-u^2) with u = x / sqrt(2); the factor is in the exponent.
            let u = x * FRAC_1_SQRT_2;
            let bell = (FRAC_2_SQRT_PI.ln() - u * u).unary("Exp");
            vec![Some(b.gy * 0.5 * (u.unary("Erf") + u * bell + 1.0))]
        },
        &[case(&[Any(&[2, 3])]), case(&[Any(&[2, 3])]).with(&[("approximate", Str("tanh"))])],
    ),
    ..UNARY
};

/// log(1 + exp(x)), for large x too.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

pub(super) const MISH: Op = Op {
    name: "Mish",
    since: 18,
    eval: |a| map(a, |x| x * softplus(x).tanh()),
    flops: |c, k| elementwise(c, k) * Dim::Known(5),
    grad: Grad::rule(
        |b| {
            let x = b.x[0];
            let t = x.unary("Softplus").unary("Tanh");
            vec![Some(b.gy * (t + x * (1.0 - t * t) * x.unary("Sigmoid")))]
        },
        &[case(&[Any(&[2, 3])]), case(&[Floats(&[2], &[-20.0, 20.0])])],
    ),
    ..UNARY
};

pub(super) const SIGMOID: Op = Op {
    name: "Sigmoid",
    traits: Traits::ACTIVATION,
    eval: |a| map(a, |x| 1.0 / (1.0 + (-x).exp())),
    flops: |c, k| elementwise(c, k) * Dim::Known(3),
    grad: Grad::rule(|b| vec![Some(b.gy * (b.y * (1.0 - b.y)))], &[case(&[Any(&[2, 3])])]),
    ..UNARY
};

pub(super) const SOFTPLUS: Op = Op {
    name: "Softplus",
    traits: Traits::ACTIVATION,
    eval: |a| map(a, softplus),
    flops: |c, k| elementwise(c, k) * Dim::Known(3),
    grad: Grad::rule(
        |b| vec![Some(b.gy * b.x[0].unary("Sigmoid"))],
        &[case(&[Any(&[2, 3])]), case(&[Floats(&[2], &[-40.0, 40.0])])],
    ),
    ..UNARY
};

pub(super) const SOFTSIGN: Op = Op {
    name: "Softsign",
    eval: |a| map(a, |x| x / (1.0 + x.abs())),
    flops: |c, k| elementwise(c, k) * Dim::Known(3),
    grad: Grad::rule(
        |b| {
            let size = b.x[0].unary("Abs") + 1.0;
            vec![Some(b.gy / (size * size))]
        },
        &[case(&[Apart(&[2, 3])])],
    ),
    ..UNARY
};

pub(super) const SWISH: Op = Op {
    name: "Swish",
    since: 24,
    eval: |a| {
        let alpha = number(a.node, "alpha", 1.0);
        map(a, |x| x / (1.0 + (-alpha * x).exp()))
    },
    flops: |c, k| elementwise(c, k) * Dim::Known(5),
    grad: Grad::lower(
        |_, node, x| {
            let alpha = number(node, "alpha", 1.0);
            x.iter().map(|x| *x * (if alpha == 1.0 { *x } else { *x * alpha }).unary("Sigmoid")).collect()
        },
        &[case(&[Any(&[2, 3])]).opset(24), case(&[Any(&[2, 3])]).with(&[("alpha", Float(1.7))]).opset(24)],
    ),
    ..UNARY
};

pub(super) const TANH: Op = Op {
    name: "Tanh",
    traits: Traits::ACTIVATION,
    eval: |a| map(a, f64::tanh),
    flops: |c, k| elementwise(c, k) * Dim::Known(3),
    grad: Grad::rule(|b| vec![Some(b.gy * (1.0 - b.y * b.y))], &[case(&[Any(&[2, 3])])]),
    ..UNARY
};
