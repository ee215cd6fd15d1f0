//! tract, the pure-Rust engine: for machines with no ONNX Runtime.

mod convert;
mod guard;
mod model;
mod plan;
mod program;

use crate::ports::Ports;
use crate::{Backend, Device, DeviceChoice, Options, Program, RuntimeError, Source};
use lorac_ir::Dialect;
use tract_linalg::multithread::Executor;

/// The version that the workspace pins; tract does not say its own.
const NAME: &str = "tract 0.23.9";

/// What the embedded engine reads: the standard's operators, in a graph that the caller encoded.
pub const TRACT: Dialect =
    Dialect { fused: false, i64_cumsum: false, half_gemm: false, empty_inputs: false, files: false };

/// The embedded engine, which runs on the CPU. Of the options only the threads matter to it.
///
/// The first call installs a panic hook that keeps tract's panics, which become errors, off stderr; all others go to
/// the hook that was there before.
pub fn embedded(options: &Options) -> Box<dyn Backend> {
    guard::quiet();
    let threads = options.intra_threads();
    let executor = if threads == 1 {
        Executor::SingleThread
    } else {
        // Building the pool panics where the system grants no more threads.
        std::panic::catch_unwind(|| Executor::multithread_with_name(threads, guard::WORKER)).unwrap_or_default()
    };
    let reason = match options.device {
        DeviceChoice::Cpu => "asked for",
        _ => "the embedded engine runs on the CPU",
    };
    Box::new(Embedded { executor, reason: reason.to_string() })
}

struct Embedded {
    executor: Executor,
    reason: String,
}

impl Backend for Embedded {
    fn name(&self) -> String {
        NAME.to_string()
    }

    fn dialect(&self) -> Dialect {
        TRACT
    }

    fn device(&self) -> Device {
        Device::Cpu
    }

    fn reason(&self) -> &str {
        &self.reason
    }

    fn compile(&self, source: Source) -> Result<Box<dyn Program>, RuntimeError> {
        let ports = Ports::of(NAME, &source)?;
        Ok(Box::new(program::TractProgram::new(self.executor.clone(), ports, source)?))
    }
}
