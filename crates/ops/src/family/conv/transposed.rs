//! ConvTranspose.

use super::direct::{at_channel, bias, by_bias, by_weight, group, known_window, window};
use super::window::{Padding, Window, halves, per_axis, space, space_axes, stated, unfit};
use super::*;
use crate::Attribute::{Int, Ints as List, Str};
use crate::Operand::Any;
use crate::{Val, case};
use lorac_ir::{Attr, Node};
use ndarray::{Dimension, IxDyn, indices};

pub(super) const CONV_TRANSPOSE: Op = Op {
    name: "ConvTranspose",
    traits: Traits::NONE.bias(&[2]),
    inputs: (2, 3),
    infer: |c| {
        let x = c.fact(0);
        let Some(window) = window(c)? else {
            return one(Fact { dtype: x.dtype, shape: x.rank().map(|r| vec![Dim::Unknown; r]) });
        };
        let (weight, group) = (c.dims(1), group(c.node)?);
        let share = weight.and_then(|d| d.get(1).copied()).unwrap_or(Dim::Unknown);
        let lens = match x.dims() {
            Some(dims) => space(dims).to_vec(),
            None => vec![Dim::Unknown; window.rank()],
        };
        if let (Some(Dim::Known(m)), Some(Dim::Known(n))) = (c.dims(0).and_then(|d| d.get(1)), weight.map(|d| d[0]))
            && *m != n
        {
            return Err(InferError::Mismatch(x.clone(), c.fact(1)));
        }
        let layout = Layout::of(c.node, &window)?;
        let batch = x.dims().map_or(Dim::Unknown, |d| d[0]);
        let lens = lens.iter().enumerate().map(|(i, n)| layout.len(&window, i, *n));
        one(Fact::new(x.dtype, [batch, share * Dim::Known(group)].into_iter().chain(lens)))
    },
    eval: |a| {
        let (x, w) = (a.x(0)?, a.x(1)?);
        let ([n, channels, counts @ ..], [filters, share, kernel @ ..]) = (x.shape(), w.shape()) else {
            return invalid("ConvTranspose takes rank 3 or more");
        };
        let group = group(a.node).map_err(unfit)? as usize;
        let fits = counts.len() == kernel.len() && !counts.is_empty() && channels == filters;
        if !fits || filters % group != 0 {
            return invalid(format!("ConvTranspose of {:?} by {:?} in {group} groups", x.shape(), w.shape()));
        }
        let window = Window::of(a.node, kernel.iter().map(|k| *k as i64).collect()).map_err(unfit)?;
        let layout = Layout::of(a.node, &window).map_err(unfit)?;
        let (mut lens, mut pads) = (Vec::new(), Vec::new());
        for (i, n) in counts.iter().enumerate() {
            let Some(len) = layout.len(&window, i, Dim::from(*n)).known().filter(|n| *n >= 0) else {
                return invalid("ConvTranspose whose result has a negative length");
            };
            lens.push(len as usize);
            pads.push((layout.before(&window, i, Some(*n as i64)).unwrap_or(0), 0));
        }
        let window = Window { padding: Padding::Explicit(pads), ..window };
        let bias = bias(a, 2, share * group)?;
        let mut y = Array::zeros([&[*n, share * group], lens.as_slice()].concat());
        for (channel, bias) in bias.iter().enumerate() {
            y.index_axis_mut(ndarray::Axis(1), channel).fill(*bias);
        }
        for at in indices(IxDyn(counts)) {
            let seen = window.covers(at.slice(), &lens);
            for (n, c) in (0..*n).flat_map(|n| (0..*channels).map(move |c| (n, c))) {
                let first = c / (channels / group) * share;
                let x = x[at_channel(n, c, at.slice())];
                for (k, place) in &seen {
                    for m in 0..*share {
                        y[at_channel(n, first + m, place)] += x * w[at_channel(c, m, k)];
                    }
                }
            }
        }
        Ok(vec![y])
    },
    flops: |c, _| {
        let products = c.dims(1).and_then(|d| d.get(1..)).map(|d| d.iter().fold(Dim::Known(2), |p, d| p * *d));
        c.fact(0).volume() * products.unwrap_or(Dim::Unknown)
    },
    // It is the adjoint of a Conv, so its gradient is that Conv.
    grad: Grad::rule(
        |b| {
            let Some(window) = known_window(b) else { return Vec::new() };
            let layout = match Layout::of(b.node, &window) {
                Ok(layout) => layout,
                Err(e) => {
                    b.emit.fail(e);
                    return Vec::new();
                }
            };
            let (x, w, group) = (b.x[0], b.x[1], b.node.int("group", 1));
            let Some((gy, window)) = seen_by_windows(&layout, &window, x, b.gy) else { return Vec::new() };
            let by_x = || {
                let Padding::Explicit(pads) = &window.padding else { return b.emit.absent() };
                let pads: Vec<i64> = pads.iter().map(|p| p.0).chain(pads.iter().map(|p| p.1)).collect();
                let attrs = [
                    ("kernel_shape", window.kernel.clone().into()),
                    ("strides", window.strides.clone().into()),
                    ("dilations", window.dilations.clone().into()),
                    ("group", group.into()),
                    ("pads", pads.into()),
                ];
                stated(b.emit.op("Conv", &[gy, w], &attrs), x)
            };
            vec![b.want(0, by_x), b.want(1, || by_weight(x, gy, &window, group, w)), b.want(2, || by_bias(b))]
        },
        &[
            case(&[Any(&[2, 2, 3, 4]), Any(&[2, 3, 3, 2]), Any(&[3])]).with(&[
                ("kernel_shape", List(&[3, 2])),
                ("strides", List(&[2, 1])),
                ("pads", List(&[1, 0, 0, 1])),
            ]),
            case(&[Any(&[1, 4, 3]), Any(&[4, 2, 2])]).with(&[
                ("kernel_shape", List(&[2])),
                ("group", Int(2)),
                ("strides", List(&[3])),
                ("output_padding", List(&[2])),
                ("pads", List(&[0, 1])),
            ]),
            // Nothing after to take the extra length from.
            case(&[Any(&[1, 1, 3, 2]), Any(&[1, 2, 2, 2])]).with(&[
                ("kernel_shape", List(&[2, 2])),
                ("strides", List(&[2, 3])),
                ("dilations", List(&[1, 2])),
                ("output_padding", List(&[1, 2])),
            ]),
            case(&[Any(&[1, 1, 3, 3]), Any(&[1, 1, 4, 3])]).with(&[
                ("kernel_shape", List(&[4, 3])),
                ("auto_pad", Str("SAME_LOWER")),
                ("strides", List(&[1, 2])),
            ]),
            case(&[Any(&[1, 3, 2, 2]), Any(&[3, 1, 3, 3]), Any(&[3])]).with(&[
                ("kernel_shape", List(&[3, 3])),
                ("auto_pad", Str("SAME_UPPER")),
                ("strides", List(&[2, 2])),
                ("group", Int(3)),
            ]),
        ],
    ),
    ..UNARY
};

/// Where the result of a ConvTranspose begins and ends.
struct Layout {
    padding: Padding,
    /// Length added after.
    more: Vec<i64>,
    /// Lengths asked for; the padding then follows from them.
    lens: Option<Vec<i64>>,
}

impl Layout {
    fn of(node: &Node, window: &Window) -> Result<Layout, InferError> {
        let rank = window.rank();
        let more = per_axis(node, "output_padding", rank, 0)?;
        let lens = match node.ints("output_shape") {
            None => None,
            // The batch and the channels may be named too.
            Some(lens) if lens.iter().all(|n| *n >= 0) && (lens.len() == rank || lens.len() == rank + 2) => {
                Some(lens[lens.len() - rank..].to_vec())
            }
            Some(lens) => {
                let (got, want) = (format!("{lens:?}"), format!("{rank} lengths"));
                return Err(InferError::Attribute { name: "output_shape", got, want });
            }
        };
        let given = matches!(node.attrs.get("auto_pad"), Some(Attr::Str(s)) if s.starts_with("SAME"));
        let padding = match (&lens, given) {
            (Some(_), false) => Padding::Same { upper: false },
            _ => window.padding.clone(),
        };
        Ok(Layout { padding, more, lens })
    }

    /// The length that the windows give, before anything is taken off.
    fn natural(&self, window: &Window, axis: usize, count: Dim) -> Dim {
        (count - Dim::Known(1)) * Dim::Known(window.strides[axis])
            + Dim::Known(self.more[axis])
            + Dim::Known(window.extent(axis))
    }

    /// The length of an axis of the result.
    fn len(&self, window: &Window, axis: usize, count: Dim) -> Dim {
        match (&self.lens, &self.padding) {
            (Some(lens), _) => Dim::Known(lens[axis]),
            (None, Padding::Same { .. }) => count * Dim::Known(window.strides[axis]),
            (None, Padding::Explicit(pads)) => {
                self.natural(window, axis, count) - Dim::Known(pads[axis].0) - Dim::Known(pads[axis].1)
            }
        }
    }

    /// What is taken off before; `None` where it depends on a number of windows that is not known.
    fn before(&self, window: &Window, axis: usize, count: Option<i64>) -> Option<i64> {
        match &self.padding {
            Padding::Explicit(pads) => Some(pads[axis].0),
            Padding::Same { upper } => {
                let total = match (&self.lens, count) {
                    (Some(lens), Some(n)) => self.natural(window, axis, Dim::Known(n)).known().map(|n| n - lens[axis]),
                    (Some(_), None) => None,
                    (None, _) => Some(self.more[axis] + window.extent(axis) - window.strides[axis]),
                };
                Some(halves(total?.max(0), *upper).0)
            }
        }
    }
}

/// The gradient as the adjoint's windows see it: without what lies behind the last of them, and the padding with which
/// there are as many windows as `x` has elements.
fn seen_by_windows<'e, 'g>(
    layout: &Layout,
    window: &Window,
    x: Val<'e, 'g>,
    gy: Val<'e, 'g>,
) -> Option<(Val<'e, 'g>, Window)> {
    let e = x.emit();
    let fact = x.fact();
    let (mut pads, mut cut) = (Vec::new(), Vec::new());
    for axis in 0..window.rank() {
        let count = fact.dims().and_then(|d| d.get(axis + 2)?.known());
        let Some(before) = layout.before(window, axis, count) else {
            e.fail(InferError::Operand {
                slot: 0,
                got: fact.clone(),
                want: "known lengths beside output_shape".into(),
            });
            return None;
        };
        let symbol = count.map_or_else(|| Dim::named("count"), Dim::Known);
        let spanned = layout.natural(window, axis, symbol) - Dim::Known(layout.more[axis]);
        let after = (spanned - layout.len(window, axis, symbol) - Dim::Known(before)).known().unwrap_or(0);
        pads.push((before, after.max(0)));
        cut.push(if after < 0 { after } else { i64::MAX });
    }
    let padding = Padding::Explicit(pads);
    let window = Window { padding, ceil: false, ..window.clone() };
    if cut.iter().all(|n| *n == i64::MAX) {
        return Some((gy, window));
    }
    let axes = space_axes(window.rank());
    let starts = vec![0; axes.len()];
    Some((e.op("Slice", &[gy, e.ints(&starts), e.ints(&cut), e.ints(&axes)], &[]), window))
}
