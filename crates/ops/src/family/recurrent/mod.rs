//! Recurrent layers: GRU LSTM RNN.

use super::Op;

pub(super) const OPS: &[Op] = &[];
