//! Space into depth and back, columns into images.

use super::Op;

pub(super) const OPS: &[Op] = &[];
