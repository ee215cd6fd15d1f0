//! Windows and spectra.

use super::Op;

pub(super) const OPS: &[Op] = &[];
