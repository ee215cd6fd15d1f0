//! Nodes that no output needs.

use crate::PassError;
use lorac_ir::{Graph, NodeId, Patch};
use petgraph::visit::{Dfs, Reversed};
use std::collections::HashSet;

/// Removes every node that no output depends on. Returns how many there were.
pub fn remove_dead(graph: &mut Graph) -> Result<usize, PassError> {
    let mut live: HashSet<NodeId> = HashSet::new();
    let roots: Vec<NodeId> = graph.outputs().iter().filter_map(|v| Some(graph.producer(*v)?.0)).collect();
    let view = Reversed(&*graph);
    let mut dfs = Dfs::empty(view);
    for root in roots {
        dfs.move_to(root);
        while let Some(node) = dfs.next(view) {
            live.insert(node);
        }
    }
    let mut patch = Patch::new(graph, "dead");
    let dead: Vec<NodeId> = graph.nodes().map(|(id, _)| id).filter(|id| !live.contains(id)).collect();
    dead.iter().for_each(|id| patch.remove(*id));
    patch.apply(graph).map_err(|source| PassError::Patch { pass: "dead".into(), source })?;
    Ok(dead.len())
}
