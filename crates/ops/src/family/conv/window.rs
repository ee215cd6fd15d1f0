//! Sliding windows: the geometry that convolutions and pools share, and what their gradients do with it.

use crate::{Emit, EvalError, InferError, Val};
use lorac_ir::{DType, Dim, Node};
use ndarray::{Dimension, IxDyn, indices};

/// Where a window stands: one entry an axis of space.
#[derive(Clone, Debug)]
pub(in crate::family) struct Window {
    pub(in crate::family) kernel: Vec<i64>,
    pub(in crate::family) strides: Vec<i64>,
    pub(in crate::family) dilations: Vec<i64>,
    pub(in crate::family) padding: Padding,
    /// Whether a last window may hang over the end.
    pub(in crate::family) ceil: bool,
}

/// What is put around the operand.
#[derive(Clone, Debug)]
pub(in crate::family) enum Padding {
    /// So much before and after, one pair an axis.
    Explicit(Vec<(i64, i64)>),
    /// As much as gives one window for every stride; an odd one goes after (`upper`) or before.
    Same { upper: bool },
}

/// The lengths of a window, summed, that are sliced one by one.
const SLICES: i64 = 1 << 16;

/// Sizes beyond this are refused: products of two of them must fit an i64.
const LIMIT: i64 = 1 << 30;
/// More elements in a window than this are refused: gradients unroll them.
const ELEMENTS: i64 = 1 << 24;

/// One attribute with a number for each axis, or the default.
pub(in crate::family) fn per_axis(
    node: &Node,
    name: &'static str,
    count: usize,
    least: i64,
) -> Result<Vec<i64>, InferError> {
    let Some(given) = node.ints(name) else { return Ok(vec![least; count]) };
    if given.len() == count && given.iter().all(|n| (least..LIMIT).contains(n)) {
        return Ok(given.to_vec());
    }
    let want = format!("{count} numbers, each at least {least}");
    Err(InferError::Attribute { name, got: format!("{given:?}"), want })
}

impl Window {
    /// The window that a node's attributes describe.
    pub(in crate::family) fn of(node: &Node, kernel: Vec<i64>) -> Result<Window, InferError> {
        let rank = kernel.len();
        let elements = kernel.iter().try_fold(1i64, |p, k| p.checked_mul(*k));
        let few = elements.is_some_and(|n| (1..=ELEMENTS).contains(&n));
        if !few || kernel.iter().any(|k| !(1..LIMIT).contains(k)) || kernel.is_empty() {
            let (got, want) = (format!("{kernel:?}"), format!("positive sizes, {ELEMENTS} elements in all"));
            return Err(InferError::Attribute { name: "kernel_shape", got, want });
        }
        let padding = match node.str("auto_pad").unwrap_or("NOTSET") {
            "NOTSET" | "" => {
                let pads = per_axis(node, "pads", 2 * rank, 0)?;
                Padding::Explicit((0..rank).map(|i| (pads[i], pads[rank + i])).collect())
            }
            "VALID" => Padding::Explicit(vec![(0, 0); rank]),
            "SAME_UPPER" => Padding::Same { upper: true },
            "SAME_LOWER" => Padding::Same { upper: false },
            other => {
                let want = "NOTSET, VALID, SAME_UPPER or SAME_LOWER".to_string();
                return Err(InferError::Attribute { name: "auto_pad", got: other.to_string(), want });
            }
        };
        Ok(Window {
            strides: per_axis(node, "strides", rank, 1)?,
            dilations: per_axis(node, "dilations", rank, 1)?,
            padding,
            ceil: node.int("ceil_mode", 0) != 0,
            kernel,
        })
    }

    pub(in crate::family) fn rank(&self) -> usize {
        self.kernel.len()
    }

    /// Number of elements in a window.
    pub(in crate::family) fn volume(&self) -> f64 {
        self.kernel.iter().map(|k| *k as f64).product()
    }

    /// The length that a window spans.
    pub(in crate::family) fn extent(&self, axis: usize) -> i64 {
        self.dilations[axis] * (self.kernel[axis] - 1) + 1
    }

    /// Padding before and after an axis; `None` where it depends on a length that is not known.
    pub(in crate::family) fn pads(&self, axis: usize, len: Option<i64>) -> Option<(i64, i64)> {
        let (stride, extent) = (self.strides[axis], self.extent(axis));
        match (&self.padding, len) {
            (Padding::Explicit(pads), _) => Some(pads[axis]),
            (Padding::Same { upper }, _) if stride == 1 => Some(halves(extent - 1, *upper)),
            (Padding::Same { upper }, Some(len)) => {
                let reach = (len.saturating_sub(1) / stride * stride).saturating_add(extent);
                let total = reach.saturating_sub(len).max(0);
                Some(halves(total, *upper))
            }
            (Padding::Same { .. }, None) => None,
        }
    }

    /// Number of windows along an axis.
    pub(in crate::family) fn count(&self, axis: usize, len: Dim) -> Dim {
        let (stride, extent) = (self.strides[axis], self.extent(axis));
        let Padding::Explicit(pads) = &self.padding else { return floor_div(len + Dim::Known(stride - 1), stride) };
        let (before, after) = pads[axis];
        let slack = len + Dim::Known(before + after - extent);
        let (Dim::Known(len), Dim::Known(slack), true) = (len, slack, self.ceil) else {
            if slack.known().is_some_and(|n| n < 0) {
                return Dim::Known(0);
            }
            // With a stride of one nothing hangs over.
            return match self.ceil && stride > 1 {
                true => Dim::Unknown,
                false => floor_div(slack, stride) + Dim::Known(1),
            };
        };
        let count = slack.saturating_add(stride - 1).div_euclid(stride).saturating_add(1);
        // A window that would start behind the operand is none.
        let starts_behind = (count - 1).saturating_mul(stride) >= len.saturating_add(before);
        Dim::Known((count - i64::from(starts_behind)).max(0))
    }

    /// The shape of the windows' results for operands of these spatial lengths.
    pub(in crate::family) fn counts(&self, dims: &[usize]) -> Vec<usize> {
        let count = |(i, n): (usize, &usize)| self.count(i, Dim::from(*n)).known().unwrap_or(0).max(0) as usize;
        dims.iter().enumerate().map(count).collect()
    }

    /// The positions inside the operand that the window at `at` covers: their place in the window and their
    /// coordinates.
    pub(in crate::family) fn covers(&self, at: &[usize], dims: &[usize]) -> Vec<(Vec<usize>, Vec<usize>)> {
        let kernel: Vec<usize> = self.kernel.iter().map(|k| *k as usize).collect();
        let inside = indices(IxDyn(&kernel)).into_iter().filter_map(|k| {
            let k = k.slice().to_vec();
            let place = (0..k.len()).map(|i| {
                let (before, _) = self.pads(i, Some(dims[i] as i64))?;
                let at = at[i] as i64 * self.strides[i] + k[i] as i64 * self.dilations[i] - before;
                usize::try_from(at).ok().filter(|p| *p < dims[i])
            });
            let place = place.collect::<Option<Vec<usize>>>()?;
            Some((k, place))
        });
        inside.collect()
    }
}

/// `total` in two parts, the larger one after (`upper`) or before.
pub(in crate::family) fn halves(total: i64, upper: bool) -> (i64, i64) {
    let small = total.div_euclid(2);
    if upper { (small, total - small) } else { (total - small, small) }
}

/// `floor(dim / by)`, where that is a polynomial.
fn floor_div(dim: Dim, by: i64) -> Dim {
    match dim {
        Dim::Known(n) => Dim::Known(n.div_euclid(by)),
        _ => {
            (0..by.min(64)).find_map(|rest| (dim - Dim::Known(rest)).div_exact(Dim::Known(by))).unwrap_or(Dim::Unknown)
        }
    }
}

/// Spatial lengths of a value of rank 3 or more.
pub(in crate::family) fn space(dims: &[Dim]) -> &[Dim] {
    dims.get(2..).unwrap_or_default()
}

/// Spatial lengths as a vector: a constant where they are known.
pub(in crate::family) fn space_of<'e, 'g>(x: Val<'e, 'g>) -> Val<'e, 'g> {
    let e = x.emit();
    let known: Option<Vec<i64>> = x.fact().dims().and_then(|d| space(d).iter().map(|d| d.known()).collect());
    match known {
        Some(lens) => e.ints(&lens),
        None => e.op("Shape", &[x], &[("start", 2i64.into())]),
    }
}

/// The spatial axes of a rank.
pub(in crate::family) fn space_axes(rank: usize) -> Vec<i64> {
    (2..2 + rank as i64).collect()
}

/// `g` with its shape stated to be that of `x`, which it has.
pub(in crate::family) fn stated<'e, 'g>(g: Val<'e, 'g>, x: Val<'e, 'g>) -> Val<'e, 'g> {
    let (from, to) = (g.fact(), x.fact());
    let same = |a: &[Dim], b: &[Dim]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same(*b));
    match (from.dims(), to.dims()) {
        (Some(a), Some(b)) if same(a, b) => g,
        _ => g.binary("Reshape", x.shape()),
    }
}

/// The padding of a `Same` window whose operand has a length that only the run tells: `(before, after)`, vectors.
fn run_time_pads<'e, 'g>(x: Val<'e, 'g>, window: &Window, upper: bool) -> (Val<'e, 'g>, Val<'e, 'g>) {
    let e = x.emit();
    let lens = space_of(x);
    let extents: Vec<i64> = (0..window.rank()).map(|i| window.extent(i)).collect();
    let one = e.ints(&[1]);
    let strides = e.ints(&window.strides);
    let reach = (lens - one) / strides * strides + e.ints(&extents);
    let total = (reach - lens).binary("Max", e.ints(&[0]));
    let small = total / e.ints(&[2]);
    if upper { (small, total - small) } else { (total - small, small) }
}

/// The spatial pads of an operand, axis by axis, where all are known before the run.
fn known_pads(x: Val<'_, '_>, window: &Window) -> Option<Vec<(i64, i64)>> {
    let fact = x.fact();
    let lens = space(fact.dims()?);
    (0..window.rank()).map(|i| window.pads(i, lens.get(i).and_then(|d| d.known()))).collect()
}

/// `x` padded with zeros as the window has it.
pub(in crate::family) fn padded<'e, 'g>(x: Val<'e, 'g>, window: &Window) -> Val<'e, 'g> {
    let e = x.emit();
    match (known_pads(x, window), &window.padding) {
        (Some(pads), _) if pads.iter().all(|p| *p == (0, 0)) => x,
        (Some(pads), _) => {
            let before = [0, 0].into_iter().chain(pads.iter().map(|p| p.0));
            let after = [0, 0].into_iter().chain(pads.iter().map(|p| p.1));
            x.binary("Pad", e.ints(&before.chain(after).collect::<Vec<_>>()))
        }
        (None, Padding::Same { upper }) => {
            let (before, after) = run_time_pads(x, window, *upper);
            let none = e.ints(&[0, 0]);
            x.binary("Pad", e.op("Concat", &[none, before, none, after], &[("axis", 0i64.into())]))
        }
        (None, Padding::Explicit(_)) => x,
    }
}

/// Everything that the windows see of `x` (`[N,C,..]`): `[C,K,N,O..]` for `K` elements in a window and windows `O..`.
///
/// Sliced axis by axis, so that the number of nodes grows with the sum of the kernel's lengths and not with their
/// product.
pub(in crate::family) fn patches<'e, 'g>(x: Val<'e, 'g>, window: &Window) -> Val<'e, 'g> {
    let e = x.emit();
    if window.kernel.iter().sum::<i64>() > SLICES {
        let (got, want) = (format!("{:?}", window.kernel), format!("lengths of {SLICES} in all"));
        return e.fail(InferError::Attribute { name: "kernel_shape", got, want });
    }
    let mut order: Vec<usize> = (0..window.rank() + 2).collect();
    order.swap(0, 1);
    let mut seen = padded(x, window).transpose(&order).binary("Unsqueeze", e.ints(&[1]));
    // The last axis first: the elements of a window are then in row-major order.
    for axis in (0..window.rank()).rev() {
        let (stride, reach) = (window.strides[axis], window.extent(axis) - 1);
        if stride == 1 && reach == 0 {
            continue;
        }
        let step = |k: i64| {
            let start = k * window.dilations[axis];
            let end = if start == reach { i64::MAX } else { start - reach };
            let ends = [e.ints(&[start]), e.ints(&[end]), e.ints(&[3 + axis as i64]), e.ints(&[stride])];
            e.op("Slice", &[&[seen][..], &ends].concat(), &[])
        };
        let parts: Vec<Val> = (0..window.kernel[axis]).map(step).collect();
        seen = if let [part] = parts[..] { part } else { e.op("Concat", &parts, &[("axis", 1i64.into())]) };
    }
    seen
}

/// Sums what every window gives back to the elements it covered: the adjoint of a convolution with `kernel`
/// (`[M,C/group,K..]`), in the shape of `x` but for its channels.
pub(in crate::family) fn spread<'e, 'g>(
    gy: Val<'e, 'g>,
    kernel: Val<'e, 'g>,
    window: &Window,
    group: i64,
    x: Val<'e, 'g>,
) -> Val<'e, 'g> {
    let e = gy.emit();
    let rank = window.rank();
    let apply = |before: &[i64], after: &[i64], more: &[i64]| {
        let mut attrs = vec![
            ("kernel_shape", window.kernel.clone().into()),
            ("strides", window.strides.clone().into()),
            ("dilations", window.dilations.clone().into()),
            ("group", group.into()),
            ("pads", [before, after].concat().into()),
        ];
        if more.iter().any(|n| *n > 0) {
            attrs.push(("output_padding", more.to_vec().into()));
        }
        e.op("ConvTranspose", &[gy, kernel], &attrs)
    };
    let fact = x.fact();
    let lens: Option<Vec<i64>> = fact.dims().and_then(|d| space(d).iter().map(|d| d.known()).collect());
    let pads = known_pads(x, window);
    if let (Some(lens), Some(pads)) = (&lens, &pads) {
        // Windows may end before the operand does, or, rounded up, behind it.
        let (mut before, mut after, mut more) = (Vec::new(), Vec::new(), Vec::new());
        for (i, len) in lens.iter().enumerate() {
            let count = window.count(i, Dim::Known(*len)).known().unwrap_or(0);
            let spanned = (count - 1) * window.strides[i] + window.extent(i);
            let rest = len + pads[i].0 + pads[i].1 - spanned;
            before.push(pads[i].0);
            after.push(pads[i].1 - rest.min(0));
            more.push(rest.max(0));
        }
        return apply(&before, &after, &more);
    }
    // The length that the windows do not reach is less than a stride: made in any case, and cut off where it is none.
    let none = vec![0; rank];
    let more: Vec<i64> = window.strides.iter().map(|s| s - 1).collect();
    let lens = space_of(x);
    let axes = e.ints(&space_axes(rank));
    match (pads, &window.padding) {
        (Some(pads), _) => {
            let before: Vec<i64> = pads.iter().map(|p| p.0).collect();
            let wide = match more.iter().all(|n| *n == 0) && !window.ceil {
                true => {
                    let after: Vec<i64> = pads.iter().map(|p| p.1).collect();
                    return apply(&before, &after, &more);
                }
                false => apply(&before, &none, &more),
            };
            e.op("Slice", &[wide, e.ints(&none), lens, axes], &[])
        }
        (None, Padding::Same { upper }) => {
            let (before, _) = run_time_pads(x, window, *upper);
            e.op("Slice", &[apply(&none, &none, &more), before, before + lens, axes], &[])
        }
        (None, Padding::Explicit(_)) => gy,
    }
}

/// `x` with its first two axes made one, of length one behind: a kernel of one channel then acts on each channel.
pub(in crate::family) fn apart<'e, 'g>(x: Val<'e, 'g>) -> Val<'e, 'g> {
    let e = x.emit();
    let fact = x.fact();
    let known: Option<Vec<i64>> = fact.dims().and_then(|d| space(d).iter().map(|d| d.known()).collect());
    match known {
        Some(lens) => x.reshape(&[&[-1, 1], lens.as_slice()].concat()),
        None => x.binary("Reshape", e.op("Concat", &[e.ints(&[-1, 1]), space_of(x)], &[("axis", 0i64.into())])),
    }
}

/// A kernel of ones, `[1,1,K..]`.
pub(in crate::family) fn ones<'e, 'g>(e: &'e Emit<'g>, window: &Window, dtype: DType) -> Val<'e, 'g> {
    let dims: Vec<usize> = [1, 1].into_iter().chain(window.kernel.iter().map(|k| *k as usize)).collect();
    match lorac_ir::Tensor::from_f64(dtype, &dims, &vec![1.0; dims.iter().product()]) {
        Some(tensor) => e.weight("", tensor),
        None => e.absent(),
    }
}

/// [`spread`] with ones: every window gives the same back to each element it covered.
pub(in crate::family) fn spread_evenly<'e, 'g>(gy: Val<'e, 'g>, window: &Window, x: Val<'e, 'g>) -> Val<'e, 'g> {
    let ones = ones(gy.emit(), window, gy.fact().dtype);
    stated(spread(apart(gy), ones, window, 1, x), x)
}

/// The kernel's lengths by attribute or, where known, by the weight at `slot`.
pub(in crate::family) fn kernel_of(
    node: &Node,
    weight: Option<&[Dim]>,
    fail: impl Fn(String) -> InferError,
) -> Result<Option<Vec<i64>>, InferError> {
    let known: Option<Vec<i64>> = weight.and_then(|d| space(d).iter().map(|d| d.known()).collect());
    match (node.ints("kernel_shape"), known) {
        (Some(given), Some(known)) if given != known => Err(fail(format!("a kernel of {given:?}"))),
        (Some(given), _) => match weight {
            Some(dims) if dims.len() != given.len() + 2 => Err(fail(format!("rank {}", given.len() + 2))),
            _ => Ok(Some(given.to_vec())),
        },
        (None, known) => Ok(known),
    }
}

/// An inference error met in evaluation.
pub(in crate::family) fn unfit(e: InferError) -> EvalError {
    EvalError::Invalid(e.to_string())
}
