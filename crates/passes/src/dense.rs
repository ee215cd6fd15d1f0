//! A product with a weight and its bias as one `Gemm` on rows, on the training copy: one pass over the result less.

use crate::PassError;
use crate::rewrite::{replace_value, rewrite};
use lorac_ir::{Graph, ValueId};
use lorac_ops::Val;
use std::collections::HashMap;

/// Makes a Gemm of every MatMul with a matrix of known size that only a bias is added to. Returns how many there were.
pub fn fuse_dense(graph: &mut Graph) -> Result<usize, PassError> {
    rewrite(graph, "dense", |e| {
        // Of every operand: its rows, and the shape that they came from.
        let mut rows: HashMap<ValueId, (Val, Val)> = HashMap::new();
        let mut count = 0;
        for (product, node) in e.graph().nodes() {
            let [Some(x), Some(w)] = *node.inputs.as_slice() else { continue };
            let matrix = e.graph().fact(w);
            if &*node.op.name != "MatMul" || !node.op.domain.is_empty() || !matrix.dtype.is_float() {
                continue;
            }
            let Some([inner, cols]) = matrix.known_dims().and_then(|d| <[usize; 2]>::try_from(d).ok()) else {
                continue;
            };
            let y = node.outputs[0];
            let uses = e.graph().value(y).map(|v| v.uses()).unwrap_or_default();
            let ([only], false) = (uses, e.graph().is_output(y)) else { continue };
            let Some(add) = e.graph().node(only.node).filter(|n| &*n.op.name == "Add") else { continue };
            let Some(bias) = add.inputs.iter().flatten().find(|v| **v != y) else { continue };
            let ranked = e.graph().fact(x).rank().is_some() && e.graph().opset() >= 15;
            if e.graph().weight(*bias).is_none_or(|b| b.dims() != [cols]) || !ranked {
                continue;
            }
            e.set_source(&node.origin.source);
            let (flat, lead) = *rows.entry(x).or_insert_with(|| {
                let x = e.val(x);
                let lead = e.op("Shape", &[x], &[("end", (-1i64).into())]);
                (if x.rank() == 2 { x } else { x.reshape(&[-1, inner as i64]) }, lead)
            });
            let sum = e.val(add.outputs[0]);
            let new = e.op("Gemm", &[flat, e.val(w), e.val(*bias)], &[]);
            let shape = e.op("Concat", &[lead, e.ints(&[cols as i64])], &[("axis", 0i64.into())]);
            let new = if sum.rank() == 2 { new } else { new.binary("Reshape", shape) };
            replace_value(e, sum.id(), new);
            e.edit(|p| {
                p.remove(product);
                p.remove(only.node);
            });
            count += 1;
        }
        Ok(count)
    })
}
