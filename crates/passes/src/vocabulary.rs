//! The loss of tokens over a large vocabulary in chunks of rows: of their logits, the largest tensors of a step, one chunk
//! stands at a time, in the loss and in its gradient.
//!
//! A chunk's gradient is written behind its loss, before the next chunk's, and the next one's rows depend on it, so that
//! every engine computes them one after the other.

use crate::PassError;
use crate::differentiate::gradients;
use crate::rewrite::{replace_value, rewrite};
use lorac_ir::{DType, Graph, Node, NodeId, ValueId, topological_order};
use lorac_ops::{Emit, Val};
use std::collections::{HashMap, HashSet};

/// Bytes of the logits of a chunk. With fewer, a product reads the matrix more often than it computes with it.
const CHUNK: usize = 32 << 20;

/// Logits of fewer bytes stand whole.
const WHOLE: usize = 64 << 20;

/// What stands in the place of a loss's way back through logits: the gradient of the hidden states before them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HiddenGrad {
    /// The hidden states.
    pub hidden: ValueId,
    /// The loss's gradient with respect to them.
    pub grad: ValueId,
}

/// The way from hidden states to the log-probabilities of labels.
struct Head {
    /// `[.., width]`, read by the product.
    hidden: ValueId,
    /// The product with a matrix, `MatMul` or `Gemm`.
    product: NodeId,
    /// What is computed of the product element by element, in order, each with the slot that it comes in by.
    then: Vec<(NodeId, usize)>,
    /// Indices of the labels, `[.., 1]`.
    index: ValueId,
    /// Log-probabilities of the labels, `[.., 1]`.
    picked: ValueId,
}

/// In how many chunks the logits of so many tokens are computed, where they are large: a rule of sizes, so that a training
/// is the same whenever it is compiled.
pub(crate) fn chunks(graph: &Graph, tokens: Option<usize>) -> usize {
    let Some(tokens) = tokens else { return 1 };
    let bytes = |log_prob: ValueId| {
        let fact = graph.fact(log_prob);
        let classes = usize::try_from(fact.dims()?.last()?.known()?).ok()?;
        Some(classes.saturating_mul(tokens).saturating_mul(fact.dtype.size()))
    };
    let all = graph.nodes().filter_map(|(_, node)| picked_of(graph, node)).filter_map(|(_, of)| bytes(of));
    all.max().filter(|bytes| *bytes > WHOLE).map_or(1, |bytes| bytes.div_ceil(CHUNK))
}

/// Computes the log-probabilities of labels that `loss` is made of in so many chunks of rows, and where `params` are given the
/// gradient of the hidden states as well. None, and nothing changed, where the loss is not of that kind: the logits are read by
/// something else, the matrix of the head is trained, or the gradient depends on how probable a label is.
///
/// # Errors
/// As [`crate::differentiate()`].
pub fn chunk_vocabulary(
    graph: &mut Graph,
    loss: ValueId,
    params: Option<&[ValueId]>,
    chunks: usize,
) -> Result<Option<HiddenGrad>, PassError> {
    if chunks < 2 {
        return Ok(None);
    }
    let Some(head) = Head::of(graph, loss, params.unwrap_or_default()) else { return Ok(None) };
    let mut trial = graph.clone();
    let grad = match params {
        None => None,
        Some(_) => match head.picked_grad(&mut trial, loss)? {
            Some(grad) => Some(grad),
            None => return Ok(None),
        },
    };
    let mut parts: Vec<Part> = Vec::new();
    for at in 0..chunks {
        let part = rewrite(&mut trial, "vocabulary", |e| head.chunk(e, at, chunks, grad, parts.last()))?;
        let grad = match part.weighted {
            Some(weighted) => gradients(&mut trial, weighted, &[part.rows])?.first().copied().flatten(),
            None => None,
        };
        parts.push(Part { grad, ..part });
    }
    let found = rewrite(&mut trial, "vocabulary", |e| {
        let join = |values: Vec<ValueId>, like: ValueId| {
            let values: Vec<Val> = values.into_iter().map(|v| e.val(v)).collect();
            e.op("Concat", &values, &[("axis", 0i64.into())]).reshape_like(e.val(like))
        };
        let picked = join(parts.iter().map(|part| part.picked).collect(), head.index);
        replace_value(e, head.picked, picked);
        let grads: Vec<ValueId> = parts.iter().filter_map(|part| part.grad).collect();
        Ok((grads.len() == chunks).then(|| join(grads, head.hidden).id()))
    })?;
    if params.is_some() != found.is_some() {
        return Ok(None);
    }
    *graph = trial;
    Ok(found.map(|grad| HiddenGrad { hidden: head.hidden, grad }))
}

/// A chunk of rows.
struct Part {
    /// The hidden states, `[rows, width]`.
    rows: ValueId,
    /// Log-probabilities of their labels, `[rows, 1]`.
    picked: ValueId,
    /// Their sum, each times the loss's gradient with respect to it: its gradient is that of the loss.
    weighted: Option<ValueId>,
    /// The gradient of the hidden states.
    grad: Option<ValueId>,
}

impl Head {
    fn of(graph: &Graph, loss: ValueId, params: &[ValueId]) -> Option<Head> {
        let (log_prob, gather) = log_prob(graph, loss)?;
        let gather = graph.node(gather)?;
        let (index, picked) = (gather.input(1)?, *gather.outputs.first()?);
        let trained = behind(graph, params);
        let constant = |v: ValueId| !trained.contains(&v);
        let mut value = graph.node(log_prob)?.input(0)?;
        let width = *graph.fact(value).dims()?.last()?;
        let mut then = Vec::new();
        let (product, hidden) = loop {
            // The logits are read here alone; they may be an output, which a step and an evaluation do not keep.
            let (id, node) =
                graph.producer(value).filter(|_| graph.value(value).is_some_and(|v| v.uses().len() == 1))?;
            let ranks = |v: ValueId| graph.fact(v).rank();
            let operand = |slot: usize| node.input(slot);
            match &*node.op.name {
                _ if !node.op.domain.is_empty() => return None,
                "MatMul" if constant(operand(1)?) && ranks(operand(1)?) == Some(2) => break (id, operand(0)?),
                // What is added is the same for all rows: the result of another product is not.
                "Gemm"
                    if node.operands().skip(1).all(|(_, v)| constant(v))
                        && node.input(2).is_none_or(|c| matches!(ranks(c), Some(0 | 1)))
                        && node.int("transA", 0) == 0 =>
                {
                    break (id, operand(0)?);
                }
                "Reshape" if *graph.fact(operand(0)?).dims()?.last()? == width => value = operand(0)?,
                "Cast" | "Tanh" => {
                    then.push((id, 0));
                    value = operand(0)?;
                }
                "Add" | "Sub" | "Mul" | "Div" => {
                    let (a, b) = (operand(0)?, operand(1)?);
                    let is_row = |v: ValueId| constant(v) && matches!(ranks(v), Some(0 | 1));
                    let slot = if is_row(b) { 0 } else { 1 };
                    if !is_row([b, a][slot]) {
                        return None;
                    }
                    then.push((id, slot));
                    value = [a, b][slot];
                }
                _ => return None,
            }
            if graph.fact(value).dims()?.last()? != &width {
                return None;
            }
        };
        then.reverse();
        graph.fact(hidden).dims()?.last()?.known()?;
        // A penalty of params, or anything else that is added to the loss, has a way back of its own.
        let others = reached(graph, loss, &|v| v == picked);
        let alone = params.iter().all(|param| !others.contains(param));
        alone.then_some(Head { hidden, product, then, index, picked })
    }

    /// The loss's gradient with respect to the log-probabilities, where it does not depend on them: that of the same loss of
    /// other numbers in their place, which are there before any chunk.
    fn picked_grad(&self, graph: &mut Graph, loss: ValueId) -> Result<Option<ValueId>, PassError> {
        let (moved, needed) = (behind(graph, &[self.picked]), before(graph, loss));
        let [others, loss] = rewrite(graph, "vocabulary", |e| {
            let others = e.val(self.index).cast(e.graph().fact(self.picked).dtype);
            let mut known = HashMap::from([(self.picked, others)]);
            for id in topological_order(e.graph()) {
                let Some(node) = e.graph().node(id) else { continue };
                let on = |v: &ValueId| moved.contains(v) && needed.contains(v) && *v != self.picked;
                if !node.outputs.iter().any(on) {
                    continue;
                }
                let operand = |v: &Option<ValueId>| v.map_or(e.absent(), |v| *known.get(&v).unwrap_or(&e.val(v)));
                let inputs: Vec<Val> = node.inputs.iter().map(operand).collect();
                let attrs: Vec<_> = node.attrs.iter().map(|(name, attr)| (&**name, attr.clone())).collect();
                let made = e.ops(&node.op.name, &inputs, &attrs, node.outputs.len());
                known.extend(node.outputs.iter().copied().zip(made));
            }
            Ok([others.id(), known.get(&loss).map_or(loss, |v| v.id())])
        })?;
        let grad = gradients(graph, loss, &[others])?.first().copied().flatten();
        let of_shape = |node: &Node| node.op.domain.is_empty() && matches!(&*node.op.name, "Shape" | "Size");
        Ok(grad.filter(|grad| {
            !reached(graph, *grad, &|v| graph.producer(v).is_some_and(|(_, n)| of_shape(n))).contains(&others)
        }))
    }

    fn chunk(
        &self,
        e: &Emit,
        at: usize,
        chunks: usize,
        grad: Option<ValueId>,
        earlier: Option<&Part>,
    ) -> Result<Part, PassError> {
        let hidden = e.val(self.hidden);
        let width = hidden.fact().dims().and_then(|d| d.last()?.known()).unwrap_or(-1);
        let flat = if hidden.rank() == 2 { hidden } else { hidden.reshape(&[-1, width]) };
        let all = e.op("Shape", &[flat], &[("end", 1i64.into())]);
        // Chunks of nearly as many rows each, empty ones only where there are fewer rows than chunks.
        let bound = |i: usize| (all * e.ints(&[i as i64])).binary("Div", e.ints(&[chunks as i64]));
        let (from, to) = (bound(at), bound(at + 1));
        let slice = |x: Val| e.op("Slice", &[x, from, to, e.ints(&[0])], &[]).id();
        let mut rows = e.val(slice(flat));
        if let Some(earlier) = earlier {
            let sum = |v: ValueId| {
                let sum = e.op("ReduceSum", &[e.val(v).cast(DType::F32)], &[("keepdims", 0i64.into())]);
                // Of an infinite sum, as of a label that does not count and whose class is masked, zero times it is not zero.
                sum.unary("IsNaN").cast(DType::F32) * 0.0
            };
            let nothing = earlier.grad.map_or(sum(earlier.picked), |grad| sum(grad) + sum(earlier.picked));
            rows = rows + nothing.cast(rows.fact().dtype);
        }
        let written = |id: NodeId, slot: usize, x: Val| -> Val {
            let Some(node) = e.graph().node(id) else { return e.absent() };
            e.set_source(&node.origin.source);
            let operand = |(i, v): (usize, &Option<ValueId>)| match v {
                _ if i == slot => x.id(),
                Some(v) => *v,
                None => e.absent().id(),
            };
            let inputs: Vec<Val> = node.inputs.iter().enumerate().map(operand).map(|v| e.val(v)).collect();
            let attrs: Vec<_> = node.attrs.iter().map(|(name, attr)| (&**name, attr.clone())).collect();
            e.op(&node.op.name, &inputs, &attrs)
        };
        let logits = self.then.iter().fold(written(self.product, 0, rows), |x, (id, slot)| written(*id, *slot, x));
        let log_prob = e.op("LogSoftmax", &[logits], &[("axis", (-1i64).into())]);
        let column = |v: ValueId| e.val(slice(e.val(v).reshape(&[-1, 1])));
        let picked = e.op("GatherElements", &[log_prob, column(self.index)], &[("axis", (-1i64).into())]);
        let weighted = grad.map(|grad| {
            let weighted = picked * column(grad);
            e.op("ReduceSum", &[weighted], &[("keepdims", 0i64.into())]).id()
        });
        Ok(Part { rows: rows.id(), picked: picked.id(), weighted, grad: None })
    }
}

/// The log-probabilities of classes that a loss picks those of labels from: the `LogSoftmax` over the last axis and the
/// `GatherElements`, where there is one of each and nothing else reads what is between them.
fn log_prob(graph: &Graph, loss: ValueId) -> Option<(NodeId, NodeId)> {
    let values = before(graph, loss);
    let needed = |node: &Node| node.outputs.iter().any(|v| values.contains(v));
    let all = graph.nodes().filter(|(_, node)| needed(node));
    let mut all = all.filter_map(|(gather, node)| Some((gather, picked_of(graph, node)?)));
    let (gather, (log_prob, value)) = all.next().filter(|_| all.next().is_none())?;
    let alone = graph.value(value).is_some_and(|v| v.uses().len() == 1);
    alone.then_some((log_prob, gather))
}

/// The `LogSoftmax` that a `GatherElements` picks from, both over the last axis, and its result.
fn picked_of(graph: &Graph, gather: &Node) -> Option<(NodeId, ValueId)> {
    let is = |node: &Node, name: &str| node.op.domain.is_empty() && &*node.op.name == name;
    if !is(gather, "GatherElements") {
        return None;
    }
    let value = gather.input(0)?;
    let (id, made) = graph.producer(value).filter(|(_, node)| is(node, "LogSoftmax"))?;
    let rank = graph.fact(value).rank().map(|rank| rank as i64);
    let is_last = |axis: i64| axis == -1 || Some(axis + 1) == rank;
    (is_last(made.int("axis", -1)) && is_last(gather.int("axis", 0))).then_some((id, value))
}

/// A value and all that it is computed of.
fn before(graph: &Graph, value: ValueId) -> HashSet<ValueId> {
    reached(graph, value, &|_| false)
}

/// A value and all that it is computed of; nothing from what `ends` on.
fn reached(graph: &Graph, value: ValueId, ends: &dyn Fn(ValueId) -> bool) -> HashSet<ValueId> {
    let (mut seen, mut todo) = (HashSet::new(), vec![value]);
    while let Some(value) = todo.pop() {
        if !ends(value)
            && seen.insert(value)
            && let Some((_, node)) = graph.producer(value)
        {
            todo.extend(node.operands().map(|(_, v)| v));
        }
    }
    seen
}

/// Values and all that is computed of them.
fn behind(graph: &Graph, values: &[ValueId]) -> HashSet<ValueId> {
    let (mut seen, mut todo) = (HashSet::new(), values.to_vec());
    while let Some(value) = todo.pop() {
        if seen.insert(value) {
            let uses = graph.value(value).map(|v| v.uses()).unwrap_or_default();
            let nodes = uses.iter().filter_map(|u| graph.node(u.node));
            todo.extend(nodes.flat_map(|n| n.outputs.iter().copied()));
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{causal_cross_entropy, cross_entropy, differentiate, differentiate_from, remove_dead};
    use lorac_ops::{Array, evaluate};

    /// Hidden states of two trained vectors, and a head of five classes.
    fn model(head: &str) -> Graph {
        let text = format!(
            r#"graph g(%x: f64[B,S,3], %a: f64[3], %b: f64[3]) -> %y {{
              %w = weight "w" f64[3,5] = [0.5, -1, 0.25, 2, 0.75, 1, -0.5, 0.3, -0.2, 0.1, -2, 0.4, 0.6, -0.7, 0.9]
              %bias = weight "bias" f64[5] = [0.1, -0.2, 0.3, -0.4, 0.5]
              %scale = weight "scale" f64[] = [0.5]
              %masked = weight "masked" f64[5] = [-inf, 0, 0, 0, 0]
              %flat = weight "flat" i64[2] = [-1, 3]
              %m = Mul(%x, %a) : f64[B,S,3]
              %h = Add(%m, %b) : f64[B,S,3]
              {head}
            }}"#
        );
        lorac_ir::parse(&text).expect("parses")
    }

    const PLAIN: &str = "%y = MatMul(%h, %w) : f64[B,S,5]";
    const HEADS: [&str; 4] = [
        PLAIN,
        "%p = MatMul(%h, %w) : f64[B,S,5]\n%c = Mul(%scale, %p) : f64[B,S,5]\n%t = Tanh(%c) : f64[B,S,5]\n\
         %y = Add(%t, %bias) : f64[B,S,5]",
        // The class 0, which labels that do not count are taken for, is masked.
        "%p = MatMul(%h, %w) : f64[B,S,5]\n%y = Add(%p, %masked) : f64[B,S,5]",
        "%r = Reshape(%h, %flat) : f64[..]\n%g = Gemm(%r, %w, %bias) : f64[..]\n%d = Shape(%x, end=2) : i64[2]\n\
         %five = weight \"five\" i64[1] = [5]\n%e = Concat(%d, %five, axis=0) : i64[3]\n%y = Reshape(%g, %e) : f64[B,S,5]",
    ];

    /// The loss and its gradients in so many chunks.
    fn run(graph: &Graph, causal: bool, chunks: usize, dims: [usize; 2]) -> (Vec<f64>, usize) {
        let mut graph = graph.clone();
        let (y, params) = (graph.outputs()[0], ["a", "b"].map(|name| graph.find(name).expect("a param")));
        let loss = if causal { causal_cross_entropy } else { cross_entropy }(&mut graph, y, "labels").expect("a loss");
        let grads = match chunk_vocabulary(&mut graph, loss, Some(&params), chunks).expect("chunks") {
            Some(known) => differentiate_from(&mut graph, known.hidden, known.grad, &params),
            None => differentiate(&mut graph, loss, &params),
        };
        let outputs = [vec![loss], grads.expect("differentiates")].concat();
        graph.set_outputs(outputs).expect("there");
        remove_dead(&mut graph).expect("removes");
        let [rows, length] = dims;
        let array = |dims: &[usize], of: &dyn Fn(usize) -> f64| {
            Array::from_shape_vec(dims, (0..dims.iter().product()).map(of).collect()).expect("fits")
        };
        let labels = array(&[rows, length], &|i| if i % 4 == 3 { -100.0 } else { (1 + i * 7 % 4) as f64 });
        let feeds = [
            ("x", array(&[rows, length, 3], &|i| (i as f64 * 0.7).sin())),
            ("a", array(&[3], &|i| 1.0 + i as f64)),
            ("b", array(&[3], &|i| 0.25 - i as f64 / 8.0)),
            ("labels", labels),
        ];
        let out = evaluate(&graph, &feeds).expect("evaluates");
        let products = graph.nodes().filter(|(_, n)| &*n.op.name == "LogSoftmax").count();
        (out.iter().flatten().copied().collect(), products)
    }

    #[test]
    fn chunks_have_the_loss_and_gradients_of_the_whole() {
        for head in HEADS {
            let graph = model(head);
            for causal in [true, false] {
                for dims in [[3, 4], [1, 2]] {
                    let (want, one) = run(&graph, causal, 1, dims);
                    let (got, five) = run(&graph, causal, 5, dims);
                    assert_eq!((one, five), (1, 5), "{head}");
                    for (got, want) in got.iter().zip(&want) {
                        assert!((got - want).abs() <= 1e-12, "{head}, {dims:?}: {got}, expected {want}");
                    }
                }
            }
        }
    }

    #[test]
    fn logits_that_something_else_reads_or_a_trained_head_stay_whole() {
        let whole = |text: &str, params: &[&str]| {
            let mut graph = lorac_ir::parse(text).expect("parses");
            let y = graph.find("y").expect("logits");
            let params: Vec<ValueId> = params.iter().map(|name| graph.find(name).expect("a param")).collect();
            let loss = cross_entropy(&mut graph, y, "labels").expect("a loss");
            chunk_vocabulary(&mut graph, loss, Some(&params), 4).expect("chunks").is_none()
        };
        let head = |inputs: &str, body: &str| format!("graph g(%x: f64[N,3], {inputs}) -> %y {{ {body} }}");
        let plain = head("%w: f64[3,5], %a: f64[3]", "%h = Mul(%x, %a) : f64[N,3]\n%y = MatMul(%h, %w) : f64[N,5]");
        assert_eq!((whole(&plain, &["a"]), whole(&plain, &["a", "w"])), (false, true));
        // An evaluation of a head with a branch, whose last product adds the rows of another one.
        let branch = head(
            "%w: f64[3,5], %a: f64[3,2], %b: f64[2,5]",
            "%p = MatMul(%x, %w) : f64[N,5]\n%l = MatMul(%x, %a) : f64[N,2]\n%y = Gemm(%l, %b, %p) : f64[N,5]",
        );
        let mut evaluated = lorac_ir::parse(&branch).expect("parses");
        let y = evaluated.find("y").expect("logits");
        let loss = cross_entropy(&mut evaluated, y, "labels").expect("a loss");
        let before = evaluated.node_count();
        chunk_vocabulary(&mut evaluated, loss, None, 4).expect("stays");
        assert_eq!(evaluated.node_count(), before);
        let read = plain.replace("-> %y", "-> %z").replace(" }", "\n%z = Exp(%y) : f64[N,5] }");
        assert!(whole(&read, &["a"]));
    }

    #[test]
    fn sizes_alone_decide() {
        let text =
            "graph g(%x: f32[B,S,8]) -> %y { %w = weight \"w\" f32[8,50000]\n%y = MatMul(%x, %w) : f32[B,S,50000] }";
        let mut graph = lorac_ir::parse(text).expect("parses");
        let y = graph.outputs()[0];
        causal_cross_entropy(&mut graph, y, "labels").expect("a loss");
        let of = |tokens| chunks(&graph, tokens);
        // 200,000 bytes a token.
        assert_eq!([None, Some(1), Some(335), Some(336), Some(1024)].map(of), [1, 1, 1, 3, 7]);
    }
}
