//! DeformConv.

use super::super::resize::taps::{gathered, inside, linear};
use super::direct::{at_channel, bias, group};
use super::window::{Padding, Window, kernel_of, space, unfit};
use super::*;
use crate::Attribute::{Int, Ints as List};
use crate::Operand::{Absent, Any};
use crate::{Emit, Val, case};
use lorac_ir::{Node, Tensor};
use ndarray::{Dimension, IxDyn, indices};

pub(super) const DEFORM_CONV: Op = Op {
    name: "DeformConv",
    since: 19,
    inputs: (3, 5),
    infer: |c| {
        let (x, w) = (c.fact(0), c.dims(1));
        let filters = w.and_then(|d| d.first().copied()).unwrap_or(Dim::Unknown);
        let fail = |want: String| InferError::Operand { slot: 1, got: c.fact(1), want };
        let Some(kernel) = kernel_of(c.node, w, fail)? else {
            return one(Fact { dtype: x.dtype, shape: x.rank().map(|r| vec![Dim::Unknown; r]) });
        };
        group(c.node)?;
        offset_groups(c.node)?;
        let window = Window::of(c.node, kernel)?;
        match x.dims() {
            Some(dims) if dims.len() == window.rank() + 2 => {
                let counts = space(dims).iter().enumerate().map(|(i, n)| window.count(i, *n));
                one(Fact::new(x.dtype, [dims[0], filters].into_iter().chain(counts)))
            }
            Some(_) => Err(InferError::Operand { slot: 0, got: x, want: format!("rank {}", window.rank() + 2) }),
            None => one(Fact::new(x.dtype, vec![Dim::Unknown; window.rank() + 2])),
        }
    },
    eval,
    flops: |c, k| {
        let products = c.dims(1).and_then(|d| d.get(1..)).map(|d| d.iter().fold(Dim::Known(2), |p, d| p * *d));
        elementwise(c, k) * products.unwrap_or(Dim::Unknown)
    },
    grad: Grad::lower(
        lower,
        &[
            case(&[Any(&[1, 2, 4, 4]), Any(&[3, 2, 2, 2]), Any(&[1, 8, 3, 3]), Any(&[3])])
                .with(&[("kernel_shape", List(&[2, 2]))]),
            case(&[Any(&[2, 4, 4, 5]), Any(&[2, 2, 2, 3]), Any(&[2, 24, 2, 2]), Absent, Any(&[2, 12, 2, 2])]).with(&[
                ("kernel_shape", List(&[2, 3])),
                ("group", Int(2)),
                ("offset_group", Int(2)),
                ("strides", List(&[2, 2])),
                ("dilations", List(&[1, 2])),
                ("pads", List(&[1, 1, 0, 1])),
            ]),
        ],
    ),
    ..UNARY
};

fn offset_groups(node: &Node) -> Result<i64, InferError> {
    match node.int("offset_group", 1) {
        n @ 1..=65536 => Ok(n),
        n => Err(InferError::Attribute { name: "offset_group", got: n.to_string(), want: "at least 1".into() }),
    }
}

/// Where a window's elements lie before they are moved, in units of elements: for each axis, one number for each
/// element of the window and each window.
fn places(window: &Window, counts: &[usize], axis: usize) -> Vec<f64> {
    let kernel: Vec<usize> = window.kernel.iter().map(|k| *k as usize).collect();
    let (before, _) = window.pads(axis, None).unwrap_or((0, 0));
    let of = |k: usize, at: usize| {
        at as f64 * window.strides[axis] as f64 + k as f64 * window.dilations[axis] as f64 - before as f64
    };
    let elements = indices(IxDyn(&kernel)).into_iter().map(|k| k[axis]);
    elements.flat_map(|k| indices(IxDyn(counts)).into_iter().map(move |at| of(k, at[axis]))).collect()
}

fn eval(a: &Args) -> EvalResult {
    let (x, w, offset) = (a.x(0)?, a.x(1)?, a.x(2)?);
    let ([n, channels, lens @ ..], [filters, share, kernel @ ..]) = (x.shape(), w.shape()) else {
        return invalid("DeformConv takes rank 3 or more");
    };
    let groups = group(a.node).map_err(unfit)? as usize;
    let parts = offset_groups(a.node).map_err(unfit)? as usize;
    let window = Window::of(a.node, kernel.iter().map(|k| *k as i64).collect()).map_err(unfit)?;
    if !matches!(window.padding, Padding::Explicit(_)) || lens.len() != kernel.len() {
        return invalid("DeformConv of another rank than its kernel's, or padded by itself");
    }
    let counts = window.counts(lens);
    let (rank, cells) = (kernel.len(), kernel.iter().product::<usize>());
    let fits = share.checked_mul(groups) == Some(*channels) && filters % groups == 0 && channels % parts == 0;
    let shape = |rows: usize| [&[*n, rows], counts.as_slice()].concat();
    let mask_fits = a.opt(4).is_none_or(|m| m.shape() == shape(parts * cells));
    if !fits || offset.shape() != shape(parts * cells * rank) || !mask_fits {
        return invalid(format!("DeformConv of {:?} by {:?} moved by {:?}", x.shape(), w.shape(), offset.shape()));
    }
    let bias = bias(a, 3, *filters)?;
    let mut y = Array::zeros(shape(*filters));
    for (row, at) in (0..*n).flat_map(|row| indices(IxDyn(&counts)).into_iter().map(move |at| (row, at))) {
        let at = at.slice();
        for (cell, k) in indices(IxDyn(kernel)).into_iter().enumerate() {
            let k = k.slice();
            for c in 0..*channels {
                let part = c / (channels / parts);
                let place = |i: usize| {
                    let moved = offset[at_channel(row, (part * cells + cell) * rank + i, at)];
                    let (before, _) = window.pads(i, None).unwrap_or((0, 0));
                    (at[i] as i64 * window.strides[i] + k[i] as i64 * window.dilations[i] - before) as f64 + moved
                };
                let place: Vec<f64> = (0..rank).map(place).collect();
                let mask = a.opt(4).map_or(1.0, |m| m[at_channel(row, part * cells + cell, at)]);
                let value = mask * between(&place, lens, |from| x[at_channel(row, c, from)]);
                let group = c / share;
                for m in group * (filters / groups)..(group + 1) * (filters / groups) {
                    y[at_channel(row, m, at)] += value * w[at_channel(m, c % share, k)];
                }
            }
        }
        for (m, bias) in bias.iter().enumerate() {
            y[at_channel(row, m, at)] += bias;
        }
    }
    Ok(vec![y])
}

/// The value at a place between elements, zero outside.
fn between(place: &[f64], lens: &[usize], x: impl Fn(&[usize]) -> f64) -> f64 {
    let corners = indices(IxDyn(&vec![2; place.len()])).into_iter().map(|corner| {
        let mut weight = 1.0;
        let mut from = Vec::with_capacity(place.len());
        for ((x, step), len) in place.iter().zip(corner.slice()).zip(lens) {
            let i = x.floor() + *step as f64;
            if !(0.0..*len as f64).contains(&i) {
                return 0.0;
            }
            weight *= 1.0 - (x - i).abs();
            from.push(i as usize);
        }
        weight * x(&from)
    });
    corners.sum()
}

/// The moved elements are gathered with their weights; what then remains is a product.
fn lower<'e, 'g>(e: &'e Emit<'g>, node: &Node, x: &[Val<'e, 'g>]) -> Vec<Val<'e, 'g>> {
    match written(e, node, x) {
        Ok(y) => vec![y],
        Err(error) => vec![e.fail(error)],
    }
}

fn written<'e, 'g>(e: &'e Emit<'g>, node: &Node, operands: &[Val<'e, 'g>]) -> Result<Val<'e, 'g>, InferError> {
    let at = |slot: usize| operands.get(slot).and_then(|v| v.present());
    let (x, w, offset) = (operands[0], operands[1], operands[2]);
    let wrong =
        |slot: usize, want: &str| InferError::Operand { slot, got: operands[slot].fact(), want: want.to_string() };
    let (groups, parts) = (group(node)?, offset_groups(node)?);
    let fact = w.fact();
    let kernel = kernel_of(node, fact.dims(), |want| wrong(1, &want))?.ok_or_else(|| wrong(1, "a known kernel"))?;
    let window = Window::of(node, kernel)?;
    let known = |v: Val, slot: usize| v.fact().known_dims().ok_or_else(|| wrong(slot, "a known shape"));
    // Rows are free; where windows stand must be known.
    let lens = x.fact().dims().and_then(|d| space(d).iter().map(|d| d.known()).collect::<Option<Vec<i64>>>());
    let lens: Vec<usize> = lens.ok_or_else(|| wrong(0, "known lengths"))?.iter().map(|n| *n as usize).collect();
    let channels = x.fact().dims().and_then(|d| d.get(1)?.known()).ok_or_else(|| wrong(0, "known channels"))?;
    let filters = known(w, 1)?[0] as i64;
    let (rank, counts) = (window.rank(), window.counts(&lens));
    let cells = window.kernel.iter().product::<i64>();
    let windows = counts.iter().product::<usize>() as i64;
    if lens.len() != rank || channels % parts != 0 {
        return Err(wrong(0, "a rank and channels that fit"));
    }
    let apart =
        x.reshape(&[&[-1, channels / parts], lens.iter().map(|n| *n as i64).collect::<Vec<_>>().as_slice()].concat());
    let moves = offset.reshape(&[-1, cells, rank as i64, windows]);
    let lengths: Vec<Val> = (0..rank).map(|axis| apart.len(2 + axis).cast(x.fact().dtype)).collect();
    let taps = |axis: usize| {
        let fixed = Tensor::from_f64(x.fact().dtype, &[(cells * windows) as usize], &places(&window, &counts, axis));
        let fixed = fixed.map_or(e.absent(), |t| e.weight("", t));
        let part = e.scalar(axis as f64, DType::I64);
        let moved = e.op("Gather", &[moves, part], &[("axis", 2i64.into())]).reshape(&[-1, cells * windows]);
        let last = lengths[axis] - 1.0;
        linear(moved + fixed).into_iter().map(|tap| inside(tap, last)).collect::<Vec<_>>()
    };
    let axes: Vec<_> = (0..rank).map(taps).collect();
    let mut seen = gathered(apart, &lengths, &axes);
    if let Some(mask) = at(4) {
        seen = seen * mask.reshape(&[-1, 1, cells * windows]);
    }
    let seen = seen.reshape(&[-1, groups, channels / groups * cells, windows]);
    let products = w.reshape(&[groups, filters / groups, -1]).matmul(seen);
    let counts: Vec<i64> = counts.iter().map(|n| *n as i64).collect();
    let y = products.reshape(&[&[-1, filters], counts.as_slice()].concat());
    Ok(match at(3) {
        Some(bias) => y + bias.reshape(&[&[-1][..], &vec![1; rank]].concat()),
        None => y,
    })
}
