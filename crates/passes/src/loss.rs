//! Losses: one number to make smaller, as an output of the graph.

use crate::{PassError, rewrite};
use lorac_ir::{DType, Fact, Graph, ValueId};
use lorac_ops::Val;

/// Labels with this value do not count, as in PyTorch.
const IGNORED: f64 = -100.0;

/// Adds the mean cross-entropy of `logits` `[.., classes]` against a new input `labels` `[..]` of class indices, where
/// -100 does not count. Returns the loss.
pub fn cross_entropy(graph: &mut Graph, logits: ValueId, labels: &str) -> Result<ValueId, PassError> {
    rewrite(graph, "loss", |e| {
        let logits = e.val(logits);
        let dims = logits.fact().dims().map(<[_]>::to_vec).unwrap_or_default();
        let Some((_, rows)) = dims.split_last() else {
            return Err(PassError::Unsuitable("the logits have no classes".into()));
        };
        let labels = e.input(labels, Fact::new(DType::I64, rows.iter().copied()));
        let counted = labels.binary("Equal", labels.like(IGNORED)).unary("Not");
        // An index of -100 would wrap around in some runtimes and fail in others.
        let index = e.op("Where", &[counted, labels, labels.like(0.0)], &[]);
        let index = index.binary("Unsqueeze", e.ints(&[-1]));
        let log_prob = e.op("LogSoftmax", &[logits], &[("axis", (-1i64).into())]);
        let picked = e.op("GatherElements", &[log_prob, index], &[("axis", (-1i64).into())]);
        let picked = picked.binary("Squeeze", e.ints(&[-1]));
        let weight = counted.cast(picked.fact().dtype);
        let count = total(weight);
        let loss = -(total(picked * weight) / count.binary("Max", count.like(1.0)));
        Ok(output(loss))
    })
}

/// Adds the mean of `(y - target)^2` over all elements. Returns the loss.
pub fn mean_squared_error(graph: &mut Graph, y: ValueId, target: ValueId) -> Result<ValueId, PassError> {
    rewrite(graph, "loss", |e| {
        let difference = e.val(y) - e.val(target);
        let loss = e.op("ReduceMean", &[difference * difference], &[("keepdims", 0i64.into())]);
        Ok(output(loss))
    })
}

/// The sum over all elements.
fn total<'e, 'g>(x: Val<'e, 'g>) -> Val<'e, 'g> {
    x.emit().op("ReduceSum", &[x], &[("keepdims", 0i64.into())])
}

/// Names the loss and makes it an output beside the others.
fn output(loss: Val<'_, '_>) -> ValueId {
    let e = loss.emit();
    let named = e.named("loss", "Identity", &[loss], &[], 1);
    let loss = named.first().copied().unwrap_or(loss).id();
    let outputs = [e.graph().outputs(), &[loss]].concat();
    e.edit(|p| p.set_outputs(outputs));
    loss
}
