//! Normalisations that ONNX Runtime's optimizer writes: EmbedLayerNormalization GatedRMSNorm GroupNorm
//! SimplifiedLayerNormalization SkipGroupNorm SkipLayerNormalization SkipSimplifiedLayerNormalization.

use super::*;
use crate::Attribute::{Float, Int};
use crate::Operand::{Absent, Any, Of};
use crate::{Emit, Val, case};
use lorac_ir::Node;

mod gated;
mod group;

pub(in crate::family) const OPS: &[Op] = &[
    EMBED_LAYER_NORMALIZATION,
    gated::GATED_RMS_NORM,
    group::GROUP_NORM,
    group::SKIP_GROUP_NORM,
    refused("BranchwiseRMSNorm", "its branches belong to one exporter; export the model with plain operators"),
    SIMPLIFIED_LAYER_NORMALIZATION,
    SKIP_LAYER_NORMALIZATION,
    SKIP_SIMPLIFIED_LAYER_NORMALIZATION,
];

/// Rows of `width` elements, centred where asked and divided by their deviation; also the means and the factors.
fn normal(x: &Array, width: usize, epsilon: f64, center: bool) -> (Array, Vec<f64>, Vec<f64>) {
    let mut y = x.as_standard_layout().into_owned();
    let (mut means, mut factors) = (Vec::new(), Vec::new());
    if let Some(flat) = y.as_slice_mut() {
        for row in flat.chunks_mut(width.max(1)) {
            let n = row.len() as f64;
            let mean = if center { row.iter().sum::<f64>() / n } else { 0.0 };
            let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
            let factor = 1.0 / (variance + epsilon).sqrt();
            row.iter_mut().for_each(|x| *x = (*x - mean) * factor);
            means.push(mean);
            factors.push(factor);
        }
    }
    (y, means, factors)
}

/// `y * scale + shift`, where there is one.
fn affine(y: &Array, scale: &Array, shift: Option<&Array>) -> Result<Array, EvalError> {
    let y = zip(y, scale, |x, s| x * s)?;
    match shift {
        Some(shift) => zip(&y, shift, |x, b| x + b),
        None => Ok(y),
    }
}

fn column(x: &Array, rows: Vec<f64>, from: usize) -> Result<Array, EvalError> {
    let dims: Vec<usize> = x.shape().iter().enumerate().map(|(i, n)| if i < from { *n } else { 1 }).collect();
    Ok(Array::from_shape_vec(dims, rows)?)
}

/// The fact of statistics over the axes from `from` on: f32 where the data is narrower.
fn statistics(fact: &Fact, from: usize) -> Fact {
    let dtype = if fact.dtype == DType::F64 { DType::F64 } else { DType::F32 };
    match fact.dims() {
        Some(dims) => Fact::new(dtype, dims.iter().enumerate().map(|(i, d)| if i < from { *d } else { Dim::Known(1) })),
        None => Fact::unranked(dtype),
    }
}

/// `x` over the root of the mean of its squares along `axes`, and the factor in the type of the sum.
fn over_root_mean_square<'e, 'g>(x: Val<'e, 'g>, axes: &[i64], epsilon: f64) -> (Val<'e, 'g>, Val<'e, 'g>) {
    let (e, narrow, x) = (x.emit(), x.fact().dtype, wide(x));
    let mean = e.op("ReduceMean", &[x * x, e.ints(axes)], &[]);
    let factor = (mean + epsilon).unary("Sqrt").unary("Reciprocal");
    ((x * factor).cast(narrow), factor)
}

/// `[y, mean, factor, sum]` of an operator whose operand is a sum with `skip` and, at `slot`, a bias.
fn skip_infer(c: &Ctx) -> InferResult {
    let x = c.fact(0);
    let shape = broadcast(&x, &c.fact(1))?;
    let sum = Fact { dtype: x.dtype, shape };
    let last = sum.rank().map_or(0, |r| r.saturating_sub(1));
    let stats = statistics(&sum, last);
    Ok(vec![sum.clone().into(), stats.clone().into(), stats.into(), sum.into()])
}

fn skip_sum(a: &Args, bias: usize) -> Result<Array, EvalError> {
    let sum = zip(a.x(0)?, a.x(1)?, |x, s| x + s)?;
    match a.opt(bias) {
        Some(bias) => zip(&sum, bias, |x, b| x + b),
        None => Ok(sum),
    }
}

fn skip_eval(a: &Args, center: bool, bias: usize) -> EvalResult {
    let sum = skip_sum(a, bias)?;
    let width = sum.shape().last().copied().unwrap_or(1);
    let (y, means, factors) = normal(&sum, width, f64::from(a.node.float("epsilon", 1e-12)), center);
    let shift = if center { a.opt(3) } else { None };
    let y = affine(&y, a.x(2)?, shift)?;
    let last = sum.ndim().saturating_sub(1);
    let (means, factors) = (column(&sum, means, last)?, column(&sum, factors, last)?);
    Ok(vec![y, means, factors, sum])
}

fn skip_lower<'e, 'g>(x: &[Val<'e, 'g>], bias: usize) -> Val<'e, 'g> {
    let sum = x[0] + x[1];
    x.get(bias).and_then(|b| b.present()).map_or(sum, |b| sum + b)
}

/// LayerNormalization over the last axis with all that the node asks for.
fn layer_norm<'e, 'g>(e: &'e Emit<'g>, node: &Node, x: &[Val<'e, 'g>]) -> Vec<Val<'e, 'g>> {
    let epsilon = node.float("epsilon", 1e-12);
    let results = if node.outputs.len() > 1 { 3 } else { 1 };
    e.ops("LayerNormalization", x, &[("axis", (-1i64).into()), ("epsilon", epsilon.into())], results)
}

// The kernel on the CPU leaves the mean and the deviation out.
const SKIP_LAYER_NORMALIZATION: Op = Op {
    name: "SkipLayerNormalization",
    traits: Traits::NORMALIZES.adds(&[0, 1]).bias(&[3, 4]),
    inputs: (3, 5),
    outputs: (1, 4),
    infer: skip_infer,
    eval: |a| skip_eval(a, true, 4),
    flops: |c, k| elementwise(c, k) * Dim::Known(9),
    grad: Grad::lower(
        |e, node, x| {
            let sum = skip_lower(x, 4);
            let beta = x.get(3).copied().unwrap_or(e.absent());
            let mut made = layer_norm(e, node, &[sum, x[2], beta]);
            made.push(sum);
            made
        },
        &[
            case(&[Any(&[2, 3, 4]), Any(&[2, 3, 4]), Any(&[4]), Any(&[4]), Any(&[4])]),
            case(&[Any(&[2, 3, 4]), Any(&[1, 3, 4]), Any(&[4]), Absent, Any(&[4])]).with(&[("epsilon", Float(0.1))]),
            case(&[Any(&[2, 3, 4]), Any(&[3, 4]), Any(&[4])]).with(&[("epsilon", Float(0.1))]),
        ],
    ),
    ..FUSED
};

const SKIP_SIMPLIFIED_LAYER_NORMALIZATION: Op = Op {
    name: "SkipSimplifiedLayerNormalization",
    traits: Traits::NORMALIZES.adds(&[0, 1]),
    inputs: (3, 4),
    outputs: (1, 4),
    infer: skip_infer,
    eval: |a| skip_eval(a, false, 3),
    flops: |c, k| elementwise(c, k) * Dim::Known(6),
    grad: Grad::lower(
        |_, node, x| {
            let sum = skip_lower(x, 3);
            let (y, factor) = over_root_mean_square(sum, &[-1], f64::from(node.float("epsilon", 1e-12)));
            let mut made = vec![y * x[2]];
            if node.outputs.len() > 1 {
                made.extend([factor.zeros_like(), factor, sum]);
            }
            made
        },
        &[
            case(&[Any(&[2, 3, 4]), Any(&[2, 3, 4]), Any(&[4]), Any(&[4])]),
            case(&[Any(&[3, 4]), Any(&[3, 4]), Any(&[4])]).with(&[("epsilon", Float(0.1))]),
        ],
    ),
    ..FUSED
};

/// ONNX Runtime registers it in the standard domain.
const SIMPLIFIED_LAYER_NORMALIZATION: Op = Op {
    domain: "",
    since: 13,
    name: "SimplifiedLayerNormalization",
    traits: Traits::NORMALIZES,
    inputs: (2, 2),
    outputs: (1, 2),
    infer: |c| {
        let fact = c.fact(0);
        let y = Fact { dtype: c.fact(1).dtype, ..fact.clone() };
        let Some(rank) = fact.rank() else { return one(y) };
        let stats = statistics(&fact, c.axis(-1, rank)?);
        Ok(vec![y.into(), stats.into()])
    },
    eval: |a| {
        let x = a.x(0)?;
        let axis = a.axis(-1, x.ndim())?;
        let width: usize = x.shape()[axis..].iter().product();
        let (y, _, factors) = normal(x, width, f64::from(a.node.float("epsilon", 1e-5)), false);
        Ok(vec![affine(&y, a.x(1)?, None)?, column(x, factors, axis)?])
    },
    flops: |c, k| elementwise(c, k) * Dim::Known(5),
    grad: Grad::lower(
        |_, node, x| {
            let (axis, rank) = (node.int("axis", -1), x[0].rank() as i64);
            let axes: Vec<i64> = (if axis < 0 { axis } else { axis - rank }..0).collect();
            let data = match x[0].fact().dtype {
                narrow @ (DType::F16 | DType::BF16) if node.int("stash_type", 1) == 1 => {
                    (x[0].cast(DType::F32), Some(narrow))
                }
                _ => (x[0], None),
            };
            let (y, factor) = over_root_mean_square(data.0, &axes, f64::from(node.float("epsilon", 1e-5)));
            vec![y.cast(x[1].fact().dtype) * x[1], factor]
        },
        &[
            case(&[Any(&[2, 3, 4]), Any(&[4])]).outputs(2),
            case(&[Any(&[2, 3, 4]), Any(&[3, 4])]).with(&[("axis", Int(1)), ("epsilon", Float(0.1))]),
        ],
    ),
};

const EMBED_LAYER_NORMALIZATION: Op = Op {
    name: "EmbedLayerNormalization",
    traits: Traits::NORMALIZES.bias(&[6]),
    inputs: (1, 9),
    outputs: (1, 3),
    infer: |c| {
        // The segments and their table may be absent.
        if [2, 3, 5, 6].iter().any(|slot| c.input(*slot).is_none()) {
            return Err(InferError::Arity { want: "7 to 9, segments left out or not".into(), got: c.inputs.len() });
        }
        let (ids, table) = (c.fact(0), c.fact(2));
        let y = match (ids.dims(), table.dims()) {
            (Some([b, s]), Some([_, h])) => Fact::new(table.dtype, [*b, *s, *h]),
            (None, _) | (_, None) => Fact::unranked(table.dtype),
            _ => return Err(InferError::Mismatch(ids, table)),
        };
        let batch = ids.dims().and_then(|d| d.first().copied()).unwrap_or(Dim::Unknown);
        Ok(vec![y.clone().into(), Fact::new(DType::I32, [batch]).into(), y.into()])
    },
    eval: |a| {
        let ids = a.x(0)?;
        let ([b, s], [_, h]) = (ids.shape(), a.x(2)?.shape()) else { return invalid("ids and tables have rank 2") };
        let (b, s, h) = (*b, *s, *h);
        let mut sum = Array::zeros(vec![b, s, h]);
        let mut add = |table: &Array, row: &dyn Fn(usize, usize) -> Option<f64>| -> Result<(), EvalError> {
            for (n, i) in (0..b).flat_map(|n| (0..s).map(move |i| (n, i))) {
                let at = row(n, i).filter(|r| *r >= 0.0).map(|r| r as usize);
                let Some(at) = at.filter(|at| table.shape().first().is_some_and(|rows| at < rows)) else {
                    return invalid("an id outside its table");
                };
                for j in 0..h {
                    let x = table.get([at, j].as_slice()).ok_or(EvalError::Invalid("tables differ in width".into()))?;
                    sum[[n, i, j]] += x;
                }
            }
            Ok(())
        };
        add(a.x(2)?, &|n, i| ids.get([n, i].as_slice()).copied())?;
        let places = a.opt(8);
        add(a.x(3)?, &|n, i| match places {
            Some(p) => p.get([n.min(p.shape().first()?.saturating_sub(1)), i].as_slice()).copied(),
            None => Some(i as f64),
        })?;
        if let (Some(segments), Some(table)) = (a.opt(1), a.opt(4)) {
            add(table, &|n, i| segments.get([n, i].as_slice()).copied())?;
        }
        let (y, ..) = normal(&sum, h, f64::from(a.node.float("epsilon", 1e-12)), true);
        let lengths: Vec<f64> = match a.opt(7) {
            Some(mask) => mask.outer_iter().map(|row| row.iter().filter(|m| **m == 1.0).count() as f64).collect(),
            None => vec![0.0; b],
        };
        let lengths = Array::from_shape_vec(vec![b], lengths)?;
        Ok(vec![affine(&y, a.x(5)?, Some(a.x(6)?))?, lengths, sum])
    },
    flops: |c, k| elementwise(c, k) * Dim::Known(10),
    grad: Grad::lower(
        |e, node, x| {
            let at = |slot: usize| x.get(slot).and_then(|v| v.present());
            let rows = |table: Val<'_, '_>, ids: Val<'_, '_>| (table.id(), ids.id());
            let gather = |(table, ids)| e.op("Gather", &[e.val(table), e.val(ids)], &[]);
            let places = at(8).unwrap_or_else(|| x[0].positions(1));
            let mut sum = gather(rows(x[2], x[0])) + gather(rows(x[3], places));
            if let (Some(segments), Some(table)) = (at(1), at(4)) {
                sum = sum + gather(rows(table, segments));
            }
            let attrs = [("axis", (-1i64).into()), ("epsilon", node.float("epsilon", 1e-12).into())];
            let mut made = vec![e.op("LayerNormalization", &[sum, x[5], x[6]], &attrs)];
            if node.outputs.len() > 1 {
                let mask = at(7).map(|m| m.binary("Equal", m.like(1.0)).cast(DType::I32));
                let none = || x[0].zeros_like().cast(DType::I32);
                made.extend([mask.unwrap_or_else(none).sum(&[1], false), sum]);
            }
            made
        },
        &[
            case(&[
                Of(DType::I32, &[2, 3], &[4, 0, 1, 2, 2, 3]),
                Of(DType::I32, &[2, 3], &[0, 0, 1, 1, 1, 0]),
                Any(&[5, 4]),
                Any(&[6, 4]),
                Any(&[2, 4]),
                Any(&[4]),
                Any(&[4]),
                Of(DType::I32, &[2, 3], &[1, 1, 0, 1, 1, 1]),
                Of(DType::I32, &[1, 3], &[2, 3, 5]),
            ])
            .outputs(3),
            case(&[
                Of(DType::I32, &[1, 3], &[4, 0, 1]),
                Absent,
                Any(&[5, 4]),
                Any(&[6, 4]),
                Absent,
                Any(&[4]),
                Any(&[4]),
            ])
            .with(&[("epsilon", Float(0.1))])
            .outputs(2),
        ],
    ),
    ..FUSED
};
