//! Planes of mean zero and deviation one: GroupNormalization InstanceNormalization MeanVarianceNormalization.

use super::*;
use crate::Attribute::{Float, Int, Ints as List};
use crate::Operand::Any;
use crate::case;
use crate::family::conv::window::{space_axes, stated};

/// An operator with scale and bias.
const SCALED: Op = Op {
    inputs: (3, 3),
    infer: |c| match c.fact(0) {
        fact if fact.rank().is_some_and(|r| r < 2) => {
            Err(InferError::Operand { slot: 0, got: fact, want: "rank 2 or more".into() })
        }
        fact => one(fact),
    },
    ..NORMAL
};

pub(super) const INSTANCE_NORMALIZATION: Op = Op {
    name: "InstanceNormalization",
    traits: Traits::NORMALIZES.bias(&[2]),
    eval: |a| {
        let channels = a.x(0)?.shape().get(1).copied().unwrap_or(1);
        scaled(a, channels)
    },
    grad: Grad::lower(
        |_, node, x| {
            let (x, scale, bias) = (x[0], x[1], x[2]);
            let rank = x.rank();
            let normal = standard(wide(x), &space_axes(rank.saturating_sub(2)), epsilon(node)).cast(x.fact().dtype);
            vec![stated(normal * by_channel(scale, rank) + by_channel(bias, rank), x)]
        },
        &[
            case(&[Any(&[2, 3, 2, 2]), Any(&[3]), Any(&[3])]),
            case(&[Any(&[2, 2, 4]), Any(&[2]), Any(&[2])]).with(&[("epsilon", Float(0.1))]),
        ],
    ),
    ..SCALED
};

pub(super) const GROUP_NORMALIZATION: Op = Op {
    name: "GroupNormalization",
    traits: Traits::NORMALIZES.bias(&[2]),
    since: 18,
    infer: |c| {
        let groups = groups(c.node)?;
        if let Some(Dim::Known(channels)) = c.dims(0).and_then(|d| d.get(1))
            && channels % groups != 0
        {
            let want = format!("channels in {groups} groups");
            return Err(InferError::Operand { slot: 0, got: c.fact(0), want });
        }
        (SCALED.infer)(c)
    },
    eval: |a| {
        let groups = groups(a.node).map_err(|e| EvalError::Invalid(e.to_string()))?;
        scaled(a, groups as usize)
    },
    // Scale and bias belonged to groups until opset 21, and belong to channels since. Their length says which, also in
    // a copy whose opset was raised.
    grad: Grad::lower(
        |e, node, x| {
            let (x, scale, bias) = (x[0], x[1], x[2]);
            let groups = match groups(node) {
                Ok(groups) => groups,
                Err(error) => return vec![e.fail(error)],
            };
            let rank = x.rank();
            let normal = standard(wide(x).reshape(&[0, groups, -1]), &[2], epsilon(node)).cast(x.fact().dtype);
            let by_group = match scale.fact().dims() {
                Some([Dim::Known(n)]) => *n == groups,
                _ => e.graph().opset() < 21,
            };
            if by_group {
                let y = normal * by_channel(scale, 3) + by_channel(bias, 3);
                return vec![y.binary("Reshape", x.shape())];
            }
            let normal = normal.binary("Reshape", x.shape());
            vec![stated(normal * by_channel(scale, rank) + by_channel(bias, rank), x)]
        },
        &[
            case(&[Any(&[2, 4, 3]), Any(&[4]), Any(&[4])]).with(&[("num_groups", Int(2))]).opset(21),
            case(&[Any(&[2, 4, 2, 2]), Any(&[2]), Any(&[2])])
                .with(&[("num_groups", Int(2)), ("epsilon", Float(0.1))])
                .opset(18),
        ],
    ),
    ..SCALED
};

fn groups(node: &lorac_ir::Node) -> Result<i64, InferError> {
    match node.int("num_groups", 0) {
        n if n >= 1 => Ok(n),
        n => Err(InferError::Attribute { name: "num_groups", got: n.to_string(), want: "at least 1".into() }),
    }
}

/// Rows of `groups` planes each, normalised, scaled and shifted by what belongs to the channel or the group.
fn scaled(a: &Args, groups: usize) -> EvalResult {
    let x = a.x(0)?;
    let [rows, channels, lens @ ..] = x.shape() else { return invalid("a normalization takes rank 2 or more") };
    let (scale, bias): (Vec<f64>, Vec<f64>) = (a.x(1)?.iter().copied().collect(), a.x(2)?.iter().copied().collect());
    let fits = groups > 0 && channels % groups == 0 && scale.len() == bias.len();
    if !fits || (scale.len() != *channels && scale.len() != groups) {
        return invalid(format!("{} scales for {channels} channels in {groups} groups", scale.len()));
    }
    let plane = lens.iter().product::<usize>();
    let mut flat: Vec<f64> = x.iter().copied().collect();
    let width = channels / groups * plane;
    if width == 0 || *rows == 0 {
        return Ok(vec![x.clone()]);
    }
    for row in flat.chunks_mut(width) {
        let (mean, variance) = moments(row);
        row.iter_mut().for_each(|x| *x = (*x - mean) / (variance + epsilon(a.node)).sqrt());
    }
    let each = channels / scale.len();
    for (at, x) in flat.iter_mut().enumerate() {
        let place = at / plane % channels / each;
        *x = *x * scale[place] + bias[place];
    }
    Ok(vec![Array::from_shape_vec(x.shape(), flat)?])
}

pub(super) const MEAN_VARIANCE_NORMALIZATION: Op = Op {
    name: "MeanVarianceNormalization",
    traits: Traits::NORMALIZES,
    infer: |c| {
        if let Some(rank) = c.fact(0).rank() {
            let axes = mean_axes(c.node);
            if let Some(axis) = axes.iter().find(|a| !(-(rank as i64)..rank as i64).contains(a)) {
                let want = format!("one of {rank} axes");
                return Err(InferError::Attribute { name: "axes", got: axis.to_string(), want });
            }
        }
        like_first(c)
    },
    eval: |a| {
        let x = a.x(0)?;
        let axes = mean_axes(a.node).iter().map(|i| crate::eval::axis(*i, x.ndim())).collect::<Result<Vec<_>, _>>()?;
        let mut y = x.clone();
        let kept: Vec<usize> = (0..x.ndim()).filter(|i| !axes.contains(i)).collect();
        let dims: Vec<usize> = kept.iter().map(|i| x.shape()[*i]).collect();
        for at in ndarray::indices(ndarray::IxDyn(&dims)) {
            use ndarray::Dimension;
            let mut plane = y.view_mut();
            for (axis, i) in kept.iter().zip(at.slice()) {
                plane.collapse_axis(ndarray::Axis(*axis), *i);
            }
            let (mean, variance) = moments(&plane.iter().copied().collect::<Vec<_>>());
            plane.mapv_inplace(|x| (x - mean) / (variance.sqrt() + DEVIATION));
        }
        Ok(vec![y])
    },
    grad: Grad::lower(
        |_, node, x| {
            let (x, axes) = (x[0], mean_axes(node));
            let v = wide(x);
            let center = v - mean_over(v, &axes);
            let deviation = mean_over(center * center, &axes).unary("Sqrt") + DEVIATION;
            vec![(center / deviation).cast(x.fact().dtype)]
        },
        &[case(&[Any(&[2, 3, 2, 2])]), case(&[Any(&[2, 5])]).with(&[("axes", List(&[-1]))])],
    ),
    ..NORMAL
};

/// What the operator's page adds to the deviation.
const DEVIATION: f64 = 1e-9;

fn mean_axes(node: &lorac_ir::Node) -> Vec<i64> {
    node.ints("axes").unwrap_or(&[0, 2, 3]).to_vec()
}
