//! Objectives of tests: what no task of a pipeline is.

use lorac::ir::{Graph, ValueId};
use lorac::ops::Val;
use lorac::passes::{Attached, Group, Init, LossTerms, Objective, Param, PassError, cross_entropy_terms, unfreeze};

/// Cross-entropy of the model's first output against the input `labels`, with weights of the model trained in full.
#[derive(Clone, Debug, Default)]
pub struct FirstOutput {
    /// The weights.
    pub trained: Vec<ValueId>,
}

impl Objective for FirstOutput {
    fn attach(&self, graph: &mut Graph) -> Result<Attached, PassError> {
        let given = |w: &ValueId| graph.weight(*w).cloned().map_or(Init::Zeros, Init::Given);
        let inits: Vec<Init> = self.trained.iter().map(given).collect();
        let inputs = unfreeze(graph, &self.trained)?;
        let param = |(value, init): (ValueId, Init)| Param {
            value,
            name: graph.name_of(value),
            dims: graph.fact(value).known_dims().unwrap_or_default(),
            init,
            group: Group::Base,
            decay: true,
        };
        let params = inputs.into_iter().zip(inits).map(param).collect();
        Ok(Attached { prediction: graph.outputs()[0], params })
    }

    fn loss<'e, 'g>(&self, prediction: Val<'e, 'g>) -> Result<LossTerms<'e, 'g>, PassError> {
        cross_entropy_terms(prediction, "labels")
    }

    fn evaluates_prediction(&self) -> bool {
        true
    }
}
