//! Attention with the projections inside.

use super::mask::{Padding, padding};
use super::*;
use crate::Attribute::{Float, Int, Ints as List};
use crate::Operand::{Absent, Any, Of};
use crate::family::attention::{Attend, Dense, cat, causal, extend, merge, merge_heads, split, split_heads, stretch};
use crate::{Emit, Val, case};
use lorac_ir::Node;

pub(super) const ATTENTION: Op =
    Op {
        name: "Attention",
        traits: PROJECTING,
        inputs: (2, 7),
        outputs: (1, 2),
        infer,
        eval,
        flops: |c, k| {
            let (x, w) = (c.fact(0), c.fact(1));
            let projection = match w.dims() {
                Some([_, n]) => x.volume() * *n * Dim::Known(2),
                _ => Dim::Unknown,
            };
            let keys = c.dims(0).and_then(|d| d.get(1).copied()).unwrap_or(Dim::Unknown);
            projection + elementwise(c, k) * keys * Dim::Known(4)
        },
        grad: Grad::lower(
            lower,
            &[
                case(&[Any(&[2, 3, 5]), Any(&[5, 12]), Any(&[12])]).with(&[("num_heads", Int(2))]),
                case(&[Any(&[2, 3, 5]), Any(&[5, 12]), Any(&[12]), Of(DType::I32, &[2, 3], &[1, 1, 0, 1, 1, 1])])
                    .with(&[("num_heads", Int(2)), ("mask_filter_value", Float(-3.0)), ("unidirectional", Int(1))]),
                case(&[Any(&[2, 3, 5]), Any(&[5, 12]), Any(&[12]), Of(DType::I32, &[2], &[2, 3])])
                    .with(&[("num_heads", Int(2)), ("scale", Float(0.25))]),
                case(&[Any(&[2, 3, 5]), Any(&[5, 12]), Any(&[12]), Of(DType::I32, &[4], &[3, 2, 1, 0])])
                    .with(&[("num_heads", Int(2))]),
                case(&[
                    Any(&[1, 3, 5]),
                    Any(&[5, 10]),
                    Any(&[10]),
                    Of(DType::I32, &[1, 3, 3], &[1, 0, 0, 1, 1, 0, 0, 1, 1]),
                    Absent,
                    Any(&[1, 2, 3, 3]),
                ])
                .with(&[("num_heads", Int(2)), ("qkv_hidden_sizes", List(&[4, 4, 2]))]),
                // A cache.
                case(&[
                    Any(&[2, 2, 5]),
                    Any(&[5, 12]),
                    Any(&[12]),
                    Of(DType::I32, &[2, 5], &[0, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
                    Any(&[2, 2, 2, 3, 2]),
                ])
                .with(&[("num_heads", Int(2)), ("unidirectional", Int(1))])
                .outputs(2),
            ],
        ),
        ..FUSED
    };

fn infer(c: &Ctx) -> InferResult {
    let (x, w) = (c.fact(0), c.fact(1));
    let heads = c.node.int("num_heads", 0);
    if heads < 1 {
        let want = "at least 1".into();
        return Err(InferError::Attribute { name: "num_heads", got: heads.to_string(), want });
    }
    let (Some(xd), Some(wd)) = (x.dims(), w.dims()) else { return Ok(vec![Fact::unranked(x.dtype).into(); 2]) };
    let ([b, l, k], [rows, n]) = (xd, wd) else { return Err(InferError::Mismatch(x, w)) };
    if let (Dim::Known(k), Dim::Known(rows)) = (k, rows)
        && k != rows
    {
        return Err(InferError::Mismatch(x, w));
    }
    let third = n.div_exact(Dim::Known(3)).unwrap_or(Dim::Unknown);
    let value = match c.node.ints("qkv_hidden_sizes") {
        Some([_, _, v]) => Dim::Known(*v),
        _ => third,
    };
    let past = match c.input(4) {
        None => Dim::Known(0),
        Some(_) => c.dims(4).and_then(|d| d.get(3).copied()).unwrap_or(Dim::Unknown),
    };
    let each = value.div_exact(Dim::Known(heads)).unwrap_or(Dim::Unknown);
    let present = Fact::new(x.dtype, [Dim::Known(2), *b, Dim::Known(heads), past + *l, each]);
    Ok(vec![Fact::new(x.dtype, [*b, *l, value]).into(), present.into()])
}

fn scale(node: &Node) -> Option<f64> {
    Some(f64::from(node.float("scale", 0.0))).filter(|s| *s != 0.0)
}

fn unsupported(node: &Node) -> Option<&'static str> {
    if node.int("do_rotary", 0) != 0 {
        return Some("no rotary embedding inside: no kernel on the CPU has it");
    }
    (node.int("past_present_share_buffer", 0) != 0).then_some("no shared cache: it serves inference only")
}

fn lower<'e, 'g>(e: &'e Emit<'g>, node: &Node, x: &[Val<'e, 'g>]) -> Vec<Val<'e, 'g>> {
    let at = |slot: usize| x.get(slot).and_then(|v| v.present());
    if let Some(want) = unsupported(node) {
        return vec![e.fail(InferError::Operand { slot: 0, got: x[0].fact(), want: want.into() })];
    }
    let heads = node.int("num_heads", 0);
    let joined = x[0].matmul(x[1]);
    let joined = at(2).map_or(joined, |bias| joined + bias);
    let last = ("axis", (-1i64).into());
    let parts = match node.ints("qkv_hidden_sizes") {
        Some(sizes) => e.ops("Split", &[joined, e.ints(sizes)], &[last], 3),
        None => e.ops("Split", &[joined], &[last, ("num_outputs", 3i64.into())], 3),
    };
    let parts: Vec<Val> = parts.into_iter().map(|p| split_heads(p, heads)).collect();
    let [q, k, v] = parts.as_slice() else { return Vec::new() };
    // The cache `[2, batch, heads, past, width]` as the keys and the values.
    let cached = |i: f64| at(4).map(|past| e.op("Gather", &[past, e.scalar(i, DType::I64)], &[]));
    let (q, k, v) = (*q, extend(cached(0.0), *k), extend(cached(1.0), *v));
    let mask = at(3).map(|m| padding(node, 3, m, k, x[0]));
    let bias = [mask, at(5)].into_iter().flatten().reduce(|a, b| a + b);
    let offset = at(4).map(|past| past.len(3));
    let allowed = (node.int("unidirectional", 0) != 0).then(|| causal(q, k, offset));
    let done = Attend { scale: scale(node), bias, allowed, ..Attend::new(q, k, v) }.write();
    let mut made = vec![merge_heads(done.y)];
    if node.outputs.len() > 1 {
        let first = |v: Val<'e, 'g>| v.binary("Unsqueeze", e.ints(&[0]));
        made.push(cat(e, &[first(k), first(v)], 0));
    }
    made
}

fn eval(a: &Args) -> EvalResult {
    if let Some(why) = unsupported(a.node) {
        return invalid(why);
    }
    let (x, w) = (a.x(0)?, a.x(1)?);
    let heads = a.node.int("num_heads", 0);
    let ([b, l, inner], [rows, n]) = (x.shape(), w.shape()) else {
        return invalid("Attention takes rank 3 and rank 2");
    };
    let (b, l, inner, n) = (*b, *l, *inner, *n);
    if inner != *rows {
        return invalid(format!("{:?} times {:?}", x.shape(), w.shape()));
    }
    let sizes = match a.node.ints("qkv_hidden_sizes") {
        Some([q, k, v]) if [q, k, v].into_iter().all(|s| *s >= 0) => [*q as usize, *k as usize, *v as usize],
        Some(_) => return invalid("qkv_hidden_sizes takes three sizes"),
        None => [n / 3; 3],
    };
    if sizes.iter().sum::<usize>() != n {
        return invalid(format!("{sizes:?} of {n} columns"));
    }
    let bias = a.opt(2);
    if bias.is_some_and(|b| b.shape() != [n]) {
        return invalid(format!("the bias has one element for each of {n} columns"));
    }
    let project = |from: usize, size: usize| -> Result<Array, EvalError> {
        let y = Array::from_shape_fn(vec![b, l, size], |at| {
            let column = from + at[2];
            let dot: f64 = (0..inner).map(|i| x[[at[0], at[1], i]] * w[[i, column]]).sum();
            dot + bias.map_or(0.0, |b| b[[column]])
        });
        split(&y, heads)
    };
    let q = project(0, sizes[0])?;
    let cached = |i: usize, new: Array| -> Result<Array, EvalError> {
        match a.opt(4) {
            Some(past) if past.ndim() == 5 && past.shape()[0] == 2 => {
                let past = past.index_axis(ndarray::Axis(0), i);
                Ok(ndarray::concatenate(ndarray::Axis(2), &[past, new.view()])?)
            }
            Some(_) => invalid("a cache has rank 5"),
            None => Ok(new),
        }
    };
    let k = cached(0, project(sizes[0], sizes[1])?)?;
    let v = cached(1, project(sizes[0] + sizes[1], sizes[2])?)?;
    let [_, h, s, _] = *k.shape() else { return invalid("heads have rank 4") };
    let past = s - l;
    let mask = Padding::of(a, 3, b, l, s)?;
    let extra = match a.opt(5) {
        Some(bias) => Some(stretch(bias, &[b, h, l, s])?),
        None => None,
    };
    let causal = a.node.int("unidirectional", 0) != 0;
    let bias = |n: usize, m: usize, i: usize, j: usize| match causal && j > i + past {
        true => f64::NEG_INFINITY,
        false => mask.at(n, i, j) + extra.as_ref().map_or(0.0, |x| x[[n, m, i, j]]),
    };
    let done = Dense { q: &q, k: &k, v: &v, scale: scale(a.node), softcap: 0.0, bias: &bias, sink: None }.compute()?;
    let present = match a.outputs > 1 {
        true => Some(ndarray::stack(ndarray::Axis(0), &[k.view(), v.view()])?),
        false => None,
    };
    Ok([Some(merge(done.y)?), present].into_iter().flatten().collect())
}
