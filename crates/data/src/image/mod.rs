//! Images as models of vision are fed them.

mod config;
mod decode;
mod preprocess;
mod resample;

pub use config::PreprocessError;
pub use preprocess::{Preprocess, Size};
pub use resample::Resample;

use lorac_ir::{Tensor, TensorError};
use std::sync::Arc;

/// An image of bytes, channels side by side in every pixel, row after row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pixels {
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// 3, or 1 of shades of grey.
    pub(crate) channels: usize,
    pub(crate) bytes: Vec<u8>,
}

/// What a byte of each channel stands for.
#[derive(Debug, Clone, PartialEq)]
pub struct Levels(pub(crate) Vec<[f32; 256]>);

/// An image that is as large as the model takes it, and what its bytes stand for.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    /// The bytes, u8 `[channels, height, width]`.
    pub pixels: Tensor,
    /// The number of every byte, channel by channel.
    pub levels: Arc<Levels>,
}

impl Picture {
    /// Appends the numbers of its bytes.
    pub(crate) fn write(&self, numbers: &mut Vec<f32>) {
        let plane = self.pixels.dims().iter().skip(1).product::<usize>().max(1);
        for (channel, bytes) in self.pixels.bytes().chunks(plane).enumerate() {
            if let Some(levels) = self.levels.0.get(channel) {
                numbers.extend(bytes.iter().map(|byte| levels[usize::from(*byte)]));
            }
        }
    }

    /// The numbers of its bytes, f32 `[channels, height, width]`.
    ///
    /// # Errors
    /// None that a caller can cause.
    pub fn numbers(&self) -> Result<Tensor, TensorError> {
        let mut numbers = Vec::with_capacity(self.pixels.len());
        self.write(&mut numbers);
        Tensor::from_slice(self.pixels.dims(), &numbers)
    }
}
