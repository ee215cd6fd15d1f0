//! Runs plans with the state as shared tensors: swapping moves a pointer.

use super::NAME;
use super::convert::{copy_in, copy_out, failed};
use super::guard::guarded;
use super::model::parse;
use super::plan::{Inputs, Plans};
use crate::ports::{Ports, fits_slot, slot_of};
use crate::{Port, Program, RuntimeError, Source, StateSlot};
use lorac_ir::{Fact, Tensor};
use std::sync::Arc;
use tract_linalg::multithread::Executor;
use tract_onnx::prelude::{IntoArcTensor, TValue, TVec};
use tract_onnx::tract_hir::internal::Tensor as TractTensor;

struct Slot {
    input: String,
    output: String,
    fact: Fact,
    current: Arc<TractTensor>,
}

pub(super) struct TractProgram {
    executor: Executor,
    ports: Ports,
    plans: Plans,
    /// The names of all inputs, in the plans' order.
    inputs: Vec<String>,
    slots: Vec<Slot>,
}

impl TractProgram {
    pub(super) fn new(executor: Executor, ports: Ports, source: Source) -> Result<TractProgram, RuntimeError> {
        let weight_bytes = source.weights.iter().map(|(_, t)| t.bytes().len()).sum();
        let model = guarded(&executor, || parse(&source.model, source.weights, &ports))?;
        let plans = Plans::new(model, weight_bytes);
        let slots: Result<Vec<Slot>, RuntimeError> = source
            .state
            .into_iter()
            .map(|StateSlot { input, output, init }| {
                let current = Arc::new(copy_in(&input, &init)?);
                Ok(Slot { input, output, fact: init.fact(), current })
            })
            .collect();
        let inputs = plans.inputs();
        let mut program = TractProgram { executor, ports, plans, inputs, slots: slots? };
        program.compile_known()?;
        Ok(program)
    }

    /// Compiles at once where every shape is known, so that what tract cannot do is found before the first run.
    fn compile_known(&mut self) -> Result<(), RuntimeError> {
        let shape = |name: &str| {
            let slot = self.slots.iter().find(|s| s.input == name).map(|s| &s.fact);
            let fact = slot.or_else(|| self.ports.feeds.iter().find(|p| p.name == name).map(|p| &p.fact))?;
            Some((name.to_string(), fact.dtype, fact.known_dims()?))
        };
        let Some(inputs) = self.inputs.iter().map(|name| shape(name)).collect::<Option<Inputs>>() else {
            return Ok(());
        };
        guarded(&self.executor, || self.plans.get(inputs)).map(drop)
    }
}

impl Program for TractProgram {
    fn inputs(&self) -> &[Port] {
        &self.ports.feeds
    }

    fn outputs(&self) -> &[Port] {
        &self.ports.fetches
    }

    fn run(&mut self, feeds: &[(&str, &Tensor)], fetch: &[&str]) -> Result<Vec<Tensor>, RuntimeError> {
        self.ports.check_run(feeds, fetch)?;
        let mut key = Inputs::new();
        let mut values: TVec<TValue> = TVec::new();
        for name in &self.inputs {
            if let Some(slot) = self.slots.iter().find(|s| s.input == *name) {
                key.push((name.clone(), slot.fact.dtype, slot.current.shape().to_vec()));
                values.push(TValue::from_const(slot.current.clone()));
            } else if let Some((_, tensor)) = feeds.iter().find(|(fed, _)| fed == name) {
                key.push((name.clone(), tensor.dtype(), tensor.dims().to_vec()));
                values.push(copy_in(name, tensor)?.into());
            }
        }
        let outputs = guarded(&self.executor, || {
            let plan = self.plans.get(key)?;
            plan.run(values).map_err(failed)
        })?;
        let declared = &self.ports.manifest.outputs;
        let position = |name: &str| {
            let have = || declared.iter().map(|p| p.name.clone()).collect();
            let at = declared.iter().position(|p| p.name == name).filter(|at| *at < outputs.len());
            at.ok_or_else(|| RuntimeError::NoSuchOutput { name: name.to_string(), have: have() })
        };
        let fetched: Result<Vec<Tensor>, RuntimeError> = fetch
            .iter()
            .map(|name| {
                let at = position(name)?;
                copy_out(name, declared[at].fact.dtype, &outputs[at])
            })
            .collect();
        let fetched = fetched?;
        let next: Result<Vec<Option<Arc<TractTensor>>>, RuntimeError> = self
            .slots
            .iter()
            .map(|slot| {
                if slot.output.is_empty() {
                    return Ok(None);
                }
                let value = &outputs[position(&slot.output)?];
                next_state(slot, value).map(Some)
            })
            .collect();
        for (slot, next) in self.slots.iter_mut().zip(next?) {
            slot.current = next.unwrap_or_else(|| slot.current.clone());
        }
        Ok(fetched)
    }

    fn state(&self, input: &str) -> Result<Tensor, RuntimeError> {
        let slot = &self.slots[slot_of(self.slots.iter().map(|s| s.input.as_str()), input)?];
        copy_out(input, slot.fact.dtype, &slot.current)
    }

    fn set_state(&mut self, input: &str, value: &Tensor) -> Result<(), RuntimeError> {
        let at = slot_of(self.slots.iter().map(|s| s.input.as_str()), input)?;
        let slot = &mut self.slots[at];
        fits_slot(input, slot.fact.clone(), value)?;
        slot.current = Arc::new(copy_in(input, value)?);
        Ok(())
    }
}

/// The state after a run. tract checks neither the shape nor the type that the graph declares.
fn next_state(slot: &Slot, value: &TValue) -> Result<Arc<TractTensor>, RuntimeError> {
    if value.shape() != slot.current.shape() {
        let got = Fact::new(slot.fact.dtype, value.shape().iter().copied());
        return Err(RuntimeError::ShapeMismatch { value: slot.output.clone(), want: slot.fact.clone(), got });
    }
    if value.datum_type() == slot.current.datum_type() {
        return Ok(value.clone().into_arc_tensor());
    }
    let why = format!("`{}` is {:?}, the state is {}", slot.output, value.datum_type(), slot.fact.dtype);
    Err(RuntimeError::Run { backend: NAME.to_string(), node: None, why })
}
