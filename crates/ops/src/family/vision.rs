//! Boxes, regions and images.

use super::Op;

pub(super) const OPS: &[Op] = &[];
