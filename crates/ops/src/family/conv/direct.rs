//! Conv, and what its gradient shares with that of ConvTranspose.

use super::window::{Window, kernel_of, patches, space, space_axes, spread, stated, unfit};
use super::*;
use crate::Attribute::{Int, Ints as List, Str};
use crate::Operand::Any;
use crate::{Backward, Val, case};
use lorac_ir::Node;
use ndarray::{Dimension, IxDyn, indices};

pub(super) const CONV: Op = Op {
    name: "Conv",
    traits: Traits::NONE.bias(&[2]),
    inputs: (2, 3),
    infer: |c| {
        let x = c.fact(0);
        let Some(window) = window(c)? else {
            return one(Fact { dtype: x.dtype, shape: x.rank().map(|r| vec![Dim::Unknown; r]) });
        };
        let weight = c.dims(1);
        let filters = weight.and_then(|d| d.first().copied()).unwrap_or(Dim::Unknown);
        let Some(dims) = x.dims() else {
            return one(Fact::new(
                x.dtype,
                [Dim::Unknown, filters].into_iter().chain(vec![Dim::Unknown; window.rank()]),
            ));
        };
        let group = group(c.node)?;
        if let (Some(Dim::Known(all)), Some(Dim::Known(share))) = (dims.get(1), weight.and_then(|d| d.get(1)))
            && share.checked_mul(group) != Some(*all)
        {
            return Err(InferError::Mismatch(x.clone(), c.fact(1)));
        }
        let counts = space(dims).iter().enumerate().map(|(i, n)| window.count(i, *n));
        one(Fact::new(x.dtype, [dims[0], filters].into_iter().chain(counts)))
    },
    eval: |a| {
        let (x, w) = (a.x(0)?, a.x(1)?);
        let ([n, channels, lens @ ..], [filters, share, kernel @ ..]) = (x.shape(), w.shape()) else {
            return invalid("Conv takes rank 3 or more");
        };
        let group = group(a.node).map_err(unfit)? as usize;
        let fits = lens.len() == kernel.len() && !lens.is_empty() && share.checked_mul(group) == Some(*channels);
        if !fits || filters % group != 0 {
            return invalid(format!("Conv of {:?} by {:?} in {group} groups", x.shape(), w.shape()));
        }
        let window = Window::of(a.node, kernel.iter().map(|k| *k as i64).collect()).map_err(unfit)?;
        let bias = bias(a, 2, *filters)?;
        let counts = window.counts(lens);
        let mut y = Array::zeros([&[*n, *filters], counts.as_slice()].concat());
        for at in indices(IxDyn(&counts)) {
            let seen = window.covers(at.slice(), lens);
            for (n, m) in (0..*n).flat_map(|n| (0..*filters).map(move |m| (n, m))) {
                let first = m / (filters / group) * share;
                let mut sum = bias.get(m).copied().unwrap_or(0.0);
                for (k, place) in &seen {
                    for c in 0..*share {
                        sum += x[at_channel(n, first + c, place)] * w[at_channel(m, c, k)];
                    }
                }
                y[at_channel(n, m, at.slice())] = sum;
            }
        }
        Ok(vec![y])
    },
    flops: |c, k| {
        let products = c.dims(1).and_then(|d| d.get(1..)).map(|d| d.iter().fold(Dim::Known(2), |p, d| p * *d));
        elementwise(c, k) * products.unwrap_or(Dim::Unknown)
    },
    // By the operand: every window gives back through its weights. By the weight: one product of the gradient with all
    // that the windows saw.
    grad: Grad::rule(
        |b| {
            let Some(window) = known_window(b) else { return Vec::new() };
            let group = b.node.int("group", 1);
            let (x, w) = (b.x[0], b.x[1]);
            vec![
                b.want(0, || stated(spread(b.gy, w, &window, group, x), x)),
                b.want(1, || by_weight(b.gy, x, &window, group, w)),
                b.want(2, || by_bias(b)),
            ]
        },
        &[
            case(&[Any(&[2, 2, 5, 4]), Any(&[3, 2, 3, 2]), Any(&[3])])
                .with(&[("kernel_shape", List(&[3, 2])), ("pads", List(&[1, 0, 2, 1]))]),
            // A stride that leaves a rest, dilated.
            case(&[Any(&[1, 1, 8, 6]), Any(&[2, 1, 2, 2])]).with(&[
                ("kernel_shape", List(&[2, 2])),
                ("strides", List(&[3, 2])),
                ("dilations", List(&[2, 1])),
                ("pads", List(&[0, 1, 0, 0])),
            ]),
            case(&[Any(&[2, 4, 5]), Any(&[6, 2, 3]), Any(&[6])]).with(&[
                ("kernel_shape", List(&[3])),
                ("group", Int(2)),
                ("strides", List(&[2])),
            ]),
            // One filter for every channel.
            case(&[Any(&[1, 3, 4, 4]), Any(&[3, 1, 2, 2])]).with(&[
                ("kernel_shape", List(&[2, 2])),
                ("group", Int(3)),
                ("auto_pad", Str("VALID")),
            ]),
            case(&[Any(&[1, 1, 5, 6]), Any(&[1, 1, 2, 3])]).with(&[
                ("kernel_shape", List(&[2, 3])),
                ("auto_pad", Str("SAME_UPPER")),
                ("strides", List(&[2, 2])),
            ]),
            case(&[Any(&[1, 1, 4, 7]), Any(&[1, 1, 2, 4])]).with(&[
                ("kernel_shape", List(&[2, 4])),
                ("auto_pad", Str("SAME_LOWER")),
                ("strides", List(&[1, 3])),
            ]),
            // A kernel shorter than its stride.
            case(&[Any(&[1, 2, 5, 4]), Any(&[2, 2, 1, 1])])
                .with(&[("kernel_shape", List(&[1, 1])), ("strides", List(&[2, 3]))]),
            case(&[Any(&[1, 1, 3, 3, 4]), Any(&[2, 1, 2, 2, 2])])
                .with(&[("kernel_shape", List(&[2, 2, 2])), ("strides", List(&[1, 1, 2]))]),
        ],
    ),
    ..UNARY
};

/// The position of `space` in channel `c` of row `n`.
pub(super) fn at_channel(n: usize, c: usize, space: &[usize]) -> IxDyn {
    IxDyn(&[&[n, c], space].concat())
}

/// The number of groups.
pub(super) fn group(node: &Node) -> Result<i64, InferError> {
    match node.int("group", 1) {
        n if n >= 1 => Ok(n),
        n => Err(InferError::Attribute { name: "group", got: n.to_string(), want: "at least 1".into() }),
    }
}

/// The window of a node about to be inferred; `None` where the kernel's lengths are not known.
pub(super) fn window(c: &Ctx) -> Result<Option<Window>, InferError> {
    let fail = |want: String| InferError::Operand { slot: 1, got: c.fact(1), want };
    let Some(kernel) = kernel_of(c.node, c.dims(1), fail)? else { return Ok(None) };
    if c.fact(0).rank().is_some_and(|r| r != kernel.len() + 2) {
        let want = format!("rank {} for a kernel of {kernel:?}", kernel.len() + 2);
        return Err(InferError::Operand { slot: 0, got: c.fact(0), want });
    }
    Window::of(c.node, kernel).map(Some)
}

/// The window of a node about to be differentiated; `None`, with the error kept, where it is not known.
pub(super) fn known_window(b: &Backward) -> Option<Window> {
    let fact = b.x[1].fact();
    let fail = |want: String| InferError::Operand { slot: 1, got: fact.clone(), want };
    let window = kernel_of(b.node, fact.dims(), fail).and_then(|kernel| {
        let kernel = kernel.ok_or_else(|| fail("a kernel of known lengths".into()))?;
        Window::of(b.node, kernel)
    });
    match window {
        Ok(window) => Some(window),
        Err(e) => {
            b.emit.fail(e);
            None
        }
    }
}

/// The bias of every output channel; empty where there is none.
pub(super) fn bias(a: &Args, slot: usize, channels: usize) -> Result<Vec<f64>, EvalError> {
    match a.opt(slot) {
        Some(bias) if bias.len() != channels => {
            invalid(format!("a bias of {:?} for {channels} channels", bias.shape()))
        }
        Some(bias) => Ok(bias.iter().copied().collect()),
        None => Ok(Vec::new()),
    }
}

/// The gradient of a bias: the sum over everything but channels.
pub(super) fn by_bias<'e, 'g>(b: &Backward<'e, 'g>) -> Val<'e, 'g> {
    let rank = b.gy.rank().saturating_sub(2);
    b.gy.sum(&[&[0], space_axes(rank).as_slice()].concat(), false)
}

/// The gradient of a weight: products of `outer` (`[N,M,O..]`), one value per window, with what the windows see of
/// `inner` (`[N,C,..]`), group by group.
pub(super) fn by_weight<'e, 'g>(
    outer: Val<'e, 'g>,
    inner: Val<'e, 'g>,
    window: &Window,
    group: i64,
    weight: Val<'e, 'g>,
) -> Val<'e, 'g> {
    let e = outer.emit();
    let flat = |x: Val<'e, 'g>, axis: i64| e.op("Flatten", &[x], &[("axis", axis.into())]);
    let mut order: Vec<usize> = (0..window.rank() + 2).collect();
    order.swap(0, 1);
    let rows = flat(outer.transpose(&order), 1);
    let cols = flat(patches(inner, window), 2);
    if group == 1 {
        return e.op("Gemm", &[rows, cols], &[("transB", 1i64.into())]).reshape_like(weight);
    }
    let grouped = |x: Val<'e, 'g>| x.binary("Unsqueeze", e.ints(&[0])).reshape(&[group, -1, 0]);
    grouped(rows).matmul(grouped(cols).t()).reshape_like(weight)
}
