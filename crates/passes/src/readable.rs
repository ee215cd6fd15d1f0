//! A model's graph as everything in lorac reads it: the one way from a file to roles, targets and shapes.

use crate::cache_shape::settle_cache_shapes;
use crate::inline::can_be_called;
use crate::lower::lower_where;
use crate::upgrade::OPSET;
use crate::{PassError, inline, resolve_lists, upgrade};
use lorac_ir::{Function, Graph, Node};
use lorac_ops::{find, infer};

/// The oldest opset whose operands inference knows.
const INFERRED: i64 = 13;

/// The graph with its functions inlined and its facts inferred, and with operators decomposed that hold a projection: what
/// a matrix does is read off products. See [`inlined`] for the graph before that.
///
/// # Errors
/// Those of [`inlined`].
pub fn readable(graph: &Graph, functions: &[Function]) -> Result<Graph, PassError> {
    let mut graph = inlined(graph, functions)?;
    if graph.nodes().any(|(_, n)| holds_projection(&graph, n)) {
        if graph.opset() < OPSET {
            upgrade(&mut graph)?;
        }
        lower_where(&mut graph, holds_projection)?;
        infer(&mut graph)?;
    }
    Ok(graph)
}

/// Whether a fused operator multiplies by a float weight.
fn holds_projection(graph: &Graph, node: &Node) -> bool {
    let Some(op) = find(&node.op) else { return false };
    let fused = !op.domain.is_empty();
    let float = |v: &lorac_ir::ValueId| graph.fact(*v).dtype.is_float() && graph.producer(*v).is_none();
    let weight = |slot: usize| node.input(slot).filter(float).and_then(|v| graph.fact(v).rank());
    let projects =
        |slot| weight(slot).is_some_and(|rank| op.traits.projects.is_some_and(|how| how(node, slot, rank).is_some()));
    fused && op.traits.projects.is_some() && (0..node.inputs.len()).any(projects)
}

/// The graph with its functions inlined, what is read of lists of known elements resolved, and its facts inferred. A graph
/// of an opset older than 13, or one whose functions
/// speak another opset than it does, is raised to opset 18 for that; every other one keeps its own. Weights and inputs
/// keep their ids.
///
/// # Errors
/// What [`upgrade`] and [`inline`] cannot do, and shapes that contradict each other.
pub fn inlined(graph: &Graph, functions: &[Function]) -> Result<Graph, PassError> {
    let mut graph = graph.clone();
    graph.reserve_names();
    inline_known(&mut graph, functions, INFERRED)?;
    resolve_lists(&mut graph)?;
    infer(&mut graph)?;
    settle_cache_shapes(&mut graph)?;
    Ok(graph)
}

/// Inlines the functions of a graph; raises both to opset 18 where the graph is older than `least`, or where they differ.
pub(crate) fn inline_known(graph: &mut Graph, functions: &[Function], least: i64) -> Result<(), PassError> {
    let own = graph.opset();
    let speaks = |f: &Function| f.graph.opsets.get("").copied().unwrap_or(own);
    let differ =
        functions.iter().filter(|f| can_be_called(&f.op)).any(|f| speaks(f) != own && speaks(f).min(own) < OPSET);
    if own >= least && !differ {
        inline(graph, functions)?;
        return Ok(());
    }
    upgrade(graph)?;
    let mut functions = functions.to_vec();
    for function in functions.iter_mut().filter(|f| f.graph.opsets.contains_key("")) {
        upgrade(&mut function.graph)?;
    }
    inline(graph, &functions)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_forms_are_read_and_newer_graphs_stay_as_they_are() {
        let text = |opset: i64| {
            format!("graph g opset {opset} (%x: f32[N,1,3]) -> %y {{ %y = Squeeze(%x, axes=[1]) : f32[..] }}",)
        };
        let old = readable(&lorac_ir::parse(&text(12)).expect("parses"), &[]).expect("readable");
        assert_eq!((old.opset(), old.fact(old.outputs()[0]).to_string().as_str()), (OPSET, "f32[N,3]"));
        let newer =
            lorac_ir::parse("graph g opset 15 (%x: f32[N,3]) -> %y { %y = Relu(%x) : f32[..] }").expect("parses");
        assert_eq!(readable(&newer, &[]).expect("readable").opset(), 15);
    }
}
