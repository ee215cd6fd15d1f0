//! Mean and inverse deviation of a LayerNormalization, asked for as results, so that its gradient need not compute them
//! again.

use crate::PassError;
use crate::rewrite::{replace_value, rewrite};
use lorac_ir::{Attr, Graph};
use lorac_ops::Val;

/// Lets every LayerNormalization give its statistics. Returns how many did not.
pub fn expose_layer_norm_stats(graph: &mut Graph) -> Result<usize, PassError> {
    rewrite(graph, "statistics", |e| {
        let mut count = 0;
        for (id, node) in e.graph().nodes() {
            if &*node.op.name != "LayerNormalization" || !node.op.domain.is_empty() || node.outputs.len() == 3 {
                continue;
            }
            e.set_source(&node.origin.source);
            let x: Vec<Val> = node.inputs.iter().map(|v| v.map_or(e.absent(), |v| e.val(v))).collect();
            let attrs: Vec<(&str, Attr)> = node.attrs.iter().map(|(k, v)| (&**k, v.clone())).collect();
            let made = e.ops("LayerNormalization", &x, &attrs, 3);
            for (old, new) in node.outputs.iter().zip(made) {
                replace_value(e, *old, new);
            }
            e.edit(|p| p.remove(id));
            count += 1;
        }
        Ok(count)
    })
}
