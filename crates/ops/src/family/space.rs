//! Space and channels: CenterCropPad Col2Im DepthToSpace SpaceToDepth.

use super::conv::window::{Window, patches, space, unfit};
use super::*;
use crate::Attribute::{Int, Ints as List, Str};
use crate::Operand::{Any, Ints};
use crate::{Backward, Val, case};
use lorac_ir::{Attr, Node};
use ndarray::{Axis, Dimension, IxDyn, indices};

pub(super) const OPS: &[Op] = &[CENTER_CROP_PAD, COL2IM, DEPTH_TO_SPACE, SPACE_TO_DEPTH];

const DEPTH_TO_SPACE: Op = Op {
    name: "DepthToSpace",
    traits: Traits::MOVES,
    infer: |c| {
        let (fact, n) = (c.fact(0), block(c.node)?);
        columns_first(c.node)?;
        match fact.dims() {
            Some([b, channels, h, w]) => {
                let fewer = divided(*channels, n * n, &fact)?;
                one(Fact::new(fact.dtype, [*b, fewer, *h * Dim::Known(n), *w * Dim::Known(n)]))
            }
            Some(_) => Err(InferError::Operand { slot: 0, got: fact, want: "rank 4".into() }),
            None => one(Fact::new(fact.dtype, [Dim::Unknown; 4])),
        }
    },
    eval: |a| {
        let n = block(a.node).map_err(unfit)? as usize;
        let columns_first = columns_first(a.node).map_err(unfit)?;
        let x = a.x(0)?;
        let [b, channels, h, w] = *x.shape() else { return invalid("DepthToSpace takes rank 4") };
        if channels % (n * n) != 0 {
            return invalid(format!("{channels} channels in blocks of {n} times {n}"));
        }
        let fewer = channels / (n * n);
        let y = Array::from_shape_fn(vec![b, fewer, h * n, w * n], |at| {
            let (c, cell) = (at[1], at[2] % n * n + at[3] % n);
            let from = if columns_first { c * n * n + cell } else { cell * fewer + c };
            x[[at[0], from, at[2] / n, at[3] / n]]
        });
        Ok(vec![y])
    },
    grad: Grad::rule(
        |b| {
            let (e, x, n) = (b.emit, b.x[0], b.node.int("blocksize", 1));
            let g = e.op("SpaceToDepth", &[b.gy], &[("blocksize", n.into())]);
            match columns_first(b.node) {
                // The cells of a block are then outside of the channels, where they were inside.
                Ok(true) => {
                    let cells = g.reshape(&[0, 0, -1]).binary("Unsqueeze", e.ints(&[2])).reshape(&[0, n * n, -1, 0]);
                    vec![Some(cells.transpose(&[0, 2, 1, 3]).binary("Reshape", x.shape()))]
                }
                _ => vec![Some(conv::window::stated(g, x))],
            }
        },
        &[
            case(&[Any(&[2, 8, 2, 3])]).with(&[("blocksize", Int(2))]),
            case(&[Any(&[1, 8, 3, 2])]).with(&[("blocksize", Int(2)), ("mode", Str("CRD"))]),
        ],
    ),
    ..MOVES
};

const SPACE_TO_DEPTH: Op = Op {
    name: "SpaceToDepth",
    traits: Traits::MOVES,
    infer: |c| {
        let (fact, n) = (c.fact(0), block(c.node)?);
        match fact.dims() {
            Some([b, channels, h, w]) => {
                let (h, w) = (divided(*h, n, &fact)?, divided(*w, n, &fact)?);
                one(Fact::new(fact.dtype, [*b, *channels * Dim::Known(n * n), h, w]))
            }
            Some(_) => Err(InferError::Operand { slot: 0, got: fact, want: "rank 4".into() }),
            None => one(Fact::new(fact.dtype, [Dim::Unknown; 4])),
        }
    },
    eval: |a| {
        let n = block(a.node).map_err(unfit)? as usize;
        let x = a.x(0)?;
        let [b, channels, h, w] = *x.shape() else { return invalid("SpaceToDepth takes rank 4") };
        if h % n != 0 || w % n != 0 {
            return invalid(format!("{h} times {w} in blocks of {n}"));
        }
        let y = Array::from_shape_fn(vec![b, channels * n * n, h / n, w / n], |at| {
            let (cell, c) = (at[1] / channels, at[1] % channels);
            x[[at[0], c, at[2] * n + cell / n, at[3] * n + cell % n]]
        });
        Ok(vec![y])
    },
    grad: Grad::rule(
        |b| {
            let g = b.emit.op("DepthToSpace", &[b.gy], &[("blocksize", b.node.int("blocksize", 1).into())]);
            vec![Some(conv::window::stated(g, b.x[0]))]
        },
        &[case(&[Any(&[2, 3, 4, 6])]).with(&[("blocksize", Int(2))])],
    ),
    ..MOVES
};

fn block(node: &Node) -> Result<i64, InferError> {
    match node.int("blocksize", 0) {
        n @ 1..=4096 => Ok(n),
        n => Err(InferError::Attribute { name: "blocksize", got: n.to_string(), want: "1 to 4096".into() }),
    }
}

/// Whether a channel's cells stand together.
fn columns_first(node: &Node) -> Result<bool, InferError> {
    match node.str("mode").unwrap_or("DCR") {
        "DCR" => Ok(false),
        "CRD" => Ok(true),
        other => Err(InferError::Attribute { name: "mode", got: other.into(), want: "DCR or CRD".into() }),
    }
}

fn divided(dim: Dim, by: i64, of: &Fact) -> Result<Dim, InferError> {
    match (dim, dim.div_exact(Dim::Known(by))) {
        (_, Some(part)) => Ok(part),
        (Dim::Known(n), None) => {
            Err(InferError::Operand { slot: 0, got: of.clone(), want: format!("{n} to be a multiple of {by}") })
        }
        _ => Ok(Dim::Unknown),
    }
}

const COL2IM: Op = Op {
    name: "Col2Im",
    since: 18,
    inputs: (3, 3),
    infer: |c| {
        let fact = c.fact(0);
        let batch = c.dims(0).and_then(|d| d.first().copied()).unwrap_or(Dim::Unknown);
        let channels = match (c.dims(0).and_then(|d| d.get(1)), c.ints(2)) {
            (Some(rows), Some(block)) => {
                let cells = block.iter().try_fold(1i64, |p, n| p.checked_mul(*n)).unwrap_or(0);
                divided(*rows, cells.max(1), &fact)?
            }
            _ => Dim::Unknown,
        };
        match (c.content(1), c.dims(1)) {
            (Some(lens), _) => one(Fact::new(fact.dtype, [batch, channels].into_iter().chain(lens.iter().copied()))),
            (None, Some([Dim::Known(rank)])) if (0..64).contains(rank) => {
                let lens = vec![Dim::Unknown; *rank as usize];
                one(Fact::new(fact.dtype, [batch, channels].into_iter().chain(lens)))
            }
            _ => one(Fact::unranked(fact.dtype)),
        }
    },
    eval: |a| {
        let x = a.x(0)?;
        let window = Window::of(a.node, a.ints(2)?).map_err(unfit)?;
        let lens: Vec<usize> = a.ints(1)?.iter().map(|n| (*n).max(0) as usize).collect();
        let [n, rows, count] = *x.shape() else { return invalid("Col2Im takes rank 3") };
        let cells: usize = window.kernel.iter().map(|k| *k as usize).product();
        if lens.len() != window.rank() || rows % cells != 0 {
            return invalid(format!("{rows} rows of blocks of {:?} in {lens:?}", window.kernel));
        }
        let counts = window.counts(&lens);
        if counts.iter().product::<usize>() != count {
            return invalid(format!("{count} blocks where {counts:?} fit"));
        }
        let channels = rows / cells;
        let mut y = Array::zeros([&[n, channels], lens.as_slice()].concat());
        for (l, at) in indices(IxDyn(&counts)).into_iter().enumerate() {
            for (k, place) in window.covers(at.slice(), &lens) {
                let cell = k.iter().zip(&window.kernel).fold(0, |p, (k, n)| p * *n as usize + k);
                for (n, c) in (0..n).flat_map(|n| (0..channels).map(move |c| (n, c))) {
                    y[IxDyn(&[&[n, c], place.as_slice()].concat())] += x[[n, c * cells + cell, l]];
                }
            }
        }
        Ok(vec![y])
    },
    // Blocks were summed into the image; each takes its part of the gradient.
    grad: Grad::rule(
        |b| {
            let fail = |want: &str| {
                let got = b.x[2].fact();
                vec![Some(b.emit.fail(InferError::Operand { slot: 2, got, want: want.to_string() }))]
            };
            let Some(block) = b.x[2].known_ints() else { return fail("a known block") };
            let window = match Window::of(b.node, block) {
                Ok(window) => window,
                Err(e) => return vec![Some(b.emit.fail(e))],
            };
            if b.gy.fact().dims().is_none_or(|d| space(d).len() != window.rank()) {
                return fail("as many lengths as the image has");
            }
            let order: Vec<usize> = [2, 0, 1].into_iter().chain(3..window.rank() + 3).collect();
            vec![Some(patches(b.gy, &window).transpose(&order).binary("Reshape", b.x[0].shape())), None, None]
        },
        &[
            case(&[Any(&[2, 8, 6]), Ints(&[2], &[4, 3]), Ints(&[2], &[2, 2])]),
            case(&[Any(&[1, 6, 6]), Ints(&[2], &[4, 5]), Ints(&[2], &[3, 2])]).with(&[
                ("strides", List(&[2, 2])),
                ("dilations", List(&[1, 2])),
                ("pads", List(&[1, 0, 0, 2])),
            ]),
            case(&[Any(&[1, 4, 3]), Ints(&[1], &[4]), Ints(&[1], &[2])]),
        ],
    ),
    ..MOVES
};

const CENTER_CROP_PAD: Op = Op {
    name: "CenterCropPad",
    since: 18,
    inputs: (2, 2),
    infer: |c| {
        let fact = c.fact(0);
        let Some(dims) = fact.dims() else { return one(fact) };
        let axes = crop_axes(c.node, dims.len()).map_err(|want| InferError::Attribute {
            name: "axes",
            got: format!("{:?}", c.node.ints("axes")),
            want,
        })?;
        let mut out = dims.to_vec();
        match c.content(1) {
            Some(lens) if lens.len() == axes.len() => axes.iter().zip(lens).for_each(|(axis, n)| out[*axis] = *n),
            Some(_) => {
                return Err(InferError::Operand { slot: 1, got: c.fact(1), want: format!("{} lengths", axes.len()) });
            }
            None => axes.iter().for_each(|axis| out[*axis] = Dim::Unknown),
        }
        one(Fact::new(fact.dtype, out))
    },
    eval: |a| {
        let mut y = a.x(0)?.clone();
        let (axes, lens) = (crop_axes(a.node, y.ndim()).map_err(EvalError::Invalid)?, a.ints(1)?);
        if axes.len() != lens.len() {
            return invalid(format!("{} lengths for {} axes", lens.len(), axes.len()));
        }
        for (axis, want) in axes.into_iter().zip(lens) {
            let (have, want) = (y.len_of(Axis(axis)), want.max(0) as usize);
            let mut shape = y.shape().to_vec();
            shape[axis] = want;
            let mut next = Array::zeros(shape);
            let (from, to) = (have.saturating_sub(want) / 2, want.saturating_sub(have) / 2);
            for i in 0..have.min(want) {
                next.index_axis_mut(Axis(axis), to + i).assign(&y.index_axis(Axis(axis), from + i));
            }
            y = next;
        }
        Ok(vec![y])
    },
    // What is cut off one way is padded the other way, with the odd element on the same side.
    grad: Grad::rule(
        |b| vec![Some(crop_back(b)), None],
        &[
            case(&[Any(&[3, 4]), Ints(&[2], &[4, 1])]),
            case(&[Any(&[2, 5, 2]), Ints(&[2], &[5, 2])]).with(&[("axes", List(&[-1, 1]))]),
        ],
    ),
    ..MOVES
};

/// The axes that the lengths are for.
fn crop_axes(node: &Node, rank: usize) -> Result<Vec<usize>, String> {
    let Some(axes) = node.ints("axes") else { return Ok((0..rank).collect()) };
    axes.iter().map(|i| crate::eval::axis(*i, rank).map_err(|e| e.to_string())).collect()
}

fn crop_back<'e, 'g>(b: &Backward<'e, 'g>) -> Val<'e, 'g> {
    let (e, x) = (b.emit, b.x[0]);
    let Some(axes) = b.node.ints("axes") else {
        return conv::window::stated(e.op("CenterCropPad", &[b.gy, x.shape()], &[]), x);
    };
    let rank = x.rank() as i64;
    let places: Vec<i64> = axes.iter().map(|i| if *i < 0 { i + rank } else { *i }).collect();
    let attrs: [(&str, Attr); 1] = [("axes", axes.to_vec().into())];
    let lens = x.shape().binary("Gather", e.ints(&places));
    conv::window::stated(e.op("CenterCropPad", &[b.gy, lens], &attrs), x)
}
