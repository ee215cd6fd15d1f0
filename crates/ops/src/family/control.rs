//! Nodes with graphs inside: If Loop Scan and the values that carry them.

use super::Op;

pub(super) const OPS: &[Op] = &[];
