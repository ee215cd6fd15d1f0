//! Losses as operators.

use super::Op;

pub(super) const OPS: &[Op] = &[];
