//! What keeps a matrix from being adapted.

use lorac_ir::{DType, Graph, NodeId};
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
