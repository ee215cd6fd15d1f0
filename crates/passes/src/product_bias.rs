//! The bias of a product: inside of it, or the vector that is all that is added to what it computes.

use lorac_ir::{Graph, Node, NodeId, ValueId};
use lorac_ops::find;

/// The vector `[out]` that a product or a convolution adds to what it computes: one that it takes itself, or that is all that
/// becomes of a product.
pub fn product_bias(graph: &Graph, product: NodeId) -> Option<ValueId> {
    let inner = inner_bias(graph.node(product)?).filter(|bias| is_vector(graph, *bias));
    inner.or_else(|| added_bias(graph, product).map(|(bias, _)| bias))
}

/// What a node takes for its bias, of whatever shape and whatever it comes from.
pub(crate) fn inner_bias(node: &Node) -> Option<ValueId> {
    let traits = find(&node.op).map(|op| op.traits).unwrap_or_default();
    traits.bias.iter().find_map(|slot| node.input(*slot))
}

/// The vector that is added to what a product computes and to nothing else, and the node that adds it. Behind a convolution
/// a vector meets the last axis, which is not that of the results: it is no bias.
pub(crate) fn added_bias(graph: &Graph, product: NodeId) -> Option<(ValueId, NodeId)> {
    let node = graph.node(product)?;
    find(&node.op)?.traits.projects?;
    let y = *node.outputs.first()?;
    let [only] = graph.value(y)?.uses() else { return None };
    let sum = graph.node(only.node).filter(|n| &*n.op.name == "Add" && !graph.is_output(y))?;
    let bias = sum.inputs.iter().flatten().copied().find(|v| is_vector(graph, *v))?;
    Some((bias, only.node))
}

fn is_vector(graph: &Graph, value: ValueId) -> bool {
    graph.weight(value).is_some_and(|t| t.dims().len() == 1 && t.dtype().is_float())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inside_behind_and_of_convolutions() {
        let graph = lorac_ir::parse(
            "graph g(%x: f32[2,3], %i: f32[1,3,4], %ids: i64[2]) -> %y, %z, %r, %o {
                %w = weight \"w\" f32[3,3]
                %b = weight \"b\" f32[3]
                %c = weight \"c\" f32[3]
                %k = weight \"k\" f32[4,3,1]
                %d = weight \"d\" f32[4]
                %p = MatMul(%x, %w) : f32[2,3]
                %y = Add(%b, %p) : f32[2,3]
                %z = Gemm(%x, %w, %c) : f32[2,3]
                %t = Gather(%w, %ids) : f32[2,3]
                %r = Add(%t, %b) : f32[2,3]
                %f = Conv(%i, %k, %d) : f32[1,4,4]
                %g = Conv(%i, %k) : f32[1,4,4]
                %h = Add(%g, %d) : f32[1,4,4]
                %o = Add(%f, %h) : f32[1,4,4]
            }",
        )
        .expect("parses");
        let name = |y: &str| {
            let (product, _) = graph.find(y).and_then(|v| graph.producer(v)).expect("a node");
            product_bias(&graph, product).map(|bias| graph.name_of(bias))
        };
        let found = ["p", "z", "t", "f", "g"].map(|y| name(y).unwrap_or_default());
        assert_eq!(found, ["b", "c", "", "d", ""]);
    }
}
