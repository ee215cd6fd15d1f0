//! Gemm of halves as MatMul: for an engine whose Gemm is of wider types only.

use crate::PassError;
use crate::rewrite::{replace_value, rewrite};
use lorac_ir::{DType, Graph, Node};

/// Writes every Gemm of f16 or bf16 as MatMul, with what is scaled and added beside it. Returns how many there were.
///
/// # Errors
/// Shapes that contradict each other.
pub fn half_gemm_to_matmul(graph: &mut Graph) -> Result<usize, PassError> {
    let half = |graph: &Graph, node: &Node| {
        let dtype = node.input(0).map(|x| graph.fact(x).dtype);
        &*node.op.name == "Gemm" && node.op.domain.is_empty() && matches!(dtype, Some(DType::F16 | DType::BF16))
    };
    if !graph.nodes().any(|(_, n)| half(graph, n)) {
        return Ok(0);
    }
    rewrite(graph, "half_gemm", |e| {
        let mut count = 0;
        for (id, node) in e.graph().nodes().filter(|(_, n)| half(e.graph(), n)) {
            let (Some(a), Some(b), Some(&y)) = (node.input(0), node.input(1), node.outputs.first()) else { continue };
            e.set_source(&node.origin.source);
            let turned = |v, attr| if node.int(attr, 0) == 1 { e.val(v).t() } else { e.val(v) };
            let [alpha, beta] = ["alpha", "beta"].map(|attr| f64::from(node.float(attr, 1.0)));
            let product = turned(a, "transA").matmul(turned(b, "transB"));
            let product = if alpha == 1.0 { product } else { product * alpha };
            let sum = match node.input(2).map(|c| e.val(c)) {
                Some(c) if beta == 1.0 => product + c,
                Some(c) => product + c * beta,
                None => product,
            };
            replace_value(e, y, sum);
            e.edit(|p| p.remove(id));
            count += 1;
        }
        Ok(count)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use lorac_ops::{Random, evaluate};

    #[test]
    fn a_gemm_of_halves_is_a_product_and_a_sum() {
        let text = |dtype: &str| {
            format!(
                "graph g(%a: {dtype}[3,2], %b: {dtype}[4,3], %c: {dtype}[4]) -> %y {{
                    %y = Gemm(%a, %b, %c, alpha=0.5, beta=2.0, transA=1, transB=1) : {dtype}[2,4]
                }}"
            )
        };
        let mut graph = lorac_ir::parse(&text("f16")).expect("parses");
        let inputs = || {
            let mut random = Random(3);
            [("a", [3, 2].as_slice()), ("b", &[4, 3]), ("c", &[4])].map(|(n, d)| (n, random.array(d, -1.0, 1.0)))
        };
        let want = evaluate(&graph, &inputs()).expect("runs");
        assert_eq!(half_gemm_to_matmul(&mut graph), Ok(1));
        assert!(graph.nodes().all(|(_, n)| &*n.op.name != "Gemm"));
        let got = evaluate(&graph, &inputs()).expect("runs");
        assert!(got[0].iter().zip(&want[0]).all(|(a, b)| (a - b).abs() < 1e-12));
        assert_eq!(half_gemm_to_matmul(&mut lorac_ir::parse(&text("f32")).expect("parses")), Ok(0));
    }
}
