//! MaxUnpool.

use super::*;
use crate::Attribute::Ints as List;
use crate::Operand::{Any, Ints};
use crate::{Val, case};

pub(super) const MAX_UNPOOL: Op = Op {
    name: "MaxUnpool",
    inputs: (2, 3),
    infer: |c| {
        let (fact, window) = (c.fact(0), window_of(c.node)?);
        let rank = window.rank() + 2;
        if fact.rank().is_some_and(|r| r != rank) {
            return Err(InferError::Operand { slot: 0, got: fact, want: format!("rank {rank}") });
        }
        let dims = match (c.input(2), c.content(2), fact.dims()) {
            (Some(_), Some(shape), _) if shape.len() == rank => shape.to_vec(),
            (None, _, Some(dims)) => {
                let lens = space(dims).iter().enumerate().map(|(i, n)| unpooled(&window, i, *n));
                [dims[0], dims[1]].into_iter().chain(lens).collect()
            }
            _ => vec![Dim::Unknown; rank],
        };
        one(Fact::new(fact.dtype, dims))
    },
    eval: |a| {
        let (x, at) = (a.x(0)?, a.x(1)?);
        let window = window_of(a.node).map_err(unfit)?;
        let [n, channels, lens @ ..] = x.shape() else { return invalid("MaxUnpool takes rank 3 or more") };
        if lens.len() != window.rank() || at.shape() != x.shape() {
            return invalid(format!("MaxUnpool of {:?} at {:?}", x.shape(), at.shape()));
        }
        let length = |(i, n): (usize, &usize)| unpooled(&window, i, Dim::from(*n)).known().unwrap_or(0).max(0) as usize;
        let dims: Vec<usize> = [*n, *channels].into_iter().chain(lens.iter().enumerate().map(length)).collect();
        let mut flat = vec![0.0; dims.iter().product()];
        for (x, at) in x.iter().zip(at.iter()) {
            match flat.get_mut(*at as usize) {
                Some(place) if *at >= 0.0 => *place = *x,
                _ => return invalid(format!("position {at} of {}", flat.len())),
            }
        }
        let y = Array::from_shape_vec(dims, flat)?;
        if a.opt(2).is_none() {
            return Ok(vec![y]);
        }
        let shape: Vec<usize> = a.ints(2)?.iter().map(|n| (*n).max(0) as usize).collect();
        if shape.len() != y.ndim() || shape.iter().zip(y.shape()).any(|(wide, n)| wide < n) {
            return invalid(format!("{:?} unpooled to {shape:?}", y.shape()));
        }
        let mut wide = Array::zeros(shape);
        let part = y.shape().to_vec();
        wide.slice_each_axis_mut(|axis| ndarray::Slice::from(0..part[axis.axis.index()])).assign(&y);
        Ok(vec![wide])
    },
    flops: |_, _| Dim::Known(0),
    // Every element takes the gradient from where it was put.
    grad: Grad::rule(
        |b| {
            let Some(window) = window(b) else { return Vec::new() };
            let (e, x) = (b.emit, b.x[0]);
            // With another shape ONNX Runtime counts positions in that, the operator's page in the one before.
            let other = b.x.get(2).is_some_and(|v| !v.is_absent()) && !natural(x, b.gy, &window);
            if other {
                let want = "the output_shape that follows from the pool: engines disagree about any other".to_string();
                e.fail(InferError::Operand { slot: 2, got: b.gy.fact(), want });
            }
            let at: Val = b.x[1];
            vec![Some(b.gy.reshape(&[-1]).binary("Gather", at.reshape(&[-1])).reshape_like(x)), None]
        },
        &[
            case(&[Any(&[1, 2, 2]), Ints(&[1, 2, 2], &[1, 2, 4, 7])])
                .with(&[("kernel_shape", List(&[2])), ("strides", List(&[2]))]),
            case(&[Any(&[1, 1, 2, 2]), Ints(&[1, 1, 2, 2], &[5, 7, 13, 15])])
                .with(&[("kernel_shape", List(&[2, 2])), ("strides", List(&[2, 2]))]),
        ],
    ),
    ..UNARY
};

/// The length of which a pool leaves `count` windows.
fn unpooled(window: &Window, axis: usize, count: Dim) -> Dim {
    let (before, after) = window.pads(axis, None).unwrap_or((0, 0));
    (count - Dim::Known(1)) * Dim::Known(window.strides[axis]) + Dim::Known(window.kernel[axis] - before - after)
}

/// Whether `y` has the lengths that follow from `x`.
fn natural(x: Val, y: Val, window: &Window) -> bool {
    let (x, y) = (x.fact(), y.fact());
    let (Some(x), Some(y)) = (x.dims(), y.dims()) else { return false };
    let pairs = space(x).iter().zip(space(y)).enumerate();
    x.len() == y.len() && pairs.into_iter().all(|(i, (n, len))| unpooled(window, i, *n).same(*len))
}
