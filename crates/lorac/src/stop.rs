//! What ends early once the user wants to stop: what loops over batches ends after the one under way.

use crate::error::Error;
use lorac_ir::Tensor;
use lorac_runtime::{Port, Program, RuntimeError};
use lorac_train::{Going, NextToken, Scored, TrainError};
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
        interrupted(self.stop)?;
        self.program.run(feeds, fetch)
    }

    fn state(&self, input: &str) -> Result<Tensor, RuntimeError> {
        self.program.state(input)
    }

    fn set_state(&mut self, input: &str, value: &Tensor) -> Result<(), RuntimeError> {
        self.program.set_state(input, value)
    }
}

fn interrupted(stop: &AtomicBool) -> Result<(), RuntimeError> {
    match stop.load(Ordering::Relaxed) {
        true => Err(RuntimeError::Run { backend: "lorac".into(), node: None, why: "interrupted".into() }),
        false => Ok(()),
    }
}

/// Another thing that scores tokens, and what ends it.
pub(crate) struct StoppableNext<'a> {
    pub(crate) next: &'a mut dyn NextToken,
    pub(crate) stop: &'a AtomicBool,
}

impl NextToken for StoppableNext<'_> {
    fn equal_lengths(&self) -> bool {
        self.next.equal_lengths()
    }

    fn score(&mut self, rows: &[Going]) -> Result<Scored, TrainError> {
        interrupted(self.stop)?;
        self.next.score(rows)
    }

    fn forget(&mut self) {
        self.next.forget();
    }
}
