//! petgraph's view of a [`Graph`]: nodes are operators, an edge runs from the producer of a value to each of its readers,
//! whether they read it as an operand or in a graph inside them.

use crate::{Def, Graph, NodeId, Use, ValueId};
use petgraph::Direction;
use petgraph::visit::{
    Data, EdgeRef, GraphBase, GraphProp, IntoEdgeReferences, IntoNeighbors, IntoNeighborsDirected, IntoNodeIdentifiers,
    IntoNodeReferences, NodeCount, NodeIndexable, NodeRef, Visitable,
};
use std::collections::HashSet;

/// One use of one value: parallel edges stand for repeated operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    from: NodeId,
    value: ValueId,
    to: Use,
}

impl EdgeRef for Edge {
    type NodeId = NodeId;
    type EdgeId = Use;
    type Weight = ValueId;
    fn source(&self) -> NodeId {
        self.from
    }
    fn target(&self) -> NodeId {
        self.to.node
    }
    fn weight(&self) -> &ValueId {
        &self.value
    }
    fn id(&self) -> Use {
        self.to
    }
}

/// A node with its id.
#[derive(Clone, Copy, Debug)]
pub struct Ref<'a>(NodeId, &'a crate::OpName);

impl NodeRef for Ref<'_> {
    type NodeId = NodeId;
    type Weight = crate::OpName;
    fn id(&self) -> NodeId {
        self.0
    }
    fn weight(&self) -> &crate::OpName {
        self.1
    }
}

impl GraphBase for Graph {
    type NodeId = NodeId;
    type EdgeId = Use;
}

impl GraphProp for Graph {
    type EdgeType = petgraph::Directed;
}

impl Data for Graph {
    type NodeWeight = crate::OpName;
    type EdgeWeight = ValueId;
}

impl NodeCount for Graph {
    fn node_count(&self) -> usize {
        Graph::node_count(self)
    }
}

impl NodeIndexable for Graph {
    fn node_bound(&self) -> usize {
        Graph::node_bound(self)
    }
    fn to_index(&self, id: NodeId) -> usize {
        id.index()
    }
    fn from_index(&self, i: usize) -> NodeId {
        NodeId(i as u32)
    }
}

impl Visitable for Graph {
    type Map = HashSet<NodeId>;
    fn visit_map(&self) -> HashSet<NodeId> {
        HashSet::new()
    }
    fn reset_map(&self, map: &mut HashSet<NodeId>) {
        map.clear();
    }
}

impl IntoNodeIdentifiers for &Graph {
    type NodeIdentifiers = std::vec::IntoIter<NodeId>;
    fn node_identifiers(self) -> Self::NodeIdentifiers {
        self.nodes().map(|(id, _)| id).collect::<Vec<_>>().into_iter()
    }
}

impl<'a> IntoNodeReferences for &'a Graph {
    type NodeRef = Ref<'a>;
    type NodeReferences = std::vec::IntoIter<Ref<'a>>;
    fn node_references(self) -> Self::NodeReferences {
        self.nodes().map(|(id, n)| Ref(id, &n.op)).collect::<Vec<_>>().into_iter()
    }
}

impl IntoNeighbors for &Graph {
    type Neighbors = std::vec::IntoIter<NodeId>;
    fn neighbors(self, node: NodeId) -> Self::Neighbors {
        self.neighbors_directed(node, Direction::Outgoing)
    }
}

impl IntoNeighborsDirected for &Graph {
    type NeighborsDirected = std::vec::IntoIter<NodeId>;
    fn neighbors_directed(self, node: NodeId, dir: Direction) -> Self::NeighborsDirected {
        let found: Vec<NodeId> = match (self.node(node), dir) {
            (None, _) => Vec::new(),
            (Some(n), Direction::Incoming) => {
                let producers = n.operands().filter_map(|(_, v)| self.producer(v));
                producers.map(|(id, _)| id).collect()
            }
            (Some(n), Direction::Outgoing) => {
                let values = n.outputs.iter().filter_map(|v| self.value(*v));
                values.flat_map(|v| v.uses().iter().map(|u| u.node)).collect()
            }
        };
        found.into_iter()
    }
}

impl IntoEdgeReferences for &Graph {
    type EdgeRef = Edge;
    type EdgeReferences = std::vec::IntoIter<Edge>;
    fn edge_references(self) -> Self::EdgeReferences {
        let mut edges = Vec::new();
        for (value, v) in self.values() {
            if let Def::Output(from, _) = v.def {
                edges.extend(v.uses().iter().map(|to| Edge { from, value, to: *to }));
            }
        }
        edges.into_iter()
    }
}

/// Live nodes, producers before readers; among ready nodes the smallest id comes first. Nodes on a cycle are left out.
pub fn topological_order(graph: &Graph) -> Vec<NodeId> {
    let mut waiting = vec![0usize; graph.node_bound()];
    let mut ready = std::collections::BinaryHeap::new();
    for (id, node) in graph.nodes() {
        let producers = node.operands().filter(|(_, v)| graph.producer(*v).is_some());
        waiting[id.index()] = producers.count();
        if waiting[id.index()] == 0 {
            ready.push(std::cmp::Reverse(id));
        }
    }
    let mut order = Vec::with_capacity(graph.node_count());
    while let Some(std::cmp::Reverse(id)) = ready.pop() {
        order.push(id);
        let results = graph.node(id).map(|n| n.outputs.as_slice()).unwrap_or_default();
        for next in results.iter().filter_map(|v| graph.value(*v)).flat_map(|v| v.uses()).map(|u| u.node) {
            waiting[next.index()] -= 1;
            if waiting[next.index()] == 0 {
                ready.push(std::cmp::Reverse(next));
            }
        }
    }
    order
}

/// A node on a cycle, if there is one.
pub(crate) fn find_cycle(graph: &Graph) -> Option<NodeId> {
    let order = topological_order(graph);
    if order.len() == graph.node_count() {
        return None;
    }
    let order: HashSet<NodeId> = order.into_iter().collect();
    graph.nodes().map(|(id, _)| id).find(|id| !order.contains(id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    #[test]
    fn petgraph_algorithms_run_on_a_graph() {
        let text = "graph g(%x: f32[4]) -> %z { %y = Relu(%x) : f32[4]\n %q = Mul(%y, %y) : f32[4]\n %z = Add(%q, %y) : f32[4] }";
        let g = parse(text).expect("parses");
        let order = petgraph::algo::toposort(&g, None).expect("acyclic");
        assert_eq!(order, topological_order(&g));
        let root = order[0];
        let dom = petgraph::algo::dominators::simple_fast(&g, root);
        assert_eq!(dom.immediate_dominator(order[2]), Some(root));
        assert_eq!(g.edge_references().count(), 4);
        let dot = format!("{}", petgraph::dot::Dot::with_config(&g, &[]));
        assert!(dot.contains("Relu") && dot.matches("->").count() == 4);
    }
}
