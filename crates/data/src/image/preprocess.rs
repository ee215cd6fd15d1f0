//! From an image to what a model is fed, as image processors of transformers do it.

use super::decode::read;
use super::{Levels, Picture, Pixels, Resample};
use crate::error::DataError;
use lorac_ir::{DType, Tensor};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;

/// What is done to an image, in this order: resized, cropped about its middle, its bytes rescaled and normalised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocess {
    /// The size that it is brought to; none leaves it as it is.
    pub size: Option<Size>,
    /// How.
    pub resample: Resample,
    /// Height and width that are cut out of the middle; what is smaller is filled up with black.
    pub crop: Option<[usize; 2]>,
    /// What bytes are multiplied by.
    pub rescale: f64,
    /// What is subtracted from each channel; of one number all.
    pub mean: Vec<f64>,
    /// What each channel is divided by; of one number all.
    pub std: Vec<f64>,
    /// Whether the first channel is blue.
    pub flip: bool,
    /// Channels that the model takes: 3, or 1 of shades of grey.
    pub channels: usize,
}

/// A size of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Size {
    /// This height and width, whatever the image's own.
    Exact(usize, usize),
    /// The shorter side is so long, and the other in proportion.
    Shortest(usize),
}

impl Default for Preprocess {
    fn default() -> Self {
        Self {
            size: None,
            resample: Resample::Bilinear,
            crop: None,
            rescale: 1.0 / 255.0,
            mean: vec![0.0],
            std: vec![1.0],
            flip: false,
            channels: 3,
        }
    }
}

impl Preprocess {
    /// Height and width of what is made, where they are the same for all images.
    #[must_use]
    pub fn dims(&self) -> Option<[usize; 2]> {
        self.crop.or(match self.size {
            Some(Size::Exact(height, width)) => Some([height, width]),
            _ => None,
        })
    }

    /// The keys of `data.images` in which another does something else: what they are written as does not count.
    #[must_use]
    pub fn differing(&self, other: &Self) -> Vec<&'static str> {
        let cut = |made: &Self| made.crop.filter(|[height, width]| made.size != Some(Size::Exact(*height, *width)));
        let channels = self.channels.max(other.channels);
        let numbers = |all: &[f64], usual: f64| (0..channels).map(|at| of_channel(all, at, usual)).collect::<Vec<_>>();
        let valued = self.levels() != other.levels();
        let differ = [
            ("size", self.size != other.size),
            ("resample", self.size.and(other.size).is_some() && self.resample != other.resample),
            ("crop", cut(self) != cut(other)),
            ("rescale", valued && self.rescale != other.rescale),
            ("mean", valued && numbers(&self.mean, 0.0) != numbers(&other.mean, 0.0)),
            ("std", valued && numbers(&self.std, 1.0) != numbers(&other.std, 1.0)),
            ("flip", self.flip != other.flip),
        ];
        differ.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
    }

    /// What the bytes of its images stand for.
    #[must_use]
    pub fn levels(&self) -> Arc<Levels> {
        let channel = |channel: usize| {
            let (mean, std) = (of_channel(&self.mean, channel, 0.0), of_channel(&self.std, channel, 1.0));
            let mut levels = [0.0; 256];
            for (byte, level) in levels.iter_mut().enumerate() {
                *level = ((byte as f64 * self.rescale) as f32 - mean) / std;
            }
            levels
        };
        Arc::new(Levels((0..self.channels).map(channel).collect()))
    }

    /// Reads an image and makes of it what the model is fed.
    ///
    /// # Errors
    /// `Io`, `NotRegular`; `BadImage` where it cannot be decoded.
    pub fn picture(&self, path: &Path, row: usize, levels: &Arc<Levels>) -> Result<Picture, DataError> {
        let made = self.apply(read(path, row)?);
        let Pixels { width, height, channels, bytes } = made;
        let plane = width * height;
        let mut planes = vec![0u8; bytes.len()];
        for (at, pixel) in bytes.chunks_exact(channels.max(1)).enumerate() {
            for (channel, byte) in pixel.iter().enumerate() {
                planes[channel * plane + at] = *byte;
            }
        }
        let pixels = Tensor::new(DType::U8, vec![channels, height, width], planes.into())?;
        Ok(Picture { pixels, levels: levels.clone() })
    }

    fn apply(&self, image: Pixels) -> Pixels {
        let image = match self.size {
            None => image,
            Some(size) => {
                let (height, width) = size.of(image.height, image.width);
                image.resized(width, height, self.resample)
            }
        };
        let image = match self.crop {
            None => image,
            Some([height, width]) => image.cropped(height, width),
        };
        match (self.channels, self.flip) {
            (1, _) => image.grey(),
            (_, true) => {
                let mut image = image;
                image.bytes.chunks_exact_mut(3).for_each(<[u8]>::reverse);
                image
            }
            _ => image,
        }
    }
}

impl Size {
    /// Height and width of an image that has these.
    fn of(self, height: usize, width: usize) -> (usize, usize) {
        let longer = |n: usize, longer: usize, shorter: usize| ((n * longer) / shorter.max(1)).clamp(1, 1 << 16);
        match self {
            Size::Exact(height, width) => (height, width),
            Size::Shortest(n) if width <= height => (longer(n, height, width), n),
            Size::Shortest(n) => (n, longer(n, width, height)),
        }
    }
}

impl Pixels {
    /// The middle of the image; black around it where it is smaller.
    fn cropped(self, height: usize, width: usize) -> Pixels {
        // Of what is larger the first pixel that stays, of what is smaller the first one that it comes to.
        let place = |have: usize, want: usize| match have >= want {
            true => ((have - want) / 2, 0),
            false => (0, (want - have).div_ceil(2)),
        };
        let ((top, above), (left, beside)) = (place(self.height, height), place(self.width, width));
        let mut bytes = vec![0; width * height * self.channels];
        let columns = width.min(self.width) * self.channels;
        for row in 0..height.min(self.height) {
            let from = ((top + row) * self.width + left) * self.channels;
            let to = ((above + row) * width + beside) * self.channels;
            bytes[to..to + columns].copy_from_slice(&self.bytes[from..from + columns]);
        }
        Pixels { width, height, bytes, ..self }
    }

    /// Shades of grey, as Pillow makes them.
    fn grey(self) -> Pixels {
        let shade = |pixel: &[u8]| {
            let [r, g, b] = [0, 1, 2].map(|i| u32::from(pixel[i]));
            ((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16) as u8
        };
        let bytes = self.bytes.chunks_exact(3).map(shade).collect();
        Pixels { channels: 1, bytes, ..self }
    }
}

/// The number of a channel: of one number, that is it. Of a grey image the first counts, as it is the only one or stands for all.
fn of_channel(all: &[f64], channel: usize, usual: f64) -> f32 {
    all.get(channel).or(all.first()).copied().unwrap_or(usual) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_cut_out_and_black_put_around() {
        let image =
            |width, height| Pixels { width, height, channels: 1, bytes: (1..=(width * height) as u8).collect() };
        assert_eq!(image(3, 3).cropped(1, 2).bytes, [4, 5]);
        assert_eq!(image(1, 1).cropped(2, 3).bytes, [0, 0, 0, 0, 1, 0]);
        assert_eq!(image(4, 1).cropped(3, 2).bytes, [0, 0, 2, 3, 0, 0]);
        assert_eq!((Size::Shortest(10).of(20, 35), Size::Shortest(10).of(35, 20)), ((10, 17), (17, 10)));
    }

    #[test]
    fn bytes_become_numbers_channel_by_channel() {
        let made = Preprocess { mean: vec![0.5, 0.25, 0.0], std: vec![0.5, 1.0, 2.0], ..Preprocess::default() };
        let pixels = Tensor::from_slice(&[3, 1, 2], &[0u8, 255, 51, 102, 255, 0]).expect("fits");
        let numbers = Picture { pixels, levels: made.levels() }.numbers().expect("numbers");
        let want = [-1.0, 1.0, 0.2 - 0.25, 0.4 - 0.25, 0.5, 0.0];
        let got: Vec<f32> = numbers.to_vec().expect("f32");
        assert!(got.iter().zip(want).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-6), "{got:?}");
    }

    #[test]
    fn the_same_in_other_words_differs_in_nothing() {
        let one =
            Preprocess { size: Some(Size::Exact(8, 8)), mean: vec![0.5], std: vec![0.5], ..Preprocess::default() };
        let three = Preprocess { crop: Some([8, 8]), mean: vec![0.5; 3], std: vec![0.5; 3], ..one.clone() };
        assert_eq!(one.differing(&three), Vec::<&str>::new());
        let other =
            Preprocess { resample: Resample::Box, mean: vec![0.5, 0.5, 0.25], crop: Some([4, 8]), ..one.clone() };
        assert_eq!(
            (one.differing(&other), other.differing(&one)),
            (vec!["resample", "crop", "mean"], vec!["resample", "crop", "mean"])
        );
        let any = Preprocess { size: None, ..one.clone() };
        assert_eq!(any.differing(&Preprocess { resample: Resample::Box, ..any.clone() }), Vec::<&str>::new());
        assert_eq!(one.differing(&Preprocess { flip: true, rescale: 1.0, ..any }), ["size", "rescale", "flip"]);
    }
}
