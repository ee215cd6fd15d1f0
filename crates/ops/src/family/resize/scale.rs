//! Resize.

use super::map::Sampling;
use super::plan::{Asked, axes, cropped, plan};
use super::rule::by_operand;
use super::*;
use crate::Attribute::{Ints as List, Str};
use crate::Operand::{Absent, Any, Floats, Ints};
use crate::case;
use lorac_ir::Tensor;
use ndarray::Axis;

pub(super) const RESIZE: Op = Op {
    name: "Resize",
    traits: Traits::NONE.constants(&[1, 2]),
    inputs: (1, 4),
    infer: |c| {
        let fact = c.fact(0);
        Sampling::of(c.node)?;
        let Some(dims) = fact.dims() else { return one(fact) };
        let wrong = |want: String| InferError::Operand { slot: 0, got: fact.clone(), want };
        let floats = |slot: usize| c.input(slot).and_then(|i| i.tensor).and_then(Tensor::to_f64);
        let empty = |slot: usize| c.dims(slot) == Some(&[Dim::Known(0)]);
        let given = |slot: usize| c.input(slot).is_some() && !empty(slot);
        let axes = axes(c.node, dims.len()).map_err(wrong)?;
        let unknown = |dims: &[Dim]| {
            let mut dims = dims.to_vec();
            axes.iter().for_each(|axis| dims[*axis] = Dim::Unknown);
            one(Fact::new(fact.dtype, dims))
        };
        let asked = Asked { part: floats(1), scales: floats(2).filter(|_| given(2)), sizes: c.ints(3) };
        let numbers = given(2) == asked.scales.is_some() && given(3) == asked.sizes.is_some();
        if let (Some(lens), true, true) = (fact.known_dims(), numbers, !cropped(c.node) || asked.part.is_some()) {
            let scalings = plan(c.node, &lens, &asked).map_err(wrong)?;
            return one(Fact::new(fact.dtype, scalings.iter().map(|s| s.resized)));
        }
        let mut out = dims.to_vec();
        match (&asked.scales, c.content(3)) {
            (Some(scales), _) if scales.len() == axes.len() && !cropped(c.node) => {
                for (axis, scale) in axes.iter().zip(scales) {
                    out[*axis] = scaled(dims[*axis], *scale);
                }
            }
            (None, Some(sizes)) if sizes.len() == axes.len() && stretched(c.node) => {
                axes.iter().zip(sizes).for_each(|(axis, size)| out[*axis] = *size);
            }
            _ => return unknown(dims),
        }
        one(Fact::new(fact.dtype, out))
    },
    eval: |a| {
        let x = a.x(0)?;
        let sampling = Sampling::of(a.node).map_err(|e| EvalError::Invalid(e.to_string()))?;
        let floats = |slot: usize| a.opt(slot).map(|v| v.iter().copied().collect::<Vec<f64>>());
        let asked = Asked {
            part: floats(1),
            scales: floats(2).filter(|v| !v.is_empty()),
            sizes: a.opt(3).map(|v| v.iter().map(|n| *n as i64).collect::<Vec<_>>()).filter(|v| !v.is_empty()),
        };
        let scalings = plan(a.node, x.shape(), &asked).map_err(EvalError::Invalid)?;
        let outside = f64::from(a.node.float("extrapolation_value", 0.0));
        let mut y = x.clone();
        for (axis, s) in scalings.iter().enumerate().filter(|(_, s)| !sampling.keeps(s)) {
            if s.len == 0 {
                return invalid("an empty axis cannot be resized");
            }
            let mut shape = y.shape().to_vec();
            shape[axis] = s.resized;
            let mut wide = Array::from_elem(shape, outside);
            for (at, sample) in sampling.samples(s).iter().enumerate() {
                let Some(taps) = sample else { continue };
                let mut row = wide.index_axis_mut(Axis(axis), at);
                row.fill(0.0);
                taps.iter().for_each(|(from, weight)| row.scaled_add(*weight, &y.index_axis(Axis(axis), *from)));
            }
            y = wide;
        }
        Ok(vec![y])
    },
    flops: |c, k| elementwise(c, k) * Dim::Known(2 * c.fact(0).rank().unwrap_or(4) as i64),
    grad: Grad::rule(
        |b| vec![by_operand(b)],
        &[
            // Every element repeated.
            case(&[Any(&[1, 2, 2, 3]), Absent, Floats(&[4], &[1.0, 1.0, 2.0, 3.0])])
                .with(&[("coordinate_transformation_mode", Str("asymmetric")), ("nearest_mode", Str("floor"))]),
            case(&[Any(&[1, 2, 3]), Absent, Floats(&[3], &[1.0, 1.0, 2.5])]).with(&[("mode", Str("nearest"))]),
            case(&[Any(&[1, 1, 5, 3]), Absent, Floats(&[4], &[1.0, 1.0, 0.6, 2.0])])
                .with(&[("coordinate_transformation_mode", Str("asymmetric")), ("nearest_mode", Str("ceil"))]),
            case(&[Any(&[1, 2, 3, 2]), Absent, Floats(&[4], &[1.0, 1.0, 2.0, 2.0])]).with(&[("mode", Str("linear"))]),
            case(&[Any(&[1, 1, 3, 4]), Absent, Absent, Ints(&[4], &[1, 1, 5, 2])])
                .with(&[("mode", Str("linear")), ("coordinate_transformation_mode", Str("align_corners"))]),
            case(&[Any(&[1, 1, 4, 3]), Absent, Absent, Ints(&[2], &[3, 6])]).with(&[
                ("mode", Str("linear")),
                ("axes", List(&[2, 3])),
                ("coordinate_transformation_mode", Str("pytorch_half_pixel")),
            ]),
            case(&[Any(&[1, 2, 2, 3, 2]), Absent, Floats(&[3], &[1.5, 2.0, 0.5])])
                .with(&[("mode", Str("linear")), ("axes", List(&[2, 3, -1]))]),
            case(&[Any(&[1, 1, 5]), Absent, Floats(&[3], &[1.0, 1.0, 0.7])])
                .with(&[("mode", Str("linear")), ("coordinate_transformation_mode", Str("half_pixel_symmetric"))]),
        ],
    ),
    ..UNARY
};

/// Whether sizes are taken as they are.
pub(super) fn stretched(node: &lorac_ir::Node) -> bool {
    node.str("keep_aspect_ratio_policy").is_none_or(|p| p == "stretch")
}

/// A dimension times a scale, where that is a polynomial.
fn scaled(dim: Dim, scale: f64) -> Dim {
    if scale.fract() == 0.0 {
        return dim * Dim::Known(scale as i64);
    }
    match (dim, scale.recip().fract() == 0.0) {
        (Dim::Known(n), _) => Dim::Known(f64::from((n as f64 * scale) as f32).floor() as i64),
        (dim, true) => dim.div_exact(Dim::Known(scale.recip() as i64)).unwrap_or(Dim::Unknown),
        _ => Dim::Unknown,
    }
}
