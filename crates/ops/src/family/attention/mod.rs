//! Attention as one operator: Attention RotaryEmbedding.

use super::*;

mod dense;
mod rotary;
mod scores;
mod standard;

pub(super) use dense::{Dense, merge, split, stretch};
pub(super) use rotary::{Rotation, rotate, rotated};
pub(super) use scores::{Attend, cat, causal, extend, length, merge_heads, positions, split_heads, within};

pub(super) const OPS: &[Op] = &[standard::ATTENTION, rotary::ROTARY_EMBEDDING];

/// The fact of a cache `[batch, heads, past + new, width]`, given the facts of the past (`None` where absent) and of what
/// is new, `[batch, new, heads * width]` or of rank 4 already.
fn present(past: Option<&Fact>, new: &Fact, heads: i64) -> Fact {
    let new_dims = match new.dims() {
        Some([b, h, l, w]) => [*b, *h, *l, *w],
        Some([b, l, w]) => [*b, Dim::Known(heads), *l, w.div_exact(Dim::Known(heads)).unwrap_or(Dim::Unknown)],
        _ => return Fact::unranked(new.dtype),
    };
    let [b, h, l, w] = new_dims;
    match past.map(Fact::dims) {
        None => Fact::new(new.dtype, new_dims),
        Some(Some([_, _, p, _])) => Fact::new(new.dtype, [b, h, *p + l, w]),
        Some(_) => Fact::new(new.dtype, [b, h, Dim::Unknown, w]),
    }
}
