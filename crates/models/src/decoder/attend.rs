//! Scaled dot-product attention, with rotated positions and with keys that several heads share.

use super::Text;
use crate::config::Decoder;
use crate::write::Write;
use lorac_ir::{DType, Tensor};
use lorac_ops::Val;

impl Decoder {
    /// Whether several heads of queries read one head of keys.
    pub(super) fn shares_keys(&self) -> bool {
        self.attention.groups < self.config.heads
    }
}

/// Cosine and sine of the angle of each position and pair, `f32[sequence,head/2]` each.
#[derive(Clone, Copy)]
pub(super) struct Rotation<'e, 'g> {
    cos: Val<'e, 'g>,
    sin: Val<'e, 'g>,
}

impl<'e, 'g> Rotation<'e, 'g> {
    /// Angles of `positions` as the module `at` has them.
    pub(super) fn new(w: &Write<'e, 'g>, at: &str, decoder: &Decoder, positions: Val<'e, 'g>) -> Rotation<'e, 'g> {
        let frequencies = w.emit.weight(&format!("{at}.inv_freq"), Tensor::vector(&decoder.frequencies));
        let positions = w.cast(at, positions, DType::F32);
        let positions = w.op(at, "Unsqueeze", &[positions, w.emit.ints(&[1])], &[]);
        let angles = w.op(at, "Mul", &[positions, frequencies], &[]);
        Rotation { cos: w.op(at, "Cos", &[angles], &[]), sin: w.op(at, "Sin", &[angles], &[]) }
    }

    /// `x`, `f32[..,sequence,head]`, with the pairs `(x[i], x[i + head/2])` rotated.
    fn turn(&self, w: &Write<'e, 'g>, at: &str, x: Val<'e, 'g>) -> Val<'e, 'g> {
        let last = |extra: i64| [("axis", (-1i64).into()), ("num_outputs", extra.into())];
        let op = |op, a, b| w.op(at, op, &[a, b], &[]);
        let [a, b] = w.split(at, "Split", &[x], &last(2));
        let first = op("Sub", op("Mul", a, self.cos), op("Mul", b, self.sin));
        let second = op("Add", op("Mul", b, self.cos), op("Mul", a, self.sin));
        w.op(at, "Concat", &[first, second], &last(0)[..1])
    }
}

/// What attention makes of queries, keys and values, each `f32[batch,sequence,heads*head]` by its own number of heads, in a layer
/// of this number and path.
pub(super) fn attend<'e, 'g>(
    w: &Write<'e, 'g>,
    (layer, at): (usize, &str),
    decoder: &Decoder,
    [query, key, value]: [Val<'e, 'g>; 3],
    rotation: Option<Rotation<'e, 'g>>,
    text: &Text<'e, 'g>,
) -> Val<'e, 'g> {
    let (heads, groups, width) = (decoder.config.heads, decoder.attention.groups, decoder.attention.head);
    let op = |op, inputs: &[Val<'e, 'g>]| w.op(at, op, inputs, &[]);
    let transpose = |x, perm: &[i64]| w.op(at, "Transpose", &[x], &[("perm", perm.to_vec().into())]);
    let shared = decoder.shares_keys();
    // Keys and values that are shared have an axis of one, along which the products broadcast: no copy per head.
    let split = |x, each: usize, perm: (&[i64; 4], &[i64; 5])| {
        let sizes = [groups as i64, each as i64, width as i64];
        match shared {
            true => transpose(op("Reshape", &[x, w.emit.ints(&[0, 0, sizes[0], sizes[1], sizes[2]])]), perm.1),
            false => transpose(op("Reshape", &[x, w.emit.ints(&[0, 0, sizes[0], sizes[2]])]), perm.0),
        }
    };
    let rows: (&[i64; 4], &[i64; 5]) = (&[0, 2, 1, 3], &[0, 2, 3, 1, 4]);
    let columns: (&[i64; 4], &[i64; 5]) = (&[0, 2, 3, 1], &[0, 2, 3, 4, 1]);
    let swap: &[i64] = if shared { &[0, 1, 2, 4, 3] } else { &[0, 1, 3, 2] };

    // Scaling the query touches fewer numbers than scaling the scores.
    let query = op("Mul", &[query, w.emit.scalar(1.0 / (width as f64).sqrt(), DType::F32)]);
    let query = split(query, heads / groups.max(1), rows);
    let rank = swap.len();
    let all = |kind, new, axis| text.with_cache(w, (layer, at), kind, new, axis);
    let (query, key) = match rotation {
        Some(rotation) => {
            let key = all("key", rotation.turn(w, at, split(key, 1, rows)), rank - 2);
            (rotation.turn(w, at, query), transpose(key, swap))
        }
        None => (query, all("key", split(key, 1, columns), rank - 1)),
    };
    let scores = op("Add", &[op("MatMul", &[query, key]), text.bias]);
    let share = w.op(at, "Softmax", &[scores], &[("axis", (-1i64).into())]);
    let mixed = op("MatMul", &[share, all("value", split(value, 1, rows), rank - 2)]);
    let mixed = transpose(mixed, if shared { &[0, 3, 1, 2, 4] } else { &[0, 2, 1, 3] });
    op("Reshape", &[mixed, w.emit.ints(&[0, 0, (heads * width) as i64])])
}
