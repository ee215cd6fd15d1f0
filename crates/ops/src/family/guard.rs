//! Rows that are masked to minus infinity as a whole: their shares are 0/0, NaN. A model that replaces them by a constant,
//! there or behind the products that follow, asks for no gradient of them, and NaN times 0 must not become one.

use crate::{Backward, Val, find};
use lorac_ir::{Graph, Node, ValueId};

/// Values that are looked at for a guard, and nodes for a softmax.
const MOST_COPIES: usize = 16;

/// The first result, but 0 where it is NaN and the gradient is 0.
pub(super) fn settled<'e, 'g>(b: &Backward<'e, 'g>) -> Val<'e, 'g> {
    b.emit.op("Where", &[unread(b), b.y.like(0.0), b.y], &[])
}

/// Where the first result is NaN and its gradient is 0.
pub(super) fn unread<'e, 'g>(b: &Backward<'e, 'g>) -> Val<'e, 'g> {
    b.y.unary("IsNaN").binary("And", b.gy.binary("Equal", b.gy.like(0.0)))
}

/// The left operand of a product: 0 where it is NaN, if shares that a guard stands behind may make it so.
pub(super) fn left<'e, 'g>(b: &Backward<'e, 'g>) -> Val<'e, 'g> {
    let (graph, x) = (b.emit.graph(), b.x[0]);
    let made = b.node.input(0).is_some_and(|v| comes_of_shares(graph, v));
    match made && is_guarded(graph, b.node) {
        true => b.emit.op("Where", &[x.unary("IsNaN"), x.like(0.0), x], &[]),
        false => x,
    }
}

/// Whether a Where chooses between the first result, or a copy of it, and something else, or the model asks whether it is
/// NaN; or does so with what comes of it by products, where it chooses one number.
pub(super) fn is_guarded(graph: &Graph, node: &Node) -> bool {
    // With each value, whether a product lies between.
    let mut open: Vec<(ValueId, bool)> = node.outputs.first().map(|y| (*y, is_product(node))).into_iter().collect();
    for at in 0..MOST_COPIES {
        let Some((value, behind, v)) = open.get(at).and_then(|(v, behind)| Some((graph.value(*v)?, *behind, *v)))
        else {
            return false;
        };
        for (reader, slot) in value.uses().iter().filter_map(|u| Some((graph.node(u.node)?, u.slot))) {
            let other = |slot: usize| reader.input(slot).and_then(|o| graph.weight(o));
            match &*reader.op.name {
                "IsNaN" => return true,
                "Where" if slot > 0 && !behind => return true,
                "Where" if slot > 0 && other(3 - slot).is_some_and(|w| w.len() == 1) => return true,
                _ if is_product(reader) && slot != 1 => open.extend(reader.outputs.first().map(|y| (*y, true))),
                _ if hands_on(graph, reader, v) => open.extend(reader.outputs.first().map(|y| (*y, behind))),
                _ => {}
            }
        }
    }
    false
}

/// Whether a quotient is of exponentials, or other numbers, and their sum.
pub(super) fn is_share(graph: &Graph, node: &Node) -> bool {
    let sum = node.input(1).and_then(|v| graph.producer(v)).filter(|_| &*node.op.name == "Div");
    sum.is_some_and(|(_, sum)| &*sum.op.name == "ReduceSum" && sum.input(0) == node.input(0))
}

/// Whether what a node computes is divided by its sum, with a guard behind.
pub(super) fn is_shared_out(graph: &Graph, node: &Node) -> bool {
    let uses = node.outputs.first().and_then(|y| graph.value(*y)).map(|y| y.uses()).unwrap_or_default();
    let readers = uses.iter().filter(|u| u.slot == 0).filter_map(|u| graph.node(u.node));
    readers.into_iter().any(|reader| is_share(graph, reader) && is_guarded(graph, reader))
}

fn comes_of_shares(graph: &Graph, value: ValueId) -> bool {
    let mut at = value;
    for _ in 0..MOST_COPIES {
        let Some((_, node)) = graph.producer(at) else { return false };
        if &*node.op.name == "Softmax" || is_share(graph, node) {
            return true;
        }
        let from = node.inputs.iter().flatten().find(|v| graph.weight(**v).is_none());
        match from {
            Some(from) if is_product(node) && node.input(0) == Some(*from) => at = *from,
            Some(from) if hands_on(graph, node, *from) => at = *from,
            _ => return false,
        }
    }
    false
}

fn is_product(node: &Node) -> bool {
    node.op.domain.is_empty() && matches!(&*node.op.name, "MatMul" | "Gemm")
}

/// Whether a node keeps every element of an operand, in its place or in another one, or adds a bias to it.
fn hands_on(graph: &Graph, node: &Node, value: ValueId) -> bool {
    match &*node.op.name {
        "Dropout" | "Transpose" => node.input(0) == Some(value),
        "Add" => node.inputs.iter().flatten().any(|v| *v != value && graph.weight(*v).is_some()),
        _ => find(&node.op).is_some_and(|op| op.traits.reshapes) && node.input(0) == Some(value),
    }
}
