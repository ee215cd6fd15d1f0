//! Moves tensors between host and device, through a session that computes the identity.
//!
//! The interface version that lorac speaks has no call that copies; binding does. `ort` has the same for itself, with
//! settings that versions before 1.23 refuse.

use super::foreign::{copy_out, lend};
use super::{OnnxRuntime, cuda};
use crate::error::node_in;
use crate::{Device, Options, RuntimeError};
use lorac_ir::{DType, Tensor};
use lorac_onnx::field_number::{
    GRAPH_INPUT, GRAPH_NODE, GRAPH_OUTPUT, MODEL_GRAPH, NODE_NAME, NODE_OP_TYPE, NODE_OUTPUT,
};
use lorac_onnx::wire::{put_bytes, put_integer};
use ort::environment::Environment;
use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{IoBinding, Session};
use ort::value::{DynTensor, DynTensorValueType};
use std::collections::HashMap;

/// Copies tensors, with one small session for each element type met.
pub(crate) struct Copier {
    backend: String,
    environment: Environment,
    device: Device,
    options: Options,
    sessions: HashMap<DType, (IoBinding, Session)>,
}

/// An error of the library while running.
pub(crate) fn failed(backend: &str, e: &ort::Error) -> RuntimeError {
    let why = e.message().to_string();
    RuntimeError::Run { backend: backend.to_string(), node: node_in(&why), why }
}

/// Where outputs go that the host reads.
pub(crate) fn host() -> ort::Result<MemoryInfo<'static>> {
    MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::CPUOutput)
}

impl Copier {
    pub(crate) fn new(engine: &OnnxRuntime, backend: &str) -> Copier {
        Copier {
            backend: backend.to_string(),
            environment: engine.loaded.environment.clone(),
            device: engine.device,
            options: engine.options.clone(),
            sessions: HashMap::new(),
        }
    }

    fn session(&mut self, dtype: DType) -> ort::Result<&mut (IoBinding, Session)> {
        // Not `entry`: making the session can fail.
        if !self.sessions.contains_key(&dtype) {
            let builder = Session::builder(&self.environment)?
                .with_optimization_level(GraphOptimizationLevel::Disable)?
                .with_intra_threads(1)?
                .with_memory_pattern(false)?;
            let mut builder = match self.device {
                Device::Cuda => builder.with_execution_providers([cuda(&self.options)])?,
                Device::Cpu => builder,
            };
            let session = builder.commit_from_memory(&identity(dtype))?;
            self.sessions.insert(dtype, (session.create_binding()?, session));
        }
        self.sessions.get_mut(&dtype).ok_or_else(|| ort::Error::new("no session to copy with"))
    }

    /// Copies a host tensor into a buffer of the same type and shape on the device.
    pub(crate) fn write(&mut self, name: &str, from: &Tensor, to: &mut DynTensor) -> Result<(), RuntimeError> {
        if from.is_empty() {
            return Ok(());
        }
        let lent = lend(&self.backend, name, from)?;
        let copy = || -> ort::Result<()> {
            let (io, session) = self.session(from.dtype())?;
            io.bind_input("x", &lent.value)?;
            io.synchronize_inputs()?;
            io.bind_output::<DynTensorValueType, _>("y", to)?;
            session.run_binding(io)?;
            io.synchronize_outputs()
        };
        let result = copy();
        self.release(from.dtype());
        result.map_err(|e| failed(&self.backend, &e))
    }

    /// Copies a buffer on the device to the host.
    pub(crate) fn read(&mut self, name: &str, dtype: DType, from: &DynTensor) -> Result<Tensor, RuntimeError> {
        let backend = self.backend.clone();
        let mut copy = || -> Result<Tensor, RuntimeError> {
            let fail = |e: ort::Error| failed(&backend, &e);
            let (io, session) = self.session(dtype).map_err(fail)?;
            io.bind_input("x", from).map_err(fail)?;
            io.bind_output_to_device("y", &host().map_err(fail)?).map_err(fail)?;
            let outputs = session.run_binding(io).map_err(fail)?;
            let value = outputs.get("y").ok_or_else(|| fail(ort::Error::new("nothing was copied")))?.view();
            let value = value.downcast::<DynTensorValueType>().map_err(fail)?;
            copy_out(&backend, name, &value)
        };
        let result = copy();
        self.release(dtype);
        result
    }

    /// Lets go of both ends of a copy: the host's may be freed next.
    fn release(&mut self, dtype: DType) {
        if let Some((io, _)) = self.sessions.get_mut(&dtype) {
            io.clear();
        }
    }
}

/// A model whose output `y` is its input `x`, of any shape.
fn identity(dtype: DType) -> Vec<u8> {
    let message = |parts: &[(u32, &[u8])]| {
        let mut out = Vec::new();
        parts.iter().for_each(|(number, content)| put_bytes(&mut out, *number, content));
        out
    };
    let mut tensor = Vec::new();
    put_integer(&mut tensor, 1, dtype.onnx_code().map_or(0, i64::cast_unsigned));
    let kind = message(&[(1, &tensor)]);
    let port = |name: &[u8]| message(&[(1, name), (2, &kind)]);
    let node = message(&[(1, b"x"), (NODE_OUTPUT, b"y"), (NODE_NAME, b"copy"), (NODE_OP_TYPE, b"Identity")]);
    let (input, output) = (port(b"x"), port(b"y"));
    let graph = message(&[(GRAPH_NODE, &node), (2, b"copy"), (GRAPH_INPUT, &input), (GRAPH_OUTPUT, &output)]);
    // IR version 8, operator set 13: every ONNX Runtime that lorac can load knows them.
    let mut model = Vec::new();
    put_integer(&mut model, 1, 8);
    put_bytes(&mut model, MODEL_GRAPH, &graph);
    put_bytes(&mut model, 8, &[16, 13]);
    model
}
