//! One optimizer step.

use crate::{Noise, TrainError};
use lorac_ir::Tensor;
use lorac_passes::{GRAD_NORM, LOSS, THETA, Update};
use lorac_runtime::Program;

/// A compiled training program, and the number of steps it has taken.
pub struct Step {
    /// The program: its inputs are the batch's, those of the noise, and the scalars of the update; its outputs are the loss
    /// and the norm of its gradient; its state is the update's.
    pub program: Box<dyn Program>,
    /// What the optimizer keeps and what a step is given.
    pub update: Update,
    /// What a step drops is drawn from this, if it drops.
    pub noise: Option<Noise>,
    /// Steps taken.
    pub taken: u64,
}

/// What one step tells.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepResult {
    /// The loss before the update.
    pub loss: f64,
    /// Global norm of the gradient before clipping.
    pub norm: f64,
}

impl StepResult {
    /// Whether the step was taken: one that is not finite changes nothing.
    pub fn is_finite(&self) -> bool {
        self.loss.is_finite() && self.norm.is_finite()
    }
}

impl Step {
    /// Takes a step on the given tensors.
    ///
    /// # Errors
    /// What the engine says.
    pub fn run(&mut self, feeds: &[(String, Tensor)], lr: f64) -> Result<StepResult, TrainError> {
        let scalars = self.update.scalars.iter();
        let scalars: Vec<(&str, Tensor)> =
            scalars.map(|s| (s.name, Tensor::scalar(s.value.at(self.taken, lr) as f32))).collect();
        let mut all: Vec<(&str, &Tensor)> = feeds.iter().map(|(n, t)| (n.as_str(), t)).collect();
        // A row for every token: no batch has more of them than its largest tensor has elements.
        let tokens = feeds.iter().map(|(_, t)| t.len()).max().unwrap_or(0);
        let noise = self.noise.as_ref().map(|n| n.draw(self.taken, tokens)).transpose()?;
        all.extend(noise.iter().flatten().map(|(n, t)| (n.as_str(), t)));
        all.extend(scalars.iter().map(|(n, t)| (*n, t)));
        let out = self.program.run(&all, &[LOSS, GRAD_NORM])?;
        let number = |t: &Tensor| t.to_f64().and_then(|v| v.first().copied()).unwrap_or(f64::NAN);
        let (loss, norm) = (out.first().map_or(f64::NAN, number), out.get(1).map_or(f64::NAN, number));
        let result = StepResult { loss, norm };
        self.taken += u64::from(result.is_finite());
        Ok(result)
    }

    /// The trained values.
    ///
    /// # Errors
    /// What the engine says.
    pub fn theta(&self) -> Result<Vec<f32>, TrainError> {
        Ok(self.program.state(THETA)?.to_vec::<f32>()?)
    }
}
