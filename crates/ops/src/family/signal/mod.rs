//! Signals: BlackmanWindow DFT HammingWindow HannWindow MelWeightMatrix STFT.

use super::*;

mod dft;
mod stft;
mod window;

pub(super) const OPS: &[Op] = &[
    dft::DFT,
    stft::STFT,
    window::BLACKMAN_WINDOW,
    window::HAMMING_WINDOW,
    window::HANN_WINDOW,
    window::MEL_WEIGHT_MATRIX,
];
