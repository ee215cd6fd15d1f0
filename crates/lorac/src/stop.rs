//! What ends early once the user wants to stop: what loops over batches ends after the one under way.

use crate::error::Error;
use lorac_ir::Tensor;
use lorac_runtime::{Port, Program, RuntimeError};
use std::sync::atomic::{AtomicBool, Ordering};

/// The error of work that is to end here.
pub(crate) fn stopped(stop: &AtomicBool, error: impl FnOnce() -> Error) -> Result<(), Error> {
    if stop.load(Ordering::Relaxed) { Err(error()) } else { Ok(()) }
}

/// Another program, and what ends it.
pub(crate) struct Stoppable<'a> {
    pub(crate) program: &'a mut dyn Program,
    pub(crate) stop: &'a AtomicBool,
}

impl Program for Stoppable<'_> {
    fn inputs(&self) -> &[Port] {
        self.program.inputs()
    }

    fn outputs(&self) -> &[Port] {
        self.program.outputs()
    }

    fn run(&mut self, feeds: &[(&str, &Tensor)], fetch: &[&str]) -> Result<Vec<Tensor>, RuntimeError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(RuntimeError::Run { backend: "lorac".into(), node: None, why: "interrupted".into() });
        }
        self.program.run(feeds, fetch)
    }

    fn state(&self, input: &str) -> Result<Tensor, RuntimeError> {
        self.program.state(input)
    }

    fn set_state(&mut self, input: &str, value: &Tensor) -> Result<(), RuntimeError> {
        self.program.set_state(input, value)
    }
}
