//! Sampling on other grids: Resize and its kin.

use super::Op;

pub(super) const OPS: &[Op] = &[];
