//! Fused operators decomposed, on the training copy.

use crate::PassError;
use crate::rewrite::{replace_value, rewrite};
use lorac_ir::{Graph, Node};
use lorac_ops::{Grad, Val, find};

/// Replaces every operator that differentiates through its meaning by that meaning, where its operands allow it. Returns
/// how many there were.
pub fn lower(graph: &mut Graph) -> Result<usize, PassError> {
    lower_where(graph, |_, _| true)
}

/// The same for the nodes that `which` picks.
pub(crate) fn lower_where(graph: &mut Graph, which: impl Fn(&Graph, &Node) -> bool) -> Result<usize, PassError> {
    rewrite(graph, "lower", |e| {
        let mut count = 0;
        for (id, node) in e.graph().nodes().filter(|(_, n)| which(e.graph(), n)) {
            let Some(Grad::Lower { lower, .. }) = find(&node.op).map(|op| &op.grad) else { continue };
            e.set_source(&node.origin.source);
            let x: Vec<Val> = node.inputs.iter().map(|v| v.map_or(e.absent(), |v| e.val(v))).collect();
            let made = lower(e, node, &x);
            // What cannot be decomposed matters only where a gradient comes by, and is named there.
            if e.take_error().is_some() {
                continue;
            }
            for (old, new) in node.outputs.iter().zip(made) {
                replace_value(e, *old, new);
            }
            e.edit(|p| p.remove(id));
            count += 1;
        }
        Ok(count)
    })
}

/// Whether there is an operator to decompose.
pub(crate) fn lowerable(graph: &Graph) -> bool {
    graph.nodes().any(|(_, n)| matches!(find(&n.op).map(|op| &op.grad), Some(Grad::Lower { .. })))
}
