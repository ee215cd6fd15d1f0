//! Activations of com.microsoft.

use super::Op;

pub(in crate::family) const OPS: &[Op] = &[];
