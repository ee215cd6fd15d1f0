//! Convolution: Conv ConvTranspose DeformConv.

use super::*;

mod deform;
mod direct;
mod transposed;
pub(super) mod window;

pub(super) const OPS: &[Op] = &[direct::CONV, transposed::CONV_TRANSPOSE, deform::DEFORM_CONV];
