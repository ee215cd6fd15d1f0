//! BatchNormalization.

use super::*;
use crate::Attribute::{Float, Int};
use crate::Operand::{Any, Positive};
use crate::family::conv::window::stated;
use crate::{Emit, case};
use lorac_ir::Node;
use ndarray::{Axis, IxDyn};

pub(super) const BATCH_NORMALIZATION: Op = Op {
    name: "BatchNormalization",
    traits: Traits::NORMALIZES.bias(&[2]),
    since: 13,
    inputs: (5, 5),
    outputs: (1, 3),
    infer: |c| {
        let fact = c.fact(0);
        let channels = fact.dims().map(|d| d.get(1).copied().unwrap_or(Dim::Known(1)));
        for slot in 1..5 {
            if let (Some(Dim::Known(want)), Some([Dim::Known(got)])) = (channels, c.dims(slot))
                && want != *got
            {
                return Err(InferError::Mismatch(fact, c.fact(slot)));
            }
        }
        Ok(vec![fact.into(), c.fact(3).into(), c.fact(4).into()])
    },
    eval: |a| {
        let x = a.x(0)?;
        let channels = x.shape().get(1).copied().unwrap_or(1);
        let epsilon = epsilon(a.node);
        let (scale, bias, mean, variance) =
            (row(a, 1, channels)?, row(a, 2, channels)?, row(a, 3, channels)?, row(a, 4, channels)?);
        let mut y = x.clone();
        if !training(a.node) {
            for c in 0..channels {
                let normal = |x: f64| (x - mean[c]) / (variance[c] + epsilon).sqrt() * scale[c] + bias[c];
                plane(&mut y, c).mapv_inplace(normal);
            }
            return Ok(vec![y]);
        }
        let momentum = f64::from(a.node.float("momentum", 0.9));
        let (mut means, mut variances) = (mean, variance);
        for c in 0..channels {
            let mut plane = plane(&mut y, c);
            let count = plane.len() as f64;
            let mean = plane.sum() / count;
            let variance = plane.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
            plane.mapv_inplace(|x| (x - mean) / (variance + epsilon).sqrt() * scale[c] + bias[c]);
            means[c] = means[c] * momentum + mean * (1.0 - momentum);
            variances[c] = variances[c] * momentum + variance * (1.0 - momentum);
        }
        Ok(vec![y, ndarray::arr1(&means).into_dyn(), ndarray::arr1(&variances).into_dyn()])
    },
    flops: |c, k| elementwise(c, k) * Dim::Known(2),
    // tract needs its operands to be constant, so that what trains them has to be decomposed.
    grad: Grad::lower(
        lower,
        &[
            case(&[Any(&[2, 3, 2, 2]), Any(&[3]), Any(&[3]), Any(&[3]), Positive(&[3])]),
            case(&[Any(&[4, 3]), Any(&[3]), Any(&[3]), Any(&[3]), Positive(&[3])]).with(&[("epsilon", Float(0.1))]),
            case(&[Any(&[2, 2, 3]), Any(&[2]), Any(&[2]), Any(&[2]), Positive(&[2])])
                .with(&[("training_mode", Int(1))])
                .outputs(3),
        ],
    ),
    ..UNARY
};

fn training(node: &Node) -> bool {
    node.int("training_mode", 0) != 0
}

fn row(a: &Args, slot: usize, channels: usize) -> Result<Vec<f64>, EvalError> {
    let row: Vec<f64> = a.x(slot)?.iter().copied().collect();
    if row.len() == channels { Ok(row) } else { invalid(format!("{} values for {channels} channels", row.len())) }
}

/// What belongs to channel `c`; all of a vector.
fn plane(y: &mut Array, c: usize) -> ndarray::ArrayViewMut<'_, f64, IxDyn> {
    if y.ndim() < 2 { y.view_mut() } else { y.index_axis_mut(Axis(1), c) }
}

fn lower<'e, 'g>(e: &'e Emit<'g>, node: &Node, x: &[Val<'e, 'g>]) -> Vec<Val<'e, 'g>> {
    let [given, scale, bias, mean, variance] = x else { return vec![e.absent(); 3] };
    let (means, variances) = (*mean, *variance);
    // The statistics may be of a wider type than the data.
    let x = wide(*given);
    let (rank, dtype) = (x.rank(), x.fact().dtype);
    let [scale, bias, mean, variance] = [scale, bias, mean, variance].map(|v| v.cast(dtype));
    let slope = |variance: Val<'e, 'g>| scale / (variance + epsilon(node)).unary("Sqrt");
    if !training(node) {
        let slope = slope(variance);
        let shift = bias - mean * slope;
        let y = x * by_channel(slope, rank) + by_channel(shift, rank);
        return vec![stated(y.cast(given.fact().dtype), *given), means, variances];
    }
    let axes = beside_channels(rank);
    let flat = |v: Val<'e, 'g>| v.reshape(&[-1]);
    let now = mean_over(x, &axes);
    let center = x - now;
    let spread = flat(mean_over(center * center, &axes));
    let y = center * by_channel(slope(spread), rank) + by_channel(bias, rank);
    let momentum = f64::from(node.float("momentum", 0.9));
    let running = |old: Val<'e, 'g>, new: Val<'e, 'g>| old * momentum + new * (1.0 - momentum);
    let stated_as = |v: Val<'e, 'g>, like: Val<'e, 'g>| stated(v.cast(like.fact().dtype), like);
    vec![
        stated_as(y, *given),
        stated_as(running(mean, flat(now)), means),
        stated_as(running(variance, spread), variances),
    ]
}
