//! Attention as one operator: Attention.

use super::*;
use crate::Attribute::{Float, Int};
use crate::Operand::{Any, Bools};
use crate::{Emit, Val, case};
use lorac_ir::{Attr, Node};

pub(super) const OPS: &[Op] = &[ATTENTION];

const ATTENTION: Op = Op {
    name: "Attention",
    since: 23,
    inputs: (3, 7),
    outputs: (1, 4),
    infer: |c| {
        let (q, k, v) = (c.fact(0), c.fact(1), c.fact(2));
        let fact = match (q.dims(), v.dims()) {
            (Some([b, h, l, _]), Some([.., e])) => Fact::new(q.dtype, [*b, *h, *l, *e]),
            (Some([b, l, _]), Some([_, _, width])) => {
                let (hq, hkv) = (c.node.int("q_num_heads", 0), c.node.int("kv_num_heads", 0));
                let head = width.div_exact(Dim::Known(hkv)).unwrap_or(Dim::Unknown);
                Fact::new(q.dtype, [*b, *l, head * Dim::Known(hq)])
            }
            _ => Fact::unranked(q.dtype),
        };
        let cache = |slot: usize, new: &Fact| match (c.dims(slot), new.rank()) {
            (Some([b, h, p, e]), Some(4)) => {
                Fact::new(new.dtype, [*b, *h, *p + new.dims().map_or(Dim::Unknown, |d| d[2]), *e])
            }
            (None, Some(4)) => new.clone(),
            _ => Fact::unranked(new.dtype),
        };
        Ok(vec![fact.into(), cache(4, &k).into(), cache(5, &v).into(), Fact::unranked(q.dtype).into()])
    },
    eval,
    flops: |c, k| {
        let keys = c.dims(1).and_then(|d| d.get(d.len().checked_sub(2)?).copied()).unwrap_or(Dim::Unknown);
        elementwise(c, k) * keys * Dim::Known(4)
    },
    grad: Grad::lower(
        lower,
        &[
            case(&[Any(&[2, 2, 3, 4]), Any(&[2, 2, 5, 4]), Any(&[2, 2, 5, 3])]).opset(23),
            case(&[Any(&[1, 4, 3, 2]), Any(&[1, 2, 3, 2]), Any(&[1, 2, 3, 2])])
                .with(&[("is_causal", Int(1)), ("scale", Float(0.3))])
                .opset(23),
            case(&[Any(&[2, 3, 4]), Any(&[2, 3, 4]), Any(&[2, 3, 4]), Any(&[3, 3])])
                .with(&[("q_num_heads", Int(2)), ("kv_num_heads", Int(2)), ("softcap", Float(2.0))])
                .opset(23),
            case(&[
                Any(&[1, 1, 2, 2]),
                Any(&[1, 1, 3, 2]),
                Any(&[1, 1, 3, 2]),
                Bools(&[2, 3], &[true, false, true, true, true, false]),
            ])
            .opset(23),
        ],
    ),
    ..UNARY
};

/// Low enough that a masked score vanishes in the softmax, finite so that a fully masked row is no NaN.
const MASKED: f64 = -1e30;

fn heads<'e, 'g>(x: Val<'e, 'g>, heads: i64) -> Val<'e, 'g> {
    if x.rank() == 4 { x } else { x.reshape(&[0, 0, heads, -1]).transpose(&[0, 2, 1, 3]) }
}

fn lower<'e, 'g>(e: &'e Emit<'g>, node: &Node, x: &[Val<'e, 'g>]) -> Vec<Val<'e, 'g>> {
    let at = |slot: usize| x.get(slot).and_then(|v| v.present());
    let (q_heads, kv_heads) = (node.int("q_num_heads", 0), node.int("kv_num_heads", 0));
    let flat = x[0].rank() == 3;
    let q = heads(x[0], q_heads);
    let join = |past: Option<Val<'e, 'g>>, new: Val<'e, 'g>| match past {
        Some(past) => e.op("Concat", &[past, new], &[("axis", 2i64.into())]),
        None => new,
    };
    let k = join(at(4), heads(x[1], kv_heads));
    let v = join(at(5), heads(x[2], kv_heads));
    let head_count = |v: Val<'e, 'g>| v.fact().dims().and_then(|d| d.get(1).copied()).unwrap_or(Dim::Unknown);
    let Some(Dim::Known(groups)) = head_count(q).div_exact(head_count(k)) else {
        let want = "a known number of heads, a multiple of the keys'".to_string();
        return vec![e.fail(InferError::Operand { slot: 0, got: q.fact(), want }); 4];
    };
    let (k_all, v_all) = (repeat(k, groups), repeat(v, groups));
    let width = q.fact().dims().and_then(|d| d.last()?.known()).unwrap_or(1);
    let scale = match node.attrs.get("scale") {
        Some(Attr::Float(s)) => f64::from(*s),
        _ => 1.0 / (width as f64).sqrt(),
    };
    let mut scores = q.matmul(k_all.t()) * scale;
    if let Some(mask) = at(3) {
        scores = match mask.fact().dtype {
            DType::Bool => e.op("Where", &[mask, scores, scores.like(MASKED)], &[]),
            _ => scores + mask,
        };
    }
    if node.int("is_causal", 0) != 0 {
        scores = e.op("Where", &[causal(q, k, at(4)), scores, scores.like(MASKED)], &[]);
    }
    let cap = f64::from(node.float("softcap", 0.0));
    if cap > 0.0 {
        scores = (scores / cap).unary("Tanh") * cap;
    }
    let weights = e.op("Softmax", &[scores], &[("axis", (-1i64).into())]);
    let y = weights.matmul(v_all);
    let y = if flat { y.transpose(&[0, 2, 1, 3]).reshape(&[0, 0, -1]) } else { y };
    vec![y, k, v, scores]
}

/// Every head `groups` times in a row.
fn repeat<'e, 'g>(x: Val<'e, 'g>, groups: i64) -> Val<'e, 'g> {
    if groups == 1 {
        return x;
    }
    let (e, width) = (x.emit(), x.fact().dims().and_then(|d| d.last()?.known()).unwrap_or(-1));
    let count = x.fact().dims().and_then(|d| d.get(1)?.known()).unwrap_or(1);
    let wide = x.binary("Unsqueeze", e.ints(&[2])).binary("Expand", e.ints(&[1, 1, groups, 1, 1]));
    wide.reshape(&[0, count * groups, -1, width])
}

/// Whether a query may see a key: positions no later than its own, the past counted.
fn causal<'e, 'g>(q: Val<'e, 'g>, k: Val<'e, 'g>, past: Option<Val<'e, 'g>>) -> Val<'e, 'g> {
    let e = q.emit();
    let (zero, one) = (e.scalar(0.0, DType::I64), e.scalar(1.0, DType::I64));
    let len = |v: Val<'e, 'g>| e.op("Gather", &[v.unary("Shape"), e.scalar(2.0, DType::I64)], &[]);
    let mut rows = e.op("Range", &[zero, len(q), one], &[]);
    if let Some(past) = past {
        rows = rows + len(past);
    }
    let cols = e.op("Range", &[zero, len(k), one], &[]);
    rows.binary("Unsqueeze", e.ints(&[1])).binary("GreaterOrEqual", cols)
}

fn eval(a: &Args) -> Evaluated {
    let split = |x: &Array, heads: i64| -> Result<Array, EvalError> {
        let [b, l, w] = *x.shape() else { return Ok(x.clone()) };
        let heads = heads.max(1) as usize;
        let y = crate::eval::reshape(x, &[b, l, heads, w / heads])?;
        Ok(y.permuted_axes(vec![0, 2, 1, 3]).as_standard_layout().into_owned())
    };
    if a.opt(4).is_some() || a.opt(6).is_some() || a.outputs > 1 {
        return misfit("Attention with a cache has no reference evaluation");
    }
    let flat = a.x(0)?.ndim() == 3;
    let q = split(a.x(0)?, a.node.int("q_num_heads", 0))?;
    let (k, v) = (split(a.x(1)?, a.node.int("kv_num_heads", 0))?, split(a.x(2)?, a.node.int("kv_num_heads", 0))?);
    let ([b, hq, l, e], [_, hk, s, _], [_, _, _, ev]) = (q.shape(), k.shape(), v.shape()) else {
        return misfit("Attention takes rank 3 or 4");
    };
    let (b, hq, l, e, hk, s, ev) = (*b, *hq, *l, *e, *hk, *s, *ev);
    let scale = match a.node.attrs.get("scale") {
        Some(Attr::Float(x)) => f64::from(*x),
        _ => 1.0 / (e as f64).sqrt(),
    };
    let mask = match a.opt(3) {
        Some(m) => m.broadcast(vec![b, hq, l, s]).map(|m| m.to_owned()),
        None => None,
    };
    let cap = f64::from(a.node.float("softcap", 0.0));
    let mut y = Array::zeros(vec![b, hq, l, ev]);
    for (n, h, i) in (0..b).flat_map(|n| (0..hq).flat_map(move |h| (0..l).map(move |i| (n, h, i)))) {
        let g = h / (hq / hk);
        let mut row: Vec<f64> = Vec::with_capacity(s);
        for j in 0..s {
            let mut x = scale * (0..e).map(|d| q[[n, h, i, d]] * k[[n, g, j, d]]).sum::<f64>();
            match mask.as_ref().map(|m| m[[n, h, i, j]]) {
                Some(m) if a.dtype(3) == DType::Bool => x = if m != 0.0 { x } else { MASKED },
                Some(m) => x += m,
                None => {}
            }
            if a.node.int("is_causal", 0) != 0 && j > i {
                x = MASKED;
            }
            row.push(if cap > 0.0 { cap * (x / cap).tanh() } else { x });
        }
        let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        row.iter_mut().for_each(|x| *x = (*x - max).exp());
        let sum: f64 = row.iter().sum();
        for d in 0..ev {
            y[[n, h, i, d]] = row.iter().enumerate().map(|(j, p)| p / sum * v[[n, g, j, d]]).sum();
        }
    }
    if flat {
        let y = y.permuted_axes(vec![0, 2, 1, 3]).as_standard_layout().into_owned();
        return Ok(vec![crate::eval::reshape(&y, &[b, l, hq * ev])?]);
    }
    Ok(vec![y])
}
