//! Rotary position embedding of com.microsoft: GemmaRotaryEmbedding MRotaryEmbedding RotaryEmbedding.

use super::*;
use crate::Attribute::Int;
use crate::Operand::{Any, Floats, Ints};
use crate::family::attention::{Rotation, merge, rotate, rotated, split};
use crate::{Val, case};
use lorac_ir::Node;

pub(in crate::family) const OPS: &[Op] = &[
    refused(
        "GemmaRotaryEmbedding",
        "only an optimizer for CUDA writes it, in half precision; use the model before that optimizer",
    ),
    refused(
        "MRotaryEmbedding",
        "rotary embedding of three positions per token has no lowering yet; export the model with plain operators",
    ),
    ROTARY_EMBEDDING,
];

/// Cosines or sines by position as they are taken for `[batch, heads, length, width]` (`axis` 1) or
/// `[batch, length, heads, width]` (`axis` 2). `at` holds a position for each token, or the first one only.
pub(super) fn angles<'e, 'g>(cache: Val<'e, 'g>, at: Val<'e, 'g>, axis: i64) -> Val<'e, 'g> {
    let e = cache.emit();
    let rows = e.op("Gather", &[cache, at], &[]);
    match (rows.rank(), axis) {
        (2, 1) => rows,
        (2, _) => rows.binary("Unsqueeze", e.ints(&[1])),
        _ => rows.binary("Unsqueeze", e.ints(&[axis])),
    }
}

/// Heads of an operand of rank 3: where not all of a head turns their number is given, else the caches tell.
fn heads(node: &Node, width: Option<i64>, half: Option<i64>) -> Option<i64> {
    match node.int("rotary_embedding_dim", 0) {
        0 => match half {
            Some(half) if half > 0 => width.map(|w| w / (2 * half)),
            _ => Some(node.int("num_heads", 0)),
        },
        _ => Some(node.int("num_heads", 0)),
    }
    .filter(|h| *h > 0)
}

const ROTARY_EMBEDDING: Op = Op {
    name: "RotaryEmbedding",
    traits: Traits::CARRIES.constants(&[2, 3]),
    inputs: (4, 4),
    eval: |a| {
        let (x, cos) = (a.x(0)?, a.x(2)?);
        let last = |x: &Array| x.shape().last().map(|n| *n as i64);
        let heads = if x.ndim() == 3 { heads(a.node, last(x), last(cos)).unwrap_or(0) } else { 1 };
        let parts = split(x, heads)?;
        let (at, length) = (a.ints(1)?, parts.shape().get(2).copied().unwrap_or(0));
        let first = a.x(1)?.ndim() < 2;
        let row = |n: usize, s: usize| match first {
            true => at.first().map(|p| p + s as i64),
            false => at.get(n * length + s).copied(),
        };
        let row = |n: usize, s: usize| row(n, s).and_then(|p| usize::try_from(p).ok());
        let y = rotated(&parts, cos, a.x(3)?, &row, Rotation::of(a.node))?;
        Ok(vec![if x.ndim() == 3 { merge(y)? } else { y }])
    },
    flops: |c, k| elementwise(c, k) * Dim::Known(3),
    // The kernels know the attributes `scale` and `is_packed_batching` and leave them alone.
    grad: Grad::lower(
        |e, node, x| {
            let flat = x[0].rank() == 3;
            let at = match x[1].rank() {
                2 => x[1],
                _ => x[0].positions(if flat { 1 } else { 2 }) + x[1].cast(DType::I64),
            };
            let how = Rotation::of(node);
            if !flat {
                return vec![rotate(x[0], angles(x[2], at, 1), angles(x[3], at, 1), how)];
            }
            let last = |v: Val| v.fact().dims().and_then(|d| d.last()?.known());
            let half = last(x[2]);
            let parts = match (heads(node, last(x[0]), half), half) {
                (Some(heads), _) => x[0].reshape(&[0, 0, heads, -1]),
                (None, Some(half)) => x[0].reshape(&[0, 0, -1, 2 * half]),
                _ => {
                    let want = "a known width, since no number of heads is given".into();
                    return vec![e.fail(InferError::Operand { slot: 2, got: x[2].fact(), want })];
                }
            };
            vec![rotate(parts, angles(x[2], at, 2), angles(x[3], at, 2), how).reshape(&[0, 0, -1])]
        },
        &[
            case(&[Any(&[2, 3, 2, 4]), Ints(&[2, 2], &[0, 1, 4, 2]), Any(&[5, 2]), Any(&[5, 2])]),
            case(&[Any(&[2, 2, 8]), Ints(&[1], &[2]), COS, SIN]).with(&[("interleaved", Int(1))]),
            case(&[Any(&[1, 2, 12]), Ints(&[1, 2], &[2, 0]), COS, SIN])
                .with(&[("num_heads", Int(2)), ("rotary_embedding_dim", Int(4))]),
            case(&[Any(&[1, 2, 2, 4]), Ints(&[1], &[1]), COS, SIN]).with(&[("interleaved", Int(1))]),
        ],
    ),
    ..FUSED
};

const COS: crate::Operand = Floats(&[4, 2], &[1.0, 1.0, 0.54, 0.99, -0.42, 0.98, -0.99, 0.95]);
const SIN: crate::Operand = Floats(&[4, 2], &[0.0, 0.0, 0.84, 0.1, 0.91, 0.2, 0.14, 0.3]);
