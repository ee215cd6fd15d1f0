//! Runs a session with its state in ping-pong buffers.

use super::OnnxRuntime;
use super::copy::{Copier, failed, host};
use super::foreign::{Foreign, copy_out, element_type, lend};
use super::session::Compiled;
use crate::ports::{Ports, fits_slot, slot_of};
use crate::{Device, Port, Program, RuntimeError, StateSlot};
use bytes::Bytes;
use lorac_ir::{Fact, Tensor};
use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::{IoBinding, Session};
use ort::value::{DynTensor, DynTensorValueType};
use std::cell::RefCell;

/// A slot's buffers on the device. A slot without output has one.
struct Slot {
    input: String,
    output: String,
    fact: Fact,
    buffers: Vec<DynTensor>,
}

impl Slot {
    /// The buffer that holds the current state in this phase.
    fn current(&self, phase: usize) -> Option<&DynTensor> {
        self.buffers.get(phase % self.buffers.len().max(1))
    }

    /// The buffer that the run of this phase writes; `None` without output.
    fn next(&mut self, phase: usize) -> Option<&mut DynTensor> {
        if self.buffers.len() < 2 { None } else { self.buffers.get_mut(1 - phase) }
    }
}

// Invariant: fields drop in this order. Bindings use the buffers and the session, the buffers' memory comes from the
// session's allocator, and the session reads the weights' bytes.
pub(crate) struct OrtProgram {
    backend: String,
    ports: Ports,
    /// One binding for each phase: it reads the buffers that the other writes.
    bindings: [Binding; 2],
    slots: Vec<Slot>,
    session: Session,
    _weights: Vec<Bytes>,
    /// Moves state between host and device. A cell because reading the state changes nothing that a caller sees.
    copier: RefCell<Copier>,
    phase: usize,
    host: MemoryInfo<'static>,
}

struct Binding {
    io: IoBinding,
    /// What is bound now.
    fetch: Vec<String>,
    feeds: Vec<Foreign>,
}

impl OrtProgram {
    pub(crate) fn new(
        engine: &OnnxRuntime,
        backend: String,
        ports: Ports,
        compiled: Compiled,
        state: Vec<StateSlot>,
    ) -> Result<OrtProgram, RuntimeError> {
        let Compiled { session, weights } = compiled;
        let fail = |e: ort::Error| failed(&backend, &e);
        let (device, id) = match engine.device {
            Device::Cuda => (AllocationDevice::CUDA, i32::try_from(engine.options.gpu).unwrap_or(i32::MAX)),
            Device::Cpu => (AllocationDevice::CPU, 0),
        };
        let info = MemoryInfo::new(device, id, AllocatorType::Device, MemoryType::Default).map_err(fail)?;
        let host = host().map_err(fail)?;
        let allocator = Allocator::new(&session, info).map_err(fail)?;
        let mut copier = Copier::new(engine, &backend);
        let mut slots = Vec::new();
        for StateSlot { input, output, init } in state {
            let element = element_type(init.dtype()).ok_or_else(|| RuntimeError::DType {
                backend: backend.clone(),
                value: input.clone(),
                dtype: init.dtype().to_string(),
            })?;
            let shape: Vec<i64> = init.dims().iter().map(|d| *d as i64).collect();
            let count = if output.is_empty() { 1 } else { 2 };
            let buffers: Result<Vec<_>, _> =
                (0..count).map(|_| DynTensor::new(&allocator, element, shape.clone())).collect();
            let mut slot = Slot { input, output, fact: init.fact(), buffers: buffers.map_err(fail)? };
            if let Some(buffer) = slot.buffers.first_mut() {
                copier.write(&slot.input, &init, buffer)?;
            }
            slots.push(slot);
        }
        let bind = |phase| bind_state(&session, &slots, phase).map_err(fail);
        let bindings = [bind(0)?, bind(1)?];
        let copier = RefCell::new(copier);
        Ok(OrtProgram { backend, ports, bindings, slots, session, _weights: weights, copier, phase: 0, host })
    }
}

fn bind_state(session: &Session, slots: &[Slot], phase: usize) -> ort::Result<Binding> {
    let mut io = session.create_binding()?;
    for slot in slots {
        if let Some(buffer) = slot.current(phase) {
            io.bind_input(&slot.input, buffer)?;
        }
    }
    Ok(Binding { io, fetch: Vec::new(), feeds: Vec::new() })
}

impl Binding {
    /// Binds the feeds of this run, and outputs where the last run of this binding left other ones.
    fn prepare(
        &mut self,
        feeds: Vec<(&str, Foreign)>,
        fetch: &[&str],
        slots: &mut [Slot],
        phase: usize,
        host: &MemoryInfo,
    ) -> ort::Result<()> {
        if self.fetch != fetch {
            self.io.clear_outputs();
            self.fetch.clear();
        }
        if self.fetch.is_empty() {
            for slot in slots {
                let name = slot.output.clone();
                if let Some(buffer) = slot.next(phase) {
                    self.io.bind_output::<DynTensorValueType, _>(name, buffer)?;
                }
            }
        }
        // An output left bound from the last run would be written in place, at its old shape.
        for name in fetch {
            self.io.bind_output_to_device(*name, host)?;
        }
        self.fetch = fetch.iter().map(|f| f.to_string()).collect();
        for (name, feed) in &feeds {
            self.io.bind_input(*name, &feed.value)?;
        }
        self.feeds = feeds.into_iter().map(|(_, feed)| feed).collect();
        Ok(())
    }
}

impl Program for OrtProgram {
    fn inputs(&self) -> &[Port] {
        &self.ports.feeds
    }

    fn outputs(&self) -> &[Port] {
        &self.ports.fetches
    }

    fn run(&mut self, feeds: &[(&str, &Tensor)], fetch: &[&str]) -> Result<Vec<Tensor>, RuntimeError> {
        self.ports.check_run(feeds, fetch)?;
        let backend = self.backend.as_str();
        let fail = |e: ort::Error| failed(backend, &e);
        let lent: Result<Vec<_>, _> =
            feeds.iter().map(|(name, tensor)| Ok((*name, lend(backend, name, tensor)?))).collect();
        let phase = self.phase;
        let [even, odd] = &mut self.bindings;
        let binding = if phase == 0 { even } else { odd };
        binding.prepare(lent?, fetch, &mut self.slots, phase, &self.host).map_err(fail)?;
        let outputs = self.session.run_binding(&binding.io).map_err(fail)?;
        let fetched: Result<Vec<Tensor>, RuntimeError> = fetch
            .iter()
            .map(|name| {
                let missing = || RuntimeError::NoSuchOutput { name: name.to_string(), have: Vec::new() };
                let value = outputs.get(name).ok_or_else(missing)?.view();
                let value = value.downcast::<DynTensorValueType>().map_err(fail)?;
                copy_out(backend, name, &value)
            })
            .collect();
        let fetched = fetched?;
        self.phase = 1 - phase;
        Ok(fetched)
    }

    fn state(&self, input: &str) -> Result<Tensor, RuntimeError> {
        let slot = &self.slots[slot_of(self.slots.iter().map(|s| s.input.as_str()), input)?];
        let missing = || RuntimeError::NoSuchState { name: input.to_string(), have: Vec::new() };
        let buffer = slot.current(self.phase).ok_or_else(missing)?;
        self.copier.borrow_mut().read(input, slot.fact.dtype, buffer)
    }

    fn set_state(&mut self, input: &str, value: &Tensor) -> Result<(), RuntimeError> {
        let at = slot_of(self.slots.iter().map(|s| s.input.as_str()), input)?;
        let slot = &mut self.slots[at];
        fits_slot(input, slot.fact.clone(), value)?;
        let current = self.phase % slot.buffers.len().max(1);
        match slot.buffers.get_mut(current) {
            Some(buffer) => self.copier.get_mut().write(input, value, buffer),
            None => Ok(()),
        }
    }
}
