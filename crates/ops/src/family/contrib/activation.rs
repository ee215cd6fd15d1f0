//! Activations of com.microsoft: BiasAdd BiasDropout BiasGelu BiasSoftmax BiasSplitGelu FastGelu Gelu QuickGelu.

use super::*;
use crate::Attribute::{Float, Int};
use crate::Operand::{Absent, Any};
use crate::{Val, case};
use std::f64::consts::{FRAC_2_PI, SQRT_2};

pub(in crate::family) const OPS: &[Op] =
    &[BIAS_ADD, BIAS_DROPOUT, BIAS_GELU, BIAS_SOFTMAX, BIAS_SPLIT_GELU, FAST_GELU, GELU, QUICK_GELU];

/// Gelu by its definition.
fn exact(x: f64) -> f64 {
    0.5 * x * (1.0 + libm::erf(x / SQRT_2))
}

/// Gelu by a hyperbolic tangent.
pub(super) fn fast(x: f64) -> f64 {
    0.5 * x * (1.0 + (FRAC_2_PI.sqrt() * (x + 0.044715 * x * x * x)).tanh())
}

/// Gelu: one operator since opset 20.
pub(super) fn gelu<'e, 'g>(x: Val<'e, 'g>, tanh: bool) -> Val<'e, 'g> {
    let e = x.emit();
    if e.graph().opset() >= 20 {
        let how = if tanh { "tanh" } else { "none" };
        return e.op("Gelu", &[x], &[("approximate", how.into())]);
    }
    let gate = match tanh {
        true => (x * (x * x * (0.044715 * FRAC_2_PI.sqrt()) + FRAC_2_PI.sqrt())).unary("Tanh"),
        false => (x / SQRT_2).unary("Erf"),
    };
    x * 0.5 * (gate + 1.0)
}

/// The sum of the first operand and, where present, a bias.
fn biased(a: &Args) -> Result<Array, EvalError> {
    match a.opt(1) {
        Some(bias) => zip(a.x(0)?, bias, |x, b| x + b),
        None => Ok(a.x(0)?.clone()),
    }
}

fn plus<'e, 'g>(x: &[Val<'e, 'g>]) -> Val<'e, 'g> {
    match x.get(1).and_then(|b| b.present()) {
        Some(bias) => x[0] + bias,
        None => x[0],
    }
}

// No kernel on the CPU.
const BIAS_ADD: Op = Op {
    name: "BiasAdd",
    traits: Traits::CARRIES.bias(&[1]),
    inputs: (3, 3),
    infer: all,
    eval: |a| Ok(vec![zip(&biased(a)?, a.x(2)?, |x, s| x + s)?]),
    grad: Grad::lower(|_, _, x| vec![plus(x) + x[2]], &[case(&[Any(&[2, 3, 4]), Any(&[4]), Any(&[2, 3, 4])])]),
    ..FUSED
};

// No kernel on the CPU.
const BIAS_DROPOUT: Op = Op {
    name: "BiasDropout",
    inputs: (2, 5),
    outputs: (1, 2),
    infer: |c| Ok(vec![c.fact(0).into(), Fact { dtype: DType::Bool, ..c.fact(0) }.into()]),
    eval: |a| {
        if a.opt(4).and_then(|t| t.first()).is_some_and(|t| *t != 0.0) {
            return invalid("BiasDropout in training mode has no fixed value");
        }
        let mut y = biased(a)?;
        if let Some(residual) = a.opt(2) {
            y = zip(&y, residual, |x, r| x + r)?;
        }
        let mask = y.mapv(|_| 1.0);
        Ok(vec![y, mask])
    },
    // In a deployed model nothing is dropped.
    grad: Grad::lower(
        |_, node, x| {
            let y = plus(x);
            let y = x.get(2).and_then(|r| r.present()).map_or(y, |r| y + r);
            let mut made = vec![y];
            if node.outputs.len() > 1 {
                made.push(y.zeros_like().cast(DType::Bool).unary("Not"));
            }
            made
        },
        &[case(&[Any(&[2, 3]), Any(&[3]), Any(&[2, 3])]).outputs(2), case(&[Any(&[2, 3]), Any(&[3]), Absent])],
    ),
    ..FUSED
};

const BIAS_GELU: Op = Op {
    name: "BiasGelu",
    traits: Traits::ACTIVATION.bias(&[1]),
    inputs: (2, 2),
    eval: |a| Ok(vec![biased(a)?.mapv(exact)]),
    flops: |c, k| elementwise(c, k) * Dim::Known(9),
    grad: Grad::lower(
        |_, _, x| vec![gelu(plus(x), false)],
        &[case(&[Any(&[2, 3, 4]), Any(&[4])]), case(&[Any(&[2, 4]), Any(&[4])]).opset(18)],
    ),
    ..FUSED
};

// No kernel on the CPU.
const BIAS_SOFTMAX: Op = Op {
    name: "BiasSoftmax",
    inputs: (2, 2),
    eval: |a| {
        let mut y = biased(a)?;
        if y.shape() != a.x(0)?.shape() {
            return invalid("the bias is larger than the data");
        }
        let axis = a.axis(1, y.ndim())?;
        let width: usize = y.shape()[axis..].iter().product();
        let mut flat: Vec<f64> = y.iter().copied().collect();
        for row in flat.chunks_mut(width.max(1)) {
            let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            row.iter_mut().for_each(|x| *x = (*x - max).exp());
            let sum: f64 = row.iter().sum();
            row.iter_mut().for_each(|x| *x /= sum);
        }
        y.iter_mut().zip(flat).for_each(|(y, x)| *y = x);
        Ok(vec![y])
    },
    flops: |c, k| elementwise(c, k) * Dim::Known(6),
    grad: Grad::lower(
        |e, node, x| {
            let (rank, axis) = (x[0].rank() as i64, node.int("axis", 1));
            let sum = plus(x);
            let last = [("axis", (-1i64).into())];
            if axis == -1 || axis == rank - 1 {
                return vec![e.op("Softmax", &[sum], &last)];
            }
            let rows = e.op("Flatten", &[sum], &[("axis", axis.into())]);
            vec![e.op("Softmax", &[rows], &last).reshape_like(x[0])]
        },
        &[
            case(&[Any(&[2, 2, 3, 4]), Any(&[2, 1, 1, 4])]).with(&[("axis", Int(3)), ("is_inner_broadcast", Int(1))]),
            case(&[Any(&[3, 2, 4]), Any(&[1, 2, 4])]).with(&[("axis", Int(1)), ("is_inner_broadcast", Int(0))]),
        ],
    ),
    ..FUSED
};

// No kernel on the CPU.
const BIAS_SPLIT_GELU: Op = Op {
    name: "BiasSplitGelu",
    traits: Traits::CARRIES.bias(&[1]),
    inputs: (2, 2),
    infer: |c| {
        let mut fact = c.fact(0);
        if let Some(last) = fact.shape.as_mut().and_then(|d| d.last_mut()) {
            *last = last.div_exact(Dim::Known(2)).unwrap_or(Dim::Unknown);
        }
        one(fact)
    },
    eval: |a| {
        let x = biased(a)?;
        let Some((width, outer)) = x.shape().split_last() else { return invalid("BiasSplitGelu of a scalar") };
        let half = width / 2;
        if width % 2 != 0 {
            return invalid(format!("{width} elements have no halves"));
        }
        let flat: Vec<f64> = x.iter().copied().collect();
        let rows = flat.chunks((2 * half).max(1));
        let y: Vec<f64> = rows.flat_map(|r| (0..half).map(|i| r[i] * exact(r[i + half]))).collect();
        Ok(vec![Array::from_shape_vec([outer, &[half]].concat(), y)?])
    },
    flops: |c, k| elementwise(c, k) * Dim::Known(11),
    grad: Grad::lower(
        |e, _, x| {
            let halves = e.ops("Split", &[plus(x)], &[("axis", (-1i64).into()), ("num_outputs", 2i64.into())], 2);
            match halves.as_slice() {
                [left, right] => vec![*left * gelu(*right, false)],
                _ => Vec::new(),
            }
        },
        &[case(&[Any(&[2, 3, 4]), Any(&[4])])],
    ),
    ..FUSED
};

const FAST_GELU: Op = Op {
    name: "FastGelu",
    traits: Traits::ACTIVATION.bias(&[1]),
    inputs: (1, 2),
    eval: |a| Ok(vec![biased(a)?.mapv(fast)]),
    flops: |c, k| elementwise(c, k) * Dim::Known(9),
    grad: Grad::lower(
        |_, _, x| vec![gelu(plus(x), true)],
        &[case(&[Any(&[2, 3, 4]), Any(&[4])]), case(&[Any(&[2, 3])]), case(&[Any(&[2, 3]), Any(&[3])]).opset(18)],
    ),
    ..FUSED
};

const GELU: Op = Op {
    name: "Gelu",
    traits: Traits::ACTIVATION,
    eval: |a| map(a, exact),
    flops: |c, k| elementwise(c, k) * Dim::Known(8),
    grad: Grad::lower(|_, _, x| vec![gelu(x[0], false)], &[case(&[Any(&[2, 3])]), case(&[Any(&[2, 3])]).opset(18)]),
    ..FUSED
};

const QUICK_GELU: Op = Op {
    name: "QuickGelu",
    traits: Traits::ACTIVATION,
    eval: |a| {
        let alpha = f64::from(a.node.float("alpha", 1.702));
        map(a, |x| x / (1.0 + (-alpha * x).exp()))
    },
    flops: |c, k| elementwise(c, k) * Dim::Known(4),
    grad: Grad::lower(
        |_, node, x| {
            let alpha = f64::from(node.float("alpha", 1.702));
            vec![x[0] * (x[0] * alpha).unary("Sigmoid")]
        },
        &[case(&[Any(&[2, 3])]), case(&[Any(&[2, 3])]).with(&[("alpha", Float(1.0))])],
    ),
    ..FUSED
};
