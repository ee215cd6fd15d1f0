//! Rotary position embedding.

use super::*;
use crate::Attribute::Int;
use crate::Operand::{Any, Ints};
use crate::{Val, case};
use lorac_ir::Node;

pub(super) const ROTARY_EMBEDDING: Op = Op {
    name: "RotaryEmbedding",
    traits: Traits::CARRIES.constants(&[1, 2]),
    since: 23,
    inputs: (3, 4),
    eval: |a| {
        let x = a.x(0)?;
        let heads = split(x, a.node.int("num_heads", 0))?;
        let (cos, sin) = (a.x(1)?, a.x(2)?);
        let at = match a.opt(3) {
            Some(_) => Some(a.ints(3)?),
            None => None,
        };
        let length = heads.shape().get(2).copied().unwrap_or(0);
        // Without positions the caches have a row for each token of each sequence.
        let row = |n: usize, s: usize| match &at {
            Some(at) => at.get(n * length + s).and_then(|p| usize::try_from(*p).ok()),
            None => Some(n * length + s),
        };
        let how = Rotation::of(a.node);
        let y = rotated(&heads, cos, sin, &row, how)?;
        Ok(vec![if x.ndim() == 3 { merge(y)? } else { y }])
    },
    flops: |c, k| elementwise(c, k) * Dim::Known(3),
    grad: Grad::lower(
        |e, node, x| {
            let how = Rotation::of(node);
            let (cos, sin) = match x.get(3).and_then(|v| v.present()) {
                Some(at) => (e.op("Gather", &[x[1], at], &[]), e.op("Gather", &[x[2], at], &[])),
                None => (x[1], x[2]),
            };
            match x[0].rank() {
                3 => {
                    let heads = x[0].reshape(&[0, 0, node.int("num_heads", 0), -1]);
                    vec![rotate(heads, unsqueeze(cos, 2), unsqueeze(sin, 2), how).reshape(&[0, 0, -1])]
                }
                _ => vec![rotate(x[0], unsqueeze(cos, 1), unsqueeze(sin, 1), how)],
            }
        },
        &[
            case(&[Any(&[2, 3, 2, 4]), Any(&[5, 2]), Any(&[5, 2]), Ints(&[2, 2], &[0, 1, 4, 2])]).opset(23),
            case(&[Any(&[2, 2, 8]), Any(&[2, 2, 2]), Any(&[2, 2, 2])])
                .with(&[("num_heads", Int(2)), ("interleaved", Int(1))])
                .opset(23),
            case(&[Any(&[1, 2, 12]), Any(&[3, 2]), Any(&[3, 2]), Ints(&[1, 2], &[2, 0])])
                .with(&[("num_heads", Int(2)), ("rotary_embedding_dim", Int(4))])
                .opset(24),
            case(&[Any(&[1, 2, 2, 6]), Any(&[1, 2, 2]), Any(&[1, 2, 2])])
                .with(&[("interleaved", Int(1)), ("rotary_embedding_dim", Int(4))])
                .opset(23),
        ],
    ),
    ..UNARY
};

/// A new axis, along which every head turns alike.
fn unsqueeze<'e, 'g>(x: Val<'e, 'g>, axis: i64) -> Val<'e, 'g> {
    x.binary("Unsqueeze", x.emit().ints(&[axis]))
}

/// Which elements turn, and which pairs they form.
#[derive(Clone, Copy)]
pub(in crate::family) struct Rotation {
    /// Pairs are neighbours, not halves.
    pub interleaved: bool,
    /// How many elements turn; 0 for all.
    pub width: i64,
}

impl Rotation {
    /// As the attributes of a RotaryEmbedding say.
    pub(in crate::family) fn of(node: &Node) -> Rotation {
        Rotation { interleaved: node.int("interleaved", 0) != 0, width: node.int("rotary_embedding_dim", 0) }
    }
}

/// `x` of rank 4 turned along its last axis by angles whose cosines and sines broadcast to half of it.
pub(in crate::family) fn rotate<'e, 'g>(
    x: Val<'e, 'g>,
    cos: Val<'e, 'g>,
    sin: Val<'e, 'g>,
    how: Rotation,
) -> Val<'e, 'g> {
    let e = x.emit();
    let last = ("axis", (-1i64).into());
    let halves = |x: Val<'e, 'g>| e.ops("Split", &[x], &[last.clone(), ("num_outputs", 2i64.into())], 2);
    let cut = |from: i64, to: i64| e.op("Slice", &[x, e.ints(&[from]), e.ints(&[to]), e.ints(&[-1])], &[]);
    let whole = how.width == 0 || x.fact().dims().and_then(|d| d.last()?.known()) == Some(how.width);
    let turning = if whole { x } else { cut(0, how.width) };
    let pairs = if how.interleaved { turning.reshape(&[0, 0, 0, -1, 2]) } else { turning };
    let parts = halves(pairs);
    let [a, b] = parts.as_slice() else { return x };
    let flat = |v: Val<'e, 'g>| if how.interleaved { v.binary("Squeeze", e.ints(&[-1])) } else { v };
    let (a, b) = (flat(*a), flat(*b));
    let (real, imaginary) = (a * cos - b * sin, a * sin + b * cos);
    let turned = match how.interleaved {
        true => {
            let column = |v: Val<'e, 'g>| v.binary("Unsqueeze", e.ints(&[-1]));
            let pairs = e.op("Concat", &[column(real), column(imaginary)], std::slice::from_ref(&last));
            let width = if how.width == 0 { -1 } else { how.width };
            pairs.reshape(&[0, 0, 0, width])
        }
        false => e.op("Concat", &[real, imaginary], std::slice::from_ref(&last)),
    };
    if whole { turned } else { e.op("Concat", &[turned, cut(how.width, i64::MAX)], &[last]) }
}

/// `x`, `[batch, heads, length, width]`, turned. `row` is the row of the caches for a token of a sequence; their last axis
/// is half of what turns.
pub(in crate::family) fn rotated(
    x: &Array,
    cos: &Array,
    sin: &Array,
    row: &dyn Fn(usize, usize) -> Option<usize>,
    how: Rotation,
) -> Result<Array, EvalError> {
    let [b, h, l, d] = *x.shape() else { return invalid("rotary embedding takes rank 3 or 4") };
    let width = if how.width > 0 { how.width as usize } else { d };
    let half = width / 2;
    if width % 2 != 0 || width > d || cos.shape().last() != Some(&half) || sin.shape() != cos.shape() {
        return invalid(format!("{width} of {d} elements turn, the caches are {:?}", cos.shape()));
    }
    let (cos, sin): (Vec<f64>, Vec<f64>) = (cos.iter().copied().collect(), sin.iter().copied().collect());
    let mut y = x.clone();
    for (n, s) in (0..b).flat_map(|n| (0..l).map(move |s| (n, s))) {
        let start = row(n, s).map(|r| r * half).filter(|r| r + half <= cos.len());
        let Some(start) = start else { return invalid("a position outside the caches") };
        for (m, i) in (0..h).flat_map(|m| (0..half).map(move |i| (m, i))) {
            let (first, second) = if how.interleaved { (2 * i, 2 * i + 1) } else { (i, i + half) };
            let (c, z) = (cos[start + i], sin[start + i]);
            let (u, v) = (x[[n, m, s, first]], x[[n, m, s, second]]);
            y[[n, m, s, first]] = c * u - z * v;
            y[[n, m, s, second]] = z * u + c * v;
        }
    }
    Ok(y)
}
