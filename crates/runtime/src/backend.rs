//! The interface of every engine.

use crate::cores::physical_cores;
use crate::{Port, RuntimeError};
use bytes::Bytes;
use lorac_ir::{Dialect, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// A model to compile: the graph, its weights and what stays on the device.
pub struct Source {
    /// A serialized `ModelProto`. Initializers named in `weights` carry no data here, only a reference to external
    /// data (any relative file name; no such file needs to exist).
    pub model: Bytes,
    /// The data of initializers, by name. ONNX Runtime reads them in place, tract copies each once.
    pub weights: Vec<(String, Tensor)>,
    /// Inputs that live on the device.
    pub state: Vec<StateSlot>,
}

/// A graph input that stays on the device between runs.
#[derive(Clone, Debug)]
pub struct StateSlot {
    /// The graph input that reads the state.
    pub input: String,
    /// The graph output that becomes the state of the next run; empty where only [`Program::set_state`] changes it.
    pub output: String,
    /// The state before the first run.
    pub init: Tensor,
}

/// An engine that compiles models.
pub trait Backend: Send {
    /// Name and version: `onnxruntime 1.31.1`, `tract 0.23.9`.
    fn name(&self) -> String;
    /// What graphs and files it reads.
    fn dialect(&self) -> Dialect;
    /// Where programs run.
    fn device(&self) -> Device;
    /// Why programs run there, in a sentence.
    fn reason(&self) -> &str;
    /// Compiles a model. Errors name an unknown or unbound weight or state slot before the engine sees the model.
    fn compile(&self, source: Source) -> Result<Box<dyn Program>, RuntimeError>;
}

impl fmt::Debug for dyn Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.name(), self.device())
    }
}

/// A compiled model with its state. One run at a time.
pub trait Program: Send {
    /// The graph inputs to feed, without state and initializers.
    fn inputs(&self) -> &[Port];
    /// The graph outputs that can be fetched, without those that become state.
    fn outputs(&self) -> &[Port];
    /// Runs once with every input fed, makes the new state the current one, and returns the asked outputs on the host,
    /// in the order asked. After an error the state is what it was before the run.
    fn run(&mut self, feeds: &[(&str, &Tensor)], fetch: &[&str]) -> Result<Vec<Tensor>, RuntimeError>;
    /// A copy of the current state of a slot.
    fn state(&self, input: &str) -> Result<Tensor, RuntimeError>;
    /// Replaces the current state of a slot. Type and shape must be those of [`StateSlot::init`].
    fn set_state(&mut self, input: &str, value: &Tensor) -> Result<(), RuntimeError>;
}

impl fmt::Debug for dyn Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "program{:?} -> {:?}", self.inputs(), self.outputs())
    }
}

/// What programs run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Device {
    /// The processor.
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Device::Cpu => "cpu",
            Device::Cuda => "cuda",
        })
    }
}

/// Processor or GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeviceChoice {
    /// A GPU where there is one and the library can use it
    #[default]
    Auto,
    /// The processor
    Cpu,
    /// An NVIDIA GPU, or an error
    Cuda,
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceChoice::Auto => f.write_str("auto"),
            DeviceChoice::Cpu => Device::Cpu.fmt(f),
            DeviceChoice::Cuda => Device::Cuda.fmt(f),
        }
    }
}

/// How much an engine may rewrite a graph. tract knows only all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Optimization {
    /// Runs the graph node by node as it stands.
    Off,
    /// Redundancy elimination and constant folding.
    Basic,
    /// Fusions too.
    Extended,
    /// Layout changes too.
    #[default]
    All,
}

/// How to open an engine.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where to run.
    pub device: DeviceChoice,
    /// Threads within an operator; the physical cores that this process may use where `None`.
    pub threads: Option<usize>,
    /// Graph rewriting by the engine.
    pub optimization: Optimization,
    /// The GPU to use, counted from 0.
    pub gpu: u32,
    /// Lets the GPU round f32 factors to TF32's 10-bit mantissa: faster, and too coarse to verify a fold with.
    pub tf32: bool,
    /// Folders of CUDA libraries to load before the provider is, for machines where the system loader does not find
    /// them (such as unpacked `nvidia-*` wheels).
    pub cuda_libraries: Vec<PathBuf>,
}

impl Options {
    /// Threads within an operator: as many as were asked for, else the physical cores that this process may use.
    pub fn intra_threads(&self) -> usize {
        self.threads.unwrap_or_else(physical_cores).max(1)
    }
}
