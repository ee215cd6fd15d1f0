//! MultiHeadAttention.

use super::mask::{Padding, padding};
use super::*;
use crate::Attribute::{Float, Int};
use crate::Operand::{Absent, Any, Of};
use crate::family::attention::{Attend, Dense, causal, extend, merge, merge_heads, split, stretch};
use crate::{Emit, Val, case};
use lorac_ir::Node;

pub(super) const MULTI_HEAD_ATTENTION: Op = Op {
    name: "MultiHeadAttention",
    traits: Traits::ATTENTION.bias(&[3]),
    inputs: (1, 10),
    outputs: (1, 4),
    infer,
    eval,
    flops: |c, k| {
        let total = k.get(1).and_then(|k| k.fact.dims()?.get(2).copied());
        let keys = total.or(c.dims(1).and_then(|d| d.get(1).copied())).unwrap_or(Dim::Unknown);
        elementwise(c, k) * keys * Dim::Known(4)
    },
    grad: Grad::lower(
        lower,
        &[
            case(&[Any(&[2, 3, 4]), Any(&[2, 5, 4]), Any(&[2, 5, 6])]).with(&[("num_heads", Int(2))]),
            // Bias, padding, causal.
            case(&[
                Any(&[2, 3, 4]),
                Any(&[2, 3, 4]),
                Any(&[2, 3, 4]),
                Any(&[12]),
                Of(DType::I32, &[2, 3], &[1, 1, 0, 1, 1, 1]),
            ])
            .with(&[
                ("num_heads", Int(2)),
                ("unidirectional", Int(1)),
                ("mask_filter_value", Float(-3.0)),
            ]),
            case(&[
                Any(&[2, 2, 4]),
                Any(&[2, 3, 4]),
                Any(&[2, 3, 2]),
                Any(&[10]),
                Of(DType::I32, &[2], &[3, 1]),
                Any(&[1, 2, 2, 3]),
            ])
            .with(&[("num_heads", Int(2)), ("scale", Float(0.25))]),
            // A cache, everything asked for.
            case(&[
                Any(&[2, 2, 4]),
                Any(&[2, 2, 4]),
                Any(&[2, 2, 4]),
                Absent,
                Of(DType::I32, &[2, 2, 5], &[1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1]),
                Absent,
                Any(&[2, 2, 3, 2]),
                Any(&[2, 2, 3, 2]),
            ])
            .with(&[("num_heads", Int(2)), ("unidirectional", Int(1))])
            .outputs(4),
            // Keys and values as heads.
            case(&[Any(&[2, 3, 4]), Any(&[2, 2, 5, 2]), Any(&[2, 2, 5, 2])]).with(&[("num_heads", Int(2))]),
        ],
    ),
    ..FUSED
};

/// How the operands lie.
enum Form {
    /// Queries, keys and values `[batch, length, heads * width]`.
    Flat,
    /// Keys and values `[batch, heads, length, width]`, without biases.
    Heads,
    /// Keys and values `[batch, length, heads, 2, width]`.
    PackedKeys,
    /// All three `[batch, length, heads, 3, width]`.
    Packed,
}

fn form(q: Option<usize>, k: Option<usize>) -> Option<Form> {
    match (q, k) {
        (Some(5), None) => Some(Form::Packed),
        (Some(3), Some(3)) => Some(Form::Flat),
        (Some(3), Some(4)) => Some(Form::Heads),
        (Some(3), Some(5)) => Some(Form::PackedKeys),
        _ => None,
    }
}

fn infer(c: &Ctx) -> InferResult {
    let (q, k, v) = (c.fact(0), c.fact(1), c.fact(2));
    let unknown = || Fact::unranked(q.dtype);
    let all_known = q.rank().is_some() && (c.input(1).is_none() || k.rank().is_some());
    let Some(form) = form(q.rank(), k.rank()) else {
        if all_known {
            let want = "rank 3 with keys, or all three packed in rank 5".into();
            return Err(InferError::Operand { slot: 0, got: q, want });
        }
        return Ok(vec![unknown().into(); 4]);
    };
    let heads = c.node.int("num_heads", 0);
    if heads < 1 {
        let want = "at least 1".into();
        return Err(InferError::Attribute { name: "num_heads", got: heads.to_string(), want });
    }
    let n = Dim::Known(heads);
    let each = |width: Dim| width.div_exact(n).unwrap_or(Dim::Unknown);
    let dims = |f: &Fact| f.dims().map(<[Dim]>::to_vec).unwrap_or_default();
    let (qd, kd, vd) = (dims(&q), dims(&k), dims(&v));
    // Batch, length of queries, length of keys, widths of a head.
    let shape = match (&form, qd.as_slice(), kd.as_slice(), vd.as_slice()) {
        (Form::Packed, [b, l, _, _, w], ..) => Some((*b, *l, *l, *w, *w)),
        (Form::PackedKeys, [b, l, _], [_, s, _, _, w], _) => Some((*b, *l, *s, *w, *w)),
        (Form::Heads, [b, l, _], [_, _, s, w], [_, _, _, f]) => Some((*b, *l, *s, *w, *f)),
        (Form::Flat, [b, l, _], [_, s, w], [_, _, f]) => Some((*b, *l, *s, each(*w), each(*f))),
        _ => None,
    };
    let Some((b, l, s, w, f)) = shape else {
        return if v.rank().is_some() { Err(InferError::Mismatch(k, v)) } else { Ok(vec![unknown().into(); 4]) };
    };
    let width = match (&form, vd.as_slice()) {
        (Form::Flat, [_, _, width]) => *width,
        _ => f * n,
    };
    let past = |slot: usize| match c.input(slot) {
        None => Dim::Known(0),
        Some(_) => c.dims(slot).and_then(|d| d.get(2).copied()).unwrap_or(Dim::Unknown),
    };
    let made = [
        Fact::new(q.dtype, [b, l, width]),
        Fact::new(q.dtype, [b, n, past(6) + s, w]),
        Fact::new(q.dtype, [b, n, past(7) + s, f]),
        Fact::new(q.dtype, [b, n, l, past(6) + s]),
    ];
    Ok(made.into_iter().map(Inferred::from).collect())
}

/// The score of a key that comes after the query.
const UNSEEN: f64 = f32::MIN as f64;

fn scale(node: &Node) -> Option<f64> {
    Some(f64::from(node.float("scale", 0.0))).filter(|s| *s != 0.0)
}

fn lower<'e, 'g>(e: &'e Emit<'g>, node: &Node, x: &[Val<'e, 'g>]) -> Vec<Val<'e, 'g>> {
    let at = |slot: usize| x.get(slot).and_then(|v| v.present());
    let heads = node.int("num_heads", 0);
    let ranks = (Some(x[0].rank()), at(1).map(|k| k.rank()));
    let Some(form) = form(ranks.0, ranks.1) else {
        let want = "rank 3 with keys, or all three packed in rank 5".into();
        return vec![e.fail(InferError::Operand { slot: 0, got: x[0].fact(), want })];
    };
    if at(8).is_some() || at(9).is_some() {
        let want = "to be absent: a shared cache serves inference only".into();
        return vec![e.fail(InferError::Operand { slot: 8, got: at(8).or(at(9)).unwrap_or(x[0]).fact(), want })];
    }
    // Each `[batch, length, heads, width]`.
    let rows = |v: Val<'e, 'g>| v.reshape(&[0, 0, heads, -1]);
    let unpack = |v: Val<'e, 'g>, n: usize| -> Vec<Val<'e, 'g>> {
        let attrs = [("axis", 3i64.into()), ("num_outputs", (n as i64).into())];
        e.ops("Split", &[v], &attrs, n).into_iter().map(|p| p.binary("Squeeze", e.ints(&[3]))).collect()
    };
    let mut parts = match (form, at(1), at(2)) {
        (Form::Packed, ..) => unpack(x[0], 3),
        (Form::PackedKeys, Some(kv), _) => [vec![rows(x[0])], unpack(kv, 2)].concat(),
        (Form::Flat, Some(k), Some(v)) => vec![rows(x[0]), rows(k), rows(v)],
        (_, Some(k), Some(v)) => vec![rows(x[0]), k, v],
        _ => Vec::new(),
    };
    let as_heads = parts.len() == 3 && ranks.1 == Some(4);
    if let Some(bias) = at(3) {
        if as_heads {
            let want = "to be absent: keys that are heads already take no bias".into();
            return vec![e.fail(InferError::Operand { slot: 3, got: bias.fact(), want })];
        }
        let biases = biases(bias, &parts);
        parts = parts.into_iter().zip(biases).map(|(x, b)| x + b.reshape(&[heads, -1])).collect();
    }
    let turned = |v: Val<'e, 'g>| v.transpose(&[0, 2, 1, 3]);
    let [q, k, v] = match parts.as_slice() {
        [q, k, v] if as_heads => [turned(*q), *k, *v],
        [q, k, v] => [turned(*q), turned(*k), turned(*v)],
        _ => {
            let want = "queries, keys and values".into();
            return vec![e.fail(InferError::Operand { slot: 2, got: x[0].fact(), want })];
        }
    };
    let (k, v) = (extend(at(6), k), extend(at(7), v));
    let mask = at(4).map(|m| padding(node, 4, m, k, x[0]));
    let bias = [mask, at(5)].into_iter().flatten().reduce(|a, b| a + b);
    let offset = at(6).map(|past| past.len(2));
    let allowed = (node.int("unidirectional", 0) != 0).then(|| causal(q, k, offset));
    let done = Attend { scale: scale(node), bias, allowed, ..Attend::new(q, k, v) }.write();
    let mut made = vec![merge_heads(done.y), k, v];
    if node.outputs.len() > 3 {
        let unseen = |allowed| e.op("Where", &[allowed, done.biased, done.biased.like(UNSEEN)], &[]);
        made.push(allowed.map_or(done.biased, unseen));
    }
    made
}

/// The biases of queries, keys and values out of the joined one.
fn biases<'e, 'g>(bias: Val<'e, 'g>, parts: &[Val<'e, 'g>]) -> Vec<Val<'e, 'g>> {
    let e = bias.emit();
    let width = |v: &Val| {
        let dims = v.fact().dims().map(<[Dim]>::to_vec);
        dims.and_then(|d| Some(*d.get(2)? * *d.get(3)?)).unwrap_or(Dim::Unknown)
    };
    let widths: Vec<Dim> = parts.iter().map(width).collect();
    let known: Option<Vec<i64>> = widths.iter().map(|w| w.known()).collect();
    let equal = widths.iter().all(|w| w.same(widths[0]));
    match known {
        Some(widths) => e.ops("Split", &[bias, e.ints(&widths)], &[], 3),
        None if equal => e.ops("Split", &[bias], &[("num_outputs", 3i64.into())], 3),
        None => {
            let size = |v: &Val<'e, 'g>| {
                let dims = e.op("Shape", &[*v], &[("start", 2i64.into())]);
                e.op("ReduceProd", &[dims], &[("keepdims", 1i64.into())])
            };
            let sizes: Vec<Val> = parts.iter().map(size).collect();
            e.ops("Split", &[bias, crate::family::attention::cat(e, &sizes, 0)], &[], 3)
        }
    }
}

fn eval(a: &Args) -> EvalResult {
    let x = a.x(0)?;
    let heads = a.node.int("num_heads", 0);
    let Some(form) = form(Some(x.ndim()), a.opt(1).map(|k| k.ndim())) else {
        return invalid("MultiHeadAttention takes queries of rank 3 with keys, or all packed in rank 5");
    };
    // A part of a packed operand as [batch, heads, length, width].
    let part = |x: &Array, i: usize| -> Result<Array, EvalError> {
        if x.ndim() != 5 || x.shape()[3] <= i {
            return invalid("packed operands have rank 5");
        }
        Ok(x.index_axis(ndarray::Axis(3), i).permuted_axes(vec![0, 2, 1, 3]).to_owned())
    };
    let [mut q, mut k, mut v] = match form {
        Form::Packed => [part(x, 0)?, part(x, 1)?, part(x, 2)?],
        Form::PackedKeys => [split(x, heads)?, part(a.x(1)?, 0)?, part(a.x(1)?, 1)?],
        Form::Heads | Form::Flat => [split(x, heads)?, split(a.x(1)?, heads)?, split(a.x(2)?, heads)?],
    };
    if let Some(bias) = a.opt(3) {
        let mut from = 0;
        for x in [&mut q, &mut k, &mut v] {
            let [_, n, _, w] = *x.shape() else { return invalid("heads have rank 4") };
            for (at, x) in x.indexed_iter_mut() {
                *x += bias
                    .get([from + at[1] * w + at[3]].as_slice())
                    .ok_or(EvalError::Invalid("a shorter bias".into()))?;
            }
            from += n * w;
        }
    }
    let joined = |slot: usize, new: Array| -> Result<Array, EvalError> {
        match a.opt(slot) {
            Some(past) => Ok(ndarray::concatenate(ndarray::Axis(2), &[past.view(), new.view()])?),
            None => Ok(new),
        }
    };
    let (k, v) = (joined(6, k)?, joined(7, v)?);
    let ([b, h, l, _], [_, _, s, _]) = (q.shape(), k.shape()) else { return invalid("heads have rank 4") };
    let (b, h, l, s) = (*b, *h, *l, *s);
    let past = a.opt(6).and_then(|p| p.shape().get(2)).copied().unwrap_or(0);
    let mask = Padding::of(a, 4, b, l, s)?;
    let extra = match a.opt(5) {
        Some(bias) => Some(stretch(bias, &[b, h, l, s])?),
        None => None,
    };
    let causal = a.node.int("unidirectional", 0) != 0;
    let bias = |n: usize, m: usize, i: usize, j: usize| match causal && j > i + past {
        true => UNSEEN,
        false => mask.at(n, i, j) + extra.as_ref().map_or(0.0, |x| x[[n, m, i, j]]),
    };
    let done = Dense { q: &q, k: &k, v: &v, scale: scale(a.node), softcap: 0.0, bias: &bias, sink: None }.compute()?;
    Ok(vec![merge(done.y)?, k, v, done.biased])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::attention::lowering_agrees;

    // No kernel takes packed operands on the CPU.
    #[test]
    fn packed_operands() {
        let keys = case(&[Any(&[2, 3, 4]), Any(&[2, 5, 2, 2, 2]), Absent, Any(&[12])]);
        lowering_agrees(&MULTI_HEAD_ATTENTION, &keys.with(&[("num_heads", Int(2))]));
        let all = case(&[Any(&[2, 3, 2, 3, 2]), Absent, Absent, Any(&[12])]);
        lowering_agrees(&MULTI_HEAD_ATTENTION, &all.with(&[("num_heads", Int(2)), ("unidirectional", Int(1))]));
    }
}
