//! What a matrix does, read off the graph's structure and not off its names, which exporters lose.
//!
//! An attention is found at its softmax (or at the operator that is a whole attention): two products of activations, one
//! before and one after. The matrices upstream of their operands are query, key and value; the one downstream is output. Of
//! the rest, a matrix that widens, or begins a block beside the residual stream, and the one that leads back are up and
//! down; two that meet in a product are gate and up, and so are two halves of one; one that nothing follows is the head.

use crate::Matrix;
use crate::fused_slice::{Tracer, is_whole};
use crate::lower::lower_where;
use crate::matrix::{Candidate, candidates};
use crate::trail::{Trail, traits};
use lorac_ir::{Graph, Node, NodeId, ValueId};
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

impl Role {
    /// Whether exporters write matrices of this role and of others as one.
    pub(crate) fn is_fused(self) -> bool {
        matches!(self, Role::Query | Role::Key | Role::Value | Role::Up | Role::Gate)
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(ROLES.iter().find(|r| r.1 == *self).map_or("", |r| r.0))
    }
}

/// The roles of every matrix that has any. A fused matrix has several.
pub fn roles(graph: &Graph) -> BTreeMap<ValueId, BTreeSet<Role>> {
    Matrices::of(graph).roles
}

/// Whether a node takes an attention's queries, keys and values in fewer operands.
fn is_packed(node: &Node) -> bool {
    // Only fused operators do.
    if node.op.domain.is_empty() {
        return false;
    }
    let traits = traits(node);
    let slots = traits.attention.filter(|_| traits.projects.is_none());
    slots.is_some_and(|slots| slots.iter().any(|slot| node.input(*slot).is_none()))
}

/// The graph with such nodes decomposed. What is there keeps its ids.
fn unpacked(graph: &Graph) -> Option<Graph> {
    let mut graph = graph.clone();
    lower_where(&mut graph, |_, node| is_packed(node)).ok()?;
    Some(graph)
}

/// An operand that has a role, and a product that it comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operand {
    /// What an attention, or a gate, takes.
    pub value: ValueId,
    /// For what.
    pub role: Role,
    /// The product.
    pub product: NodeId,
    /// The weight that it multiplies by.
    pub weight: ValueId,
}

/// The matrices of a model and what they do.
pub(crate) struct Matrices {
    pub all: Vec<Candidate>,
    pub roles: BTreeMap<ValueId, BTreeSet<Role>>,
    /// Where the roles of a part of a matrix are read.
    pub operands: Vec<Operand>,
    /// The graph that the operands are values of, where it is not the model's.
    unpacked: Option<Graph>,
}

impl Matrices {
    pub(crate) fn of(graph: &Graph) -> Matrices {
        let unpacked = graph.nodes().any(|(_, n)| is_packed(n)).then(|| unpacked(graph)).flatten();
        let mut found = Matrices::seen_in(unpacked.as_ref().unwrap_or(graph));
        found.unpacked = unpacked;
        found
    }

    /// What follows operands, in the graph that they are values of.
    pub(crate) fn tracer(&self, graph: &Graph) -> Tracer {
        Tracer::new(self.unpacked.as_ref().unwrap_or(graph))
    }

    /// Whether all of the role's matrix comes to the operand.
    pub(crate) fn is_whole(&self, graph: &Graph, operand: &Operand) -> bool {
        is_whole(self.unpacked.as_ref().unwrap_or(graph), operand)
    }

    fn seen_in(graph: &Graph) -> Matrices {
        let mut found =
            Matrices { all: candidates(graph), roles: BTreeMap::new(), operands: Vec::new(), unpacked: None };
        let trail = Trail::new(graph, &found.all);
        let attention = found.add_attention(&trail);
        let rest: Vec<Matrix> =
            found.all.iter().map(|c| &c.matrix).filter(|m| !attention.contains(&m.weight)).cloned().collect();
        found.add_feed_forward(&trail, &rest);
        found
    }

    fn add(&mut self, weight: ValueId, role: Role) {
        self.roles.entry(weight).or_default().insert(role);
    }

    /// Query, key, value and output of every attention. Returns their weights.
    fn add_attention(&mut self, trail: &Trail) -> HashSet<ValueId> {
        const TAKEN: [Role; 3] = [Role::Query, Role::Key, Role::Value];
        for (id, node) in trail.graph.nodes() {
            if let Some(weight) = trail.packed_attention(id, node) {
                TAKEN.iter().for_each(|role| self.add(weight, *role));
                trail.downstream(node.outputs[0]).matrices.into_iter().for_each(|w| self.add(w, Role::Output));
            }
            let Some((operands, result)) = trail.attention(node) else { continue };
            for (value, role) in operands.into_iter().zip(TAKEN) {
                for product in trail.products_upstream(value) {
                    let weight = trail.by_product[&product];
                    self.add(weight, role);
                    self.operands.push(Operand { value, role, product, weight });
                }
            }
            trail.downstream(result).matrices.into_iter().for_each(|w| self.add(w, Role::Output));
        }
        self.roles.keys().copied().collect()
    }

    fn add_feed_forward(&mut self, trail: &Trail, rest: &[Matrix]) {
        let by_weight: HashMap<ValueId, &Matrix> = rest.iter().map(|m| (m.weight, m)).collect();
        let mut tracer = None;
        let ends = trail.ends();
        for matrix in rest {
            let all = || matrix.products.iter().map(|p| ends[p.index()]);
            if !all().any(|e| e.matrix) {
                if all().any(|e| e.output) {
                    self.add(matrix.weight, Role::Head);
                }
                continue;
            }
            // What goes on in the residual stream reaches every matrix behind it.
            let wide = matrix.cols > matrix.rows;
            if !wide && trail.is_added(matrix) {
                continue;
            }
            let (mut reached, mut met) = (BTreeSet::new(), Vec::new());
            for product in &matrix.products {
                for y in trail.graph.node(*product).map(|n| n.outputs.clone()).unwrap_or_default() {
                    let next = trail.downstream(y);
                    met.extend(next.met);
                    reached.extend(next.matrices);
                }
            }
            let down = |times: usize| {
                // Of one that does not widen, only a block between two places of the residual stream tells.
                let back = |m: &&&Matrix| {
                    let cols = m.rows.checked_mul(times);
                    cols == Some(matrix.cols) && m.cols == matrix.rows && (wide || trail.is_added(m))
                };
                reached.iter().find_map(|w| by_weight.get(w).filter(back).map(|m| m.weight))
            };
            if let Some(down) = down(1) {
                let gated = || met.iter().any(|(product, value)| trail.meets_another_matrix(product, *value));
                let role = if trail.activated(matrix) && gated() { Role::Gate } else { Role::Up };
                self.add(matrix.weight, role);
                self.add(down, Role::Down);
            } else if let Some(down) = down(2)
                && let Some(halves) = trail.halves(matrix, &met, tracer.get_or_insert_with(|| Tracer::new(trail.graph)))
            {
                halves.iter().for_each(|half| self.add(half.weight, half.role));
                self.operands.extend(halves);
                self.add(down, Role::Down);
            }
        }
        // The last block of an encoder goes on in the residual stream.
        for matrix in rest {
            let both = |r: &&mut BTreeSet<Role>| r.contains(&Role::Down) && r.contains(&Role::Head);
            if let Some(roles) = self.roles.get_mut(&matrix.weight).filter(both).filter(|_| trail.is_added(matrix)) {
                roles.remove(&Role::Head);
            }
        }
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

    #[test]
    fn where_products_on_one_stream_end_is_told_of_each() {
        let text = "graph g(%x: f32[N,2]) -> %y {
            %a = weight \"a\" f32[2,2]\n %b = weight \"b\" f32[2,2]\n %c = weight \"c\" f32[2,2]
            %p = MatMul(%x, %a) : f32[N,2]\n %s = Add(%x, %p) : f32[N,2]\n %q = MatMul(%s, %b) : f32[N,2]
            %y = Add(%s, %q) : f32[N,2]\n %n = MatMul(%x, %c) : f32[N,2]\n %m = Softmax(%n) : f32[N,2]
        }";
        let graph = lorac_ir::parse(text).expect("parses");
        let all = candidates(&graph);
        let ends = Trail::new(&graph, &all).ends();
        let of = |c: &Candidate| (ends[c.matrix.products[0].index()].matrix, ends[c.matrix.products[0].index()].output);
        assert_eq!(all.iter().map(of).collect::<Vec<_>>(), [(true, true), (false, true), (false, false)]);
        let heads: Vec<ValueId> = roles(&graph).into_keys().collect();
        assert_eq!(heads, [graph.find("b").expect("b")]);
    }

    /// `down(act(gate(x)) * up(x))` with the activation decomposed as exporters do, and what is no gate.
    #[test]
    fn a_gate_is_what_an_activation_follows_however_it_is_written() {
        let silu = "%s = Sigmoid(%a) : f32[N,6]\n %f = Mul(%a, %s) : f32[N,6]";
        let erf = "%d = Div(%a, %k) : f32[N,6]\n %e = Erf(%d) : f32[N,6]\n %g1 = Add(%e, %k) : f32[N,6]
            %hx = Mul(%a, %g1) : f32[N,6]\n %f = Mul(%hx, %k) : f32[N,6]";
        let tanh = "%c = Mul(%a, %a) : f32[N,6]\n %cc = Mul(%c, %a) : f32[N,6]\n %ck = Mul(%cc, %k) : f32[N,6]
            %su = Add(%a, %ck) : f32[N,6]\n %sk = Mul(%su, %k) : f32[N,6]\n %t = Tanh(%sk) : f32[N,6]
            %t1 = Add(%t, %k) : f32[N,6]\n %h = Mul(%a, %k) : f32[N,6]\n %f = Mul(%h, %t1) : f32[N,6]";
        let relu = "%f = Relu(%a) : f32[N,6]";
        let sums = ["Add(%x, %o)", "com.microsoft.SkipSimplifiedLayerNormalization(%o, %x, %n)"];
        for (body, width) in [silu, erf, tanh, relu].into_iter().flat_map(|b| [6, 2, 1].map(|width| (b, width))) {
            for (product, sum) in ["Mul(%f, %b)", "Mul(%b, %f)"].into_iter().flat_map(|p| sums.map(|s| (p, s))) {
                let text = format!(
                    "graph g(%x: f32[N,2]) -> %y {{
                        %k = weight \"k\" f32[] = [0.5]
                        %n = weight \"n\" f32[2]
                        %g = weight \"gate\" f32[2,6]
                        %u = weight \"up\" f32[2,6]
                        %d0 = weight \"down\" f32[6,2]
                        %b = MatMul(%x, %u) : f32[N,6]
                        %a = MatMul(%x, %g) : f32[N,6]
                        {body}
                        %m = {product} : f32[N,6]
                        %o = MatMul(%m, %d0) : f32[N,2]
                        %y = {sum} : f32[N,2]
                    }}"
                );
                // As wide as the stream, or narrower, it is a block all the same.
                let text = text.replace("[N,6]", &format!("[N,{width}]")).replace("[2,6]", &format!("[2,{width}]"));
                let text = text.replace("[6,2]", &format!("[{width},2]"));
                let graph = lorac_ir::parse(&text).expect("parses");
                let found = roles(&graph);
                let of = |name: &str| found.get(&graph.find(name).expect("a weight")).cloned().unwrap_or_default();
                let want = [Role::Gate, Role::Up, Role::Down].map(|r| BTreeSet::from([r]));
                assert_eq!(["gate", "up", "down"].map(of), want, "{product} of {body}, {width} wide, {sum}");
            }
        }
    }

    /// Scores of content and of positions are added up, either first; positions are projected, or a table alone.
    #[test]
    fn the_key_of_a_relative_attention_is_what_the_value_is_read_beside() {
        for sum in ["Add(%c, %r)", "Add(%r, %c)"] {
            for positions in ["MatMul(%p, %wr)", "Relu(%p)"] {
                let text = format!(
                    "graph g(%x: f32[N,4,2], %p: f32[4,2]) -> %y {{
                        %wq = weight \"wq\" f32[2,2]
                        %wk = weight \"wk\" f32[2,2]
                        %wv = weight \"wv\" f32[2,2]
                        %wr = weight \"wr\" f32[2,2]
                        %q = MatMul(%x, %wq) : f32[N,4,2]
                        %k = MatMul(%x, %wk) : f32[N,4,2]
                        %v = MatMul(%x, %wv) : f32[N,4,2]
                        %e = {positions} : f32[4,2]
                        %kt = Transpose(%k, perm=[0,2,1]) : f32[N,2,4]
                        %et = Transpose(%e, perm=[1,0]) : f32[2,4]
                        %c = MatMul(%q, %kt) : f32[N,4,4]
                        %r = MatMul(%q, %et) : f32[N,4,4]
                        %s = {sum} : f32[N,4,4]
                        %a = Softmax(%s, axis=-1) : f32[N,4,4]
                        %y = MatMul(%a, %v) : f32[N,4,2]
                    }}"
                );
                let graph = lorac_ir::parse(&text).expect("parses");
                let found = roles(&graph);
                let of = |name: &str| found.get(&graph.find(name).expect("a weight")).cloned().unwrap_or_default();
                let want = [Role::Query, Role::Key, Role::Value].map(|r| BTreeSet::from([r]));
                assert_eq!(["wq", "wk", "wv"].map(of), want, "{sum} of {positions}");
                assert!(!of("wr").contains(&Role::Key), "{sum} of {positions}");
            }
        }
    }
}
