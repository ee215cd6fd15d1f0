//! ONNX Runtime, loaded from a library file at run time.

mod copy;
mod foreign;
mod inline;
mod load;
mod program;
mod session;

pub use load::take_log;

use crate::gpu::{check_gpu, preload};
use crate::ports::Ports;
use crate::{Backend, Device, DeviceChoice, Options, Program, RuntimeError, Source};
use load::Loaded;
use lorac_ir::Dialect;
use ort::ep::{ArenaExtendStrategy, CUDA, ExecutionProvider, ExecutionProviderDispatch};
use ort::session::Session;
use std::path::Path;

/// What ONNX Runtime reads.
pub const ONNX_RUNTIME: Dialect = Dialect::FULL;

/// Opens an ONNX Runtime library file. A process can hold one library: the same file may be opened again, with other
/// options, another file is an error.
pub fn open_onnxruntime(library: &Path, options: &Options) -> Result<Box<dyn Backend>, RuntimeError> {
    let loaded = load::load(library)?;
    let (device, reason) = match options.device {
        DeviceChoice::Cuda => {
            check_cuda(&loaded, options)?;
            (Device::Cuda, "asked for".to_string())
        }
        DeviceChoice::Auto => match check_cuda(&loaded, options) {
            Ok(()) => (Device::Cuda, "the library offers CUDA and a GPU is present".to_string()),
            Err(RuntimeError::NoGpu { why, .. }) => (Device::Cpu, format!("no GPU: {why}")),
            Err(why) => (Device::Cpu, format!("no GPU: {why}")),
        },
        DeviceChoice::Cpu => (Device::Cpu, "asked for".to_string()),
    };
    Ok(Box::new(OnnxRuntime { loaded, options: options.clone(), device, reason }))
}

struct OnnxRuntime {
    loaded: Loaded,
    options: Options,
    device: Device,
    reason: String,
}

/// The CUDA provider as lorac configures it. Registration fails rather than falling back silently.
pub(crate) fn cuda(options: &Options) -> ExecutionProviderDispatch {
    CUDA::default()
        .with_device_id(i32::try_from(options.gpu).unwrap_or(i32::MAX))
        .with_tf32(options.tf32)
        // Doubling the arena wastes up to half of the GPU's memory on a model that fits otherwise.
        .with_arena_extend_strategy(ArenaExtendStrategy::SameAsRequested)
        .build()
        .error_on_failure()
}

fn check_cuda(loaded: &Loaded, options: &Options) -> Result<(), RuntimeError> {
    let fail = |why: String, help: &str| RuntimeError::NoGpu { why, help: help.to_string() };
    if !CUDA::is_available().unwrap_or(false) {
        return Err(fail(
            format!("{} is a build without CUDA", loaded.path.display()),
            "use a build with CUDA, such as the package onnxruntime-gpu, or run on the CPU instead",
        ));
    }
    check_gpu()?;
    let unloaded = preload(&options.cuda_libraries);
    let builder = Session::builder(&loaded.environment).map_err(|e| fail(e.to_string(), "run on the CPU instead"))?;
    builder.with_execution_providers([cuda(options)]).map(drop).map_err(|e| {
        let why = [vec![e.message().to_string()], unloaded].concat().join("; ");
        fail(why, "install the CUDA libraries that this build needs, or run on the CPU instead")
    })
}

impl Backend for OnnxRuntime {
    fn name(&self) -> String {
        format!("onnxruntime {}", self.loaded.version)
    }

    fn dialect(&self) -> Dialect {
        ONNX_RUNTIME
    }

    fn device(&self) -> Device {
        self.device
    }

    fn reason(&self) -> &str {
        &self.reason
    }

    fn compile(&self, source: Source) -> Result<Box<dyn Program>, RuntimeError> {
        let name = self.name();
        let ports = Ports::of(&name, &source)?;
        let compiled = session::compile(self, &ports, &source)?;
        Ok(Box::new(program::OrtProgram::new(self, name, ports, compiled, source.state)?))
    }
}
