//! Samples between the elements of a tensor, decomposed into weighted sums of gathered elements.

use crate::Val;
use lorac_ir::DType;
use ndarray::{Dimension, IxDyn, indices};

/// One element of an axis for each place: its position, as a real, and its weight; none for one.
pub(in crate::family) type Tap<'e, 'g> = (Val<'e, 'g>, Option<Val<'e, 'g>>);

/// The two elements around each place.
pub(in crate::family) fn linear<'e, 'g>(at: Val<'e, 'g>) -> Vec<Tap<'e, 'g>> {
    let first = at.unary("Floor");
    let t = at - first;
    vec![(first, Some(1.0 - t)), (first + 1.0, Some(t))]
}

/// `v` moved into an axis whose last element is `last`.
pub(in crate::family) fn clamped<'e, 'g>(v: Val<'e, 'g>, last: Val<'e, 'g>) -> Val<'e, 'g> {
    v.binary("Max", v.like(0.0)).binary("Min", last)
}

/// The tap with no weight where it lies outside.
pub(in crate::family) fn inside<'e, 'g>((position, weight): Tap<'e, 'g>, last: Val<'e, 'g>) -> Tap<'e, 'g> {
    let outside = position.binary("Less", position.like(0.0)).binary("Or", position.binary("Greater", last));
    let inside = outside.unary("Not").cast(position.fact().dtype);
    (clamped(position, last), Some(weight.map_or(inside, |w| w * inside)))
}

/// The sum over all combinations of the axes' taps of what they gather from `x` (`[N,C,..]`): `[N,C,L]` for positions
/// and weights of shape `[N,L]`.
pub(in crate::family) fn gathered<'e, 'g>(
    x: Val<'e, 'g>,
    lens: &[Val<'e, 'g>],
    axes: &[Vec<Tap<'e, 'g>>],
) -> Val<'e, 'g> {
    let e = x.emit();
    let flat = x.reshape(&[0, 0, -1]);
    let channels = match x.fact().dims().and_then(|d| d.get(1)?.known()) {
        Some(n) => e.ints(&[1, n, 1]),
        None => {
            let count = e.op("Shape", &[x], &[("start", 1i64.into()), ("end", 2i64.into())]);
            e.op("Concat", &[e.ints(&[1]), count, e.ints(&[1])], &[("axis", 0i64.into())])
        }
    };
    let counts: Vec<usize> = axes.iter().map(Vec::len).collect();
    let mut sum: Option<Val> = None;
    for pick in indices(IxDyn(&counts)) {
        let (mut at, mut weight): (Option<Val>, Option<Val>) = (None, None);
        for ((i, taps), len) in pick.slice().iter().zip(axes).zip(lens) {
            let (position, part) = taps[*i];
            let position = position.cast(DType::I64);
            at = Some(at.map_or(position, |at| at * len.cast(DType::I64) + position));
            weight = match (weight, part) {
                (Some(w), Some(part)) => Some(w * part),
                (w, part) => w.or(part),
            };
        }
        let Some(at) = at else { continue };
        let wide = at.binary("Unsqueeze", e.ints(&[1])).binary("Expand", channels);
        let taken = e.op("GatherElements", &[flat, wide], &[("axis", 2i64.into())]);
        let part = match weight {
            Some(weight) => taken * weight.binary("Unsqueeze", e.ints(&[1])),
            None => taken,
        };
        sum = Some(sum.map_or(part, |sum| sum + part));
    }
    sum.unwrap_or_else(|| e.absent())
}
