//! Losses: one number to make smaller, as an output of the graph.

mod alike;
mod classes;
mod pairs;
mod values;

pub use alike::Alike;
pub use classes::{BinaryCrossEntropy, CrossEntropy};
pub use pairs::{InBatch, cosine_terms};
pub use values::{Distance, squared_error_terms};

use crate::{PassError, rewrite};
use lorac_ir::{DType, Dim, Fact, Graph, ValueId};
use lorac_ops::Val;

/// Labels with this value do not count, as in PyTorch.
const IGNORED: f64 = -100.0;

/// Name of the output that holds the loss.
pub const LOSS: &str = "loss";

/// Name of the output that holds the loss of a slice.
const SLICE_LOSS: &str = "loss.slice";

/// A loss as a sum over what counts, and how much counts: both scalars, f32 at least.
#[derive(Clone, Copy)]
pub struct LossTerms<'e, 'g> {
    /// The sum.
    pub sum: Val<'e, 'g>,
    /// How much counts.
    pub count: Val<'e, 'g>,
}

impl<'e, 'g> LossTerms<'e, 'g> {
    /// The mean; 0 where nothing counts.
    pub fn mean(&self) -> Val<'e, 'g> {
        self.sum / self.count.binary("Max", self.count.like(1.0))
    }
}

/// Cross-entropy of `logits` `[.., classes]` against a new input `labels` `[..]` of class indices, where -100 does not
/// count.
///
/// # Errors
/// Logits without an axis of classes.
pub fn cross_entropy_terms<'e, 'g>(logits: Val<'e, 'g>, labels: &str) -> Result<LossTerms<'e, 'g>, PassError> {
    let labels = logits.emit().input(labels, Fact::new(DType::I64, rows(logits)?));
    let (picked, weight) = picked(logits, labels);
    Ok(LossTerms { sum: -total(picked), count: total(weight) })
}

/// Cross-entropy of `logits` `[batch, sequence, vocabulary]` against the token that follows, from a new input `labels`
/// `[batch, sequence]` of the tokens themselves, where -100 does not count.
///
/// The labels move, and not the logits, of which a copy would cost most of the memory of a step; then the last position
/// has nothing to predict.
///
/// # Errors
/// Logits without an axis of classes.
pub fn next_token_terms<'e, 'g>(logits: Val<'e, 'g>, labels: &str) -> Result<LossTerms<'e, 'g>, PassError> {
    let e = logits.emit();
    let labels = e.input(labels, Fact::new(DType::I64, rows(logits)?));
    let slice =
        |x: Val<'e, 'g>, from: i64, to: i64| e.op("Slice", &[x, e.ints(&[from]), e.ints(&[to]), e.ints(&[1])], &[]);
    let turned = [slice(labels, 1, i64::MAX), slice(labels, 0, 1)];
    let (picked, weight) = picked(logits, e.op("Concat", &turned, &[("axis", 1i64.into())]));
    let (picked, weight) = (slice(picked, 0, -1), slice(weight, 0, -1));
    Ok(LossTerms { sum: -total(picked), count: total(weight) })
}

/// Adds the mean cross-entropy of `logits` `[.., classes]` against a new input `labels` `[..]` of class indices, where
/// -100 does not count. Returns the loss.
pub fn cross_entropy(graph: &mut Graph, logits: ValueId, labels: &str) -> Result<ValueId, PassError> {
    mean_loss(graph, logits, |logits| cross_entropy_terms(logits, labels))
}

/// Adds the mean cross-entropy of `logits` `[batch, sequence, vocabulary]` against the token that follows, from a new
/// input `labels` `[batch, sequence]` of the tokens themselves, where -100 does not count. Returns the loss.
pub fn causal_cross_entropy(graph: &mut Graph, logits: ValueId, labels: &str) -> Result<ValueId, PassError> {
    mean_loss(graph, logits, |logits| next_token_terms(logits, labels))
}

/// Adds the mean of a loss of `prediction` as the output [`LOSS`], beside the others. Returns it.
pub(crate) fn mean_loss(
    graph: &mut Graph,
    prediction: ValueId,
    terms: impl for<'e, 'g> FnOnce(Val<'e, 'g>) -> Result<LossTerms<'e, 'g>, PassError>,
) -> Result<ValueId, PassError> {
    rewrite(graph, "loss", |e| Ok(output(terms(e.val(prediction))?.mean())))
}

/// Adds the mean of a loss of `prediction` over a slice of a batch and how much counts in it, as the outputs [`SLICE_LOSS`]
/// and [`crate::LOSS_COUNT`] beside the others. Returns both.
pub(crate) fn slice_loss(
    graph: &mut Graph,
    prediction: ValueId,
    terms: impl for<'e, 'g> FnOnce(Val<'e, 'g>) -> Result<LossTerms<'e, 'g>, PassError>,
) -> Result<[ValueId; 2], PassError> {
    rewrite(graph, "loss", |e| {
        let terms = terms(e.val(prediction))?;
        let mean = terms.mean();
        let named = |name: &str, v: Val| e.named(name, "Identity", &[v], &[], 1).first().map_or(v.id(), |n| n.id());
        let (mean, count) = (named(SLICE_LOSS, mean), named(crate::LOSS_COUNT, terms.count));
        let outputs = [e.graph().outputs(), &[mean, count]].concat();
        e.edit(|p| p.set_outputs(outputs));
        Ok([mean, count])
    })
}

/// The shape of labels for these logits.
fn rows(logits: Val) -> Result<Vec<Dim>, PassError> {
    let dims = logits.fact().dims().map(<[_]>::to_vec).unwrap_or_default();
    let rows = dims.split_last().map(|(_, rows)| rows.to_vec());
    rows.ok_or_else(|| PassError::Unsuitable("the logits have no classes".into()))
}

/// Whether a label counts, and its index behind the last axis; 0 where it does not.
fn index_of<'e, 'g>(labels: Val<'e, 'g>) -> (Val<'e, 'g>, Val<'e, 'g>) {
    let e = labels.emit();
    let counted = labels.binary("Equal", labels.like(IGNORED)).unary("Not");
    // An index of -100 would wrap around in some runtimes and fail in others.
    let index = e.op("Where", &[counted, labels, labels.like(0.0)], &[]);
    (counted, index.binary("Unsqueeze", e.ints(&[-1])))
}

/// The log-probability of every label, 0 where it does not count, and whether it counts, as a number.
fn picked<'e, 'g>(logits: Val<'e, 'g>, labels: Val<'e, 'g>) -> (Val<'e, 'g>, Val<'e, 'g>) {
    let e = logits.emit();
    let (counted, index) = index_of(labels);
    let log_prob = e.op("LogSoftmax", &[logits], &[("axis", (-1i64).into())]);
    let picked = e.op("GatherElements", &[log_prob, index], &[("axis", (-1i64).into())]);
    let picked = wide(picked.binary("Squeeze", e.ints(&[-1])));
    // A class at minus infinity has no finite logarithm, and times 0 it is NaN.
    let picked = e.op("Where", &[counted, picked, picked.like(0.0)], &[]);
    (picked, counted.cast(picked.fact().dtype))
}

/// Adds the mean of `(y - target)^2` over all elements. Returns the loss.
pub fn mean_squared_error(graph: &mut Graph, y: ValueId, target: ValueId) -> Result<ValueId, PassError> {
    rewrite(graph, "loss", |e| {
        let difference = wide(e.val(y)) - wide(e.val(target));
        let loss = e.op("ReduceMean", &[difference * difference], &[("keepdims", 0i64.into())]);
        Ok(output(loss))
    })
}

/// As a type in which many of them can be summed and counted: f16 ends at 65504, bf16 counts to 256.
fn wide<'e, 'g>(x: Val<'e, 'g>) -> Val<'e, 'g> {
    match x.fact().dtype {
        DType::F16 | DType::BF16 => x.cast(DType::F32),
        _ => x,
    }
}

/// The sum over all elements.
fn total<'e, 'g>(x: Val<'e, 'g>) -> Val<'e, 'g> {
    x.emit().op("ReduceSum", &[x], &[("keepdims", 0i64.into())])
}

/// Names the loss and makes it an output beside the others.
fn output(loss: Val<'_, '_>) -> ValueId {
    let e = loss.emit();
    let named = e.named(LOSS, "Identity", &[loss], &[], 1);
    let loss = named.first().copied().unwrap_or(loss).id();
    let outputs = [e.graph().outputs(), &[loss]].concat();
    e.edit(|p| p.set_outputs(outputs));
    loss
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::differentiate;
    use lorac_ir::Attr;

    fn dtypes(graph: &Graph, op: &str) -> Vec<DType> {
        let nodes = graph.nodes().filter(|(_, n)| &*n.op.name == op);
        nodes.map(|(_, n)| graph.fact(n.outputs[0]).dtype).collect()
    }

    #[test]
    fn tokens_are_summed_and_counted_in_f32() {
        for (dtype, want) in [("f16", DType::F32), ("bf16", DType::F32), ("f32", DType::F32), ("f64", DType::F64)] {
            let text = format!("graph g(%x: {dtype}[B,S,7]) -> %y {{ %y = Tanh(%x) : {dtype}[B,S,7] }}");
            let base = lorac_ir::parse(&text).expect("parses");
            let (x, y) = (base.find("x").expect("x"), base.outputs()[0]);
            for loss in [cross_entropy, causal_cross_entropy] {
                let mut graph = base.clone();
                let loss = loss(&mut graph, y, "labels").expect("a loss");
                assert_eq!(graph.fact(loss).dtype, want, "{dtype}");
                assert_eq!(dtypes(&graph, "ReduceSum"), [want, want], "{dtype}");
                let grads = differentiate(&mut graph, loss, &[x]).expect("differentiates");
                assert_eq!(graph.fact(grads[0]), graph.fact(x), "{dtype}");
            }
        }
    }

    #[test]
    fn a_class_at_minus_infinity_does_not_spoil_rows_without_a_label() {
        let base = "graph g(%x: f64[2,3]) -> %y { %y = Identity(%x) : f64[2,3] }";
        let mut graph = lorac_ir::parse(base).expect("parses");
        let (x, y) = (graph.find("x").expect("x"), graph.outputs()[0]);
        let loss = cross_entropy(&mut graph, y, "labels").expect("a loss");
        let grads = differentiate(&mut graph, loss, &[x]).expect("differentiates");
        graph.set_outputs(vec![loss, grads[0]]).expect("there");
        let array = |dims: &[usize], v: &[f64]| lorac_ops::Array::from_shape_vec(dims, v.to_vec()).expect("fits");
        let inf = f64::NEG_INFINITY;
        let run = |labels: &[f64]| {
            let x = array(&[2, 3], &[inf, 0.0, 0.0, inf, 0.0, 0.0]);
            let found = lorac_ops::evaluate(&graph, &[("x", x), ("labels", array(&[2], labels))]).expect("evaluates");
            (found[0].sum(), found[1].iter().copied().collect::<Vec<f64>>())
        };
        let (loss, grads) = run(&[-100.0, 1.0]);
        assert!((loss - 2f64.ln()).abs() < 1e-12, "{loss}");
        assert_eq!(grads, [0.0, 0.0, 0.0, 0.0, -0.5, 0.5]);
        assert_eq!(run(&[-100.0, -100.0]), (0.0, vec![0.0; 6]));
        assert_eq!(run(&[0.0, 1.0]).0, f64::INFINITY);
    }

    #[test]
    fn squares_are_summed_and_counted_in_f32() {
        let text = "graph g(%x: f16[N,S], %t: f16[N,S]) -> %y { %y = Tanh(%x) : f16[N,S] }";
        let mut graph = lorac_ir::parse(text).expect("parses");
        let (x, y, t) = (graph.find("x").expect("x"), graph.outputs()[0], graph.find("t").expect("t"));
        let loss = mean_squared_error(&mut graph, y, t).expect("a loss");
        assert_eq!((graph.fact(loss).dtype, dtypes(&graph, "ReduceMean")), (DType::F32, vec![DType::F32]));
        let grads = differentiate(&mut graph, loss, &[x]).expect("differentiates");
        assert_eq!(graph.fact(grads[0]), graph.fact(x));
        let sizes = graph.nodes().filter(|(_, n)| &*n.op.name == "Size").flat_map(|(_, n)| n.outputs.clone());
        for size in sizes {
            for u in graph.value(size).expect("live").uses() {
                let node = graph.node(u.node).expect("live");
                assert_eq!((&*node.op.name, node.attrs.get("to")), ("Cast", Some(&Attr::Int(1))));
            }
        }
    }
}
