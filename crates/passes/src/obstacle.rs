//! What keeps a matrix from being adapted.

use crate::matrix::{MOST_STEPS, candidates};
use lorac_ir::{DType, Graph, Node, NodeId, Use, ValueId};
use lorac_ops::{Grad, Op, find};
use std::fmt;

/// Why a matrix is not a target. As text, what follows "is": `quantized (int8, ...)`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Obstacle {
    /// Its elements are integers, or packed.
    Quantized {
        /// How they are stored.
        dtype: DType,
        /// The operator that reads them.
        op: String,
    },
    /// An operator with no gradient reads it.
    Operator(String),
    /// It is multiplied in a graph inside a node.
    Inside(String),
    /// It is a stack of matrices.
    Stacked(Vec<usize>),
    /// It is an operand of a sum of products that is not a product of rows and a matrix.
    Einsum(String),
    /// It is the left operand of a product.
    Left(String),
    /// It is multiplied by a number, or by transposed rows, in the product.
    Scaled(String),
    /// What is multiplied is computed from it.
    Computed(String),
    /// It is read in two ways.
    BothWays,
    /// It is looked up in, too.
    Table,
    /// It is read by another operator, too.
    Beside(String),
    /// It is an output of the model.
    Output,
    /// It is the kernel of a convolution in groups.
    Grouped,
    /// It is a constant of a function: every call of the function shares it.
    InFunction,
}

impl Obstacle {
    /// A weight of integers.
    pub(crate) fn quantized(graph: &Graph, reader: NodeId, dtype: DType) -> Obstacle {
        let op = graph.node(reader).map(|n| n.op.to_string()).unwrap_or_default();
        Obstacle::Quantized { dtype, op }
    }

    /// What can be done about it.
    pub fn advice(&self) -> &'static str {
        match self {
            Obstacle::Quantized { .. } => "adapt the model before it was quantized",
            Obstacle::Operator(_) => "use the model before it was optimized for inference",
            Obstacle::Inside(_) => "export the model without control flow, or fix the input that decides it",
            Obstacle::Stacked(_) => {
                "a branch adapts a stack that products alone read, and its matrices; `full` trains it as it is"
            }
            Obstacle::Einsum(_) | Obstacle::Left(_) | Obstacle::Scaled(_) | Obstacle::Computed(_) => {
                "export the model with plain products, or train the weight by `full`"
            }
            Obstacle::BothWays | Obstacle::Table | Obstacle::Beside(_) => "name the weight to change every use of it",
            Obstacle::Grouped => "`full` trains it as it is",
            Obstacle::Output => "export the model without this output",
            Obstacle::InFunction => "export the model with its weights outside of functions",
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Obstacle::Quantized { dtype, op } => write!(f, "quantized ({dtype}, read by `{op}`)"),
            Obstacle::Operator(op) => write!(f, "inside `{op}`, which has no gradient here"),
            Obstacle::Inside(op) => write!(f, "multiplied in a graph inside `{op}`, which no gradient passes"),
            Obstacle::Stacked(dims) => {
                write!(f, "a stack of matrices of shape {dims:?}, as of experts, not one matrix")
            }
            Obstacle::Einsum(equation) => {
                write!(f, "an operand of Einsum `{equation}`, which is not a product of rows and a matrix")
            }
            Obstacle::Left(op) => write!(f, "the left operand of `{op}`"),
            Obstacle::Scaled(op) => write!(f, "multiplied by `{op}` with a factor or with transposed rows"),
            Obstacle::Computed(op) => write!(f, "behind `{op}`: what is multiplied is computed from it"),
            Obstacle::BothWays => f.write_str("multiplied as it is and transposed"),
            Obstacle::Table => f.write_str("an embedding table as well (tied embeddings)"),
            Obstacle::Beside(op) => write!(f, "read by `{op}` as well"),
            Obstacle::Output => f.write_str("an output of the model"),
            Obstacle::Grouped => f.write_str("the kernel of a convolution in groups, which is not one matrix"),
            Obstacle::InFunction => f.write_str("a constant inside a function of the model"),
        }
    }
}

/// Why a product that multiplies by a weight cannot be given a branch.
pub(crate) fn refusal(graph: &Graph, weight: ValueId, node: &Node, op: Option<&Op>) -> Option<Obstacle> {
    let dtype = graph.fact(weight).dtype;
    match op.map(|op| &op.grad) {
        Some(Grad::Rule { .. }) => None,
        _ if !dtype.is_float() => Some(Obstacle::Quantized { dtype, op: node.op.to_string() }),
        _ => Some(Obstacle::Operator(node.op.to_string())),
    }
}

/// A product that multiplies by the weight in a way that no branch follows.
pub(crate) fn odd_product(graph: &Graph, node: &Node, op: Option<&Op>, slot: usize, rank: usize) -> Option<Obstacle> {
    if !matches!(op.map(|op| &op.grad), Some(Grad::Rule { .. })) || slot > 1 {
        return None;
    }
    if let Some(equation) = node.str("equation") {
        return Some(Obstacle::Einsum(equation.to_string()));
    }
    match (slot, rank) {
        (1, 3..) => Some(Obstacle::Stacked(graph.fact(node.input(1)?).known_dims().unwrap_or_default())),
        (1, _) => Some(Obstacle::Scaled(node.op.to_string())),
        _ => Some(Obstacle::Left(node.op.to_string())),
    }
}

/// Whether something inside a node multiplies by what it captures.
pub(crate) fn multiplied_inside(node: &Node, capture: usize) -> bool {
    let mut at = capture;
    for body in node.bodies() {
        if at < body.captures.len() {
            let inner = body.graph.inputs().get(body.own_inputs() + at).and_then(|v| body.graph.value(*v));
            return inner.is_some_and(|v| v.uses().iter().any(|u| multiplies(&body.graph, u, MOST_STEPS)));
        }
        at -= body.captures.len();
    }
    false
}

fn multiplies(graph: &Graph, u: &Use, steps: usize) -> bool {
    let Some(node) = graph.node(u.node) else { return false };
    let traits = find(&node.op).map(|op| op.traits).unwrap_or_default();
    let handed_on = || {
        let [y] = node.outputs[..] else { return false };
        let next = graph.value(y).map(|v| v.uses()).unwrap_or_default();
        let handed = steps > 0 && (traits.moves == 1 || traits.reshapes) && u.slot == 0;
        handed && next.iter().any(|u| multiplies(graph, u, steps - 1))
    };
    match traits.projects {
        Some(projects) => projects(node, u.slot, 2).is_some(),
        None if u.slot >= node.inputs.len() => multiplied_inside(node, u.slot - node.inputs.len()),
        None => handed_on(),
    }
}

/// Matrices that only graphs inside nodes have: the name, and the node's operator.
pub(crate) fn inside(graph: &Graph) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (_, node) in graph.nodes() {
        for body in node.bodies() {
            let own = candidates(&body.graph).into_iter().map(|c| (c.matrix.name, node.op.to_string()));
            found.extend(own);
            found.extend(inside(&body.graph).into_iter().map(|(name, _)| (name, node.op.to_string())));
        }
    }
    found
}
