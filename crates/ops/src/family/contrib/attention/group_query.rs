//! GroupQueryAttention.

use super::*;
use crate::Attribute::{Float, Int};
use crate::Operand::{Absent, Any, Floats, Ints, Of};
use crate::family::attention::{
    Attend, Dense, Rotation, causal, extend, merge, merge_heads, rotate, rotated, split, split_heads, stretch, within,
};
use crate::family::contrib::rotary::angles;
use crate::{Emit, Val, case};
use lorac_ir::Node;

pub(super) const GROUP_QUERY_ATTENTION: Op = Op {
    name: "GroupQueryAttention",
    traits: Traits::ATTENTION.constants(&[7, 8]),
    inputs: (1, 16),
    outputs: (1, 4),
    infer,
    eval,
    flops: |c, k| {
        let keys = k.get(1).and_then(|k| k.fact.dims()?.get(2).copied());
        let keys = keys.or(c.dims(0).and_then(|d| d.get(1).copied())).unwrap_or(Dim::Unknown);
        elementwise(c, k) * keys * Dim::Known(4)
    },
    grad: Grad::lower(
        lower,
        &[
            // As in training: an empty cache.
            case(&[
                Any(&[2, 3, 32]),
                Any(&[2, 3, 16]),
                Any(&[2, 3, 16]),
                Any(&[2, 1, 0, 16]),
                Any(&[2, 1, 0, 16]),
                Of(DType::I32, &[2], &[2, 2]),
                Of(DType::I32, &[], &[3]),
                Any(&[4, 8]),
                Any(&[4, 8]),
            ])
            .with(&[("num_heads", Int(2)), ("kv_num_heads", Int(1)), ("do_rotary", Int(1))])
            .outputs(3),
            // Packed, a window, no cache.
            case(&[
                Any(&[1, 4, 64]),
                Absent,
                Absent,
                Absent,
                Absent,
                Of(DType::I32, &[1], &[3]),
                Of(DType::I32, &[], &[4]),
                Any(&[4, 8]),
                Any(&[4, 8]),
            ])
            .with(&[
                ("num_heads", Int(2)),
                ("kv_num_heads", Int(1)),
                ("do_rotary", Int(1)),
                ("rotary_interleaved", Int(1)),
                ("local_window_size", Int(2)),
                ("softcap", Float(2.0)),
            ])
            .outputs(3),
            // What comes is seen, but not what is padding.
            case(&[
                Any(&[2, 3, 16]),
                Any(&[2, 3, 8]),
                Any(&[2, 3, 8]),
                Absent,
                Absent,
                Of(DType::I32, &[2], &[2, 1]),
                Of(DType::I32, &[], &[3]),
            ])
            .with(&[("num_heads", Int(2)), ("kv_num_heads", Int(1)), ("causal", Int(0))])
            .outputs(3),
            // A cache, a scale, a smooth softmax, two groups of heads.
            case(&[
                Any(&[2, 1, 32]),
                Any(&[2, 1, 16]),
                Any(&[2, 1, 16]),
                Any(&[2, 2, 3, 8]),
                Any(&[2, 2, 3, 8]),
                Of(DType::I32, &[2], &[3, 3]),
                Of(DType::I32, &[], &[4]),
            ])
            .with(&[("num_heads", Int(4)), ("kv_num_heads", Int(2)), ("scale", Float(0.3)), ("smooth_softmax", Int(1))])
            .outputs(3),
            // A cache that several tokens follow, positions, a bias, sinks, part of a head turning.
            case(&[
                Any(&[1, 2, 64]),
                Any(&[1, 2, 32]),
                Any(&[1, 2, 32]),
                Any(&[1, 1, 2, 32]),
                Any(&[1, 1, 2, 32]),
                Of(DType::I32, &[1], &[3]),
                Of(DType::I32, &[], &[4]),
                Floats(&[4, 8], &COS),
                Floats(&[4, 8], &SIN),
                Ints(&[1, 2], &[2, 3]),
                Any(&[1, 1, 2, 4]),
                Any(&[2]),
            ])
            .with(&[("num_heads", Int(2)), ("kv_num_heads", Int(1)), ("do_rotary", Int(1))])
            .outputs(3),
        ],
    ),
    ..FUSED
};

/// A cache of four rows for half of 16 turning elements.
const fn cache(rows: [f64; 4]) -> [f64; 32] {
    let mut all = [0.0; 32];
    let mut i = 0;
    while i < 32 {
        all[i] = rows[i / 8] + 0.01 * (i % 8) as f64;
        i += 1;
    }
    all
}

const COS: [f64; 32] = cache([0.9, 0.54, -0.42, -0.99]);
const SIN: [f64; 32] = cache([0.0, 0.84, 0.91, 0.14]);

fn count(c: &Ctx, name: &'static str) -> Result<i64, InferError> {
    match c.node.int(name, 0) {
        n if n > 0 => Ok(n),
        n => Err(InferError::Attribute { name, got: n.to_string(), want: "at least 1".into() }),
    }
}

fn infer(c: &Ctx) -> InferResult {
    let (heads, kv_heads) = (count(c, "num_heads")?, count(c, "kv_num_heads")?);
    if heads % kv_heads != 0 {
        let want = format!("a divisor of {heads}");
        return Err(InferError::Attribute { name: "kv_num_heads", got: kv_heads.to_string(), want });
    }
    let q = c.fact(0);
    let packed = c.input(1).is_none();
    let (b, l, width) = match q.dims() {
        Some([b, l, w]) => (*b, *l, *w),
        Some(_) => return Err(InferError::Operand { slot: 0, got: q, want: "rank 3".into() }),
        None => return Ok(vec![Fact::unranked(q.dtype).into(); 4]),
    };
    let all = if packed { heads + 2 * kv_heads } else { heads };
    let each = width.div_exact(Dim::Known(all)).unwrap_or(Dim::Unknown);
    let out = if packed { each * Dim::Known(heads) } else { width };
    let cache = |slot: usize| {
        let past = match c.input(slot) {
            None => Dim::Known(0),
            Some(_) => c.dims(slot).and_then(|d| d.get(2).copied()).unwrap_or(Dim::Unknown),
        };
        Fact::new(q.dtype, [b, Dim::Known(kv_heads), past + l, each])
    };
    let total = cache(3).dims().and_then(|d| d.get(2).copied()).unwrap_or(Dim::Unknown);
    let scores = Fact::new(q.dtype, [b, Dim::Known(heads), l, total]);
    Ok(vec![Fact::new(q.dtype, [b, l, out]).into(), cache(3).into(), cache(4).into(), scores.into()])
}

fn scale(node: &Node) -> Option<f64> {
    Some(f64::from(node.float("scale", 0.0))).filter(|s| *s != 0.0)
}

/// Which cache inputs or attributes serve inference alone.
fn unsupported(node: &Node) -> Option<&'static str> {
    let quantized = |name: &str| node.str(name).is_some_and(|t| t != "NONE");
    if node.int("sliding_window_cache", 0) != 0 {
        return Some("no cache that forgets: it serves inference only");
    }
    (quantized("k_quant_type") || quantized("v_quant_type")).then_some("no quantized cache: it serves inference only")
}

/// Past positions are taken to be filled to the end in every sequence, as in training, where there are none.
fn lower<'e, 'g>(e: &'e Emit<'g>, node: &Node, x: &[Val<'e, 'g>]) -> Vec<Val<'e, 'g>> {
    let at = |slot: usize| x.get(slot).and_then(|v| v.present());
    if let Some(want) = unsupported(node) {
        let got = at(3).unwrap_or(x[0]).fact();
        return vec![e.fail(InferError::Operand { slot: 3, got, want: want.into() })];
    }
    let (heads, kv_heads) = (node.int("num_heads", 0), node.int("kv_num_heads", 0));
    let (mut q, mut k, v) = match (at(1), at(2)) {
        (Some(k), Some(v)) => (split_heads(x[0], heads), split_heads(k, kv_heads), split_heads(v, kv_heads)),
        _ => {
            let all = split_heads(x[0], heads + 2 * kv_heads);
            let sizes = e.ints(&[heads, kv_heads, kv_heads]);
            match e.ops("Split", &[all, sizes], &[("axis", 1i64.into())], 3).as_slice() {
                [q, k, v] => (*q, *k, *v),
                _ => return Vec::new(),
            }
        }
    };
    if let (Some(by_q), Some(by_k)) = (at(14), at(15)) {
        let epsilon = f64::from(node.float("qk_norm_epsilon", 1e-6));
        let norm = |x: Val<'e, 'g>, scale: Val<'e, 'g>| {
            let (narrow, x) = (x.fact().dtype, wide(x));
            let mean = e.op("ReduceMean", &[x * x, e.ints(&[-1])], &[]);
            (x * (mean + epsilon).unary("Sqrt").unary("Reciprocal")).cast(narrow) * scale
        };
        (q, k) = (norm(q, by_q), norm(k, by_k));
    }
    let empty = |past: &Val| past.fact().dims().is_some_and(|d| d.get(2) == Some(&Dim::Known(0)));
    let offset = at(3).filter(|past| !empty(past)).map(|past| past.len(2));
    if let (true, Some(cos), Some(sin)) = (node.int("do_rotary", 0) != 0, at(7), at(8)) {
        let places = at(9).unwrap_or_else(|| {
            let new = q.positions(2);
            offset.map_or(new, |by| new + by)
        });
        let (cos, sin) = (angles(cos, places, 1), angles(sin, places, 1));
        let how = rotation(node, cos.fact().dims().and_then(|d| d.last()?.known()));
        (q, k) = (rotate(q, cos, sin, how), rotate(k, cos, sin, how));
    }
    let (k, v) = (extend(at(3), k), extend(at(4), v));
    let mut allowed = match node.int("causal", 1) {
        // The last key of each sequence is known; what follows it is padding.
        0 => at(5).map(|last| k.positions(2).binary("LessOrEqual", last.cast(DType::I64).reshape(&[-1, 1, 1, 1]))),
        _ => Some(causal(q, k, offset)),
    };
    let window = node.int("local_window_size", -1);
    if window > 0 {
        let near = within(q, k, offset, window);
        allowed = Some(allowed.map_or(near, |a| a.binary("And", near)));
    }
    let smooth = (node.int("smooth_softmax", 0) == 1).then(|| q.like(0.0));
    let sink = at(11).map(|s| s.reshape(&[1, -1, 1, 1])).or(smooth);
    let softcap = node.float("softcap", 0.0).into();
    let done = Attend { scale: scale(node), softcap, bias: at(10), allowed, sink, ..Attend::new(q, k, v) }.write();
    let shown = if node.int("qk_output", 0) == 2 { done.weights } else { done.biased };
    vec![merge_heads(done.y), k, v, shown]
}

/// As much turns as the caches are wide.
fn rotation(node: &Node, half: Option<i64>) -> Rotation {
    Rotation { interleaved: node.int("rotary_interleaved", 0) == 1, width: half.map_or(0, |h| 2 * h) }
}

fn eval(a: &Args) -> EvalResult {
    if let Some(why) = unsupported(a.node) {
        return invalid(why);
    }
    let (heads, kv_heads) = (a.node.int("num_heads", 0), a.node.int("kv_num_heads", 0));
    let (mut q, mut k, v) = match (a.opt(1), a.opt(2)) {
        (Some(k), Some(v)) => (split(a.x(0)?, heads)?, split(k, kv_heads)?, split(v, kv_heads)?),
        _ => {
            let all = split(a.x(0)?, heads + 2 * kv_heads)?;
            if all.ndim() != 4 || heads < 1 || kv_heads < 1 {
                return invalid("packed operands have rank 3");
            }
            let (h, g) = (heads as usize, kv_heads as usize);
            let part =
                |from: usize, to: usize| all.slice_axis(ndarray::Axis(1), ndarray::Slice::from(from..to)).to_owned();
            (part(0, h), part(h, h + g), part(h + g, h + 2 * g))
        }
    };
    if let (Some(by_q), Some(by_k)) = (a.opt(14), a.opt(15)) {
        let epsilon = f64::from(a.node.float("qk_norm_epsilon", 1e-6));
        for (x, scale) in [(&mut q, by_q), (&mut k, by_k)] {
            for mut lane in x.lanes_mut(ndarray::Axis(3)) {
                let square = lane.iter().map(|x| x * x).sum::<f64>() / lane.len().max(1) as f64;
                lane.iter_mut().for_each(|x| *x /= (square + epsilon).sqrt());
            }
            *x = zip(x, scale, |x, s| x * s)?;
        }
    }
    let [b, h, l, _] = *q.shape() else { return invalid("heads have rank 4") };
    let buffer = a.opt(3).and_then(|p| p.shape().get(2)).copied().unwrap_or(0);
    let lengths = a.ints(5)?;
    let total = a.ints(6)?.first().map_or(0, |t| *t as usize);
    if lengths.len() != b || lengths.iter().any(|n| *n < 0) {
        return invalid("seqlens_k takes one length per sequence");
    }
    // A first prompt holds all there is; else each sequence has so many tokens behind the new ones.
    let past = |n: usize| if total == l { 0 } else { (lengths[n] as usize + 1).saturating_sub(l) };
    if (0..b).any(|n| past(n) > buffer || past(n) + l > buffer.max(total)) {
        return invalid("lengths outside the cache");
    }
    if let (true, Some(cos), Some(sin)) = (a.node.int("do_rotary", 0) != 0, a.opt(7), a.opt(8)) {
        let given = match a.opt(9) {
            Some(_) => Some(a.ints(9)?),
            None => None,
        };
        let row = |n: usize, s: usize| match &given {
            Some(at) => at.get(n * l + s).and_then(|p| usize::try_from(*p).ok()),
            None => Some(past(n) + s),
        };
        let how = rotation(a.node, cos.shape().last().map(|h| *h as i64));
        (q, k) = (rotated(&q, cos, sin, &row, how)?, rotated(&k, cos, sin, &row, how)?);
    }
    let present = |slot: usize, new: &Array| -> Result<Array, EvalError> {
        let [_, g, _, w] = *new.shape() else { return invalid("heads have rank 4") };
        let mut all = Array::zeros(vec![b, g, buffer.max(total), w]);
        for (at, x) in all.indexed_iter_mut() {
            let (n, j) = (at[0], at[2]);
            let source = if j < past(n) { a.x(slot)?.get([n, at[1], j, at[3]].as_slice()) } else { None };
            let fresh = j.checked_sub(past(n)).and_then(|j| new.get([n, at[1], j, at[3]].as_slice()));
            *x = source.or(fresh).copied().unwrap_or(0.0);
        }
        Ok(all)
    };
    let (k, v) = (present(3, &k)?, present(4, &v)?);
    let s = buffer.max(total);
    let extra = match a.opt(10) {
        Some(bias) => Some(stretch(bias, &[b, h, l, s])?),
        None => None,
    };
    let (causal, window) = (a.node.int("causal", 1) != 0, a.node.int("local_window_size", -1));
    let bias = |n: usize, m: usize, i: usize, j: usize| {
        let at = past(n) + i;
        let seen = if causal { j <= at } else { j <= lengths[n] as usize };
        if !seen || (window > 0 && j as i64 <= at as i64 - window) {
            return f64::NEG_INFINITY;
        }
        extra.as_ref().map_or(0.0, |x| x[[n, m, i, j]])
    };
    let sink = match a.opt(11) {
        Some(sink) => Some(sink.iter().copied().collect()),
        None => (a.node.int("smooth_softmax", 0) == 1).then(|| vec![0.0; h]),
    };
    let softcap = f64::from(a.node.float("softcap", 0.0));
    let done = Dense { q: &q, k: &k, v: &v, scale: scale(a.node), softcap, bias: &bias, sink }.compute()?;
    let shown = if a.node.int("qk_output", 0) == 2 { done.weights } else { done.biased };
    Ok(vec![merge(done.y)?, k, v, shown])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::attention::lowering_agrees;

    // No kernel normalises queries and keys on the CPU.
    #[test]
    fn normalised_queries_and_keys() {
        let case = case(&[
            Any(&[1, 2, 8]),
            Any(&[1, 2, 4]),
            Any(&[1, 2, 4]),
            Absent,
            Absent,
            Of(DType::I32, &[1], &[1]),
            Of(DType::I32, &[], &[2]),
            Absent,
            Absent,
            Absent,
            Absent,
            Absent,
            Absent,
            Absent,
            Any(&[4]),
            Any(&[4]),
        ]);
        lowering_agrees(&GROUP_QUERY_ATTENTION, &case.with(&[("num_heads", Int(2)), ("kv_num_heads", Int(1))]));
    }
}
