//! Normalisation: BatchNormalization LayerNormalization.

use super::*;
use crate::Val;

mod batch;
mod layer;

pub(super) const OPS: &[Op] = &[batch::BATCH_NORMALIZATION, layer::LAYER_NORMALIZATION];

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
