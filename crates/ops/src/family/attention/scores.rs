//! Scaled dot-product attention in plain operators: what every attention operator lowers to.

use crate::family::*;
use crate::{Emit, Val};

/// `Softmax(softcap(scale q k') + bias) v` on heads.
pub(in crate::family) struct Attend<'e, 'g> {
    /// Queries `[batch, heads, length, width]`.
    pub q: Val<'e, 'g>,
    /// Keys `[batch, key heads, total, width]`; each serves as many heads in a row as the numbers of heads say.
    pub k: Val<'e, 'g>,
    /// Values `[batch, key heads, total, value width]`.
    pub v: Val<'e, 'g>,
    /// What scores are multiplied by; `1 / sqrt(width)` where absent.
    pub scale: Option<f64>,
    /// Scores are bounded by this smoothly; 0 for not at all.
    pub softcap: f64,
    /// Added to the scores; broadcasts to `[batch, heads, length, total]`.
    pub bias: Option<Val<'e, 'g>>,
    /// Which keys a query may see; booleans that broadcast likewise.
    pub allowed: Option<Val<'e, 'g>>,
    /// One more score of each row, `[1, heads, 1, 1]` or a scalar, with no value behind it.
    pub sink: Option<Val<'e, 'g>>,
    /// Whether a row that may see nothing gives zeros.
    pub guard: bool,
    /// Type of the softmax.
    pub precision: DType,
}

/// The result of [`Attend`] and what lies on the way.
pub(in crate::family) struct Attended<'e, 'g> {
    /// `[batch, heads, length, value width]`.
    pub y: Val<'e, 'g>,
    /// Scores, scaled.
    pub raw: Val<'e, 'g>,
    /// Scores after the softcap.
    pub capped: Val<'e, 'g>,
    /// Scores as the softmax takes them.
    pub biased: Val<'e, 'g>,
    /// After the softmax.
    pub weights: Val<'e, 'g>,
}

/// Low enough that a masked score vanishes in the softmax, finite so that a fully masked row is not NaN.
fn masked<'e, 'g>(like: Val<'e, 'g>) -> Val<'e, 'g> {
    like.like(if like.fact().dtype == DType::F16 { -6e4 } else { -1e30 })
}

impl<'e, 'g> Attend<'e, 'g> {
    /// Attention with the default scale and nothing masked.
    pub(in crate::family) fn new(q: Val<'e, 'g>, k: Val<'e, 'g>, v: Val<'e, 'g>) -> Attend<'e, 'g> {
        let precision = q.fact().dtype;
        Attend { q, k, v, scale: None, softcap: 0.0, bias: None, allowed: None, sink: None, guard: false, precision }
    }

    /// Writes it.
    pub(in crate::family) fn write(self) -> Attended<'e, 'g> {
        let e = self.q.emit();
        let q = match self.scale {
            Some(scale) => self.q * scale,
            None => by_root_of_width(self.q),
        };
        // Heads that share a key are rows of one matrix: keys are not repeated.
        let raw = with_heads(with_heads(q, self.k).matmul(self.k.t()), self.q);
        let capped = match self.softcap {
            cap if cap > 0.0 => (raw / cap).unary("Tanh") * cap,
            _ => raw,
        };
        let mut biased = capped;
        let mut seen = self.allowed;
        if let Some(mut bias) = self.bias {
            if self.guard {
                let open = bias.binary("Greater", bias.like(f64::NEG_INFINITY));
                bias = e.op("Where", &[open, bias, masked(bias)], &[]);
                seen = Some(seen.map_or(open, |s| s.binary("And", open)));
            }
            biased = biased + bias;
        }
        if let Some(allowed) = self.allowed {
            biased = e.op("Where", &[allowed, biased, masked(biased)], &[]);
        }
        let mut weights = softmax(biased.cast(self.precision), self.sink, self.q).cast(biased.fact().dtype);
        let mut y = with_heads(with_heads(weights, self.k).matmul(self.v), self.q);
        if let Some(seen) = seen.filter(|_| self.guard) {
            let some = e.op("ReduceMax", &[seen.cast(y.fact().dtype), e.ints(&[-1])], &[]);
            y = y * some;
            weights = weights * some;
        }
        Attended { y, raw, capped, biased, weights }
    }
}

fn by_root_of_width<'e, 'g>(q: Val<'e, 'g>) -> Val<'e, 'g> {
    match q.fact().dims().and_then(|d| d.last()?.known()) {
        Some(width) => q * (1.0 / (width as f64).sqrt()),
        None => q / q.len(3).cast(q.fact().dtype).unary("Sqrt"),
    }
}

fn softmax<'e, 'g>(x: Val<'e, 'g>, sink: Option<Val<'e, 'g>>, q: Val<'e, 'g>) -> Val<'e, 'g> {
    let e = x.emit();
    let last = [("axis", (-1i64).into())];
    let Some(sink) = sink else { return e.op("Softmax", &[x], &last) };
    let rows = e.op("Shape", &[q], &[("start", 0i64.into()), ("end", 3i64.into())]);
    let column = sink.binary("Expand", cat(e, &[rows, e.ints(&[1])], 0));
    let all = e.op("Softmax", &[cat(e, &[x, column.cast(x.fact().dtype)], -1)], &last);
    e.op("Slice", &[all, e.ints(&[0]), e.ints(&[-1]), e.ints(&[-1])], &[])
}

/// `x` of rank 4 with the number of heads of `like`, rows moving between the axes of heads and of length.
fn with_heads<'e, 'g>(x: Val<'e, 'g>, like: Val<'e, 'g>) -> Val<'e, 'g> {
    let e = x.emit();
    let heads = |v: Val| v.fact().dims().and_then(|d| d.get(1).copied()).unwrap_or(Dim::Unknown);
    match heads(like) {
        n if n.same(heads(x)) => x,
        Dim::Known(n) => x.reshape(&[0, n, -1, 0]),
        _ => {
            let count = e.op("Shape", &[like], &[("start", 1i64.into()), ("end", 2i64.into())]);
            x.binary("Reshape", cat(e, &[e.ints(&[0]), count, e.ints(&[-1, 0])], 0))
        }
    }
}

/// Values joined along an axis.
pub(in crate::family) fn cat<'e, 'g>(e: &'e Emit<'g>, x: &[Val<'e, 'g>], axis: i64) -> Val<'e, 'g> {
    e.op("Concat", x, &[("axis", axis.into())])
}

/// A cache and what is new behind it, along the axis of length: what is new alone where the cache is absent or empty.
pub(in crate::family) fn extend<'e, 'g>(past: Option<Val<'e, 'g>>, new: Val<'e, 'g>) -> Val<'e, 'g> {
    let empty = |past: &Val| past.fact().dims().is_some_and(|d| d.get(2) == Some(&Dim::Known(0)));
    match past.filter(|past| !empty(past)) {
        Some(past) => cat(new.emit(), &[past, new], 2),
        None => new,
    }
}

/// `[batch, length, heads * width]` as `[batch, heads, length, width]`.
pub(in crate::family) fn split_heads<'e, 'g>(x: Val<'e, 'g>, heads: i64) -> Val<'e, 'g> {
    x.reshape(&[0, 0, heads, -1]).transpose(&[0, 2, 1, 3])
}

/// `[batch, heads, length, width]` as `[batch, length, heads * width]`.
pub(in crate::family) fn merge_heads<'e, 'g>(x: Val<'e, 'g>) -> Val<'e, 'g> {
    x.transpose(&[0, 2, 1, 3]).reshape(&[0, 0, -1])
}

/// The positions of queries as a column: their own, `offset` further on.
fn query_positions<'e, 'g>(q: Val<'e, 'g>, offset: Option<Val<'e, 'g>>) -> Val<'e, 'g> {
    let rows = q.positions(2).binary("Unsqueeze", q.emit().ints(&[1]));
    offset.map_or(rows, |by| rows + by)
}

/// Whether a query may see a key: positions no later than its own, which is `offset` further on (a scalar, or
/// `[batch, 1, 1, 1]`).
pub(in crate::family) fn causal<'e, 'g>(q: Val<'e, 'g>, k: Val<'e, 'g>, offset: Option<Val<'e, 'g>>) -> Val<'e, 'g> {
    query_positions(q, offset).binary("GreaterOrEqual", k.positions(2))
}

/// Whether a key is less than `window` positions behind the query.
pub(in crate::family) fn within<'e, 'g>(
    q: Val<'e, 'g>,
    k: Val<'e, 'g>,
    offset: Option<Val<'e, 'g>>,
    window: i64,
) -> Val<'e, 'g> {
    let oldest = query_positions(q, offset) - window as f64;
    oldest.binary("Less", k.positions(2))
}
