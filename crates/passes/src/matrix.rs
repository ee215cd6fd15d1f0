//! The trained-from matrices of a model: weights that multiply activations.

use lorac_ir::{Graph, NodeId, ValueId};

/// A weight matrix and the products that read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matrix {
    /// The weight.
    pub weight: ValueId,
    /// Its name in the model.
    pub name: String,
    /// Whether it is stored `[out, in]` (as `Gemm` with `transB` reads it) and not `[in, out]`.
    pub transposed: bool,
    /// Length of the rows that are multiplied.
    pub rows: usize,
    /// Length of the results.
    pub cols: usize,
    /// Every product that reads it.
    pub products: Vec<NodeId>,
}

/// Every rank-2 float weight that is read only as the right operand of `MatMul` or `Gemm`, all in the same orientation.
pub fn matrices(graph: &Graph) -> Vec<Matrix> {
    let mut found = Vec::new();
    for (id, value, tensor) in graph.weights() {
        let [p, q] = *tensor.dims() else { continue };
        if !tensor.dtype().is_float() || value.uses().is_empty() {
            continue;
        }
        let orientation = |node: NodeId, slot: usize| {
            let n = graph.node(node)?;
            let standard = n.op.domain.is_empty() && slot == 1;
            match &*n.op.name {
                "MatMul" if standard => Some(false),
                "Gemm" if standard && n.int("transA", 0) == 0 && n.float("alpha", 1.0) == 1.0 => {
                    Some(n.int("transB", 0) != 0)
                }
                _ => None,
            }
        };
        let all: Option<Vec<bool>> = value.uses().iter().map(|u| orientation(u.node, u.slot)).collect();
        let Some(all) = all else { continue };
        let Some(&transposed) = all.first() else { continue };
        if all.iter().any(|t| *t != transposed) {
            continue;
        }
        let (rows, cols) = if transposed { (q, p) } else { (p, q) };
        let products = value.uses().iter().map(|u| u.node).collect();
        found.push(Matrix { weight: id, name: value.name.to_string(), transposed, rows, cols, products });
    }
    found
}
