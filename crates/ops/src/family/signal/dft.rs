//! DFT.

use super::*;
use crate::Attribute::Int;
use crate::Operand::{Absent, Any, Ints};
use crate::{Backward, Emit, Val, case};
use lorac_ir::Tensor;
use std::f64::consts::TAU;

pub(in crate::family) const DFT: Op = Op {
    name: "DFT",
    since: 17,
    inputs: (1, 3),
    infer: |c| {
        let fact = c.fact(0);
        let Some(dims) = fact.dims() else { return one(fact) };
        let mut out = dims.to_vec();
        let (inverse, onesided) = kind(c.node);
        if let Some(last) = out.last_mut() {
            *last = Dim::Known(if inverse && onesided { 1 } else { 2 });
        }
        match axis_of(c, dims.len())? {
            Some(axis) => out[axis] = bins(transform_length(c, dims[axis]), inverse, onesided),
            None => (0..dims.len().saturating_sub(1)).for_each(|i| out[i] = Dim::Unknown),
        }
        one(Fact::new(fact.dtype, out))
    },
    eval: |a| {
        let x = a.x(0)?;
        let axis = if a.opset >= 20 {
            let axis = if a.opt(2).is_some() { a.ints(2)?.first().copied() } else { Some(-2) };
            crate::eval::axis(axis.ok_or(EvalError::Missing(2))?, x.ndim())?
        } else {
            a.axis(1, x.ndim())?
        };
        if axis + 1 == x.ndim() {
            return invalid("the last axis holds real and imaginary parts");
        }
        let (inverse, onesided) = kind(a.node);
        let length = match a.opt(1) {
            Some(n) => n.first().filter(|n| (0.0..=1e8).contains(*n)).map(|n| *n as usize),
            None if inverse && onesided => x.shape()[axis].checked_sub(1).map(|n| 2 * n),
            None => Some(x.shape()[axis]),
        };
        match length {
            Some(length) if length > 0 => Ok(vec![transform(x, axis, length, inverse, onesided)?]),
            _ => invalid("a transform of no length"),
        }
    },
    // The fast transform, about.
    flops: |c, k| elementwise(c, k) * Dim::Known(5) + c.fact(0).volume() * Dim::Known(5),
    grad: Grad::rule(
        gradient,
        &[
            case(&[Any(&[2, 5, 2])]),
            case(&[Any(&[2, 5, 1]), Absent, Ints(&[], &[1])]).with(&[("onesided", Int(1))]),
            case(&[Any(&[2, 4, 2])]).with(&[("inverse", Int(1)), ("axis", Int(0))]).opset(19),
            case(&[Any(&[5, 2, 1]), Ints(&[], &[7]), Ints(&[], &[0])]),
            case(&[Any(&[5, 2, 2]), Ints(&[], &[4]), Ints(&[], &[-3])]),
            case(&[Any(&[2, 4, 2]), Ints(&[], &[6])]).with(&[("inverse", Int(1)), ("onesided", Int(1))]),
            case(&[Any(&[2, 4, 2]), Ints(&[], &[5])]).with(&[("inverse", Int(1)), ("onesided", Int(1))]),
        ],
    ),
    ..UNARY
};

/// Whether the transform is the inverse one, and whether one half of the spectrum is left out.
fn kind(node: &lorac_ir::Node) -> (bool, bool) {
    (node.int("inverse", 0) != 0, node.int("onesided", 0) != 0)
}

/// The axis of the signal; `None` where it is given but unknown.
fn axis_of(c: &Ctx, rank: usize) -> Result<Option<usize>, InferError> {
    let axis = match (c.opset >= 20, c.input(2)) {
        (false, _) => c.node.int("axis", 1),
        (true, None) => -2,
        (true, Some(_)) => match c.ints(2).and_then(|v| v.first().copied()) {
            Some(axis) => axis,
            None => return Ok(None),
        },
    };
    let index = if axis < 0 { axis + rank as i64 } else { axis };
    match usize::try_from(index) {
        Ok(i) if i + 1 < rank => Ok(Some(i)),
        _ => {
            Err(InferError::Attribute { name: "axis", got: axis.to_string(), want: format!("a signal axis of {rank}") })
        }
    }
}

/// The length of the transform of a signal axis of length `n`.
fn transform_length(c: &Ctx, n: Dim) -> Dim {
    match (c.input(1), kind(c.node)) {
        (Some(_), _) => c.content(1).and_then(|v| v.first().copied()).unwrap_or(Dim::Unknown),
        (None, (true, true)) => (n - Dim::Known(1)) * Dim::Known(2),
        (None, _) => n,
    }
}

fn bins(length: Dim, inverse: bool, onesided: bool) -> Dim {
    match length {
        length if inverse || !onesided => length,
        Dim::Known(n) => Dim::Known(n / 2 + 1),
        _ => Dim::Unknown,
    }
}

/// Sums of turned numbers, by definition. A longer signal is cut, a shorter one goes on with zeros.
pub(super) fn transform(
    x: &Array,
    axis: usize,
    length: usize,
    inverse: bool,
    onesided: bool,
) -> Result<Array, EvalError> {
    let last = x.ndim() - 1;
    let parts = x.shape()[last];
    if !(1..=2).contains(&parts) || (onesided && parts != if inverse { 2 } else { 1 }) {
        return invalid(format!("a signal of {parts} parts"));
    }
    // The signal axis goes next to the parts.
    let mut order: Vec<usize> = (0..x.ndim()).filter(|i| *i != axis).collect();
    order.insert(last - 1, axis);
    let turned = x.view().permuted_axes(order.clone());
    let flat: Vec<f64> = turned.iter().copied().collect();
    let (bins, results) = match (inverse, onesided) {
        (false, true) => (length / 2 + 1, 2),
        (true, true) => (length, 1),
        _ => (length, 2),
    };
    let sign = if inverse { 1.0 } else { -1.0 };
    let scale = if inverse { 1.0 / length as f64 } else { 1.0 };
    let mut y = Vec::new();
    for signal in flat.chunks((x.shape()[axis] * parts).max(1)) {
        let given = |t: usize| {
            let at = |part: usize| if part < parts { signal.get(t * parts + part).copied() } else { None };
            (at(0).unwrap_or(0.0), at(1).unwrap_or(0.0))
        };
        let number = |t: usize| match inverse && onesided {
            // The half that is left out mirrors the other; the middle one and the first have no imaginary part.
            true if t == 0 || 2 * t == length => (given(t).0, 0.0),
            true if 2 * t > length => (given(length - t).0, -given(length - t).1),
            _ => given(t),
        };
        for k in 0..bins {
            let (mut re, mut im) = (0.0, 0.0);
            for t in 0..length {
                let (p, q) = number(t);
                let (sin, cos) = (sign * TAU * ((k * t) % length) as f64 / length as f64).sin_cos();
                re += p * cos - q * sin;
                im += p * sin + q * cos;
            }
            y.push(re * scale);
            y.extend((results == 2).then_some(im * scale));
        }
    }
    let mut shape: Vec<usize> = order.iter().map(|i| x.shape()[*i]).collect();
    shape[last - 1] = bins;
    shape[last] = results;
    let mut back = vec![0; order.len()];
    order.iter().enumerate().for_each(|(i, p)| back[*p] = i);
    Ok(Array::from_shape_vec(shape, y)?.permuted_axes(back).as_standard_layout().into_owned())
}

/// A transform of `x`, as long as `x` is, as a node of the graph's opset.
// CUDA: ONNX Runtime computes DFT on the CPU, in the model as here.
pub(super) fn write<'e, 'g>(
    e: &'e Emit<'g>,
    x: Val<'e, 'g>,
    axis: usize,
    inverse: bool,
    onesided: bool,
) -> Val<'e, 'g> {
    let mut attrs = vec![("inverse", i64::from(inverse).into()), ("onesided", i64::from(onesided).into())];
    if e.graph().opset() >= 20 {
        return e.op("DFT", &[x, e.absent(), e.scalar(axis as f64, DType::I64)], &attrs);
    }
    attrs.push(("axis", (axis as i64).into()));
    e.op("DFT", &[x], &attrs)
}

/// A linear map, whose transpose is the other transform without or with the division by the length. What was left out
/// of a spectrum counts as zeros.
fn gradient<'e, 'g>(b: &Backward<'e, 'g>) -> Vec<Option<Val<'e, 'g>>> {
    let (e, x, dtype) = (b.emit, b.x[0], b.gy.fact().dtype);
    let rank = x.rank();
    let operand = |slot: usize| b.x.get(slot).and_then(|v| v.present());
    let given = match (b.opset() >= 20, operand(2)) {
        (false, _) => Some(b.node.int("axis", 1)),
        (true, None) => Some(-2),
        (true, Some(axis)) => axis.known_ints().and_then(|v| v.first().copied()),
    };
    let axis = given.and_then(|a| usize::try_from(if a < 0 { a + rank as i64 } else { a }).ok());
    let Some(axis) = axis.filter(|a| a + 1 < rank) else {
        let got = operand(2).unwrap_or(x).fact();
        e.fail(InferError::Operand { slot: 2, got, want: "a known signal axis".into() });
        return Vec::new();
    };
    let (inverse, onesided) = kind(b.node);
    let own = x.len(axis);
    let length = match operand(1) {
        Some(n) => n.cast(DType::I64).reshape(&[]),
        None if inverse && onesided => (own - 1.0) * 2.0,
        None => own,
    };
    let known = length.known_ints().and_then(|v| v.first().copied());
    let count = known.map_or_else(|| length.cast(dtype), |n| e.scalar(n as f64, dtype));
    let cut = |x: Val<'e, 'g>, length: Val<'e, 'g>, axis: i64| {
        e.op("Slice", &[x, e.ints(&[0]), length.reshape(&[1]), e.ints(&[axis])], &[])
    };
    let longer = |x: Val<'e, 'g>, zeros: Val<'e, 'g>| e.op("Concat", &[x, zeros], &[("axis", (axis as i64).into())]);
    let full = match (inverse, onesided) {
        (false, false) => write(e, b.gy, axis, true, false) * count,
        // As zeros again: half a spectrum is longer than half of it. Not by a length to transform, of which tract knows
        // none.
        (false, true) => {
            let whole = cut(longer(b.gy, b.gy.zeros_like()), length, axis as i64);
            write(e, whole, axis, true, false) * count
        }
        (true, false) => write(e, b.gy, axis, false, false) / count,
        (true, true) => {
            let Some(weights) = known.and_then(|n| mirrored(dtype, n, rank - axis)) else {
                let got = x.fact();
                e.fail(InferError::Operand { slot: 1, got, want: "a known transform length".into() });
                return Vec::new();
            };
            write(e, b.gy, axis, false, true) * e.weight("", weights) / count
        }
    };
    // Cut to the shape of the operand, of which a shorter transform saw only the beginning.
    let reaches = match (full.fact().dims().map(|d| d[axis]), x.fact().dims().map(|d| d[axis])) {
        (Some(Dim::Known(m)), Some(Dim::Known(n))) => m >= n,
        _ => operand(1).is_none(),
    };
    let real = cut(full, x.len(rank - 1), -1);
    let long = if reaches { real } else { longer(real, x.zeros_like()) };
    vec![Some(cut(long, own, axis as i64))]
}

/// How often each element of one half of a spectrum stands in the whole of length `n`: twice, but for the first and the
/// middle one. Shaped to broadcast along the axis that is `from_end` axes from the end.
fn mirrored(dtype: DType, n: i64, from_end: usize) -> Option<Tensor> {
    let n = usize::try_from(n).ok().filter(|n| (1..=100_000_000).contains(n))?;
    let weights: Vec<f64> = (0..n / 2 + 1).map(|k| if k == 0 || 2 * k == n { 1.0 } else { 2.0 }).collect();
    let mut dims = vec![1; from_end];
    *dims.first_mut()? = weights.len();
    Tensor::from_f64(dtype, &dims, &weights)
}
