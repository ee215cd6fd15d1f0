//! Masks of padding as ONNX Runtime takes them.

use super::*;
use crate::Val;
use crate::family::attention::cat;

/// What is added to the score of a key that is padding, unless an attribute says otherwise.
fn filter(node: &lorac_ir::Node) -> f64 {
    f64::from(node.float("mask_filter_value", -10000.0))
}

/// The mask as something to add to the scores of keys `k`, `[batch, heads, total, width]`. It holds, by rank: the number
/// of keys of each sequence, or also the first one of each; zeros for padding; zeros for what a query does not see.
pub(super) fn padding<'e, 'g>(
    node: &lorac_ir::Node,
    slot: usize,
    mask: Val<'e, 'g>,
    k: Val<'e, 'g>,
    x: Val<'e, 'g>,
) -> Val<'e, 'g> {
    let e = k.emit();
    let refuse = |want: &str| e.fail(InferError::Operand { slot, got: mask.fact(), want: want.into() });
    let real = match mask.rank() {
        1 => {
            let dim = |v: Val| v.fact().dims().and_then(|d| d.first().copied()).unwrap_or(Dim::Unknown);
            let (have, batch) = (dim(mask), dim(x));
            let wrong = matches!((have, batch), (Dim::Known(n), Dim::Known(b)) if n != b && n != 2 * b);
            if wrong || have.same(batch * Dim::Known(3) + Dim::Known(2)) {
                return refuse("lengths, or ends and starts: offsets of packed sequences serve inference only");
            }
            let at = k.positions(2);
            let column = |v: Val<'e, 'g>| v.cast(DType::I64).reshape(&[-1, 1, 1, 1]);
            if have.same(batch) {
                at.binary("Less", column(mask))
            } else {
                // Starts are what follows the first `batch` numbers, or the zeros put there.
                let all = cat(e, &[mask, mask.zeros_like()], 0);
                let n = e.op("Shape", &[x], &[("start", 0i64.into()), ("end", 1i64.into())]);
                let first = |v: Val<'e, 'g>| e.op("Slice", &[v, e.ints(&[0]), n], &[]);
                let rest = e.op("Slice", &[all, n, e.ints(&[i64::MAX])], &[]);
                let seen = at.binary("GreaterOrEqual", column(first(rest)));
                at.binary("Less", column(first(mask))).binary("And", seen)
            }
        }
        2 => mask.binary("Greater", mask.like(0.0)).binary("Unsqueeze", e.ints(&[1, 2])),
        3 => mask.binary("Greater", mask.like(0.0)).binary("Unsqueeze", e.ints(&[1])),
        _ => return refuse("rank 1 to 3: no kernel takes another mask on the CPU"),
    };
    e.op("Where", &[real, k.like(0.0), k.like(filter(node))], &[])
}

/// The same by sequence, query and key.
pub(super) struct Padding<'a> {
    mask: Option<&'a Array>,
    batch: usize,
    filter: f64,
}

impl<'a> Padding<'a> {
    pub(super) fn of(
        a: &'a Args,
        slot: usize,
        batch: usize,
        length: usize,
        total: usize,
    ) -> Result<Padding<'a>, EvalError> {
        let mask = a.opt(slot);
        let fits = match mask.map(|m| m.shape()) {
            None => true,
            Some([n]) => *n == batch || *n == 2 * batch,
            Some([b, t]) => (*b, *t) == (batch, total),
            Some([b, l, t]) => (*b, *l, *t) == (batch, length, total),
            Some(_) => false,
        };
        match fits {
            true => Ok(Padding { mask, batch, filter: filter(a.node) }),
            false => invalid(format!("a mask {:?} of {batch} sequences and {total} keys", mask.map(|m| m.shape()))),
        }
    }

    pub(super) fn at(&self, n: usize, i: usize, j: usize) -> f64 {
        let Some(mask) = self.mask else { return 0.0 };
        let real = match mask.ndim() {
            1 => {
                let first = if mask.len() == self.batch { 0.0 } else { mask[[n + self.batch]] };
                (j as f64) < mask[[n]] && j as f64 >= first
            }
            2 => mask[[n, j]] > 0.0,
            _ => mask[[n, i, j]] > 0.0,
        };
        if real { 0.0 } else { self.filter }
    }
}
