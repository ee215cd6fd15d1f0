//! Activations: Clip Dropout Gelu LogSoftmax Relu Sigmoid Softmax Tanh.

use super::*;
use crate::Attribute::{Int, Str};
use crate::Operand::{Absent, Any, Apart, Floats};
use crate::case;
use ndarray::Axis;
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, SQRT_2};

pub(super) const OPS: &[Op] = &[CLIP, DROPOUT, GELU, LOG_SOFTMAX, RELU, SIGMOID, SOFTMAX, TANH];

const CLIP: Op = Op {
    name: "Clip",
    inputs: (1, 3),
    eval: |a| {
        let (lo, hi) = (a.opt(1).and_then(|x| x.first()), a.opt(2).and_then(|x| x.first()));
        map(a, |x| {
            let x = lo.map_or(x, |lo| x.max(*lo));
            hi.map_or(x, |hi| x.min(*hi))
        })
    },
    // Inside the bounds the result is the operand, so equality tells where the gradient passes.
    grad: Grad::rule(
        |b| {
            let dtype = b.gy.fact().dtype;
            vec![Some(b.gy * b.x[0].binary("Equal", b.y).cast(dtype))]
        },
        &[
            case(&[Apart(&[3, 4]), Floats(&[], &[-0.05]), Floats(&[], &[1.05])]),
            case(&[Apart(&[3, 4]), Absent, Floats(&[], &[0.05])]),
        ],
    ),
    ..UNARY
};

const DROPOUT: Op = Op {
    name: "Dropout",
    inputs: (1, 3),
    outputs: (1, 2),
    infer: |c| Ok(vec![c.fact(0).into(), Fact { dtype: DType::Bool, ..c.fact(0) }.into()]),
    eval: |a| match a.opt(2).and_then(|t| t.first()) {
        Some(t) if *t != 0.0 => misfit("Dropout in training mode has no fixed value"),
        _ => Ok(vec![a.x(0)?.clone(), a.x(0)?.mapv(|_| 1.0)]),
    },
    // In a deployed model it is the identity; a training-mode one has no fixed gradient either and evaluation refuses it.
    grad: Grad::rule(|b| vec![Some(b.gy)], &[case(&[Any(&[2, 3])])]),
    ..MOVES
};

const TANH_SCALE: f64 = 0.797_884_560_802_865_4; // sqrt(2 / pi)
const TANH_CUBE: f64 = 0.044715;

const GELU: Op = Op {
    name: "Gelu",
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

/// Along `axis`, each row through `f`.
fn rows(a: &Args, f: impl Fn(&mut [f64])) -> Evaluated {
    let mut y = a.x(0)?.as_standard_layout().into_owned();
    let axis = a.axis(-1, y.ndim())?;
    for mut lane in y.lanes_mut(Axis(axis)) {
        let mut row = lane.to_vec();
        f(&mut row);
        lane.iter_mut().zip(row).for_each(|(y, x)| *y = x);
    }
    Ok(vec![y])
}

const LOG_SOFTMAX: Op = Op {
    name: "LogSoftmax",
    eval: |a| {
        rows(a, |row| {
            let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let log_sum = row.iter().map(|x| (x - max).exp()).sum::<f64>().ln();
            row.iter_mut().for_each(|x| *x = *x - max - log_sum);
        })
    },
    flops: |c, k| elementwise(c, k) * Dim::Known(5),
    grad: Grad::rule(
        |b| {
            let axis = b.node.int("axis", -1);
            vec![Some(b.gy - b.y.unary("Exp") * b.gy.sum(&[axis], true))]
        },
        &[case(&[Any(&[2, 5])]), case(&[Any(&[4, 2])]).with(&[("axis", Int(0))])],
    ),
    ..UNARY
};

const RELU: Op = Op {
    name: "Relu",
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

const SIGMOID: Op = Op {
    name: "Sigmoid",
    eval: |a| map(a, |x| 1.0 / (1.0 + (-x).exp())),
    grad: Grad::rule(|b| vec![Some(b.gy * (b.y * (1.0 - b.y)))], &[case(&[Any(&[2, 3])])]),
    ..UNARY
};

const SOFTMAX: Op = Op {
    name: "Softmax",
    eval: |a| {
        rows(a, |row| {
            let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            row.iter_mut().for_each(|x| *x = (*x - max).exp());
            let sum: f64 = row.iter().sum();
            row.iter_mut().for_each(|x| *x /= sum);
        })
    },
    flops: |c, k| elementwise(c, k) * Dim::Known(5),
    grad: Grad::rule(
        |b| {
            let weighted = b.gy * b.y;
            let total = weighted.sum(&[b.node.int("axis", -1)], true);
            vec![Some(weighted - b.y * total)]
        },
        &[
            case(&[Any(&[2, 5])]),
            case(&[Any(&[4, 2])]).with(&[("axis", Int(0))]),
            case(&[Floats(&[1, 3], &[-1e30, 0.5, 1.0])]),
        ],
    ),
    ..UNARY
};

const TANH: Op = Op {
    name: "Tanh",
    eval: |a| map(a, f64::tanh),
    grad: Grad::rule(|b| vec![Some(b.gy * (1.0 - b.y * b.y))], &[case(&[Any(&[2, 3])])]),
    ..UNARY
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::zip;

    #[test]
    fn softmax_of_large_numbers_is_finite() {
        let x = Array::from_shape_vec(vec![1, 2], vec![1e4, 1e4]).expect("fits");
        let g = lorac_ir::parse("graph g(%x: f64[1,2]) -> %y { %y = Softmax(%x) : f64[1,2] }").expect("parses");
        let y = crate::evaluate(&g, &[("x", x.clone())]).expect("evaluates");
        assert_eq!(y[0], zip(&x, &x, |_, _| 0.5).expect("fits"));
    }
}
