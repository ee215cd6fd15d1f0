//! MaxPool MaxRoiPool.

use super::*;
use crate::Attribute::{Int, Ints as List, Str};
use crate::Operand::Apart;
use crate::family::index::accumulate;
use crate::{Val, case};
use lorac_ir::Attr;

pub(super) const MAX_POOL: Op = Op {
    name: "MaxPool",
    outputs: (1, 2),
    infer: |c| {
        let mut known = (POOL.infer)(c)?;
        if let Some(y) = known.first() {
            let at = Fact { dtype: DType::I64, ..y.fact.clone() };
            known.push(at.into());
        }
        Ok(known)
    },
    eval: |a| {
        let x = a.x(0)?;
        let columns = a.node.int("storage_order", 0) != 0;
        let mut places = Vec::new();
        let y = pool(a, |_, _, channel, seen| {
            let mut best: Option<(f64, &Vec<usize>)> = None;
            for place in seen {
                let x = x[at_channel(channel, place)];
                if best.is_none_or(|(max, _)| x > max) {
                    best = Some((x, place));
                }
            }
            let plane = (channel.0 * x.shape()[1] + channel.1) * x.shape()[2..].iter().product::<usize>();
            places.push(best.map_or(-1.0, |(_, place)| (plane + flat(place, &x.shape()[2..], columns)) as f64));
            best.map_or(f64::NEG_INFINITY, |(max, _)| max)
        })?;
        let Some(max) = y.into_iter().next() else { return invalid("MaxPool without a result") };
        // `pool` goes from window to window, and at each over rows and channels.
        let rank = max.ndim();
        let turned: Vec<usize> = (2..rank).chain([0, 1]).map(|i| max.shape()[i]).collect();
        let order: Vec<usize> = [rank - 2, rank - 1].into_iter().chain(0..rank - 2).collect();
        let at = Array::from_shape_vec(turned, places)?.permuted_axes(order);
        Ok(vec![max, at.as_standard_layout().into_owned()])
    },
    // The gradient of a window goes to its first greatest element, which the operator can name.
    grad: Grad::rule(
        |b| {
            let x = b.x[0];
            let at = match b.ys.get(1) {
                Some(at) if b.node.int("storage_order", 0) == 0 => *at,
                _ => {
                    let kept = b.node.attrs.iter().filter(|(name, _)| &***name != "storage_order");
                    let attrs: Vec<(&str, Attr)> = kept.map(|(name, a)| (&**name, a.clone())).collect();
                    b.emit.ops("MaxPool", &[x], &attrs, 2).get(1).copied().unwrap_or(b.emit.absent())
                }
            };
            vec![Some(scattered(b.gy, at, x))]
        },
        &[
            // Windows that overlap, and padding.
            case(&[Apart(&[2, 2, 5, 4])]).with(&[
                ("kernel_shape", List(&[3, 2])),
                ("strides", List(&[2, 1])),
                ("pads", List(&[1, 1, 1, 0])),
            ]),
            case(&[Apart(&[1, 2, 6])]).with(&[
                ("kernel_shape", List(&[2])),
                ("strides", List(&[3])),
                ("dilations", List(&[2])),
                ("ceil_mode", Int(1)),
            ]),
            case(&[Apart(&[1, 2, 4, 3])])
                .with(&[("kernel_shape", List(&[2, 2])), ("storage_order", Int(1)), ("auto_pad", Str("SAME_LOWER"))])
                .outputs(2),
        ],
    ),
    ..POOL
};

/// The place of `at` in a tensor of lengths `dims`, the last axis (`columns`: the first) running fastest.
fn flat(at: &[usize], dims: &[usize], columns: bool) -> usize {
    let pairs = at.iter().zip(dims);
    match columns {
        false => pairs.fold(0, |place, (i, n)| place * n + i),
        true => pairs.rev().fold(0, |place, (i, n)| place * n + i),
    }
}

/// Zeros like `x` with `g` added at the flat positions `at`.
fn scattered<'e, 'g>(g: Val<'e, 'g>, at: Val<'e, 'g>, x: Val<'e, 'g>) -> Val<'e, 'g> {
    let zeros = x.zeros_like().reshape(&[-1]);
    let attrs = [("axis", 0i64.into()), ("reduction", "add".into())];
    let operands = [zeros, at.reshape(&[-1]), g.reshape(&[-1])];
    accumulate("ScatterElements", operands, &attrs).binary("Reshape", x.shape())
}

pub(super) const MAX_ROI_POOL: Op = Op {
    name: "MaxRoiPool",
    inputs: (2, 2),
    infer: |c| {
        let (x, rois) = (c.fact(0), c.dims(1).map_or(Dim::Unknown, |d| d.first().copied().unwrap_or(Dim::Unknown)));
        let shape = c.node.ints("pooled_shape").unwrap_or_default();
        let [h, w] = *shape else {
            let (got, want) = (format!("{shape:?}"), "two lengths".to_string());
            return Err(InferError::Attribute { name: "pooled_shape", got, want });
        };
        if h < 1 || w < 1 {
            let (got, want) = (format!("{shape:?}"), "two lengths of at least 1".to_string());
            return Err(InferError::Attribute { name: "pooled_shape", got, want });
        }
        let channels = x.dims().and_then(|d| d.get(1).copied()).unwrap_or(Dim::Unknown);
        one(Fact::new(x.dtype, [rois, channels, Dim::Known(h), Dim::Known(w)]))
    },
    eval: max_roi_pool,
    grad: Grad::Unsupported(
        "which element of a region is greatest is not among its results, and the regions' bounds are known to the run \
         only: a gradient would have to compare every element with every region; RoiAlign has one",
    ),
    ..UNARY
};

fn max_roi_pool(a: &Args) -> EvalResult {
    let (x, rois) = (a.x(0)?, a.x(1)?);
    let ([batch, channels, height, width], [count, 5], Some([h, w])) =
        (x.shape(), rois.shape(), a.node.ints("pooled_shape"))
    else {
        return invalid("MaxRoiPool takes [N,C,H,W], [R,5] and pooled_shape");
    };
    let length = |n: &i64| usize::try_from(*n).ok().filter(|n| *n > 0);
    let (Some(tall), Some(broad)) = (length(h), length(w)) else {
        return invalid(format!("a pooled_shape of {h} x {w}"));
    };
    affordable(&[*count, *channels, tall, broad])?;
    let scale = f64::from(a.node.float("spatial_scale", 1.0));
    let mut y = Array::zeros(vec![*count, *channels, tall, broad]);
    for r in 0..*count {
        let n = rois[[r, 0]] as usize;
        if n >= *batch {
            return invalid(format!("region of row {n} of {batch}"));
        }
        let bound = |i: usize| (rois[[r, i]] * scale).round();
        let bin = |from: f64, to: f64, parts: i64, at: usize, len: usize| {
            let size = (to - from + 1.0).max(1.0) / parts as f64;
            let clamp = |x: f64| (x + from).clamp(0.0, len as f64) as usize;
            clamp((at as f64 * size).floor())..clamp(((at + 1) as f64 * size).ceil())
        };
        for ((c, i), j) in
            (0..*channels).flat_map(|c| (0..tall).map(move |i| (c, i))).flat_map(|ci| (0..broad).map(move |j| (ci, j)))
        {
            let rows = bin(bound(2), bound(4), *h, i, *height);
            let cols = bin(bound(1), bound(3), *w, j, *width);
            let cells = rows.flat_map(|row| cols.clone().map(move |col| (row, col)));
            let max = cells.map(|(row, col)| x[[n, c, row, col]]).reduce(f64::max);
            y[[r, c, i, j]] = max.unwrap_or(0.0);
        }
    }
    Ok(vec![y])
}
