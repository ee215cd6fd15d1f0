//! Images in another size, as Pillow makes them.

use super::Pixels;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// How an image of another size is made, by the names of Pillow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Resample {
    /// The nearest pixel
    Nearest,
    /// Two pixels on a side; of a smaller image a triangle over all that a pixel stands for
    #[default]
    Bilinear,
    /// Four pixels on a side
    Bicubic,
    /// The mean of all that a pixel stands for
    Box,
    /// As bilinear, sharper
    Hamming,
    /// Six pixels on a side
    Lanczos,
}

/// Bits behind the point of a weight.
const PRECISION: u32 = 32 - 8 - 2;

impl Resample {
    /// By their numbers in Pillow, which preprocessor_config.json has.
    const NUMBERED: [Resample; 6] =
        [Resample::Nearest, Resample::Lanczos, Resample::Bilinear, Resample::Bicubic, Resample::Box, Resample::Hamming];

    pub(super) fn of_number(number: i64) -> Option<Resample> {
        usize::try_from(number).ok().and_then(|at| Self::NUMBERED.get(at).copied())
    }

    pub(super) fn number(self) -> usize {
        Self::NUMBERED.iter().position(|one| *one == self).unwrap_or_default()
    }

    /// How far from its middle a pixel of the result reaches.
    fn support(self) -> f64 {
        match self {
            Resample::Nearest => 0.0,
            Resample::Box => 0.5,
            Resample::Bilinear | Resample::Hamming => 1.0,
            Resample::Bicubic => 2.0,
            Resample::Lanczos => 3.0,
        }
    }

    /// What a pixel at this distance counts.
    fn weight(self, x: f64) -> f64 {
        let sinc = |x: f64| if x == 0.0 { 1.0 } else { (x * PI).sin() / (x * PI) };
        match self {
            Resample::Nearest => 0.0,
            Resample::Box => f64::from(u8::from(x > -0.5 && x <= 0.5)),
            Resample::Bilinear => (1.0 - x.abs()).max(0.0),
            Resample::Hamming => match x.abs() {
                0.0 => 1.0,
                x if x >= 1.0 => 0.0,
                x => sinc(x) * (0.54 + 0.46 * (x * PI).cos()),
            },
            Resample::Bicubic => match x.abs() {
                x if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
                x if x < 2.0 => ((x - 5.0) * x + 8.0) * x * -0.5 + 2.0,
                _ => 0.0,
            },
            Resample::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Resample::Lanczos => 0.0,
        }
    }
}

/// What one pixel of the result is made of: the first pixel, and the weights of those from it on.
struct Taps {
    first: usize,
    weights: Vec<i64>,
}

/// The pixels of a side of `from` that each of `to` is made of.
fn taps(from: usize, to: usize, filter: Resample) -> Vec<Taps> {
    let scale = from as f64 / to as f64;
    let wide = scale.max(1.0);
    let support = filter.support() * wide;
    let one = |at: usize| {
        let center = (at as f64 + 0.5) * scale;
        let first = (center - support + 0.5).max(0.0) as usize;
        let end = ((center + support + 0.5).max(0.0) as usize).min(from);
        let weights: Vec<f64> = (first..end).map(|x| filter.weight((x as f64 - center + 0.5) * (1.0 / wide))).collect();
        let sum: f64 = weights.iter().sum();
        let fixed = |w: &f64| {
            let w = if sum == 0.0 { *w } else { *w / sum } * f64::from(1u32 << PRECISION);
            (if w < 0.0 { w - 0.5 } else { w + 0.5 }) as i64
        };
        Taps { first, weights: weights.iter().map(fixed).collect() }
    };
    (0..to).map(one).collect()
}

impl Pixels {
    /// The image in another size, to the byte as Pillow's `Image.resize`.
    pub(super) fn resized(self, width: usize, height: usize, filter: Resample) -> Pixels {
        if filter == Resample::Nearest {
            return self.nearest(width, height);
        }
        let wide = if width == self.width { self } else { self.across(width, filter) };
        if height == wide.height { wide } else { wide.down(height, filter) }
    }

    fn nearest(self, width: usize, height: usize) -> Pixels {
        let place = |at: usize, from: usize, to: usize| {
            (((at as f64 + 0.5) * (from as f64 / to as f64)) as usize).min(from.saturating_sub(1))
        };
        let mut bytes = Vec::with_capacity(width * height * self.channels);
        for y in 0..height {
            let row = place(y, self.height, height) * self.width;
            for x in 0..width {
                let at = (row + place(x, self.width, width)) * self.channels;
                bytes.extend_from_slice(&self.bytes[at..at + self.channels]);
            }
        }
        Pixels { width, height, bytes, ..self }
    }

    fn across(self, width: usize, filter: Resample) -> Pixels {
        let taps = taps(self.width, width, filter);
        let mut bytes = Vec::with_capacity(width * self.height * self.channels);
        for row in self.bytes.chunks_exact(self.width * self.channels) {
            for Taps { first, weights } in &taps {
                for channel in 0..self.channels {
                    let at = |i: usize| i64::from(row[(first + i) * self.channels + channel]);
                    bytes.push(rounded(weights.iter().enumerate().map(|(i, w)| w * at(i)).sum()));
                }
            }
        }
        Pixels { width, bytes, ..self }
    }

    fn down(self, height: usize, filter: Resample) -> Pixels {
        let stride = self.width * self.channels;
        let mut bytes = Vec::with_capacity(stride * height);
        for Taps { first, weights } in taps(self.height, height, filter) {
            for x in 0..stride {
                let at = |i: usize| i64::from(self.bytes[(first + i) * stride + x]);
                bytes.push(rounded(weights.iter().enumerate().map(|(i, w)| w * at(i)).sum()));
            }
        }
        Pixels { height, bytes, ..self }
    }
}

fn rounded(sum: i64) -> u8 {
    ((sum + (1 << (PRECISION - 1))) >> PRECISION).clamp(0, 255) as u8
}
