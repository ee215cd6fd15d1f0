//! How much memory a graph needs at once, by the sizes of its values and the order of its nodes: an estimate that is the same
//! whenever it is made.

use crate::PassError;
use lorac_ir::{Dim, Fact, Graph, Node, ValueId, topological_order};
use lorac_ops::infer;
use std::collections::HashMap;

/// Bytes that a graph needs at once for inputs of these shapes, weights included: every value from the node that computes it to
/// the last that reads it. What only views a value, and what an engine writes over an operand that nothing else reads, takes no
/// more. Values whose size is not known count as the largest operand of their node.
///
/// # Errors
/// Shapes that do not fit the graph.
pub fn peak_bytes(graph: &Graph, shapes: &[(String, Vec<usize>)]) -> Result<usize, PassError> {
    let mut graph = graph.clone();
    for (name, dims) in shapes {
        if let Some(input) = graph.find(name) {
            let fact = Fact::new(graph.fact(input).dtype, dims.iter().copied());
            graph.set_fact(input, fact);
        }
    }
    infer(&mut graph)?;
    let weights: usize = graph.weights().map(|(_, _, tensor)| tensor.bytes().len()).sum();
    let inputs: usize = graph.inputs().iter().filter_map(|v| bytes(&graph.fact(*v))).sum();
    Ok(weights.saturating_add(inputs).saturating_add(between(&graph)))
}

fn bytes(fact: &Fact) -> Option<usize> {
    match fact.volume() {
        Dim::Known(n) => Some(usize::try_from(n).ok()?.saturating_mul(fact.dtype.size())),
        _ => None,
    }
}

/// Operators whose result is their first operand under another shape.
const VIEWS: &[&str] = &["Reshape", "Squeeze", "Unsqueeze", "Identity", "Flatten"];

/// Operators that an engine may write over an operand of the same size.
const IN_PLACE: &[&str] = &[
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Neg",
    "Exp",
    "Sqrt",
    "Tanh",
    "Erf",
    "Relu",
    "Sigmoid",
    "Where",
    "Softmax",
    "LogSoftmax",
    "Reciprocal",
    "Clip",
    "Pow",
];

/// The most bytes that values between inputs and outputs take at once.
fn between(graph: &Graph) -> usize {
    // Of every buffer: its size, and how many reads are left.
    let mut buffers: HashMap<ValueId, (usize, usize)> = HashMap::new();
    let mut buffer_of: HashMap<ValueId, ValueId> = HashMap::new();
    let reads =
        |v: ValueId| graph.value(v).map_or(0, |value| value.uses().len()) + usize::from(graph.outputs().contains(&v));
    // Inputs and weights are counted by themselves: a view of one takes nothing, and nothing is written over it.
    for value in graph.inputs().iter().copied().chain(graph.weights().map(|(weight, ..)| weight)) {
        buffers.insert(value, (0, reads(value) + 1));
        buffer_of.insert(value, value);
    }
    let (mut now, mut most) = (0usize, 0usize);
    for id in topological_order(graph) {
        let Some(node) = graph.node(id) else { continue };
        let largest = node.operands().filter_map(|(_, v)| bytes(&graph.fact(v))).max().unwrap_or(0);
        for (at, result) in node.outputs.iter().enumerate() {
            let size = bytes(&graph.fact(*result)).unwrap_or(largest);
            let shared = if at == 0 { shared(node, size, &buffers, &buffer_of) } else { None };
            let buffer = shared.unwrap_or(*result);
            let entry = buffers.entry(buffer).or_insert((size, 0));
            entry.1 += reads(*result);
            if shared.is_none() {
                now = now.saturating_add(size);
            }
            buffer_of.insert(*result, buffer);
        }
        most = most.max(now);
        let read = node.operands().map(|(_, v)| v).chain(node.outputs.iter().copied().filter(|v| reads(*v) == 0));
        for value in read {
            let Some(buffer) = buffer_of.get(&value) else { continue };
            if let Some((size, left)) = buffers.get_mut(buffer) {
                *left = left.saturating_sub(usize::from(reads(value) > 0));
                if *left == 0 {
                    now = now.saturating_sub(*size);
                    buffers.remove(&buffer.clone());
                }
            }
        }
    }
    most
}

/// The buffer of an operand that the first result of a node is in.
fn shared(
    node: &Node,
    size: usize,
    buffers: &HashMap<ValueId, (usize, usize)>,
    buffer_of: &HashMap<ValueId, ValueId>,
) -> Option<ValueId> {
    if !node.op.domain.is_empty() {
        return None;
    }
    let buffer = |v: ValueId| buffer_of.get(&v).copied();
    if VIEWS.contains(&&*node.op.name) {
        return node.input(0).and_then(buffer);
    }
    let free = |b: &ValueId| buffers.get(b).is_some_and(|(held, left)| *held == size && *left == 1);
    let in_place = IN_PLACE.contains(&&*node.op.name);
    node.inputs.iter().flatten().filter(|_| in_place).filter_map(|v| buffer(*v)).find(free)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_at_once_is_counted() {
        let text = "graph g(%x: f32[N,100]) -> %y {
            %w = weight \"w\" f32[100,100]
            %a = MatMul(%x, %w) : f32[N,100]
            %b = Tanh(%a) : f32[N,100]
            %c = MatMul(%b, %w) : f32[N,100]
            %d = Mul(%b, %c) : f32[N,100]
            %y = ReduceSum(%d, keepdims=0) : f32[]
        }";
        let graph = lorac_ir::parse(text).expect("parses");
        let of = |rows: usize| peak_bytes(&graph, &[("x".to_string(), vec![rows, 100])]).expect("fits");
        // The weight, x, and two of a..d at once: Tanh and Mul are written over what they read.
        assert_eq!(of(10), 40_000 + 4_000 + 2 * 4_000);
        assert_eq!(of(20) - of(10), 3 * 4_000);
    }

    #[test]
    fn a_view_takes_nothing_and_a_value_that_is_read_later_stays() {
        let text = "graph g(%x: f32[10]) -> %y, %z {
            %s = weight \"s\" i64[2] = [2, 5]
            %a = Exp(%x) : f32[10]
            %v = Reshape(%a, %s) : f32[2,5]
            %b = Exp(%v) : f32[2,5]
            %y = Exp(%b) : f32[2,5]
            %z = Sin(%v) : f32[2,5]
        }";
        let graph = lorac_ir::parse(text).expect("parses");
        assert_eq!(peak_bytes(&graph, &[]).expect("fits"), 16 + 40 + 120);
        let text = "graph g(%x: f32[10]) -> %y {
            %s = weight \"s\" i64[2] = [2, 5]
            %w = weight \"w\" f32[2,5]
            %v = Reshape(%x, %s) : f32[2,5]
            %i = Identity(%w) : f32[2,5]
            %y = Add(%v, %i) : f32[2,5]
        }";
        let graph = lorac_ir::parse(text).expect("parses");
        assert_eq!(peak_bytes(&graph, &[]).expect("fits"), 16 + 40 + 40 + 40, "of an input and of a weight");
    }
}
