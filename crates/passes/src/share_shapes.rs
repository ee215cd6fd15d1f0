//! Shapes computed once: every layer asks for the same few, and each that it asks of its own activations is a node to
//! run and keeps them alive.

use lorac_ir::{DType, Dim, ValueId, topological_order};
use lorac_ops::Emit;
use std::collections::HashMap;

/// Lets integers that are known to be the same polynomials of the inputs' lengths be computed once, as early as any of
/// them.
pub(crate) fn share_shapes(e: &Emit) {
    let mut first: HashMap<(usize, Vec<Dim>), ValueId> = HashMap::new();
    for id in topological_order(e.graph()) {
        for &value in e.graph().node(id).map(|n| n.outputs.as_slice()).unwrap_or_default() {
            let used = e.graph().value(value).is_some_and(|v| !v.uses().is_empty());
            let fact = e.graph().fact(value);
            let (true, DType::I64, Some(rank)) = (used, fact.dtype, fact.rank()) else { continue };
            let Some(content) = e.val(value).content().filter(|c| symbolic(c)) else { continue };
            match first.get(&(rank, content.clone())) {
                Some(same) if !e.graph().is_output(value) && e.graph().fact(*same) == fact => {
                    e.edit(|p| p.redirect(value, *same));
                }
                _ => drop(first.insert((rank, content), value)),
            }
        }
    }
}

/// Whether all elements are known, and not all as numbers: those become constants.
fn symbolic(content: &[Dim]) -> bool {
    !content.contains(&Dim::Unknown) && content.iter().any(|d| d.known().is_none())
}
