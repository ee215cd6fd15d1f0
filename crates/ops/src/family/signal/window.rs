//! Tables: BlackmanWindow HammingWindow HannWindow MelWeightMatrix.

use super::*;
use std::f64::consts::PI;

/// Longer tables are refused.
const LONGEST: f64 = 1e8;

/// The element type that the attribute `output_datatype` names.
fn asked(c: &Ctx) -> DType {
    DType::from_onnx_code(c.node.int("output_datatype", 1))
}

/// The operand at `slot` as a length.
fn length(a: &Args, slot: usize) -> Result<usize, EvalError> {
    match a.x(slot)?.first() {
        Some(n) if (0.0..=LONGEST).contains(n) => Ok(*n as usize),
        other => invalid(format!("a length of {other:?}")),
    }
}

const WINDOW: Op = Op {
    since: 17,
    infer: |c| {
        let size = c.content(0).and_then(|v| v.first().copied()).unwrap_or(Dim::Unknown);
        one(Fact::new(asked(c), [size]))
    },
    flops: |c, k| elementwise(c, k) * Dim::Known(4),
    grad: Grad::Zero("its operand is a length"),
    ..UNARY
};

/// `f` of the angles around the circle: `size` of them, or one fewer so that the last equals the first.
fn window(a: &Args, f: impl Fn(f64) -> f64) -> EvalResult {
    let size = length(a, 0)?;
    let around = if a.node.int("periodic", 1) != 0 { size as f64 } else { size as f64 - 1.0 };
    let elements = (0..size).map(|i| f(2.0 * PI * i as f64 / around)).collect();
    Ok(vec![Array::from_shape_vec(vec![size], elements)?])
}

pub(in crate::family) const BLACKMAN_WINDOW: Op =
    Op { name: "BlackmanWindow", eval: |a| window(a, |t| 0.42 - 0.5 * t.cos() + 0.08 * (2.0 * t).cos()), ..WINDOW };

pub(in crate::family) const HAMMING_WINDOW: Op =
    Op { name: "HammingWindow", eval: |a| window(a, |t| 25.0 / 46.0 - 21.0 / 46.0 * t.cos()), ..WINDOW };

pub(in crate::family) const HANN_WINDOW: Op =
    Op { name: "HannWindow", eval: |a| window(a, |t| 0.5 - 0.5 * t.cos()), ..WINDOW };

pub(in crate::family) const MEL_WEIGHT_MATRIX: Op = Op {
    name: "MelWeightMatrix",
    since: 17,
    inputs: (5, 5),
    infer: |c| {
        let number = |slot: usize| c.content(slot).and_then(|v| v.first().copied()).unwrap_or(Dim::Unknown);
        let bins = number(1).known().map_or(Dim::Unknown, |n| Dim::Known(n / 2 + 1));
        one(Fact::new(asked(c), [bins, number(0)]))
    },
    eval: mel_weights,
    flops: |c, k| elementwise(c, k) * Dim::Known(4),
    grad: Grad::Zero("a table of whole positions is constant almost everywhere in its frequencies"),
    ..UNARY
};

/// Triangles with a peak of one, evenly spaced on the mel scale.
fn mel_weights(a: &Args) -> EvalResult {
    let number = |slot: usize| a.x(slot)?.first().copied().ok_or(EvalError::Missing(slot));
    let (bands, transform) = (length(a, 0)?, length(a, 1)?);
    let (rate, low, high) = (number(2)?, number(3)?, number(4)?);
    let bins = transform / 2 + 1;
    if bins.saturating_mul(bands) as f64 > LONGEST {
        return invalid(format!("{bins} times {bands} weights"));
    }
    let mel = |hertz: f64| 2595.0 * (1.0 + hertz / 700.0).log10();
    let step = (mel(high) - mel(low)) / (bands as f64 + 2.0);
    let position = |i: usize| {
        let hertz = 700.0 * (10f64.powf((i as f64 * step + mel(low)) / 2595.0) - 1.0);
        ((transform as f64 + 1.0) * hertz / rate).floor()
    };
    let mut y = Array::zeros(vec![bins, bands]);
    for band in 0..bands {
        let [left, center, right] = [position(band), position(band + 1), position(band + 2)];
        if !(left >= 0.0 && left <= center && center <= right && center < bins as f64) {
            return invalid(format!("frequencies {low} to {high} at a rate of {rate}"));
        }
        for bin in left as usize..(right as usize).clamp(center as usize + 1, bins) {
            let at = bin as f64;
            y[[bin, band]] = match at.partial_cmp(&center) {
                Some(std::cmp::Ordering::Less) => (at - left) / (center - left),
                Some(std::cmp::Ordering::Equal) => 1.0,
                _ => (right - at) / (right - center),
            };
        }
    }
    Ok(vec![y])
}
