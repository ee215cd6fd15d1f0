//! The error function inside a Gelu, written out on the training copy, so that its gradient need not compute it again.

use crate::{PassError, rewrite};
use lorac_ir::Graph;
use std::f64::consts::FRAC_1_SQRT_2;

/// Writes `Gelu(x)` as `(u * (1 + Erf(u))) / sqrt(2)` with `u = x / sqrt(2)`. Returns how many there were.
///
/// Both factors stand outside, where [`crate::fold_scales`] finds them.
pub fn expose_erf(graph: &mut Graph) -> Result<usize, PassError> {
    rewrite(graph, "erf", |e| {
        let mut count = 0;
        for (id, node) in e.graph().nodes() {
            let (Some(x), Some(&y)) = (node.input(0), node.outputs.first()) else { continue };
            let exact = node.str("approximate").is_none_or(|a| a == "none");
            if &*node.op.name != "Gelu" || !node.op.domain.is_empty() || !exact {
                continue;
            }
            e.set_source(&node.origin.source);
            let u = e.val(x) * FRAC_1_SQRT_2;
            let new = u * (u.unary("Erf") + 1.0) * FRAC_1_SQRT_2;
            e.edit(|p| {
                p.redirect(y, new.id());
                p.remove(id);
            });
            count += 1;
        }
        Ok(count)
    })
}
