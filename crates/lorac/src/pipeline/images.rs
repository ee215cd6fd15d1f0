//! `data.images:`: what is done to images before a model is fed them.

use lorac_config::{Check, Problems};
use lorac_data::{Preprocess, Resample, Size};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is done to images, in this order. What is not given is as preprocessor_config.json beside the model says
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ImageOptions {
    /// Height and width that an image is brought to, whatever its own; of one number both
    pub size: Vec<usize>,
    /// Pixels of the shorter side, the other one being in proportion
    pub shortest: Option<usize>,
    /// How an image of another size is made
    pub resample: Option<Resample>,
    /// Height and width that are cut out of the middle; of one number both
    pub crop: Vec<usize>,
    /// What bytes are multiplied by: 1/255 as 0.00392156862745098
    pub rescale: Option<f64>,
    /// What is subtracted from each channel, after that; of one number all
    pub mean: Vec<f64>,
    /// What each channel is divided by; of one number all
    pub std: Vec<f64>,
}

/// One number for both sides, or one for each.
fn both(sides: &[usize]) -> Option<[usize; 2]> {
    match *sides {
        [one] => Some([one, one]),
        [height, width] => Some([height, width]),
        _ => None,
    }
}

impl ImageOptions {
    /// Whether no more is left to a configuration than which channel comes first: a size, how it is made, and what the bytes
    /// become are said.
    pub fn says_all(&self) -> bool {
        let sized = !self.size.is_empty() || self.shortest.is_some();
        let valued = self.rescale.is_some() && !self.mean.is_empty() && !self.std.is_empty();
        sized && self.resample.is_some() && valued
    }

    /// Changes what is given. A size that is given stands for all that changes it.
    pub fn apply(&self, made: &mut Preprocess) {
        if let Some([height, width]) = both(&self.size) {
            (made.size, made.crop) = (Some(Size::Exact(height, width)), None);
        }
        if let Some(n) = self.shortest {
            (made.size, made.crop) = (Some(Size::Shortest(n)), None);
        }
        made.crop = both(&self.crop).or(made.crop);
        made.resample = self.resample.unwrap_or(made.resample);
        made.rescale = self.rescale.unwrap_or(made.rescale);
        for (given, into) in [(&self.mean, &mut made.mean), (&self.std, &mut made.std)] {
            if !given.is_empty() {
                into.clone_from(given);
            }
        }
    }
}

impl Check for ImageOptions {
    fn check(&self, problems: &mut Problems) {
        for (key, sides) in [("size", &self.size), ("crop", &self.crop)] {
            if !sides.is_empty() && both(sides).is_none() {
                let message = format!("`{key}` has {} numbers: height and width, or one for both", sides.len());
                problems.report(key, "pipeline::images", message);
            }
            for side in sides {
                problems.range(key, *side as f64, 1.0, 8192.0);
            }
        }
        if let Some(n) = self.shortest {
            problems.range("shortest", n as f64, 1.0, 8192.0);
            if !self.size.is_empty() {
                let message = "`shortest` and `size`: an image is brought to one size";
                problems.report("shortest", "pipeline::idle", message);
            }
        }
        if let Some(rescale) = self.rescale {
            problems.positive("rescale", rescale, 1e6);
        }
        for (key, numbers) in [("mean", &self.mean), ("std", &self.std)] {
            if ![0, 1, 3].contains(&numbers.len()) {
                let message =
                    format!("`{key}` has {} numbers: one for each of three channels, or one for all", numbers.len());
                problems.report(key, "pipeline::images", message);
            }
        }
        if self.std.contains(&0.0) || self.mean.iter().chain(&self.std).any(|x| !x.is_finite()) {
            problems.report("std", "pipeline::images", "channels are divided by finite numbers other than 0");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_counts_and_the_rest_stays() {
        let mut made = Preprocess { crop: Some([9, 9]), ..Preprocess::default() };
        ImageOptions { mean: vec![0.5], ..ImageOptions::default() }.apply(&mut made);
        assert_eq!((made.mean.clone(), made.crop), (vec![0.5], Some([9, 9])));
        ImageOptions { size: vec![8], ..ImageOptions::default() }.apply(&mut made);
        assert_eq!((made.size, made.crop), (Some(Size::Exact(8, 8)), None));
        let mut all = ImageOptions { shortest: Some(9), mean: vec![0.5], std: vec![0.5], ..ImageOptions::default() };
        (all.resample, all.rescale) = (Some(Resample::Box), Some(1.0));
        assert!(all.says_all() && !ImageOptions { rescale: None, ..all }.says_all());
    }

    #[test]
    fn what_no_image_can_be_brought_to_is_reported() {
        let found = |options: ImageOptions| {
            let mut problems = Problems::default();
            options.check(&mut problems);
            problems.finish().into_iter().map(|p| p.path).collect::<Vec<_>>()
        };
        assert!(found(ImageOptions::default()).is_empty());
        let wrong = ImageOptions {
            size: vec![1, 2, 3],
            shortest: Some(0),
            crop: vec![0],
            rescale: Some(0.0),
            mean: vec![1.0, 2.0],
            std: vec![0.0],
            ..ImageOptions::default()
        };
        assert_eq!(found(wrong), ["size", "crop", "shortest", "shortest", "rescale", "mean", "std"]);
    }
}
