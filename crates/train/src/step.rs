//! One optimizer step.

use crate::{Noise, TrainError};
use lorac_ir::Tensor;
use lorac_runtime::Program;

/// A compiled training program with AdamW inside, and the number of steps it has taken.
pub struct Step {
    /// The program: inputs as fed, those of the noise, and `lr`, `correction1` and `correction2`; outputs `loss` and
    /// `grad_norm`; state `theta`, `m` and `v`.
    pub program: Box<dyn Program>,
    /// Decay of the two moments.
    pub betas: [f64; 2],
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
    pub fn run(&mut self, feeds: &[(String, Tensor)], lr: f64) -> Result<StepResult, TrainError> {
        let power = i32::try_from(self.taken + 1).unwrap_or(i32::MAX);
        let correction = |beta: f64| Tensor::scalar((1.0 - beta.powi(power)) as f32);
        let numbers = [
            ("lr", Tensor::scalar(lr as f32)),
            ("correction1", correction(self.betas[0])),
            ("correction2", correction(self.betas[1])),
        ];
        let mut all: Vec<(&str, &Tensor)> = feeds.iter().map(|(n, t)| (n.as_str(), t)).collect();
        // A row for every token: no batch has more of them than its largest tensor has elements.
        let tokens = feeds.iter().map(|(_, t)| t.len()).max().unwrap_or(0);
        let noise = self.noise.as_ref().map(|n| n.draw(self.taken, tokens)).transpose()?;
        all.extend(noise.iter().flatten().map(|(n, t)| (n.as_str(), t)));
        all.extend(numbers.iter().map(|(n, t)| (*n, t)));
        let out = self.program.run(&all, &["loss", "grad_norm"])?;
        let number = |t: &Tensor| t.to_f64().and_then(|v| v.first().copied()).unwrap_or(f64::NAN);
        let (loss, norm) = (out.first().map_or(f64::NAN, number), out.get(1).map_or(f64::NAN, number));
        let result = StepResult { loss, norm };
        self.taken += u64::from(result.is_finite());
        Ok(result)
    }

    /// The trained values.
    pub fn theta(&self) -> Result<Vec<f32>, TrainError> {
        Ok(self.program.state("theta")?.to_vec::<f32>()?)
    }
}
