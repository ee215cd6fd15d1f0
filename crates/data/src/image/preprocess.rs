//! From an image to what a model is fed, as `preprocessor_config.json` of transformers says.

use super::decode::read;
use super::{Levels, Picture, Pixels, Resample};
use crate::error::DataError;
use lorac_ir::{DType, Tensor};
use serde_json::{Map, Value};
use std::path::Path;
use std::sync::Arc;

/// What is done to an image, in this order: resized, cropped about its middle, its bytes rescaled and normalised.
#[derive(Debug, Clone, PartialEq)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// This height and width, whatever the image's own.
    Exact(usize, usize),
    /// The shorter side is so long, and the other in proportion.
    Shortest(usize),
}

/// Why a configuration says nothing that can be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{key}`: {why}")]
pub struct PreprocessError {
    /// The key.
    pub key: &'static str,
    /// What is wrong.
    pub why: String,
}

/// The largest side.
const MOST_SIDE: usize = 1 << 13;

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

/// A number of pixels on a side.
fn side(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| (1..=MOST_SIDE).contains(n))
}

impl Preprocess {
    /// What a `preprocessor_config.json` says, with the defaults of the class that it names.
    ///
    /// # Errors
    /// What no image can be brought to.
    pub fn of_config(config: &Map<String, Value>) -> Result<Self, PreprocessError> {
        let name = ["image_processor_type", "feature_extractor_type"].iter().find_map(|key| config.get(*key)?.as_str());
        let name = name.unwrap_or_default();
        let is = |part: &str| name.to_lowercase().contains(part);
        let by_shortest =
            is("clip") || is("convnext") || is("bit") || is("levit") || is("mobilenet") || is("poolformer");
        let wants = |key: &str| config.get(key).and_then(Value::as_bool);
        let wrong = |key, value: &Value| PreprocessError { key, why: format!("it is {value}") };
        let mut made = Preprocess::default();
        if wants("do_resize").unwrap_or(true) {
            let size = config.get("size").filter(|size| !size.is_null());
            made.size = Some(match size {
                None => Size::Exact(224, 224),
                Some(value) => size_of(value, by_shortest).ok_or_else(|| wrong("size", value))?,
            });
        }
        made.resample = if is("convnext") || is("clip") || is("bit") || is("deit") {
            Resample::Bicubic
        } else {
            Resample::Bilinear
        };
        if let Some(value) = config.get("resample").filter(|value| !value.is_null()) {
            let found = value.as_i64().and_then(Resample::of_number);
            made.resample = found.ok_or_else(|| wrong("resample", value))?;
        }
        // A ConvNext crops a larger image where it is small, and else bends it to its size.
        let pct = config.get("crop_pct").and_then(Value::as_f64).or(is("convnext").then_some(224.0 / 256.0));
        if let (Some(pct), Some(Size::Shortest(shortest))) = (pct.filter(|_| is("convnext")), made.size) {
            made.size = Some(match shortest < 384 {
                true => Size::Shortest((shortest as f64 / pct) as usize),
                false => Size::Exact(shortest, shortest),
            });
            made.crop = (shortest < 384).then_some([shortest, shortest]);
        } else if wants("do_center_crop").unwrap_or(config.contains_key("crop_size") && !is("vit")) {
            let value = config.get("crop_size").unwrap_or(&Value::Null);
            let crop = size_of(value, false).or(value.is_null().then_some(Size::Exact(224, 224)));
            let Some(Size::Exact(height, width)) = crop else { return Err(wrong("crop_size", value)) };
            made.crop = Some([height, width]);
        }
        made.rescale = match wants("do_rescale").unwrap_or(true) {
            true => config.get("rescale_factor").and_then(Value::as_f64).unwrap_or(1.0 / 255.0),
            false => 1.0,
        };
        if config.get("rescale_offset").and_then(Value::as_bool) == Some(true) {
            return Err(PreprocessError { key: "rescale_offset", why: "it is not followed".into() });
        }
        if wants("do_normalize").unwrap_or(true) {
            let numbers = |key: &'static str, usual: f64| match config.get(key).filter(|value| !value.is_null()) {
                None => Ok(vec![usual; 3]),
                Some(value) => {
                    let all = value.as_array().map_or_else(|| vec![value.clone()], Clone::clone);
                    let all: Option<Vec<f64>> = all.iter().map(Value::as_f64).collect();
                    all.filter(|all| [1, 3].contains(&all.len())).ok_or_else(|| wrong(key, value))
                }
            };
            (made.mean, made.std) = (numbers("image_mean", 0.5)?, numbers("image_std", 0.5)?);
            if made.std.contains(&0.0) {
                return Err(PreprocessError { key: "image_std", why: "it is 0".into() });
            }
        }
        made.flip = wants("do_flip_channel_order").unwrap_or(false);
        Ok(made)
    }

    /// Height and width of what is made, where they are the same for all images.
    #[must_use]
    pub fn dims(&self) -> Option<[usize; 2]> {
        self.crop.or(match self.size {
            Some(Size::Exact(height, width)) => Some([height, width]),
            _ => None,
        })
    }

    /// What the bytes of its images stand for.
    #[must_use]
    pub fn levels(&self) -> Arc<Levels> {
        let of = |all: &[f64], channel: usize, usual: f64| {
            // Of a grey image the first number counts, as it is the only one or stands for all.
            all.get(channel).or(all.first()).copied().unwrap_or(usual) as f32
        };
        let channel = |channel: usize| {
            let (mean, std) = (of(&self.mean, channel, 0.0), of(&self.std, channel, 1.0));
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

/// A size of a configuration: a number, or height and width, or the shortest edge.
fn size_of(value: &Value, by_shortest: bool) -> Option<Size> {
    let key = |key: &str| value.get(key).and_then(side);
    match side(value) {
        Some(n) if by_shortest => Some(Size::Shortest(n)),
        Some(n) => Some(Size::Exact(n, n)),
        None => match (key("height"), key("width"), key("shortest_edge")) {
            (Some(height), Some(width), _) => Some(Size::Exact(height, width)),
            (_, _, Some(n)) if value.get("longest_edge").is_none() => Some(Size::Shortest(n)),
            _ => None,
        },
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(config: Value) -> Result<Preprocess, String> {
        Preprocess::of_config(config.as_object().expect("an object")).map_err(|e| e.to_string())
    }

    #[test]
    fn configurations_say_what_their_classes_do() {
        let vit =
            of(json!({ "image_processor_type": "ViTImageProcessor", "size": 224, "resample": 2 })).expect("reads");
        assert_eq!((vit.size, vit.crop, vit.mean), (Some(Size::Exact(224, 224)), None, vec![0.5; 3]));
        let clip = of(json!({ "image_processor_type": "CLIPImageProcessor", "size": { "shortest_edge": 30 },
            "crop_size": { "height": 20, "width": 24 }, "do_center_crop": true, "image_mean": [0.1, 0.2, 0.3] }));
        let clip = clip.expect("reads");
        assert_eq!(
            (clip.size, clip.crop, clip.resample),
            (Some(Size::Shortest(30)), Some([20, 24]), Resample::Bicubic)
        );
        assert_eq!((clip.mean, clip.std), (vec![0.1, 0.2, 0.3], vec![0.5; 3]));
        let small = |size: u64| {
            of(
                json!({ "image_processor_type": "ConvNextImageProcessor", "size": { "shortest_edge": size }, "resample": 3 }),
            )
        };
        assert_eq!(small(224).map(|p| (p.size, p.crop)), Ok((Some(Size::Shortest(256)), Some([224, 224]))));
        assert_eq!(small(384).map(|p| (p.size, p.crop)), Ok((Some(Size::Exact(384, 384)), None)));
        let plain = of(json!({ "do_resize": false, "do_rescale": false, "do_normalize": false })).expect("reads");
        assert_eq!((plain.size, plain.rescale, plain.mean), (None, 1.0, vec![0.0]));
    }

    #[test]
    fn what_cannot_be_followed_is_named() {
        assert_eq!(of(json!({ "size": { "longest_edge": 3 } })), Err("`size`: it is {\"longest_edge\":3}".into()));
        assert_eq!(of(json!({ "resample": 9 })), Err("`resample`: it is 9".into()));
        assert_eq!(of(json!({ "image_mean": [1, 2] })), Err("`image_mean`: it is [1,2]".into()));
        assert!(of(json!({ "image_std": 0 })).is_err() && of(json!({ "size": 0 })).is_err());
    }

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
}
