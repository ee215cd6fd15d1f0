//! A program that refuses to run once the user wants to stop: what loops over batches ends after the one under way.

use lorac_ir::Tensor;
use lorac_runtime::{Port, Program, RuntimeError};
use std::sync::atomic::{AtomicBool, Ordering};

/// Another program, and what ends it.
pub(super) struct Stoppable<'a> {
    pub(super) program: &'a mut dyn Program,
    pub(super) stop: &'a AtomicBool,
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
