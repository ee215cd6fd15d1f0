//! What a model is made of.

use crate::inputs::{caches, feeds};
use lorac_ir::{Function, Graph, ValueId};
use lorac_ops::{Grad, find};
use lorac_passes::{LeftOut, Role, inlined, left_out, matrices, readable, roles, slices};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// A model in numbers.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Its name.
    pub name: String,
    /// Operator sets by domain; the standard one is `ai.onnx`.
    pub opsets: BTreeMap<String, i64>,
    /// Inputs: name and fact.
    pub inputs: Vec<(String, String)>,
    /// Outputs: name and fact.
    pub outputs: Vec<(String, String)>,
    /// Nodes, functions inlined and constants not counted.
    pub nodes: usize,
    /// Elements of all float weights.
    pub parameters: usize,
    /// Bytes of all weights.
    pub weight_bytes: usize,
    /// Operators and how often each occurs.
    pub operators: BTreeMap<String, usize>,
    /// Operators through which no gradient passes though one should, with the reason.
    pub without_gradient: BTreeMap<String, String>,
    /// Matrices that can be adapted.
    pub matrices: Vec<MatrixLine>,
    /// Weights that multiply activations and that `all-linear` leaves out, with the reason.
    pub left_out: Vec<LeftOut>,
    /// Why functions and shapes could not be looked into.
    pub problem: Option<String>,
}

/// A matrix that can be adapted.
#[derive(Clone, Debug, Serialize)]
pub struct MatrixLine {
    /// The weight's name.
    pub name: String,
    /// `[in, out]`.
    pub shape: [usize; 2],
    /// What it does, read off the structure.
    pub roles: Vec<String>,
    /// The columns of each role, where they are not all: `key 32..40`.
    pub slices: Vec<String>,
    /// Products that read it.
    pub products: usize,
}

/// The graph as a run trains it: of branches with and without a cache, the latter.
fn as_trained(graph: Graph) -> Graph {
    let mut trained = graph.clone();
    match feeds(&graph).map(|feeds| caches(&graph, &feeds).switch_off(&mut trained)) {
        Ok(Ok(_)) => trained,
        _ => graph,
    }
}

/// Counts and classifies a model. Operators are those that its functions are made of; matrices and facts are read off
/// the graph with functions inlined. What that graph cannot be made for is the summary's problem.
pub fn summary(model: &Graph, functions: &[Function]) -> Summary {
    let (graph, problem) = match inlined(model, functions) {
        Ok(graph) => (graph, None),
        Err(e) => (model.clone(), Some(e.to_string())),
    };
    let (graph, decomposed) = (&graph, readable(model, functions));
    let named = |ids: &[ValueId]| ids.iter().map(|v| (graph.name_of(*v), graph.fact(*v).to_string())).collect();
    let mut operators = BTreeMap::new();
    let mut without_gradient = BTreeMap::new();
    for (_, node) in graph.nodes() {
        *operators.entry(node.op.to_string()).or_insert(0) += 1;
    }
    for (_, node) in as_trained(graph.clone()).nodes() {
        let why = match find(&node.op).map(|op| &op.grad) {
            None => "lorac does not know the operator",
            Some(Grad::Unsupported(why)) => why,
            Some(_) => continue,
        };
        without_gradient.insert(node.op.to_string(), why.to_string());
    }
    let decomposed = &as_trained(decomposed.unwrap_or_else(|_| graph.clone()));
    let known: BTreeMap<ValueId, BTreeSet<Role>> = roles(decomposed);
    let parts = slices(decomposed);
    let line = |m: lorac_passes::Matrix| MatrixLine {
        roles: known.get(&m.weight).into_iter().flatten().map(Role::to_string).collect(),
        shape: [m.rows, m.cols],
        slices: parts.get(&m.weight).into_iter().flatten().map(ToString::to_string).collect(),
        products: m.products.len(),
        name: m.name,
    };
    let domain = |d: &str| if d.is_empty() { "ai.onnx".to_string() } else { d.to_string() };
    Summary {
        name: model.name.clone(),
        opsets: model.opsets.iter().map(|(d, v)| (domain(d), *v)).collect(),
        inputs: named(graph.inputs()),
        outputs: named(graph.outputs()),
        nodes: graph.node_count(),
        parameters: model.weights().filter(|w| w.2.dtype().is_float()).map(|w| w.2.len()).sum(),
        weight_bytes: model.weights().map(|w| w.2.bytes().len()).sum(),
        operators,
        without_gradient,
        matrices: matrices(decomposed).into_iter().map(line).collect(),
        left_out: left_out(decomposed, &["all-linear"]),
        problem,
    }
}
