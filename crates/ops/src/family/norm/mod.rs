//! Normalisation: BatchNormalization GroupNormalization InstanceNormalization LayerNormalization LpNormalization LRN
//! MeanVarianceNormalization RMSNormalization.

use super::*;
use crate::Val;

mod batch;
mod group;
mod layer;
mod local;
mod lp;
mod rms;

pub(super) const OPS: &[Op] = &[
    batch::BATCH_NORMALIZATION,
    group::GROUP_NORMALIZATION,
    group::INSTANCE_NORMALIZATION,
    group::MEAN_VARIANCE_NORMALIZATION,
    layer::LAYER_NORMALIZATION,
    local::LRN,
    lp::LP_NORMALIZATION,
    rms::RMS_NORMALIZATION,
];

/// An operator whose result is the operand, normalised.
const NORMAL: Op = Op { flops: |c, k| elementwise(c, k) * Dim::Known(8), ..UNARY };

/// The mean over `axes`, axes kept; `ReduceMean` took its axes as an attribute until opset 18.
fn mean_over<'e, 'g>(x: Val<'e, 'g>, axes: &[i64]) -> Val<'e, 'g> {
    let e = x.emit();
    match e.graph().opset() {
        ..18 => e.op("ReduceMean", &[x], &[("axes", axes.to_vec().into())]),
        _ => e.op("ReduceMean", &[x, e.ints(axes)], &[]),
    }
}

/// All axes but that of channels.
fn beside_channels(rank: usize) -> Vec<i64> {
    (0..rank as i64).filter(|axis| *axis != 1).collect()
}

/// A value for each channel, ready to broadcast against an operand of this rank.
fn by_channel<'e, 'g>(v: Val<'e, 'g>, rank: usize) -> Val<'e, 'g> {
    match rank.checked_sub(2) {
        None | Some(0) => v,
        Some(space) => v.reshape(&[&[-1][..], &vec![1; space]].concat()),
    }
}

/// `x` with mean zero and deviation one over `axes`.
fn standard<'e, 'g>(x: Val<'e, 'g>, axes: &[i64], epsilon: f64) -> Val<'e, 'g> {
    let center = x - mean_over(x, axes);
    center / (mean_over(center * center, axes) + epsilon).unary("Sqrt")
}

/// Mean and variance of some numbers.
fn moments(row: &[f64]) -> (f64, f64) {
    let count = row.len() as f64;
    let mean = row.iter().sum::<f64>() / count;
    (mean, row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count)
}

fn epsilon(node: &lorac_ir::Node) -> f64 {
    f64::from(node.float("epsilon", 1e-5))
}
