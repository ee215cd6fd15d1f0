//! One plan for each set of input shapes: a symbolic dimension costs tract 2.5 times the time of a run.

use super::convert::refused;
use super::model::specialize;
use crate::RuntimeError;
use lorac_ir::DType;
use tract_onnx::prelude::*;

/// Plans kept at most.
const PLANS: usize = 16;
/// A plan packs weights into copies of its own: no more plans are kept than make this many bytes of them.
const PACKED_BYTES: usize = 2 << 30;

/// Name, element type and shape of every input, in the model's order.
pub(super) type Inputs = Vec<(String, DType, Vec<usize>)>;

/// The plans of the shapes run last.
pub(super) struct Plans {
    model: InferenceModel,
    /// Most recently used last.
    plans: Vec<(Inputs, Arc<TypedRunnableModel>)>,
    limit: usize,
}

impl Plans {
    pub(super) fn new(model: InferenceModel, weight_bytes: usize) -> Plans {
        let limit = (PACKED_BYTES / weight_bytes.max(1)).clamp(2, PLANS);
        Plans { model, plans: Vec::new(), limit }
    }

    /// The names of the inputs, in the order that a plan takes them.
    pub(super) fn inputs(&self) -> Vec<String> {
        self.model.inputs.iter().map(|input| self.model.node(input.node).name.clone()).collect()
    }

    /// The plan for these inputs, compiled where there is none.
    pub(super) fn get(&mut self, inputs: Inputs) -> Result<Arc<TypedRunnableModel>, RuntimeError> {
        let plan = match self.plans.iter().position(|(key, _)| *key == inputs) {
            Some(at) => self.plans.remove(at).1,
            None => specialize(&self.model, &inputs)?
                .into_optimized()
                .and_then(|model| model.into_runnable())
                .map_err(refused)?,
        };
        if self.plans.len() >= self.limit {
            self.plans.remove(0);
        }
        self.plans.push((inputs, plan.clone()));
        Ok(plan)
    }
}
