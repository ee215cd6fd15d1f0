//! Activations: Celu Clip Dropout Elu Gelu HardSigmoid HardSwish Hardmax LeakyRelu LogSoftmax Mish PRelu Relu Selu Shrink
//! Sigmoid Softmax Softplus Softsign Swish Tanh ThresholdedRelu.

use super::*;

mod clip;
mod dropout;
mod rectifier;
mod smooth;
mod softmax;

pub(super) const OPS: &[Op] = &[
    clip::CLIP,
    clip::HARD_SIGMOID,
    clip::HARD_SWISH,
    dropout::DROPOUT,
    rectifier::CELU,
    rectifier::ELU,
    rectifier::LEAKY_RELU,
    rectifier::P_RELU,
    rectifier::RELU,
    rectifier::SELU,
    rectifier::SHRINK,
    rectifier::THRESHOLDED_RELU,
    smooth::GELU,
    smooth::MISH,
    smooth::SIGMOID,
    smooth::SOFTPLUS,
    smooth::SOFTSIGN,
    smooth::SWISH,
    smooth::TANH,
    softmax::HARDMAX,
    softmax::LOG_SOFTMAX,
    softmax::SOFTMAX,
];

/// A float attribute, exactly.
fn number(node: &lorac_ir::Node, name: &str, default: f32) -> f64 {
    f64::from(node.float(name, default))
}
