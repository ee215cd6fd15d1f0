//! Losses: NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss.

use super::*;
use crate::Attribute::{Int, Str};
use crate::Operand::{Absent, Any, Floats, Ints, Of, Positive};
use crate::{Emit, Val, case};
use lorac_ir::{Attr, Node};
use ndarray::Axis;

pub(super) const OPS: &[Op] = &[NEGATIVE_LOG_LIKELIHOOD_LOSS, SOFTMAX_CROSS_ENTROPY_LOSS];

/// The class that does not count, if there is one.
fn ignored(node: &Node) -> Option<i64> {
    match node.attrs.get("ignore_index") {
        Some(Attr::Int(n)) => Some(*n),
        _ => None,
    }
}

/// Losses of log-probabilities `log` `[N,C,..]` for the labels `[N,..]`, reduced as the node says.
fn compute(a: &Args, log: &Array) -> Result<Array, EvalError> {
    let (labels, weights) = (a.x(1)?, a.opt(2));
    let shape = log.shape();
    let [_, classes, ..] = shape else { return invalid(format!("scores of shape {shape:?}")) };
    if labels.ndim() + 1 != shape.len() || labels.shape()[0] != shape[0] || labels.shape()[1..] != shape[2..] {
        return invalid(format!("labels {:?} of scores {shape:?}", labels.shape()));
    }
    if weights.is_some_and(|w| w.len() != *classes) {
        return invalid(format!("weights of {classes} classes"));
    }
    let weights: Option<Vec<f64>> = weights.map(|w| w.iter().copied().collect());
    let ignored = ignored(a.node).map(|n| n as f64);
    let (mut losses, mut total) = (Vec::with_capacity(labels.len()), 0.0);
    // Classes last, so that one row belongs to one label.
    let mut rows = log.view();
    for axis in 1..shape.len() - 1 {
        rows.swap_axes(axis, axis + 1);
    }
    let rows: Vec<f64> = rows.iter().copied().collect();
    for (row, label) in rows.chunks((*classes).max(1)).zip(labels) {
        if Some(*label) == ignored {
            losses.push(0.0);
            continue;
        }
        let class = if *label >= 0.0 { *label as usize } else { usize::MAX };
        let Some(score) = row.get(class) else { return invalid(format!("class {label} of {classes}")) };
        let weight = weights.as_ref().and_then(|w| w.get(class)).copied().unwrap_or(1.0);
        losses.push(-score * weight);
        total += weight;
    }
    let sum: f64 = losses.iter().sum();
    match a.node.str("reduction").unwrap_or("mean") {
        "none" => Ok(Array::from_shape_vec(labels.shape(), losses)?),
        "sum" => Ok(ndarray::arr0(sum).into_dyn()),
        "mean" => Ok(ndarray::arr0(sum / total).into_dyn()),
        other => invalid(format!("reduction `{other}`")),
    }
}

/// The fact of the loss.
fn loss_fact(c: &Ctx) -> Result<Fact, InferError> {
    let (x, labels) = (c.fact(0), c.fact(1));
    if let (Some(m), Some(n)) = (x.rank(), labels.rank())
        && (m < 2 || n + 1 != m)
    {
        return Err(InferError::Mismatch(x, labels));
    }
    match c.node.str("reduction").unwrap_or("mean") {
        "none" => Ok(Fact { dtype: x.dtype, ..labels }),
        "sum" | "mean" => Ok(Fact::scalar(x.dtype)),
        other => {
            let want = "none, sum or mean".into();
            Err(InferError::Attribute { name: "reduction", got: other.into(), want })
        }
    }
}

/// The same as a subgraph. A label that does not count, which may be -100, is replaced by 0 before it is an index.
fn write<'e, 'g>(e: &'e Emit<'g>, node: &Node, log: Val<'e, 'g>, x: &[Val<'e, 'g>]) -> Val<'e, 'g> {
    let labels = x.get(1).copied().unwrap_or(e.absent()).cast(DType::I64);
    let weights = x.get(2).and_then(|v| v.present());
    let choose = |mask: Val<'e, 'g>, x: Val<'e, 'g>| e.op("Where", &[mask, x.like(0.0), x], &[]);
    let skipped = ignored(node).map(|n| labels.binary("Equal", labels.like(n as f64)));
    let index = skipped.map_or(labels, |mask| choose(mask, labels));
    let column = index.binary("Unsqueeze", e.ints(&[1]));
    let scores = e.op("GatherElements", &[log, column], &[("axis", 1i64.into())]).binary("Squeeze", e.ints(&[1]));
    let weight = weights.map(|w| w.binary("Gather", index));
    let losses = -weight.map_or(scores, |w| scores * w);
    let losses = skipped.map_or(losses, |mask| choose(mask, losses));
    let reduce = |op: &str, x: Val<'e, 'g>| e.op(op, &[x], &[("keepdims", 0i64.into())]);
    match (node.str("reduction").unwrap_or("mean"), weight, skipped) {
        ("none", ..) => losses,
        ("sum", ..) => reduce("ReduceSum", losses),
        (_, None, None) => reduce("ReduceMean", losses),
        (_, Some(w), None) => reduce("ReduceSum", losses) / reduce("ReduceSum", w),
        (_, Some(w), Some(mask)) => reduce("ReduceSum", losses) / reduce("ReduceSum", choose(mask, w)),
        (_, None, Some(mask)) => {
            reduce("ReduceSum", losses) / reduce("ReduceSum", mask.unary("Not").cast(log.fact().dtype))
        }
    }
}

const NEGATIVE_LOG_LIKELIHOOD_LOSS: Op = Op {
    name: "NegativeLogLikelihoodLoss",
    inputs: (2, 3),
    infer: |c| one(loss_fact(c)?),
    eval: |a| Ok(vec![compute(a, a.x(0)?)?]),
    flops: |c, _| c.fact(1).volume() * Dim::Known(3),
    grad: Grad::lower(
        |e, node, x| x.first().map(|log| write(e, node, *log, x)).into_iter().collect(),
        &[
            case(&[Any(&[3, 4]), Ints(&[3], &[0, 3, 1])]),
            case(&[Any(&[2, 3, 2]), Of(DType::I32, &[2, 2], &[0, 2, 1, 1])]).with(&[("reduction", Str("none"))]),
            case(&[Any(&[2, 3, 2]), Ints(&[2, 2], &[0, -1, -1, 2]), Positive(&[3])])
                .with(&[("reduction", Str("sum")), ("ignore_index", Int(-1))]),
            case(&[Any(&[3, 4]), Ints(&[3], &[0, 3, 1]), Floats(&[4], &[0.5, 1.0, 2.0, 3.0])]),
        ],
    ),
    ..UNARY
};

const SOFTMAX_CROSS_ENTROPY_LOSS: Op = Op {
    name: "SoftmaxCrossEntropyLoss",
    inputs: (2, 3),
    outputs: (1, 2),
    infer: |c| Ok(vec![loss_fact(c)?.into(), c.fact(0).into()]),
    eval: |a| {
        let mut log = a.x(0)?.clone();
        if log.ndim() < 2 {
            return invalid(format!("scores of shape {:?}", log.shape()));
        }
        for mut row in log.lanes_mut(Axis(1)) {
            let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let total: f64 = row.iter().map(|x| (x - max).exp()).sum();
            row.mapv_inplace(|x| x - max - total.ln());
        }
        Ok(vec![compute(a, &log)?, log])
    },
    flops: |c, _| c.fact(0).volume() * Dim::Known(5),
    grad: Grad::lower(
        |e, node, x| {
            let Some(scores) = x.first() else { return Vec::new() };
            let log = e.op("LogSoftmax", &[*scores], &[("axis", 1i64.into())]);
            vec![write(e, node, log, x), log]
        },
        &[
            case(&[Any(&[3, 4]), Ints(&[3], &[0, 3, 1])]).outputs(2),
            case(&[Any(&[2, 3, 2]), Ints(&[2, 2], &[0, 2, -100, 1]), Absent])
                .with(&[("ignore_index", Int(-100))])
                .outputs(2),
            case(&[Any(&[2, 3, 2, 2]), Of(DType::I32, &[2, 2, 2], &[0, 2, 1, 1, 0, 2, 2, 1]), Positive(&[3])])
                .with(&[("reduction", Str("none"))]),
            case(&[Any(&[3, 4]), Ints(&[3], &[0, 7, 1]), Positive(&[4])])
                .with(&[("ignore_index", Int(7)), ("reduction", Str("mean"))]),
        ],
    ),
    ..UNARY
};
