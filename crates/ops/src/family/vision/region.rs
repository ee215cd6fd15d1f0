//! Regions of an image in one size: RoiAlign.

use super::*;
use crate::Attribute::{Float, Int, Str};
use crate::Operand::{Any, Floats, Ints};
use crate::{Emit, Val, case};
use lorac_ir::{Node, Tensor};

/// The attributes.
struct Align {
    out: [usize; 2],
    ratio: usize,
    scale: f64,
    half_pixel: bool,
    max: bool,
}

impl Align {
    fn of(node: &Node, opset: i64) -> Result<Align, InferError> {
        let length = |name: &'static str, default: i64| {
            let n = node.int(name, default);
            let wrong = || InferError::Attribute { name, got: n.to_string(), want: "0 to 65536".into() };
            usize::try_from(n).ok().filter(|n| *n <= 1 << 16).ok_or_else(wrong)
        };
        let mode = |name: &'static str, default: &'static str, all: [&'static str; 2]| {
            let got = node.str(name).unwrap_or(default);
            let wrong = || InferError::Attribute { name, got: got.into(), want: all.join(" or ") };
            all.iter().position(|m| *m == got).ok_or_else(wrong)
        };
        let shifted = if opset < 16 { "output_half_pixel" } else { "half_pixel" };
        Ok(Align {
            out: [length("output_height", 1)?, length("output_width", 1)?],
            ratio: length("sampling_ratio", 0)?,
            scale: f64::from(node.float("spatial_scale", 1.0)),
            half_pixel: mode("coordinate_transformation_mode", shifted, ["output_half_pixel", "half_pixel"])? == 1,
            max: mode("mode", "avg", ["avg", "max"])? == 1,
        })
    }

    /// For each bin of an axis of length `n` the sampled positions.
    fn samples(&self, start: f64, end: f64, bins: usize) -> Result<Vec<Vec<f64>>, EvalError> {
        let offset = if self.half_pixel { 0.5 } else { 0.0 };
        let (start, end) = (start * self.scale - offset, end * self.scale - offset);
        let length = if self.half_pixel { end - start } else { (end - start).max(1.0) };
        let bin = length / bins.max(1) as f64;
        let count = if self.ratio > 0 { self.ratio as f64 } else { bin.ceil().max(0.0) };
        if !(count <= 4096.0) {
            return invalid(format!("a region of length {length}"));
        }
        let at = |i: usize, k: usize| start + i as f64 * bin + (k as f64 + 0.5) * bin / count;
        Ok((0..bins).map(|i| (0..count as usize).map(|k| at(i, k)).collect()).collect())
    }
}

/// The two neighbours of a position on an axis of length `n`, with their weights; `None` outside.
fn neighbours(at: f64, n: usize) -> Option<[(usize, f64); 2]> {
    if !(-1.0..=n as f64).contains(&at) || n == 0 {
        return None;
    }
    let at = at.clamp(0.0, (n - 1) as f64);
    let low = (at as usize).min(n - 1);
    let high = (low + 1).min(n - 1);
    let part = at - low as f64;
    Some([(low, 1.0 - part), (high, part)])
}

pub(super) const ROI_ALIGN: Op = Op {
    name: "RoiAlign",
    inputs: (3, 3),
    infer: |c| {
        let align = Align::of(c.node, c.opset)?;
        let at = |slot: usize, axis: usize| c.dims(slot).and_then(|d| d.get(axis).copied()).unwrap_or(Dim::Unknown);
        one(Fact::new(c.dtype(), [at(1, 0), at(0, 1), align.out[0].into(), align.out[1].into()]))
    },
    eval: |a| {
        let align = Align::of(a.node, a.opset).map_err(|e| EvalError::Invalid(e.to_string()))?;
        let (x, rois, of) = (a.x(0)?, a.x(1)?, a.ints(2)?);
        let (&[images, channels, height, width], &[regions, 4]) = (x.shape(), rois.shape()) else {
            return invalid(format!("regions {:?} of {:?}", rois.shape(), x.shape()));
        };
        let dims = vec![regions, channels, align.out[0], align.out[1]];
        affordable(&dims)?;
        if of.len() != regions || of.iter().any(|i| !(0..images as i64).contains(i)) {
            return invalid(format!("regions of images {of:?}, {images} are there"));
        }
        let mut y = Array::zeros(dims);
        for (region, image) in of.iter().enumerate() {
            let image = *image as usize;
            let rows = align.samples(rois[[region, 1]], rois[[region, 3]], align.out[0])?;
            let cols = align.samples(rois[[region, 0]], rois[[region, 2]], align.out[1])?;
            for ((i, rows), (j, cols)) in
                rows.iter().enumerate().flat_map(|r| cols.iter().enumerate().map(move |c| (r, c)))
            {
                for channel in 0..channels {
                    let mut samples = Vec::new();
                    for (row, col) in rows.iter().flat_map(|r| cols.iter().map(move |c| (*r, *c))) {
                        let corners = neighbours(row, height).zip(neighbours(col, width));
                        let terms = corners.map_or([0.0; 4], |(rows, cols)| {
                            let term =
                                |r: usize, c: usize| rows[r].1 * cols[c].1 * x[[image, channel, rows[r].0, cols[c].0]];
                            [term(0, 0), term(0, 1), term(1, 0), term(1, 1)]
                        });
                        // As runtimes have it, the maximum is over the weighted corners of all samples.
                        samples.push(match align.max {
                            true => terms.into_iter().fold(f64::NEG_INFINITY, f64::max),
                            false => terms.iter().sum(),
                        });
                    }
                    y[[region, channel, i, j]] = match align.max {
                        _ if samples.is_empty() => 0.0,
                        true => samples.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                        false => samples.iter().sum::<f64>() / samples.len() as f64,
                    };
                }
            }
        }
        Ok(vec![y])
    },
    flops: |_, known| elementwise_of(known),
    grad: Grad::lower(
        lower,
        &[
            case(&[
                Any(&[2, 2, 4, 5]),
                Floats(&[2, 4], &[0.5, 0.4, 3.7, 3.1, -1.5, 1.0, 9.3, 2.2]),
                Ints(&[2], &[1, 0]),
            ])
            .with(&[("sampling_ratio", Int(2)), ("output_height", Int(2)), ("output_width", Int(3))]),
            case(&[Any(&[1, 1, 3, 3]), Floats(&[1, 4], &[1.0, 2.0, 1.5, 5.0]), Ints(&[1], &[0])]).with(&[
                ("coordinate_transformation_mode", Str("output_half_pixel")),
                ("sampling_ratio", Int(1)),
                ("spatial_scale", Float(0.5)),
            ]),
        ],
    ),
    ..UNARY
};

fn elementwise_of(known: &[Inferred]) -> Dim {
    known.first().map_or(Dim::Unknown, |k| k.fact.volume() * Dim::Known(16))
}

/// The mean of bilinear samples is a product: weights of rows times the image times weights of columns.
fn lower<'e, 'g>(e: &'e Emit<'g>, node: &Node, x: &[Val<'e, 'g>]) -> Vec<Val<'e, 'g>> {
    let &[image, rois, of, ..] = x else { return Vec::new() };
    let align = match Align::of(node, e.graph().opset()) {
        Ok(align) => align,
        Err(error) => return vec![e.fail(error)],
    };
    if align.max || align.ratio == 0 {
        let got = format!("{} with mode {}", align.ratio, node.str("mode").unwrap_or("avg"));
        let want = "a number of samples above 0, and mode avg".into();
        return vec![e.fail(InferError::Attribute { name: "sampling_ratio", got, want })];
    }
    let images = e.op("Gather", &[image, of], &[("axis", 0i64.into())]);
    let corners = e.ops("Split", &[rois, e.ints(&[1, 1, 1, 1])], &[("axis", 1i64.into())], 4);
    let &[left, top, right, bottom] = corners.as_slice() else { return Vec::new() };
    let rows = bilinear(&align, [top, bottom], align.out[0], image.lens(2..3));
    let cols = bilinear(&align, [left, right], align.out[1], image.lens(3..4));
    let y = rows.matmul(images).matmul(cols.t());
    let out = e.ints(&align.out.map(|n| n as i64));
    let shape = e.op("Concat", &[rois.lens(0..1), image.lens(1..2), out], &[("axis", 0i64.into())]);
    vec![y.binary("Reshape", shape)]
}

/// For each region and bin the weight of each of `n` positions: `[regions, 1, bins, n]`.
fn bilinear<'e, 'g>(align: &Align, ends: [Val<'e, 'g>; 2], bins: usize, n: Val<'e, 'g>) -> Val<'e, 'g> {
    let [start, end] = ends.map(|v| v * align.scale - if align.half_pixel { 0.5 } else { 0.0 });
    let (e, dtype) = (start.emit(), start.fact().dtype);
    let length = end - start;
    let length = if align.half_pixel { length } else { length.binary("Max", length.like(1.0)) };
    let inner = |k: usize| (k as f64 + 0.5) / align.ratio as f64;
    let parts: Vec<f64> =
        (0..bins * align.ratio).map(|i| ((i / align.ratio) as f64 + inner(i % align.ratio)) / bins as f64).collect();
    let parts = Tensor::from_f64(dtype, &[parts.len()], &parts).map_or(e.absent(), |t| e.weight("", t));
    let at = start + length * parts;
    let n_real = n.cast(dtype);
    let inside = at.binary("GreaterOrEqual", at.like(-1.0)).binary("And", at.binary("LessOrEqual", n_real));
    let at = at.binary("Max", at.like(0.0)).binary("Min", n_real - 1.0);
    let all = n.reshape(&[]).numbers();
    let off = at.binary("Unsqueeze", e.ints(&[-1])) - all.cast(dtype);
    let near =
        (1.0 - off).binary("Min", off + 1.0).unary("Relu") * inside.cast(dtype).binary("Unsqueeze", e.ints(&[-1]));
    let samples = e.op("Concat", &[e.ints(&[0, 1, bins as i64, align.ratio as i64]), n], &[("axis", 0i64.into())]);
    near.binary("Reshape", samples).sum(&[3], false) / align.ratio as f64
}
