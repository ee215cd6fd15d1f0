//! Sequences, optionals and maps of tensors.

use super::Op;

pub(super) const OPS: &[Op] = &[];
