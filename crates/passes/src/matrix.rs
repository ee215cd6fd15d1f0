//! The trained-from matrices of a model: weights that multiply activations.

use lorac_ir::{Graph, Node, NodeId, ValueId};

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
/// `Identity` and `Transpose` may lie between: so exporters write a weight that layers share.
pub fn matrices(graph: &Graph) -> Vec<Matrix> {
    let rank_2 = graph.weights().filter(|(_, _, t)| t.dims().len() == 2 && t.dtype().is_float());
    let found = rank_2.filter_map(|(weight, value, tensor)| {
        let [p, q] = *tensor.dims() else { return None };
        let readers = readers(graph, weight)?;
        let transposed = readers.first()?.1;
        let (rows, cols) = if transposed { (q, p) } else { (p, q) };
        let alike = readers.iter().all(|(_, t)| *t == transposed);
        let products = readers.into_iter().map(|(product, _)| product).collect();
        alike.then(|| Matrix { weight, name: value.name.to_string(), transposed, rows, cols, products })
    });
    found.collect()
}

/// The products that read a weight, and whether each multiplies by its transpose; `None` where anything else reads it.
fn readers(graph: &Graph, weight: ValueId) -> Option<Vec<(NodeId, bool)>> {
    let (mut found, mut todo) = (Vec::new(), vec![(weight, false)]);
    while let Some((value, turned)) = todo.pop() {
        if graph.outputs().contains(&value) {
            return None;
        }
        for u in graph.value(value)?.uses() {
            let node = graph.node(u.node).filter(|n| n.op.domain.is_empty())?;
            match (&*node.op.name, u.slot) {
                ("MatMul", 1) => found.push((u.node, turned)),
                ("Gemm", 1) if node.int("transA", 0) == 0 && node.float("alpha", 1.0) == 1.0 => {
                    found.push((u.node, turned != (node.int("transB", 0) != 0)));
                }
                ("Identity", 0) => todo.push((*node.outputs.first()?, turned)),
                ("Transpose", 0) => todo.push((*node.outputs.first()?, turned != turns(node))),
                _ => return None,
            }
        }
    }
    Some(found)
}

/// Whether a Transpose of a matrix swaps its axes; without `perm` it does.
fn turns(node: &Node) -> bool {
    node.ints("perm").is_none_or(|perm| perm.first() != Some(&0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Lora, Method, Use, fold_low_rank, select};
    use lorac_ir::{Tensor, parse};
    use lorac_ops::{Array, Random, evaluate, infer};

    const SIDE: [usize; 2] = [3, 4];

    /// A graph that is written around a weight `w` of so many rows and columns.
    fn graph(dims: [usize; 2], w: &[f64], body: &str) -> Graph {
        let [p, q] = dims;
        let text = format!(
            "graph g(%x: f32[N,2,3], %v: f32[M,3]) -> %y, %z {{ %w = weight \"w\" f32[{p},{q}] = {w:?}\n{body} }}"
        );
        let mut graph = parse(&text).expect("parses");
        infer(&mut graph).expect("infers");
        graph
    }

    const SHARED: &str = "%i = Identity(%w) : f32[..]
        %j = Identity(%i) : f32[..]
        %t = Transpose(%j) : f32[..]
        %y = MatMul(%x, %w) : f32[..]
        %h = MatMul(%v, %i) : f32[..]
        %k = Gemm(%v, %t, transB=1) : f32[..]
        %z = Add(%h, %k) : f32[..]";
    const TURNED: &str = "%t = Transpose(%w, perm=[1,0]) : f32[..]
        %same = Transpose(%t, perm=[0,1]) : f32[..]
        %i = Identity(%w) : f32[..]
        %y = MatMul(%x, %same) : f32[..]
        %z = Gemm(%v, %i, transB=1) : f32[..]";

    #[test]
    fn a_branch_and_its_fold_reach_every_product_of_a_shared_weight() {
        let mut random = Random(3);
        for (body, transposed, products) in [(SHARED, false, 3), (TURNED, true, 2)] {
            let dims = if transposed { [SIDE[1], SIDE[0]] } else { SIDE };
            let w: Vec<f64> = random.array(&dims, -1.0, 1.0).iter().map(|w| f64::from(*w as f32)).collect();
            let base = graph(dims, &w, body);
            let targets = select(&base, &["w"]).expect("a target");
            let matrix = targets[0].matrix().expect("a matrix");
            assert_eq!((targets.len(), matrix.transposed, matrix.products.len()), (1, transposed, products));
            assert_eq!([matrix.rows, matrix.cols], SIDE);

            let lora = Lora { rank: 2, alpha: 3.0, ..Lora::default() };
            let mut adapted = base.clone();
            lora.insert(&mut adapted, &targets, Use::Verify).expect("inserts");
            let (a, b) = (random.array(&[2, 3], -1.0, 1.0), random.array(&[4, 2], -1.0, 1.0));
            let narrow = |x: &Array| x.iter().map(|x| *x as f32).collect::<Vec<f32>>();
            let w0 = base.weight(matrix.weight).expect("a weight");
            let bytes = fold_low_rank(&targets[0], w0, &narrow(&a), &narrow(&b), lora.scale()).expect("folds");
            let folded = Tensor::new(w0.dtype(), dims.to_vec(), bytes).expect("fits").to_f64().expect("reals");
            let folded = graph(dims, &folded, body);

            let (x, v) = (random.array(&[2, 2, 3], -1.0, 1.0), random.array(&[5, 3], -1.0, 1.0));
            let feeds = [("x", x), ("v", v), ("w.lora_A", a), ("w.lora_B", b)];
            let run = |graph: &Graph, inputs: usize| evaluate(graph, &feeds[..inputs]).expect("runs");
            let (before, got, want) = (run(&base, 2), run(&adapted, 4), run(&folded, 2));
            for i in 0..2 {
                let far = |a: &Array, b: &Array| (a - b).iter().fold(0.0f64, |m, e| m.max(e.abs()));
                assert!(far(&got[i], &want[i]) < 1e-5, "{body}: {} is not {}", got[i], want[i]);
                assert!(far(&before[i], &want[i]) > 0.1);
            }
        }
    }

    #[test]
    fn a_weight_that_is_read_otherwise_is_no_matrix() {
        let square = [3, 3];
        for (body, found) in [
            ("%y = MatMul(%x, %w) : f32[..]\n %t = Transpose(%w) : f32[..]\n %z = MatMul(%v, %t) : f32[..]", 0),
            ("%y = MatMul(%x, %w) : f32[..]\n %z = Identity(%w) : f32[..]", 0),
            ("%i = Identity(%w) : f32[..]\n %y = MatMul(%x, %i) : f32[..]\n %z = Relu(%i) : f32[..]", 0),
            ("%y = MatMul(%x, %w) : f32[..]\n %i = Identity(%w) : f32[..]\n %z = MatMul(%v, %i) : f32[..]", 1),
        ] {
            assert_eq!(matrices(&graph(square, &[0.5; 9], body)).len(), found, "{body}");
        }
    }
}
