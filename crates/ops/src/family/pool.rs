//! Pooling: windows and whole planes reduced.

use super::Op;

pub(super) const OPS: &[Op] = &[];
