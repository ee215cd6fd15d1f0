//! Scaled dot-product attention by its formula, in f64.

use crate::family::*;
use ndarray::IxDyn;

/// One attention over heads: `q` is `[batch, heads, length, width]`, `k` and `v` have `heads / groups` heads.
pub(in crate::family) struct Dense<'a> {
    pub q: &'a Array,
    pub k: &'a Array,
    pub v: &'a Array,
    /// What scores are multiplied by; `1 / sqrt(width)` where absent.
    pub scale: Option<f64>,
    pub softcap: f64,
    /// What is added to the score of batch, head, query and key; minus infinity where the key is not seen.
    pub bias: &'a dyn Fn(usize, usize, usize, usize) -> f64,
    /// One more score for each head, with no value behind it.
    pub sink: Option<Vec<f64>>,
}

/// `y` and the scores scaled, capped, biased, and after the softmax.
pub(in crate::family) struct Computed {
    pub y: Array,
    pub raw: Array,
    pub capped: Array,
    pub biased: Array,
    pub weights: Array,
}

impl Dense<'_> {
    /// Row by row. A row that sees nothing is zero.
    pub(in crate::family) fn compute(&self) -> Result<Computed, EvalError> {
        let ([b, h, l, e], [bk, g, s, ek], [bv, gv, sv, ev]) = (self.q.shape(), self.k.shape(), self.v.shape()) else {
            return invalid("attention takes heads of rank 4");
        };
        let (b, h, l, e, g, s, ev) = (*b, *h, *l, *e, *g, *s, *ev);
        if (*bk, *ek, *bv, *gv, *sv) != (b, e, b, g, s) || g == 0 || h % g != 0 {
            let (q, k, v) = (self.q.shape(), self.k.shape(), self.v.shape());
            return invalid(format!("queries {q:?}, keys {k:?} and values {v:?} do not fit"));
        }
        let scale = self.scale.unwrap_or(1.0 / (e as f64).sqrt());
        let sinks = self.sink.as_deref();
        if sinks.is_some_and(|v| v.len() != h) {
            return invalid("one sink per head");
        }
        let zeros = |w: usize| Array::zeros(IxDyn(&[b, h, l, w]));
        let mut out = Computed { y: zeros(ev), raw: zeros(s), capped: zeros(s), biased: zeros(s), weights: zeros(s) };
        for (n, m, i) in (0..b).flat_map(|n| (0..h).flat_map(move |m| (0..l).map(move |i| (n, m, i)))) {
            let of = m / (h / g);
            for j in 0..s {
                let raw = scale * (0..e).map(|d| self.q[[n, m, i, d]] * self.k[[n, of, j, d]]).sum::<f64>();
                let capped = if self.softcap > 0.0 { self.softcap * (raw / self.softcap).tanh() } else { raw };
                out.raw[[n, m, i, j]] = raw;
                out.capped[[n, m, i, j]] = capped;
                out.biased[[n, m, i, j]] = capped + (self.bias)(n, m, i, j);
            }
            let sink = sinks.map(|v| v[m]);
            let max = (0..s).map(|j| out.biased[[n, m, i, j]]).chain(sink).fold(f64::NEG_INFINITY, f64::max);
            if max == f64::NEG_INFINITY {
                continue;
            }
            let total: f64 = (0..s).map(|j| out.biased[[n, m, i, j]]).chain(sink).map(|x| (x - max).exp()).sum();
            for j in 0..s {
                let p = (out.biased[[n, m, i, j]] - max).exp() / total;
                out.weights[[n, m, i, j]] = p;
                for d in 0..ev {
                    out.y[[n, m, i, d]] += p * self.v[[n, of, j, d]];
                }
            }
        }
        Ok(out)
    }
}

/// `[batch, length, heads * width]` as `[batch, heads, length, width]`; rank 4 as it is.
pub(in crate::family) fn split(x: &Array, heads: i64) -> Result<Array, EvalError> {
    let [b, l, w] = *x.shape() else { return Ok(x.clone()) };
    match usize::try_from(heads) {
        Ok(heads) if heads > 0 && w % heads == 0 => {
            Ok(crate::eval::reshape(x, &[b, l, heads, w / heads])?.permuted_axes(vec![0, 2, 1, 3]))
        }
        _ => invalid(format!("{heads} heads of a width of {w}")),
    }
}

/// `[batch, heads, length, width]` as `[batch, length, heads * width]`.
pub(in crate::family) fn merge(x: Array) -> Result<Array, EvalError> {
    let [b, h, l, w] = *x.shape() else { return invalid("heads have rank 4") };
    crate::eval::reshape(&x.permuted_axes(vec![0, 2, 1, 3]), &[b, l, h * w])
}

/// A mask or a bias broadcast to `dims`.
pub(in crate::family) fn stretch(x: &Array, dims: &[usize]) -> Result<Array, EvalError> {
    match x.broadcast(IxDyn(dims)) {
        Some(wide) => Ok(wide.to_owned()),
        None => invalid(format!("{:?} does not broadcast to {dims:?}", x.shape())),
    }
}
