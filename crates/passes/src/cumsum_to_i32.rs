//! Positions counted in i32: for an engine without i64 CumSum.

use crate::PassError;
use crate::rewrite::{replace_value, rewrite};
use lorac_ir::{Attr, DType, Graph};
use lorac_ops::Val;

/// Lets every CumSum of i64 run in i32. Returns how many there were.
pub fn cumsum_to_i32(graph: &mut Graph) -> Result<usize, PassError> {
    rewrite(graph, "cumsum_to_i32", |e| {
        let mut count = 0;
        for (id, node) in e.graph().nodes() {
            let [Some(x), Some(axis)] = node.inputs.as_slice() else { continue };
            if &*node.op.name != "CumSum" || e.graph().fact(*x).dtype != DType::I64 {
                continue;
            }
            e.set_source(&node.origin.source);
            let attrs: Vec<(&str, Attr)> = node.attrs.iter().map(|(k, v)| (&**k, v.clone())).collect();
            let operands: [Val; 2] = [e.val(*x).cast(DType::I32), e.val(*axis)];
            let sum = e.op("CumSum", &operands, &attrs).cast(DType::I64);
            if let Some(old) = node.outputs.first() {
                replace_value(e, *old, sum);
            }
            e.edit(|p| p.remove(id));
            count += 1;
        }
        Ok(count)
    })
}
