//! The gradient of a Resize. It is linear and acts on one axis after the other, so its gradient is a product with the
//! transposed weights of each.

use super::super::conv::window::stated;
use super::map::{Mode, Rounding, Sample, Sampling, Scaling, Transform};
use super::plan::{Asked, axes, cropped, plan};
use super::scale::stretched;
use crate::{Backward, InferError, Val};
use lorac_ir::{DType, Dim, Tensor};

/// Larger matrices are computed by the run where they can be.
const MATRIX: usize = 1 << 21;

pub(super) fn by_operand<'e, 'g>(b: &Backward<'e, 'g>) -> Option<Val<'e, 'g>> {
    let sampling = match Sampling::of(b.node) {
        Ok(sampling) => sampling,
        Err(e) => return Some(b.emit.fail(e)),
    };
    let (x, gy) = (b.x[0], b.gy);
    let asked = asked(b);
    if let Some(sizes) = repeats(b, &sampling, &asked) {
        return Some(stated(sum_of_repeats(gy, &sizes), x));
    }
    let known = x.fact().known_dims().and_then(|dims| {
        let numbers = asked.scales.is_some() != asked.sizes.is_some();
        let whole = !cropped(b.node) || asked.part.is_some();
        (numbers && whole).then(|| plan(b.node, &dims, &asked))
    });
    let written_out = !matches!(sampling.mode(), Mode::Cubic) && !sampling.antialias() && !cropped(b.node);
    let small = |s: &Scaling| s.len.checked_mul(s.resized).is_some_and(|n| n <= MATRIX);
    match known {
        Some(Ok(scalings)) if written_out && stretched(b.node) && !scalings.iter().all(small) => {
            Some(stated(at_run_time(b, &sampling, &asked), x))
        }
        Some(Ok(scalings)) => Some(stated(constant(gy, &sampling, &scalings), x)),
        Some(Err(want)) => Some(b.emit.fail(InferError::Operand { slot: 0, got: x.fact(), want })),
        None => Some(stated(at_run_time(b, &sampling, &asked), x)),
    }
}

/// The operands, where their elements are known.
fn asked(b: &Backward) -> Asked {
    let given = |slot: usize| b.x.get(slot).and_then(|v| v.present());
    let floats = |slot: usize| given(slot)?.tensor()?.to_f64().filter(|v| !v.is_empty());
    let sizes = given(3).and_then(|v| v.known_ints()).filter(|v| !v.is_empty());
    Asked { part: floats(1), scales: floats(2), sizes }
}

/// How often every element is repeated along each axis, where that is all a Resize does.
fn repeats(b: &Backward, sampling: &Sampling, asked: &Asked) -> Option<Vec<i64>> {
    let rank = b.x[0].fact().rank()?;
    let half = matches!(sampling.transform(), Transform::HalfPixel | Transform::PytorchHalfPixel);
    let repeats = match sampling.mode() {
        Mode::Nearest(Rounding::HalfDown | Rounding::HalfUp) => half,
        Mode::Nearest(Rounding::Down) => sampling.transform() == Transform::Asymmetric,
        _ => false,
    };
    let scales = asked.scales.as_ref().filter(|_| repeats)?;
    let mut times = vec![1; rank];
    for (axis, scale) in axes(b.node, rank).ok()?.into_iter().zip(scales) {
        if scale.fract() != 0.0 || !(1.0..1e6).contains(scale) {
            return None;
        }
        times[axis] = *scale as i64;
    }
    (rank > 2 && times[..2] == [1, 1]).then(|| times.split_off(2))
}

/// The sum over the repetitions of every element: an average of a window for each, times its size.
fn sum_of_repeats<'e, 'g>(gy: Val<'e, 'g>, times: &[i64]) -> Val<'e, 'g> {
    let attrs = [("kernel_shape", times.to_vec().into()), ("strides", times.to_vec().into())];
    let size: f64 = times.iter().map(|n| *n as f64).product();
    gy.emit().op("AveragePool", &[gy], &attrs) * size
}

/// By matrices that are constants.
fn constant<'e, 'g>(gy: Val<'e, 'g>, sampling: &Sampling, scalings: &[Scaling]) -> Val<'e, 'g> {
    let (e, dtype) = (gy.emit(), gy.fact().dtype);
    scalings.iter().enumerate().filter(|(_, s)| !sampling.keeps(s)).fold(gy, |g, (axis, s)| {
        // Engines divide by the length that there is, not by the one before rounding.
        let ends = matches!(sampling.transform(), Transform::AlignCorners | Transform::CropAndResize);
        let s = if ends { Scaling { exact: s.resized as f64, ..*s } } else { *s };
        let data = matrix(&sampling.samples(&s), s.len);
        match Tensor::from_f64(dtype, &[s.resized, s.len], &data) {
            Some(t) => along(g, axis, scalings.len(), e.weight("", t)),
            None => g,
        }
    })
}

/// Samples as rows of weights.
fn matrix(samples: &[Sample], len: usize) -> Vec<f64> {
    let mut data = vec![0.0; samples.len() * len];
    for (row, sample) in samples.iter().enumerate() {
        for (at, weight) in sample.iter().flatten() {
            data[row * len + at] += weight;
        }
    }
    data
}

/// `g` with one axis multiplied by `matrix` (samples by elements): from samples back to elements.
fn along<'e, 'g>(g: Val<'e, 'g>, axis: usize, rank: usize, matrix: Val<'e, 'g>) -> Val<'e, 'g> {
    if axis + 1 == rank {
        return g.matmul(matrix);
    }
    let mut order: Vec<usize> = (0..rank).collect();
    order.swap(axis, rank - 1);
    g.transpose(&order).matmul(matrix).transpose(&order)
}

/// By matrices that the run computes from the shapes: linear weights fall with the distance, nearest ones are one at
/// the element that is taken.
fn at_run_time<'e, 'g>(b: &Backward<'e, 'g>, sampling: &Sampling, asked: &Asked) -> Val<'e, 'g> {
    let (e, x, gy) = (b.emit, b.x[0], b.gy);
    let fail = |want: &str| e.fail(InferError::Operand { slot: 0, got: x.fact(), want: want.to_string() });
    if sampling.mode() == Mode::Cubic || sampling.antialias() || cropped(b.node) || !stretched(b.node) {
        return fail("known lengths: cubic, antialiased and cropped sampling have weights too long to be constants");
    }
    let rank = x.rank();
    let axes = match axes(b.node, rank) {
        Ok(axes) => axes,
        Err(want) => return fail(&want),
    };
    let (before, after) = (x.fact(), gy.fact());
    let dim =
        |fact: &lorac_ir::Fact, axis: usize| fact.dims().and_then(|d| d.get(axis).copied()).unwrap_or(Dim::Unknown);
    // Without sizes, scales that only the run knows: lengths are rounded, and do not tell them.
    let given = |slot: usize| b.x.get(slot).and_then(|v| v.present());
    let unknown = if asked.scales.is_none() && given(3).is_none() { given(2) } else { None };
    let mut g = gy;
    for (i, axis) in axes.into_iter().enumerate() {
        let scale = asked.scales.as_ref().and_then(|s| s.get(i).copied());
        let same = dim(&before, axis).same(dim(&after, axis));
        if unknown.is_none() && scale.map_or(same, |s| s == 1.0) {
            continue;
        }
        let [len, resized] = [x, gy].map(|v| v.len(axis).cast(x.fact().dtype));
        let scale = match (scale, unknown) {
            (Some(known), _) => len.like(known),
            (_, Some(all)) => all.binary("Gather", e.scalar(i as f64, DType::I64)).cast(len.fact().dtype),
            _ => resized / len,
        };
        g = along(g, axis, rank, weights(len, resized, scale, sampling));
    }
    g
}

/// The matrix of an axis: samples by elements.
fn weights<'e, 'g>(len: Val<'e, 'g>, resized: Val<'e, 'g>, scale: Val<'e, 'g>, sampling: &Sampling) -> Val<'e, 'g> {
    let e = len.emit();
    let dtype = len.fact().dtype;
    let count = |n: Val<'e, 'g>| n.cast(DType::I64).numbers().cast(dtype);
    let at = count(resized);
    let half = || (at + 0.5) / scale - 0.5;
    let many = |n: Val<'e, 'g>| n.binary("Max", n.like(1.0));
    let place = match sampling.transform() {
        Transform::HalfPixel | Transform::CropAndResize => half(),
        Transform::PytorchHalfPixel => half() * (resized - 1.0).binary("Min", len.like(1.0)),
        Transform::HalfPixelSymmetric => half() + len / 2.0 * (1.0 - resized / (scale * len)),
        Transform::AlignCorners => at * (len - 1.0) / many(resized - 1.0),
        Transform::Asymmetric => at / scale,
    };
    let place = match sampling.mode() {
        Mode::Nearest(Rounding::HalfDown) => (place - 0.5).unary("Ceil"),
        Mode::Nearest(Rounding::HalfUp) => (place + 0.5).unary("Floor"),
        Mode::Nearest(Rounding::Down) => place.unary("Floor"),
        Mode::Nearest(Rounding::Up) => place.unary("Ceil"),
        Mode::Linear | Mode::Cubic => place,
    };
    let place = place.binary("Max", len.like(0.0)).binary("Min", len - 1.0);
    let distance = (place.binary("Unsqueeze", e.ints(&[1])) - count(len)).unary("Abs");
    (1.0 - distance).unary("Relu")
}
