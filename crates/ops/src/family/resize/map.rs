//! Where the elements of a resized axis come from: weights, as the operator's page gives them.

use crate::InferError;
use lorac_ir::Node;

/// How a node samples.
#[derive(Clone, Debug)]
pub(super) struct Sampling {
    mode: Mode,
    transform: Transform,
    antialias: bool,
    exclude_outside: bool,
    cubic: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Nearest(Rounding),
    Linear,
    Cubic,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rounding {
    HalfDown,
    HalfUp,
    Down,
    Up,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transform {
    HalfPixel,
    HalfPixelSymmetric,
    PytorchHalfPixel,
    AlignCorners,
    Asymmetric,
    CropAndResize,
}

/// One axis: its length before and after, and how far apart samples are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scaling {
    pub(super) len: usize,
    pub(super) resized: usize,
    pub(super) scale: f64,
    /// The length after, before it was rounded down.
    pub(super) exact: f64,
    /// Where the part that is resized begins and ends, as parts of the length.
    pub(super) part: (f64, f64),
}

/// The elements that one sample is made of, with their weights; `None` for a sample outside.
pub(super) type Sample = Option<Vec<(usize, f64)>>;

impl Sampling {
    pub(super) fn of(node: &Node) -> Result<Sampling, InferError> {
        let wrong = |name, got: &str, want: &str| InferError::Attribute { name, got: got.into(), want: want.into() };
        let rounding = match node.str("nearest_mode").unwrap_or("round_prefer_floor") {
            "round_prefer_floor" | "" => Rounding::HalfDown,
            "round_prefer_ceil" => Rounding::HalfUp,
            "floor" => Rounding::Down,
            "ceil" => Rounding::Up,
            other => {
                return Err(wrong("nearest_mode", other, "round_prefer_floor, round_prefer_ceil, floor or ceil"));
            }
        };
        let mode = match node.str("mode").unwrap_or("nearest") {
            "nearest" => Mode::Nearest(rounding),
            "linear" => Mode::Linear,
            "cubic" => Mode::Cubic,
            other => return Err(wrong("mode", other, "nearest, linear or cubic")),
        };
        let transform = match node.str("coordinate_transformation_mode").unwrap_or("half_pixel") {
            "half_pixel" => Transform::HalfPixel,
            "half_pixel_symmetric" => Transform::HalfPixelSymmetric,
            "pytorch_half_pixel" => Transform::PytorchHalfPixel,
            "align_corners" => Transform::AlignCorners,
            "asymmetric" => Transform::Asymmetric,
            "tf_crop_and_resize" => Transform::CropAndResize,
            other => return Err(wrong("coordinate_transformation_mode", other, "a mode of the operator's page")),
        };
        Ok(Sampling {
            mode,
            transform,
            antialias: node.int("antialias", 0) != 0,
            exclude_outside: node.int("exclude_outside", 0) != 0,
            cubic: f64::from(node.float("cubic_coeff_a", -0.75)),
        })
    }

    pub(super) fn mode(&self) -> Mode {
        self.mode
    }

    pub(super) fn transform(&self) -> Transform {
        self.transform
    }

    pub(super) fn antialias(&self) -> bool {
        self.antialias
    }

    /// Whether an axis that keeps its length is left as it is.
    pub(super) fn keeps(&self, s: &Scaling) -> bool {
        let whole = self.transform != Transform::CropAndResize || s.part == (0.0, 1.0);
        s.len == s.resized && s.scale == 1.0 && whole
    }

    /// The place in the operand of every sample; `None` where it lies outside.
    fn places(&self, s: &Scaling) -> Vec<Option<f64>> {
        let (len, last) = (s.len as f64, s.exact - 1.0);
        let place = |x: f64| match self.transform {
            Transform::HalfPixel => Some((x + 0.5) / s.scale - 0.5),
            Transform::HalfPixelSymmetric => {
                let offset = len / 2.0 * (1.0 - s.resized as f64 / s.exact);
                Some(offset + (x + 0.5) / s.scale - 0.5)
            }
            Transform::PytorchHalfPixel => Some(if s.exact == 1.0 { 0.0 } else { (x + 0.5) / s.scale - 0.5 }),
            Transform::AlignCorners => Some(if last == 0.0 { 0.0 } else { x * (len - 1.0) / last }),
            Transform::Asymmetric => Some(x / s.scale),
            Transform::CropAndResize => {
                let (start, end) = s.part;
                let along = if last == 0.0 { (end - start) / 2.0 } else { x * (end - start) / last };
                let place = (start + along) * (len - 1.0);
                (0.0..=len - 1.0).contains(&place).then_some(place)
            }
        };
        (0..s.resized).map(|x| place(x as f64)).collect()
    }

    /// What every sample of an axis is made of.
    pub(super) fn samples(&self, s: &Scaling) -> Vec<Sample> {
        self.places(s).into_iter().map(|place| Some(self.sample(place?, s))).collect()
    }

    fn sample(&self, place: f64, s: &Scaling) -> Vec<(usize, f64)> {
        let last = s.len as f64 - 1.0;
        if let Mode::Nearest(rounding) = self.mode {
            return vec![(rounding.apply(single(place)).clamp(0.0, last) as usize, 1.0)];
        }
        // The nearest element before, never at, the sample.
        let before = place.ceil() - 1.0;
        let ratio = place - before;
        let stretch = if self.antialias { s.scale.min(1.0) } else { 1.0 };
        let reach = if self.mode == Mode::Linear { 1.0 } else { 2.0 };
        let first = (-reach / stretch).floor() as i64 + 1;
        let mut taps: Vec<(f64, f64)> = (first..2 - first)
            .map(|i| (before + i as f64, self.kernel((i as f64 - ratio) * stretch)))
            .filter(|(at, _)| !self.exclude_outside || (0.0..=last).contains(at))
            .collect();
        if self.antialias || self.exclude_outside {
            let sum: f64 = taps.iter().map(|t| t.1).sum();
            taps.iter_mut().for_each(|t| t.1 /= sum);
        }
        taps.into_iter().map(|(at, weight)| (at.clamp(0.0, last) as usize, weight)).collect()
    }

    /// The weight of an element at a distance.
    fn kernel(&self, distance: f64) -> f64 {
        let (x, a) = (distance.abs(), self.cubic);
        match self.mode {
            Mode::Cubic if x <= 1.0 => ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0,
            Mode::Cubic if x < 2.0 => ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a,
            Mode::Cubic => 0.0,
            _ => (1.0 - x).max(0.0),
        }
    }
}

/// Engines compute places in f32: so close to the middle of two elements, that decides.
fn single(x: f64) -> f64 {
    f64::from(x as f32)
}

impl Rounding {
    fn apply(self, x: f64) -> f64 {
        match self {
            Rounding::HalfDown => (x - 0.5).ceil(),
            Rounding::HalfUp => (x + 0.5).floor(),
            Rounding::Down => x.floor(),
            Rounding::Up => x.ceil(),
        }
    }
}
