//! LayerNormalization.

use super::*;
use crate::Attribute::{Float, Int};
use crate::Operand::Any;
use crate::case;

pub(super) const LAYER_NORMALIZATION: Op = Op {
    name: "LayerNormalization",
    traits: Traits::NORMALIZES.bias(&[2]),
    since: 17,
    inputs: (2, 3),
    outputs: (1, 3),
    infer: |c| {
        let fact = c.fact(0);
        let Some(dims) = fact.dims() else { return one(fact) };
        let axis = c.axis(-1, dims.len())?;
        let kept = dims.iter().enumerate().map(|(i, d)| if i < axis { *d } else { Dim::Known(1) });
        let stats = Fact::new(DType::F32, kept);
        let stats = if fact.dtype == DType::F64 { Fact { dtype: DType::F64, ..stats } } else { stats };
        Ok(vec![fact.into(), stats.clone().into(), stats.into()])
    },
    eval: |a| {
        let x = a.x(0)?;
        let axis = a.axis(-1, x.ndim())?;
        let epsilon = f64::from(a.node.float("epsilon", 1e-5));
        let (outer, inner) = x.shape().split_at(axis);
        let width: usize = inner.iter().product();
        let flat: Vec<f64> = x.iter().copied().collect();
        let (mut y, mut means, mut invs) = (Vec::new(), Vec::new(), Vec::new());
        for row in flat.chunks(width.max(1)) {
            let mean = row.iter().sum::<f64>() / width as f64;
            let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64;
            let inv = (variance + epsilon).sqrt().recip();
            y.extend(row.iter().map(|x| (x - mean) * inv));
            means.push(mean);
            invs.push(inv);
        }
        let normal = Array::from_shape_vec(x.shape(), y)?;
        let scaled = crate::eval::zip(&normal, a.x(1)?, |x, s| x * s)?;
        let shifted = match a.opt(2) {
            Some(bias) => crate::eval::zip(&scaled, bias, |x, b| x + b)?,
            None => scaled,
        };
        let stats: Vec<usize> = outer.iter().copied().chain(inner.iter().map(|_| 1)).collect();
        let stats = |v| Array::from_shape_vec(stats.clone(), v);
        Ok(vec![shifted, stats(means)?, stats(invs)?])
    },
    flops: |c, k| elementwise(c, k) * Dim::Known(8),
    // dx = inv * (g - mean(g) - n * mean(g * n)) with n = (x - mean) * inv and g = gy * scale. The statistics come from
    // the node itself where it has them (`differentiate` asks for them), else they are computed again.
    grad: Grad::rule(
        |b| {
            // Halves are summed in the type of the statistics.
            let narrow = b.x[0].fact().dtype;
            let (x, gy) = (wide(b.x[0]), wide(b.gy));
            let rank = x.rank() as i64;
            let axis = b.node.int("axis", -1);
            let first = if axis < 0 { axis + rank } else { axis };
            let axes: Vec<i64> = (first..rank).collect();
            let mean = |v| mean_over(v, &axes);
            let (center, inv) = match b.ys.as_slice() {
                [_, mean, inv, ..] => (x - wide(*mean), wide(*inv)),
                _ => {
                    let center = x - mean(x);
                    (center, (mean(center * center) + epsilon(b.node)).unary("Sqrt").unary("Reciprocal"))
                }
            };
            // Rows of statistics are short: what can be done on them is.
            let by_x = || {
                let g = gy * wide(b.x[1]);
                ((g - mean(g) - center * (mean(g * center) * (inv * inv))) * inv).cast(narrow)
            };
            let by_scale = || (gy * (center * inv)).cast(narrow);
            vec![b.want(0, by_x), b.want(1, by_scale), b.want(2, || b.gy)]
        },
        &[
            case(&[Any(&[2, 5]), Any(&[5]), Any(&[5])]),
            case(&[Any(&[2, 3, 4]), Any(&[3, 4])]).with(&[("axis", Int(1)), ("epsilon", Float(0.1))]),
            case(&[Any(&[2, 5]), Any(&[5]), Any(&[5])]).outputs(3),
        ],
    ),
    ..UNARY
};
