//! Which of the algebraically equal orders a branch is computed in, as RunLoRA does (Cherniuk et al. 2023):
//! `x W + s (x A) B` or `x (W + s A B)`.

use crate::Matrix;
use lorac_ir::{DType, Graph};

/// An order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// A branch beside the product.
    Branch,
    /// One product with the sum of the weights.
    Sum,
}

/// The cheaper order for products of `tokens` rows.
///
/// With n = in and m = out, a sum saves `r m` operations a row forward and `r n` backward, and costs `r n m` once: it is
/// cheaper from `n m / (n + m)` rows on. It is also a matrix more in memory, so that twice as many are asked for: there
/// it is no larger than half of what goes into the product and comes out of it. A weight that several products share
/// keeps its branches: their gradients would have to be added as whole matrices.
pub(crate) fn order(graph: &Graph, matrix: &Matrix, tokens: usize) -> Order {
    let [product] = *matrix.products.as_slice() else { return Order::Branch };
    let direct = graph.node(product).is_some_and(|n| n.input(1) == Some(matrix.weight));
    let plain = graph.weight(matrix.weight).is_some_and(|w| w.dtype() == DType::F32 && w.dims().len() == 2);
    let (rows, cols) = (matrix.rows as u128, matrix.cols as u128);
    let pays = tokens as u128 * (rows + cols) >= 2 * rows * cols;
    if direct && plain && pays { Order::Sum } else { Order::Branch }
}
