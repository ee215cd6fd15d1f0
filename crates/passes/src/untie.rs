//! A head of its own, where a model multiplies by the table that it looks tokens up in.

use crate::rewrite::{replace_value, rewrite};
use crate::{PassError, tables_and_kernels};
use lorac_ir::{Attr, Graph, NodeId, Tensor, ValueId};
use lorac_ops::{Val, find};

/// What the new weight is called, as PyTorch's classes call it.
const HEAD: &str = "lm_head.weight";

/// Gives the products that multiply by a table of embeddings a copy of it. Returns how many tables there were.
///
/// Ensures: every output is what it was.
pub fn untie(graph: &mut Graph) -> Result<usize, PassError> {
    let tied: Vec<(ValueId, Tensor, Vec<NodeId>)> = tied(graph);
    if tied.is_empty() {
        return Ok(0);
    }
    rewrite(graph, "untie", |e| {
        for (table, tensor, products) in &tied {
            let copy = e.weight(HEAD, tensor.clone());
            for product in products {
                let Some(node) = e.graph().node(*product) else { continue };
                let Some(y) = node.outputs.first() else { continue };
                e.set_source(&node.origin.source);
                let operand = |v: ValueId| if v == *table { copy } else { e.val(v) };
                let operands: Vec<Val> = node.inputs.iter().map(|v| v.map_or_else(|| e.absent(), operand)).collect();
                let attrs: Vec<(&str, Attr)> = node.attrs.iter().map(|(k, v)| (&**k, v.clone())).collect();
                let again = e.op(&node.op.to_string(), &operands, &attrs);
                replace_value(e, *y, again);
                e.edit(|p| p.remove(*product));
            }
        }
        Ok(tied.len())
    })
}

/// Tables with the products that multiply by them.
fn tied(graph: &Graph) -> Vec<(ValueId, Tensor, Vec<NodeId>)> {
    let mut found = Vec::new();
    for (weight, value, tensor) in graph.weights().filter(|(_, _, t)| t.dims().len() == 2 && t.dtype().is_float()) {
        let is_lookup =
            |u: &&lorac_ir::Use| graph.node(u.node).is_some_and(|n| tables_and_kernels::is_lookup(n, u.slot));
        let is_product =
            |u: &&lorac_ir::Use| graph.node(u.node).and_then(|n| find(&n.op)?.traits.projects?(n, u.slot, 2)).is_some();
        let products: Vec<NodeId> = value.uses().iter().filter(is_product).map(|u| u.node).collect();
        if value.uses().iter().any(|u| is_lookup(&u)) && !products.is_empty() {
            found.push((weight, tensor.clone(), products));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Lora, Method, TiedChoice};
    use lorac_ir::parse;
    use lorac_ops::{Random, evaluate};

    const TIED: &str = "graph g(%ids: i64[3]) -> %y {
        %t = weight \"wte.weight\" f32[4,2] = [1, 2, 3, 4, 5, 6, 7, 8]
        %x = Gather(%t, %ids) : f32[3,2]
        %y = Gemm(%x, %t, transB=1) : f32[3,4]
    }";

    #[test]
    fn a_head_gets_a_copy_and_computes_what_it_did() {
        let tied = parse(TIED).expect("parses");
        let mut own = tied.clone();
        assert_eq!(untie(&mut own).expect("unties"), 1);
        assert_eq!(untie(&mut own).expect("nothing more"), 0);
        let feeds = [("ids", Random(1).array(&[3], 0.0, 1.0).mapv(f64::round))];
        assert_eq!(evaluate(&own, &feeds).expect("runs"), evaluate(&tied, &feeds).expect("runs"));
        let lora = Lora { targets: vec!["role:head".into()], rank: 1, tied: TiedChoice::Untie, ..Lora::default() };
        let targets = lora.select(&own).expect("selects");
        let [head] = &targets[..] else { panic!("{targets:?}") };
        assert_eq!(head.weight_name, "lm_head.weight");
        assert!(head.matrix.as_ref().is_some_and(|m| !m.shared && m.transposed));
        let wrong = lora.select(&tied).expect_err("the file has one weight");
        assert_eq!(wrong.0[0].path(), Some("tied"));
        assert!(wrong.to_string().contains("`wte.weight`, which is a table and the head in one"), "{wrong}");
    }

    #[test]
    fn nothing_to_untie_is_said() {
        let text = "graph g(%x: f32[3,2]) -> %y {
            %q = weight \"q\" f32[2,2] = [1, 2, 3, 4]
            %v = weight \"v\" f32[2,2] = [1, 2, 3, 4]
            %h = MatMul(%x, %q) : f32[3,2]
            %r = Relu(%h) : f32[3,2]
            %y = MatMul(%r, %v) : f32[3,2]
        }";
        let lora = Lora { targets: vec!["q".into()], rank: 1, tied: TiedChoice::Untie, ..Lora::default() };
        let wrong = lora.select(&parse(text).expect("parses")).expect_err("no head");
        assert!(wrong.to_string().contains("unties nothing"), "{wrong}");
    }
}
