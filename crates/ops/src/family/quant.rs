//! Quantized values and products of them.

use super::Op;

pub(super) const OPS: &[Op] = &[];
