//! Sums of products by subscripts: Einsum.

use super::Op;

pub(super) const OPS: &[Op] = &[];
