//! What a matrix does, read off the graph's structure and not off its names, which exporters lose.
//!
//! An attention is found at its softmax (or its `Attention` node): two products of activations, one before and one
//! after. The matrices upstream of their operands are query, key and value; the one downstream is output. Of the rest,
//! a matrix that widens and the one that narrows again after an activation are up and down; two that meet in a product
//! are gate and up; one that nothing follows is the head.

use crate::{Matrix, matrices};
use lorac_ir::{Graph, Node, NodeId, ValueId};
use lorac_ops::{Traits, find};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// What a matrix does in a transformer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Role {
    Query,
    Key,
    Value,
    Output,
    Up,
    Gate,
    Down,
    Head,
}

/// Every role with its name in pipelines.
pub(crate) const ROLES: [(&str, Role); 8] = [
    ("query", Role::Query),
    ("key", Role::Key),
    ("value", Role::Value),
    ("output", Role::Output),
    ("up", Role::Up),
    ("gate", Role::Gate),
    ("down", Role::Down),
    ("head", Role::Head),
];

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(ROLES.iter().find(|r| r.1 == *self).map_or("", |r| r.0))
    }
}

/// The roles of every matrix that has any. A fused matrix has several.
pub fn roles(graph: &Graph) -> BTreeMap<ValueId, BTreeSet<Role>> {
    let finder = Finder::new(graph);
    let mut found: BTreeMap<ValueId, BTreeSet<Role>> = BTreeMap::new();
    let mut add = |weights: Vec<ValueId>, role: Role| {
        for weight in weights {
            found.entry(weight).or_default().insert(role);
        }
    };
    for (_, node) in graph.nodes() {
        if let Some((operands, result)) = finder.attention(node) {
            for (operand, role) in operands.into_iter().zip([Role::Query, Role::Key, Role::Value]) {
                add(finder.upstream(operand), role);
            }
            add(finder.downstream(result).matrices, Role::Output);
        }
    }
    let attention: HashSet<ValueId> = found.keys().copied().collect();
    let rest: Vec<&Matrix> = finder.matrices.iter().filter(|m| !attention.contains(&m.weight)).collect();
    let by_weight: HashMap<ValueId, &Matrix> = rest.iter().map(|m| (m.weight, *m)).collect();
    for matrix in &rest {
        let mut reached = BTreeSet::new();
        let mut met = Vec::new();
        let mut ends = false;
        for product in &matrix.products {
            for y in graph.node(*product).map(|n| n.outputs.clone()).unwrap_or_default() {
                let next = finder.downstream(y);
                ends |= next.output;
                met.extend(next.met);
                reached.extend(next.matrices);
            }
        }
        let narrows = |w: &ValueId| {
            let next = by_weight.get(w);
            next.filter(|m| m.rows == matrix.cols && m.cols == matrix.rows && matrix.cols > matrix.rows).copied()
        };
        if let Some(down) = reached.iter().find_map(narrows) {
            let gated = || met.iter().any(|(product, value)| finder.meets_another_matrix(product, *value));
            let role = if finder.activated(matrix) && gated() { Role::Gate } else { Role::Up };
            found.entry(matrix.weight).or_default().insert(role);
            found.entry(down.weight).or_default().insert(Role::Down);
        } else if ends && reached.is_empty() {
            found.entry(matrix.weight).or_default().insert(Role::Head);
        }
    }
    found
}

/// Every operand of an attention, as query, key or value, with the products and weights that it comes from.
pub(crate) fn operands(graph: &Graph) -> Vec<(ValueId, Role, NodeId, ValueId)> {
    let finder = Finder::new(graph);
    let attentions = graph.nodes().filter_map(|(_, node)| finder.attention(node));
    let each = attentions.flat_map(|(operands, _)| operands.into_iter().zip([Role::Query, Role::Key, Role::Value]));
    let mut found = Vec::new();
    for (operand, role) in each {
        let products = finder.walk_up(operand, |id, _| finder.by_product.contains_key(&id));
        found.extend(products.into_iter().map(|(id, _)| (operand, role, id, finder.by_product[&id])));
    }
    found
}

/// Whether an operand of a projection is followed back through an operator.
pub(crate) fn carries(node: &Node) -> bool {
    let traits = traits(node);
    traits.carries || traits.normalizes
}

/// What is true of a node's operator; nothing is, of one that is not known.
fn traits(node: &Node) -> Traits {
    find(&node.op).map_or(Traits::NONE, |op| op.traits)
}

#[derive(Default)]
struct Downstream<'g> {
    /// The nearest matrices.
    matrices: Vec<ValueId>,
    /// The products that lie between, each with the operand that was followed. Where their other operands come from is
    /// asked of few: along a residual stream the answer costs a walk over the whole model.
    met: Vec<(&'g Node, ValueId)>,
    /// Whether the graph's output is reached before any of them.
    output: bool,
}

struct Finder<'g> {
    graph: &'g Graph,
    matrices: Vec<Matrix>,
    by_product: HashMap<NodeId, ValueId>,
}

impl<'g> Finder<'g> {
    fn new(graph: &'g Graph) -> Finder<'g> {
        let matrices = matrices(graph);
        let by_product = matrices.iter().flat_map(|m| m.products.iter().map(|p| (*p, m.weight))).collect();
        Finder { graph, matrices, by_product }
    }

    fn is_product_of_activations(&self, id: NodeId, node: &Node) -> bool {
        &*node.op.name == "MatMul" && !self.by_product.contains_key(&id)
    }

    /// The operands and the result of an attention whose softmax, or whole, the node is.
    fn attention(&self, node: &Node) -> Option<([ValueId; 3], ValueId)> {
        match &*node.op.name {
            "Attention" if node.op.domain.is_empty() => {
                Some(([node.input(0)?, node.input(1)?, node.input(2)?], *node.outputs.first()?))
            }
            "Softmax" => {
                let (_, scores) = self.find_up(node.input(0)?)?;
                let weights = *node.outputs.first()?;
                let (_, mix) = self.find_down(weights)?;
                Some(([scores.input(0)?, scores.input(1)?, mix.input(1)?], *mix.outputs.first()?))
            }
            _ => None,
        }
    }

    /// The product of two activations that a score comes from.
    fn find_up(&self, from: ValueId) -> Option<(NodeId, &'g Node)> {
        self.walk_up(from, |id, node| self.is_product_of_activations(id, node)).into_iter().next()
    }

    /// The product of two activations that attention weights go to, as its left operand.
    fn find_down(&self, from: ValueId) -> Option<(NodeId, &'g Node)> {
        let mut at = from;
        for _ in 0..8 {
            let uses = self.graph.value(at)?.uses();
            let nodes = || uses.iter().filter_map(|u| Some((u, self.graph.node(u.node)?)));
            if let Some((u, n)) = nodes().find(|(u, n)| u.slot == 0 && self.is_product_of_activations(u.node, n)) {
                return Some((u.node, n));
            }
            at = *nodes().find(|(_, n)| traits(n).carries)?.1.outputs.first()?;
        }
        None
    }

    /// The nearest nodes upstream that satisfy `stop`, through carriers only.
    fn walk_up(&self, from: ValueId, stop: impl Fn(NodeId, &Node) -> bool) -> Vec<(NodeId, &'g Node)> {
        let (mut found, mut seen, mut todo) = (Vec::new(), HashSet::new(), vec![from]);
        while let Some(value) = todo.pop() {
            let Some((id, node)) = self.graph.producer(value) else { continue };
            if !seen.insert(id) {
                continue;
            }
            if stop(id, node) {
                found.push((id, node));
            } else if carries(node) {
                todo.extend(node.inputs.iter().flatten());
            }
        }
        found
    }

    /// The nearest matrices upstream.
    fn upstream(&self, from: ValueId) -> Vec<ValueId> {
        let found = self.walk_up(from, |id, _| self.by_product.contains_key(&id));
        found.iter().map(|(id, _)| self.by_product[id]).collect()
    }

    /// What lies downstream through carriers.
    fn downstream(&self, from: ValueId) -> Downstream<'g> {
        let mut found = Downstream::default();
        let (mut seen, mut todo) = (HashSet::new(), vec![from]);
        while let Some(value) = todo.pop() {
            found.output |= self.graph.outputs().contains(&value);
            for u in self.graph.value(value).map(|v| v.uses()).unwrap_or_default() {
                let Some(node) = self.graph.node(u.node) else { continue };
                if !seen.insert(u.node) {
                    continue;
                }
                if let Some(weight) = self.by_product.get(&u.node) {
                    found.matrices.push(*weight);
                } else if traits(node).carries {
                    if &*node.op.name == "Mul" {
                        found.met.push((node, value));
                    }
                    todo.extend(&node.outputs);
                }
            }
        }
        found
    }

    /// Whether the other operand of a product comes from a matrix of its own.
    fn meets_another_matrix(&self, node: &Node, value: ValueId) -> bool {
        let here = self.upstream(value);
        let others = node.inputs.iter().flatten().filter(|v| **v != value);
        others.into_iter().any(|v| self.upstream(*v).iter().any(|w| !here.contains(w)))
    }

    /// Whether an activation follows a matrix before its product with another one.
    fn activated(&self, matrix: &Matrix) -> bool {
        let outputs = matrix.products.iter().filter_map(|p| self.graph.node(*p)?.outputs.first());
        let mut todo: Vec<ValueId> = outputs.copied().collect();
        for _ in 0..4 {
            let uses = todo.iter().filter_map(|v| self.graph.value(*v)).flat_map(|v| v.uses());
            let nodes: Vec<&Node> = uses.filter_map(|u| self.graph.node(u.node)).collect();
            if nodes.iter().any(|n| traits(n).activation) {
                return true;
            }
            let next = nodes.iter().filter(|n| ["Add", "Reshape"].contains(&&*n.op.name));
            todo = next.flat_map(|n| n.outputs.clone()).collect();
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;

    /// Gated layers on one residual stream, with norms decomposed as exporters of old opsets do.
    fn layers(count: usize) -> Graph {
        let mut text = "graph g(%h0: f32[N,2]) -> %out {\n".to_string();
        let mut add = |line: String| writeln!(text, "{line}").expect("writes");
        add("%head = weight \"head\" f32[2,9]".into());
        for i in 0..count {
            add(format!("%g{i} = weight \"g{i}\" f32[2,6]\n %u{i} = weight \"u{i}\" f32[2,6]"));
            add(format!("%d{i} = weight \"d{i}\" f32[6,2]"));
            add(format!("%n{i} = Mul(%h{i}, %h{i}) : f32[N,2]\n %a{i} = MatMul(%n{i}, %g{i}) : f32[N,6]"));
            add(format!("%b{i} = MatMul(%n{i}, %u{i}) : f32[N,6]\n %s{i} = Sigmoid(%a{i}) : f32[N,6]"));
            add(format!("%m{i} = Mul(%s{i}, %b{i}) : f32[N,6]\n %o{i} = MatMul(%m{i}, %d{i}) : f32[N,2]"));
            add(format!("%h{} = Add(%h{i}, %o{i}) : f32[N,2]", i + 1));
        }
        add(format!("%out = MatMul(%h{count}, %head) : f32[N,9]\n }}"));
        lorac_ir::parse(&text).expect("parses")
    }

    #[test]
    fn every_layer_of_a_deep_gated_model() {
        let count = 600;
        let graph = layers(count);
        let found = roles(&graph);
        let of = |name: String| found.get(&graph.find(&name).expect("a weight")).cloned().unwrap_or_default();
        for i in 0..count {
            assert_eq!(of(format!("g{i}")), [Role::Gate].into(), "{i}");
            assert_eq!((of(format!("u{i}")), of(format!("d{i}"))), ([Role::Up].into(), [Role::Down].into()), "{i}");
        }
        assert_eq!(of("head".into()), [Role::Head].into());
    }
}
