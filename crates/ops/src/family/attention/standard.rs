//! Attention of opsets 23 and 24.

use super::scores::{Attended, cat};
use super::*;
use crate::Attribute::{Float, Int};
use crate::Operand::{Absent, Any, Bools, Floats, Ints};
use crate::{Emit, Val, case};
use lorac_ir::{Attr, Node};

const NONE: f64 = f64::NEG_INFINITY;

pub(super) const ATTENTION: Op = Op {
    name: "Attention",
    traits: Traits::ATTENTION,
    since: 23,
    inputs: (3, 7),
    outputs: (1, 4),
    infer,
    eval,
    flops: |c, k| {
        let keys = c.dims(1).and_then(|d| d.get(d.len().checked_sub(2)?).copied()).unwrap_or(Dim::Unknown);
        elementwise(c, k) * keys * Dim::Known(4)
    },
    grad: Grad::lower(
        lower,
        &[
            case(&[Any(&[2, 2, 3, 4]), Any(&[2, 2, 5, 4]), Any(&[2, 2, 5, 3])]).opset(23),
            // Grouped heads, causal.
            case(&[Any(&[1, 4, 3, 2]), Any(&[1, 2, 3, 2]), Any(&[1, 2, 3, 2])])
                .with(&[("is_causal", Int(1)), ("scale", Float(0.3))])
                .opset(23),
            // Rank 3, a cap, a bias as mask.
            case(&[Any(&[2, 3, 8]), Any(&[2, 5, 4]), Any(&[2, 5, 6]), Any(&[3, 5])])
                .with(&[("q_num_heads", Int(4)), ("kv_num_heads", Int(2)), ("softcap", Float(2.0))])
                .opset(23),
            // A row that sees nothing.
            case(&[
                Any(&[1, 1, 2, 2]),
                Any(&[1, 1, 3, 2]),
                Any(&[1, 1, 3, 2]),
                Bools(&[2, 3], &[true, false, true, false, false, false]),
            ])
            .opset(23),
            case(&[
                Any(&[2, 2, 2, 2]),
                Any(&[2, 2, 3, 2]),
                Any(&[2, 2, 3, 2]),
                Floats(&[2, 1, 2, 3], &[0.5, 0.25, -1.0, 1.0, 0.0, 0.5, -1.5, NONE, 0.75, NONE, NONE, NONE]),
            ])
            .opset(23),
            // A cache, causal, everything asked for.
            case(&[
                Any(&[1, 2, 2, 2]),
                Any(&[1, 1, 2, 2]),
                Any(&[1, 1, 2, 2]),
                Any(&[1, 2, 2, 5]),
                Any(&[1, 1, 3, 2]),
                Any(&[1, 1, 3, 2]),
            ])
            .with(&[("is_causal", Int(1)), ("qk_matmul_output_mode", Int(3))])
            .outputs(4)
            .opset(23),
            case(&[
                Any(&[1, 2, 4]),
                Any(&[1, 3, 4]),
                Any(&[1, 3, 4]),
                Any(&[2, 3]),
                Any(&[1, 2, 0, 2]),
                Any(&[1, 2, 0, 2]),
            ])
            .with(&[
                ("q_num_heads", Int(2)),
                ("kv_num_heads", Int(2)),
                ("softcap", Float(1.0)),
                ("qk_matmul_output_mode", Int(2)),
                ("softmax_precision", Int(1)),
            ])
            .outputs(4)
            .opset(24),
            case(&[Any(&[1, 2, 3, 2]), Any(&[1, 2, 3, 2]), Any(&[1, 2, 3, 2]), Absent])
                .with(&[("softcap", Float(1.0)), ("qk_matmul_output_mode", Int(1))])
                .outputs(4)
                .opset(23),
            // Keys kept outside: only the first ones are filled.
            case(&[
                Any(&[2, 1, 2, 2]),
                Any(&[2, 1, 4, 2]),
                Any(&[2, 1, 4, 2]),
                Absent,
                Absent,
                Absent,
                Ints(&[2], &[3, 4]),
            ])
            .with(&[("is_causal", Int(1))])
            .opset(24),
            case(&[
                Any(&[2, 1, 2, 2]),
                Any(&[2, 1, 4, 2]),
                Any(&[2, 1, 4, 2]),
                Bools(&[2, 4], &[true, false, true, true, false, true, true, false]),
                Absent,
                Absent,
                Ints(&[2], &[2, 3]),
            ])
            .opset(24),
        ],
    ),
    ..UNARY
};

fn infer(c: &Ctx) -> InferResult {
    let (q, k, v) = (c.fact(0), c.fact(1), c.fact(2));
    let (hq, hkv) = (c.node.int("q_num_heads", 0), c.node.int("kv_num_heads", 0));
    if q.rank() == Some(3) && (hq < 1 || hkv < 1) {
        let got = format!("{hq} and {hkv}");
        let want = "numbers of heads, since operands have rank 3".into();
        return Err(InferError::Attribute { name: "q_num_heads", got, want });
    }
    let y = match (q.dims(), v.dims()) {
        (Some([b, h, l, _]), Some([_, _, _, e])) => Fact::new(q.dtype, [*b, *h, *l, *e]),
        (Some([b, l, _]), Some([_, _, width])) => {
            let head = width.div_exact(Dim::Known(hkv)).unwrap_or(Dim::Unknown);
            Fact::new(q.dtype, [*b, *l, head * Dim::Known(hq)])
        }
        (Some([_, _, _] | [_, _, _, _]) | None, None) | (None, Some(_)) => Fact::unranked(q.dtype),
        _ => return Err(InferError::Mismatch(q, v)),
    };
    let past = |slot: usize| c.input(slot).map(|i| &i.fact);
    let (keys, values) = (present(past(4), &k, hkv), present(past(5), &v, hkv));
    let scores = match (q.dims(), keys.dims()) {
        (Some([b, h, l, _]), Some([_, _, s, _])) => Fact::new(q.dtype, [*b, *h, *l, *s]),
        (Some([b, l, _]), Some([_, _, s, _])) => Fact::new(q.dtype, [*b, Dim::Known(hq), *l, *s]),
        _ => Fact::unranked(q.dtype),
    };
    Ok(vec![y.into(), keys.into(), values.into(), scores.into()])
}

fn scale(node: &Node) -> Option<f64> {
    match node.attrs.get("scale") {
        Some(Attr::Float(s)) => Some(f64::from(*s)),
        _ => None,
    }
}

fn lower<'e, 'g>(_: &'e Emit<'g>, node: &Node, x: &[Val<'e, 'g>]) -> Vec<Val<'e, 'g>> {
    let at = |slot: usize| x.get(slot).and_then(|v| v.present());
    let flat = x[0].rank() == 3;
    let heads = |x: Val<'e, 'g>, name: &str| if x.rank() == 4 { x } else { split_heads(x, node.int(name, 0)) };
    let q = heads(x[0], "q_num_heads");
    let k = extend(at(4), heads(x[1], "kv_num_heads"));
    let v = extend(at(5), heads(x[2], "kv_num_heads"));
    let filled = at(6).map(|n| n.reshape(&[-1, 1, 1, 1]));
    let mut allowed = Vec::new();
    let mut bias = None;
    if let Some(mask) = at(3) {
        let mask = if filled.is_some() { lengthened(mask, k) } else { mask };
        match mask.fact().dtype {
            DType::Bool => allowed.push(mask),
            _ => bias = Some(mask),
        }
    }
    if node.int("is_causal", 0) != 0 {
        let offset = match (at(4), filled) {
            (Some(past), _) => Some(past.len(2)),
            (None, Some(filled)) => Some(filled - q.len(2)),
            (None, None) => None,
        };
        allowed.push(causal(q, k, offset));
    }
    allowed.extend(filled.map(|filled| k.positions(2).binary("Less", filled)));
    // Causal masking alone leaves every query its own position.
    let guard = at(3).is_some() || filled.is_some();
    let allowed = allowed.into_iter().reduce(|a, b| a.binary("And", b));
    let mut attend = Attend::new(q, k, v);
    attend.precision = wider(q.fact().dtype, node.int("softmax_precision", 0));
    let attend =
        Attend { scale: scale(node), softcap: node.float("softcap", 0.0).into(), bias, allowed, guard, ..attend };
    let done = attend.write();
    let y = if flat { merge_heads(done.y) } else { done.y };
    let mut made = vec![y, k, v];
    if node.outputs.len() > 3 {
        made.push(shown(&done, allowed, node.int("qk_matmul_output_mode", 0)));
    }
    made
}

/// The scores that `mode` asks for.
fn shown<'e, 'g>(done: &Attended<'e, 'g>, allowed: Option<Val<'e, 'g>>, mode: i64) -> Val<'e, 'g> {
    match (mode, allowed) {
        (1, _) => done.capped,
        (2, None) => done.biased,
        (2, Some(allowed)) => {
            let e = done.biased.emit();
            e.op("Where", &[allowed, done.biased, done.biased.like(NONE)], &[])
        }
        (3, _) => done.weights,
        _ => done.raw,
    }
}

/// The type of the softmax: the one asked for, unless it would lose digits.
fn wider(dtype: DType, asked: i64) -> DType {
    let asked = [DType::F32, DType::F64].into_iter().find(|d| d.onnx_code() == Some(asked));
    asked.filter(|a| a.size() > dtype.size()).unwrap_or(dtype)
}

/// A mask shorter than the keys, filled up so that the last ones are not seen.
fn lengthened<'e, 'g>(mask: Val<'e, 'g>, k: Val<'e, 'g>) -> Val<'e, 'g> {
    let e = mask.emit();
    let last = |v: Val, back: usize| v.fact().dims().and_then(|d| d.get(d.len().checked_sub(back)?).copied());
    let missing = match (last(mask, 1), last(k, 2)) {
        (Some(Dim::Known(1)), _) => return mask,
        (Some(Dim::Known(have)), Some(Dim::Known(want))) if have >= want => return mask,
        (Some(have), Some(want)) if have.same(want) => return mask,
        (Some(Dim::Known(have)), Some(Dim::Known(want))) => e.ints(&[want - have]),
        _ => {
            let size = |v: Val<'e, 'g>, start: i64, end: &[(&str, Attr)]| {
                e.op("Shape", &[v], &[&[("start", start.into())], end].concat())
            };
            size(k, 2, &[("end", 3i64.into())]) - size(mask, -1, &[])
        }
    };
    let unseen = match mask.fact().dtype {
        DType::Bool => e.scalar(0.0, DType::Bool),
        dtype => e.scalar(NONE, dtype),
    };
    let rows = e.op("Shape", &[mask], &[("end", (-1i64).into())]);
    cat(e, &[mask, unseen.binary("Expand", cat(e, &[rows, missing], 0))], -1)
}

fn eval(a: &Args) -> EvalResult {
    let flat = a.x(0)?.ndim() == 3;
    let (hq, hkv) = (a.node.int("q_num_heads", 0), a.node.int("kv_num_heads", 0));
    let joined = |past: usize, new: usize| -> Result<Array, EvalError> {
        let new = split(a.x(new)?, hkv)?;
        match a.opt(past) {
            Some(past) => Ok(ndarray::concatenate(ndarray::Axis(2), &[past.view(), new.view()])?),
            None => Ok(new),
        }
    };
    let (q, k, v) = (split(a.x(0)?, hq)?, joined(4, 1)?, joined(5, 2)?);
    let ([b, h, l, _], [_, _, s, _]) = (q.shape(), k.shape()) else { return invalid("Attention takes rank 3 or 4") };
    let (b, h, l, s) = (*b, *h, *l, *s);
    let filled = match a.opt(6) {
        Some(_) => Some(a.ints(6)?),
        None => None,
    };
    let boolean = a.dtype(3) == DType::Bool;
    let mask = match a.opt(3) {
        Some(m) => {
            let mut m = if boolean { m.mapv(|x| if x != 0.0 { 0.0 } else { NONE }) } else { m.clone() };
            let have = m.shape().last().copied().unwrap_or(1);
            if filled.is_some() && have > 1 && have < s {
                let mut dims = m.shape().to_vec();
                dims.pop();
                dims.push(s - have);
                let rest = Array::from_elem(dims, NONE);
                m = ndarray::concatenate(ndarray::Axis(m.ndim() - 1), &[m.view(), rest.view()])?;
            }
            Some(stretch(&m, &[b, h, l, s])?)
        }
        None => None,
    };
    if filled.as_ref().is_some_and(|n| n.len() != b) {
        return invalid("nonpad_kv_seqlen takes one length per sequence");
    }
    let causal = a.node.int("is_causal", 0) != 0;
    let past = a.opt(4).and_then(|p| p.shape().get(2)).map(|p| *p as i64);
    let bias = |n: usize, m: usize, i: usize, j: usize| {
        let (i_at, j_at) = (i as i64, j as i64);
        let filled = filled.as_ref().map(|v| v[n]);
        let offset = past.or(filled.map(|f| f - l as i64)).unwrap_or(0);
        if (causal && j_at > i_at + offset) || filled.is_some_and(|f| j_at >= f) {
            return NONE;
        }
        mask.as_ref().map_or(0.0, |mask| mask[[n, m, i, j]])
    };
    let softcap = f64::from(a.node.float("softcap", 0.0));
    let done = Dense { q: &q, k: &k, v: &v, scale: scale(a.node), softcap, bias: &bias, sink: None }.compute()?;
    let scores = match a.node.int("qk_matmul_output_mode", 0) {
        1 => done.capped,
        2 => done.biased,
        3 => done.weights,
        _ => done.raw,
    };
    let y = if flat { merge(done.y)? } else { done.y };
    Ok(vec![y, k, v, scores])
}

#[cfg(test)]
mod tests {
    use super::*;

    // ONNX Runtime takes masks as long as the keys and with a row for each query only.
    #[test]
    fn masks_that_broadcast_or_end_early() {
        let heads =
            |mask, filled| [Any(&[2, 1, 2, 2]), Any(&[2, 1, 4, 2]), Any(&[2, 1, 4, 2]), mask, Absent, Absent, filled];
        let filled = Ints(&[2], &[2, 3]);
        let early = heads(
            Bools(&[2, 1, 2, 3], &[true, false, true, true, true, true, false, true, true, true, true, false]),
            filled,
        );
        lowering_agrees(&ATTENTION, &case(Vec::leak(early.to_vec())).opset(24));
        let early = heads(Any(&[2, 3]), filled);
        lowering_agrees(&ATTENTION, &case(Vec::leak(early.to_vec())).opset(24));
        let wide = heads(Any(&[4]), Absent);
        lowering_agrees(&ATTENTION, &case(Vec::leak(wide[..4].to_vec())).opset(23));
    }
}
