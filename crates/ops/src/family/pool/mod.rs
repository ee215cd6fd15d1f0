//! Pooling: AveragePool GlobalAveragePool GlobalLpPool GlobalMaxPool LpPool MaxPool MaxRoiPool MaxUnpool.

use super::conv::window::{Window, kernel_of, space, unfit};
use super::*;
use crate::Backward;
use ndarray::{Dimension, IxDyn, indices};

mod average;
mod global;
mod lp;
mod max;
mod unpool;

pub(super) const OPS: &[Op] = &[
    average::AVERAGE_POOL,
    global::GLOBAL_AVERAGE_POOL,
    global::GLOBAL_LP_POOL,
    global::GLOBAL_MAX_POOL,
    lp::LP_POOL,
    max::MAX_POOL,
    max::MAX_ROI_POOL,
    unpool::MAX_UNPOOL,
];

/// An operator with a window over each channel.
const POOL: Op = Op {
    infer: |c| {
        let fact = c.fact(0);
        let window = window_of(c.node)?;
        let Some(dims) = fact.dims() else {
            return one(Fact::new(fact.dtype, vec![Dim::Unknown; window.rank() + 2]));
        };
        if dims.len() != window.rank() + 2 {
            let want = format!("rank {}", window.rank() + 2);
            return Err(InferError::Operand { slot: 0, got: fact.clone(), want });
        }
        let counts = space(dims).iter().enumerate().map(|(i, n)| window.count(i, *n));
        one(Fact::new(fact.dtype, [dims[0], dims[1]].into_iter().chain(counts)))
    },
    flops: |c, k| {
        let kernel = c.node.ints("kernel_shape").unwrap_or_default();
        elementwise(c, k) * kernel.iter().fold(Dim::Known(1), |p, n| p * Dim::Known(*n))
    },
    ..UNARY
};

/// The window that a pool's attributes describe.
fn window_of(node: &lorac_ir::Node) -> Result<Window, InferError> {
    let missing = |want: String| InferError::Attribute { name: "kernel_shape", got: "absent".into(), want };
    let kernel = kernel_of(node, None, missing)?;
    Window::of(node, kernel.ok_or_else(|| missing("a kernel".into()))?)
}

/// The window of a node about to be differentiated; `None`, with the error kept, where it is wrong.
fn window(b: &Backward) -> Option<Window> {
    window_of(b.node).map_err(|e| b.emit.fail(e)).ok()
}

/// One result per window: `f` of the window's position, the row and channel, and the coordinates that it covers.
fn pool(a: &Args, mut f: impl FnMut(&Window, &[usize], (usize, usize), &[Vec<usize>]) -> f64) -> EvalResult {
    let window = window_of(a.node).map_err(unfit)?;
    let [n, channels, lens @ ..] = a.x(0)?.shape() else { return invalid("a pool takes rank 3 or more") };
    if lens.len() != window.rank() {
        return invalid(format!("a kernel of {:?} for {:?}", window.kernel, a.x(0)?.shape()));
    }
    let counts = window.counts(lens);
    let mut y = Array::zeros([&[*n, *channels], counts.as_slice()].concat());
    for at in indices(IxDyn(&counts)) {
        let seen: Vec<Vec<usize>> = window.covers(at.slice(), lens).into_iter().map(|(_, place)| place).collect();
        for (n, c) in (0..*n).flat_map(|n| (0..*channels).map(move |c| (n, c))) {
            let place = [&[n, c], at.slice()].concat();
            y[IxDyn(&place)] = f(&window, at.slice(), (n, c), &seen);
        }
    }
    Ok(vec![y])
}

/// The position of `space` in channel `c` of row `n`.
fn at_channel((n, c): (usize, usize), space: &[usize]) -> IxDyn {
    IxDyn(&[&[n, c], space].concat())
}
