//! Following what products compute through a graph, upstream and downstream.

use crate::Matrix;
use crate::fused_slice::Tracer;
use crate::matrix::Candidate;
use crate::role::{Operand, Role};
use lorac_ir::{Graph, Node, NodeId, ValueId, topological_order};
use lorac_ops::{Traits, find};
use std::collections::{HashMap, HashSet, VecDeque};

/// Nodes that the search for an activation looks at.
const NEAR: usize = 64;

/// Whether an operand of a projection is followed back through an operator.
pub(crate) fn carries(node: &Node) -> bool {
    let traits = traits(node);
    traits.carries || traits.normalizes
}

/// What is true of a node's operator; nothing is, of one that is not known.
pub(crate) fn traits(node: &Node) -> Traits {
    find(&node.op).map_or(Traits::NONE, |op| op.traits)
}

/// What lies downstream of a value.
#[derive(Default)]
pub(crate) struct Downstream<'g> {
    /// The nearest matrices.
    pub matrices: Vec<ValueId>,
    /// The products that lie between, each with the operand that was followed. Where their other operands come from is
    /// asked of few: along a residual stream the answer costs a walk over the whole model.
    pub met: Vec<(&'g Node, ValueId)>,
}

/// Where what a node computes comes to through carriers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ends {
    /// Whether to a matrix.
    pub matrix: bool,
    /// Whether to an output of the graph.
    pub output: bool,
}

/// A graph with its products.
pub(crate) struct Trail<'g> {
    pub graph: &'g Graph,
    /// The weight of every product by one.
    pub by_product: HashMap<NodeId, ValueId>,
}

impl<'g> Trail<'g> {
    pub(crate) fn new(graph: &'g Graph, all: &[Candidate]) -> Trail<'g> {
        let each = all.iter().map(|c| &c.matrix);
        Trail { graph, by_product: each.flat_map(|m| m.products.iter().map(|p| (*p, m.weight))).collect() }
    }

    fn is_product_of_activations(&self, id: NodeId, node: &Node) -> bool {
        !self.by_product.contains_key(&id) && traits(node).projects.is_some()
    }

    /// The weight of an operator that projects and attends in one.
    pub(crate) fn packed_attention(&self, id: NodeId, node: &Node) -> Option<ValueId> {
        let weight = *self.by_product.get(&id)?;
        traits(node).attention.map(|_| weight)
    }

    /// The operands and the result of an attention whose softmax, or whole, the node is.
    pub(crate) fn attention(&self, node: &Node) -> Option<([ValueId; 3], ValueId)> {
        if let Some([q, k, v]) = traits(node).attention.filter(|_| traits(node).projects.is_none()) {
            return Some(([node.input(q)?, node.input(k)?, node.input(v)?], *node.outputs.first()?));
        }
        if &*node.op.name != "Softmax" {
            return None;
        }
        let (slot, mix) = self.find_down(*node.outputs.first()?)?;
        let value = mix.input(if slot == 0 { right(mix) } else { 0 })?;
        let [query, key] = self.scores(node.input(0)?, value)?;
        Some(([query, key, value], *mix.outputs.first()?))
    }

    /// Query and key of the product of two activations that scores come from. Beside it stand, in relative attention,
    /// products with what positions are: the key is computed from what the value is.
    fn scores(&self, from: ValueId, value: ValueId) -> Option<[ValueId; 2]> {
        let found = self.walk_up(from, |id, node| self.is_product_of_activations(id, node));
        let operands = found.iter().filter_map(|(_, node)| {
            let key = node.str("equation").and_then(key_slot).unwrap_or_else(|| right(node));
            Some([node.input(if key == 0 { 1 } else { 0 })?, node.input(key)?])
        });
        let mut operands: Vec<[ValueId; 2]> = operands.collect();
        if operands.len() > 1 {
            let read = |v: ValueId| -> HashSet<Option<ValueId>> {
                let products = self.products_upstream(v).into_iter().filter_map(|id| self.graph.node(id));
                products.map(|n| n.input(0)).collect()
            };
            let of_value = read(value);
            let unlike = |[query, key]: &[ValueId; 2]| {
                let (of_query, of_key) = (read(*query), read(*key));
                (of_key.is_disjoint(&of_value), of_key.is_empty() || of_query.is_empty())
            };
            operands.sort_by_cached_key(unlike);
        }
        operands.first().copied()
    }

    /// The product of two activations that attention weights go to, and as which operand: the left one, but in Einsum.
    fn find_down(&self, from: ValueId) -> Option<(usize, &'g Node)> {
        let mut at = from;
        for _ in 0..8 {
            let uses = self.graph.value(at)?.uses();
            let nodes = || uses.iter().filter_map(|u| Some((u, self.graph.node(u.node)?)));
            let mixes = |u: &lorac_ir::Use, n: &Node| {
                self.is_product_of_activations(u.node, n)
                    && (u.slot == 0 || (u.slot == 1 && n.str("equation").is_some()))
            };
            if let Some((u, n)) = nodes().find(|(u, n)| mixes(u, n)) {
                return Some((u.slot, n));
            }
            at = *nodes().find(|(_, n)| traits(n).carries)?.1.outputs.first()?;
        }
        None
    }

    /// The nearest nodes upstream that satisfy `stop`, through carriers only.
    fn walk_up(&self, from: ValueId, stop: impl Fn(NodeId, &Node) -> bool) -> Vec<(NodeId, &'g Node)> {
        let (mut found, mut seen, mut todo) = (Vec::new(), HashSet::new(), vec![from]);
        while let Some(value) = todo.pop() {
            // A number, or one for each column, scales a projection and is none.
            let rank = self.graph.value(value).and_then(|v| v.fact.rank());
            let Some((id, node)) = self.graph.producer(value).filter(|_| rank.is_none_or(|r| r > 1)) else { continue };
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

    /// The nearest products by matrices upstream.
    pub(crate) fn products_upstream(&self, from: ValueId) -> Vec<NodeId> {
        self.walk_up(from, |id, _| self.by_product.contains_key(&id)).into_iter().map(|(id, _)| id).collect()
    }

    /// The nearest matrices upstream.
    fn upstream(&self, from: ValueId) -> Vec<ValueId> {
        self.products_upstream(from).iter().map(|id| self.by_product[id]).collect()
    }

    /// What lies downstream through carriers.
    pub(crate) fn downstream(&self, from: ValueId) -> Downstream<'g> {
        let mut found = Downstream::default();
        let (mut seen, mut todo) = (HashSet::new(), vec![from]);
        while let Some(value) = todo.pop() {
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

    /// What every node leads to through carriers, its own results included, by the node's index. One walk for all matrices:
    /// along a residual stream a walk from each of them sees all that follow.
    pub(crate) fn ends(&self) -> Vec<Ends> {
        let mut ends = vec![Ends::default(); self.graph.node_bound()];
        for id in topological_order(self.graph).into_iter().rev() {
            let Some(node) = self.graph.node(id) else { continue };
            ends[id.index()] = self.ends_of(&node.outputs, &ends);
        }
        ends
    }

    fn ends_of(&self, values: &[ValueId], known: &[Ends]) -> Ends {
        let mut ends = Ends::default();
        for value in values.iter().filter_map(|v| self.graph.value(*v)) {
            for u in value.uses() {
                if self.by_product.contains_key(&u.node) {
                    ends.matrix = true;
                } else if self.graph.node(u.node).is_some_and(|n| traits(n).carries) {
                    ends.output |= known[u.node.index()].output;
                    ends.matrix |= known[u.node.index()].matrix;
                }
            }
        }
        ends.output |= values.iter().any(|v| self.graph.is_output(*v));
        ends
    }

    /// Whether the other operand of a product comes from a matrix of its own.
    pub(crate) fn meets_another_matrix(&self, node: &Node, value: ValueId) -> bool {
        let here = self.upstream(value);
        let others = node.inputs.iter().flatten().filter(|v| **v != value);
        others.into_iter().any(|v| self.upstream(*v).iter().any(|w| !here.contains(w)))
    }

    /// Whether an activation, or a node of one that is decomposed, follows a matrix before what comes of it meets what comes
    /// of another one.
    pub(crate) fn activated(&self, matrix: &Matrix) -> bool {
        let outputs = matrix.products.iter().filter_map(|p| self.graph.node(*p)?.outputs.first());
        let (mut seen, mut todo): (HashSet<NodeId>, Vec<ValueId>) = (HashSet::new(), outputs.copied().collect());
        while let Some(value) = todo.pop() {
            for u in self.graph.value(value).map(|v| v.uses()).unwrap_or_default() {
                let Some(node) = self.graph.node(u.node) else { continue };
                if self.by_product.contains_key(&u.node) || !seen.insert(u.node) || seen.len() > NEAR {
                    continue;
                }
                let traits = traits(node);
                if traits.activation {
                    return true;
                }
                if traits.carries && !(&*node.op.name == "Mul" && self.meets_another_matrix(node, value)) {
                    todo.extend(&node.outputs);
                }
            }
        }
        false
    }

    /// Whether the result of a matrix is added to what comes from elsewhere in the model, as to a residual stream.
    pub(crate) fn is_added(&self, matrix: &Matrix) -> bool {
        let results = matrix.products.iter().filter_map(|p| self.graph.node(*p)?.outputs.first().copied());
        let mut todo: VecDeque<ValueId> = results.collect();
        let mut own: HashSet<ValueId> = todo.iter().copied().collect();
        let (mut seen, mut added): (HashSet<NodeId>, Vec<ValueId>) = Default::default();
        while let Some(value) = todo.pop_front() {
            for u in self.graph.value(value).map(|v| v.uses()).unwrap_or_default() {
                let Some(node) = self.graph.node(u.node) else { continue };
                let traits = traits(node);
                let adds = traits.adds.contains(&u.slot);
                if seen.len() >= NEAR || !(traits.carries || adds) || !seen.insert(u.node) {
                    continue;
                }
                if adds {
                    added.extend(traits.adds.iter().filter_map(|slot| node.input(*slot)));
                }
                if traits.carries {
                    own.extend(&node.outputs);
                    todo.extend(&node.outputs);
                }
            }
        }
        added.iter().any(|v| self.graph.weight(*v).is_none() && !own.contains(v))
    }

    /// The operands of the product in which one half of a matrix's columns gates the other.
    pub(crate) fn halves(&self, matrix: &Matrix, met: &[(&Node, ValueId)], tracer: &Tracer) -> Option<Vec<Operand>> {
        let product = *matrix.products.first()?;
        let own = |v: ValueId| self.products_upstream(v) == [product];
        for (node, _) in met {
            let (Some(a), Some(b)) = (node.input(0), node.input(1)) else { continue };
            if !own(a) || !own(b) {
                continue;
            }
            let (Some(of_a), Some(of_b)) = (tracer.columns(a, product), tracer.columns(b, product)) else { continue };
            if !of_a.is_disjoint(&of_b) || of_a.len() + of_b.len() != matrix.cols {
                continue;
            }
            let activated = |v| {
                self.walk_up(v, |id, n| id == product || traits(n).activation).iter().any(|(_, n)| traits(n).activation)
            };
            let (gate, up) = if activated(a) { (a, b) } else { (b, a) };
            let operand = |value, role| Operand { value, role, product, weight: matrix.weight };
            return Some(vec![operand(gate, Role::Gate), operand(up, Role::Up)]);
        }
        None
    }
}

/// The slot of a product's right operand.
fn right(node: &Node) -> usize {
    let takes = |slot: &usize| traits(node).projects.is_some_and(|how| how(node, *slot, 2).is_some());
    (0..node.inputs.len()).find(takes).unwrap_or(1)
}

/// The slot of the keys in an Einsum that computes scores: their positions are what the softmax runs along, the last
/// subscript of the result.
fn key_slot(equation: &str) -> Option<usize> {
    let text: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let (operands, result) = text.split_once("->")?;
    let last = result.chars().last()?;
    operands.split(',').position(|term| term.contains(last))
}
