//! Weights trained in full: heads, biases, norms.

use crate::{PassError, rewrite};
use lorac_ir::{Graph, ValueId};

/// Makes each weight an input of the graph, to be trained as it is. Returns the inputs.
pub fn unfreeze(graph: &mut Graph, weights: &[ValueId]) -> Result<Vec<ValueId>, PassError> {
    rewrite(graph, "unfreeze", |e| {
        let mut inputs = Vec::new();
        for &weight in weights {
            let (name, fact) = (e.graph().name_of(weight), e.graph().fact(weight));
            if e.graph().weight(weight).is_none() || !fact.dtype.is_float() {
                return Err(PassError::Unsuitable(format!("`{name}` is not a float weight: it cannot be trained")));
            }
            let input = e.input(&format!("{name}.trained"), fact);
            e.edit(|p| p.redirect(weight, input.id()));
            inputs.push(input.id());
        }
        Ok(inputs)
    })
}
