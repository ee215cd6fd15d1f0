//! Straight above zero, something else below: Celu Elu LeakyRelu PRelu Relu Selu Shrink ThresholdedRelu.

use super::*;
use crate::Attribute::Float;
use crate::Operand::{Any, Apart};
use crate::{Val, case};

/// `below` where `x < 0`, else `above`.
fn split<'e, 'g>(x: Val<'e, 'g>, below: Val<'e, 'g>, above: f64) -> Val<'e, 'g> {
    x.emit().op("Where", &[x.binary("Less", x.like(0.0)), below, x.like(above)], &[])
}

pub(super) const CELU: Op = Op {
    name: "Celu",
    eval: |a| {
        let alpha = number(a.node, "alpha", 1.0);
        map(a, |x| if x >= 0.0 { x } else { alpha * (x / alpha).exp_m1() })
    },
    flops: |c, k| elementwise(c, k) * Dim::Known(6),
    // The Elu of a wider operand: tract 0.23 computes Celu itself as if alpha were 1.
    grad: Grad::lower(
        |_, node, x| {
            let alpha = number(node, "alpha", 1.0);
            x.iter()
                .map(|x| if alpha == 1.0 { x.unary("Elu") } else { (*x * (1.0 / alpha)).unary("Elu") * alpha })
                .collect()
        },
        &[case(&[Any(&[2, 3])]), case(&[Any(&[2, 3])]).with(&[("alpha", Float(2.5))])],
    ),
    ..UNARY
};

pub(super) const ELU: Op = Op {
    name: "Elu",
    eval: |a| {
        let alpha = number(a.node, "alpha", 1.0);
        map(a, |x| if x < 0.0 { alpha * x.exp_m1() } else { x })
    },
    flops: |c, k| elementwise(c, k) * Dim::Known(3),
    grad: Grad::rule(
        |b| vec![Some(b.gy * split(b.x[0], b.y + number(b.node, "alpha", 1.0), 1.0))],
        &[case(&[Apart(&[3, 4])]), case(&[Apart(&[3, 4])]).with(&[("alpha", Float(0.5))])],
    ),
    ..UNARY
};

pub(super) const LEAKY_RELU: Op = Op {
    name: "LeakyRelu",
    eval: |a| {
        let alpha = number(a.node, "alpha", 0.01);
        map(a, |x| if x < 0.0 { alpha * x } else { x })
    },
    grad: Grad::rule(
        |b| vec![Some(b.gy * split(b.x[0], b.gy.like(number(b.node, "alpha", 0.01)), 1.0))],
        &[case(&[Apart(&[3, 4])]), case(&[Apart(&[3, 4])]).with(&[("alpha", Float(0.2))])],
    ),
    ..UNARY
};

pub(super) const P_RELU: Op = Op {
    name: "PRelu",
    // The slope broadcasts to the operand, never the other way.
    infer: |c| {
        let (x, slope) = (c.fact(0), c.fact(1));
        let shape = crate::infer::broadcast(&x, &slope)?;
        match (shape, x.dims()) {
            (Some(shape), Some(dims)) if shape.len() > dims.len() => Err(InferError::Mismatch(x, slope)),
            _ => one(x),
        }
    },
    eval: |a| {
        let y = integer::zip_numbers(
            a,
            |x, slope| if x < 0.0 { slope * x } else { x },
            |x, slope| if x < 0 { slope.wrapping_mul(x) } else { x },
        )?;
        match y.first().map(Array::shape) == Some(a.x(0)?.shape()) {
            true => Ok(y),
            false => invalid(format!("a slope of shape {:?} for {:?}", a.x(1)?.shape(), a.x(0)?.shape())),
        }
    },
    grad: Grad::rule(
        |b| {
            let x = b.x[0];
            let by_slope = || b.gy * x.binary("Min", x.like(0.0));
            vec![b.want(0, || b.gy * split(x, b.x[1], 1.0)), b.want(1, by_slope)]
        },
        &[
            case(&[Apart(&[2, 3, 4]), Any(&[3, 1])]),
            case(&[Apart(&[2, 3]), Any(&[2, 3])]),
            case(&[Apart(&[2, 3]), Any(&[1])]),
        ],
    ),
    ..BINARY
};

pub(super) const RELU: Op = Op {
    name: "Relu",
    traits: Traits::ACTIVATION,
    eval: |a| map(a, |x| if x < 0.0 { 0.0 } else { x }),
    grad: Grad::rule(
        |b| {
            let dtype = b.gy.fact().dtype;
            vec![Some(b.gy * b.y.binary("Greater", b.y.like(0.0)).cast(dtype))]
        },
        &[case(&[Apart(&[3, 4])])],
    ),
    ..UNARY
};

// The constants of ONNX's operator page: they make activations keep mean 0 and variance 1.
const SELU_ALPHA: f32 = 1.673_263_2;
const SELU_GAMMA: f32 = 1.050_701;

pub(super) const SELU: Op = Op {
    name: "Selu",
    eval: |a| {
        let (alpha, gamma) = (number(a.node, "alpha", SELU_ALPHA), number(a.node, "gamma", SELU_GAMMA));
        map(a, |x| gamma * if x > 0.0 { x } else { alpha * x.exp_m1() })
    },
    flops: |c, k| elementwise(c, k) * Dim::Known(4),
    grad: Grad::rule(
        |b| {
            let (alpha, gamma) = (number(b.node, "alpha", SELU_ALPHA), number(b.node, "gamma", SELU_GAMMA));
            vec![Some(b.gy * split(b.x[0], b.y + gamma * alpha, gamma))]
        },
        &[case(&[Apart(&[3, 4])]), case(&[Apart(&[3])]).with(&[("alpha", Float(2.0)), ("gamma", Float(3.0))])],
    ),
    ..UNARY
};

pub(super) const SHRINK: Op = Op {
    name: "Shrink",
    eval: |a| {
        let (lambd, bias) = (number(a.node, "lambd", 0.5), number(a.node, "bias", 0.0));
        map(a, |x| match x {
            x if x < -lambd => x + bias,
            x if x > lambd => x - bias,
            _ => 0.0,
        })
    },
    flops: |c, k| elementwise(c, k) * Dim::Known(3),
    grad: Grad::rule(
        |b| {
            let size = b.x[0].unary("Abs");
            let kept = size.binary("Greater", size.like(number(b.node, "lambd", 0.5)));
            vec![Some(b.gy * kept.cast(b.gy.fact().dtype))]
        },
        &[
            case(&[Apart(&[3, 4])]).with(&[("lambd", Float(0.8)), ("bias", Float(0.3))]),
            case(&[Any(&[2, 3])]).with(&[("lambd", Float(1.0))]),
        ],
    ),
    ..UNARY
};

pub(super) const THRESHOLDED_RELU: Op = Op {
    name: "ThresholdedRelu",
    eval: |a| {
        let alpha = number(a.node, "alpha", 1.0);
        map(a, |x| if x > alpha { x } else { 0.0 })
    },
    grad: Grad::rule(
        |b| {
            let kept = b.x[0].binary("Greater", b.gy.like(number(b.node, "alpha", 1.0)));
            vec![Some(b.gy * kept.cast(b.gy.fact().dtype))]
        },
        &[case(&[Any(&[3, 4])]), case(&[Apart(&[3, 4])]).with(&[("alpha", Float(0.0))])],
    ),
    ..UNARY
};
