//! One optimizer step.

use crate::{Noise, State, TrainError};
use lorac_ir::Tensor;
use lorac_passes::{Layout, Names, Update};
use lorac_runtime::Program;
use std::time::{Duration, Instant};

/// A compiled training program, and the number of steps it has taken.
pub struct Step {
    /// The program: its inputs are the batch's, those of the noise, and the scalars of the update; its outputs are the loss
    /// and the norm of its gradient; its state is the update's.
    pub program: Box<dyn Program>,
    /// What the optimizer keeps and what a step is given.
    pub update: Update,
    /// Where params lie in theta.
    pub layout: Layout,
    /// What a step drops is drawn from this, if it drops.
    pub noise: Option<Noise>,
    /// Names of the program's inputs and outputs that are not the model's.
    pub names: Names,
    /// Steps taken.
    pub taken: u64,
    /// How long the engine has computed.
    pub engine_time: Duration,
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
        self.run_slices(&[feeds], lr)
    }

    /// Takes a step on a batch in slices, at least one: what changes is what changes for the whole batch at once.
    ///
    /// # Errors
    /// What the engine says, and several slices for a program of one.
    pub fn run_slices<F: AsRef<[(String, Tensor)]>>(
        &mut self,
        slices: &[F],
        lr: f64,
    ) -> Result<StepResult, TrainError> {
        if slices.is_empty() || (slices.len() > 1 && !self.update.has_slices()) {
            return Err(TrainError::Slices { slices: slices.len() });
        }
        let mut result = StepResult { loss: f64::NAN, norm: f64::NAN };
        for (i, slice) in slices.iter().enumerate() {
            result = self.run_slice(slice.as_ref(), i, i + 1 == slices.len(), lr)?;
        }
        self.taken += u64::from(result.is_finite());
        Ok(result)
    }

    /// Runs the program once: loss and norm of the slices so far.
    fn run_slice(
        &mut self,
        feeds: &[(String, Tensor)],
        slice: usize,
        last: bool,
        lr: f64,
    ) -> Result<StepResult, TrainError> {
        let scalars = self.update.scalars.iter();
        let scalars: Vec<(&str, Tensor)> =
            scalars.map(|s| (s.input.as_str(), Tensor::scalar(s.value.at(self.taken, lr, last) as f32))).collect();
        let mut all: Vec<(&str, &Tensor)> = feeds.iter().map(|(n, t)| (n.as_str(), t)).collect();
        // A row for every token: no batch has more of them than its largest tensor has elements.
        let tokens = feeds.iter().map(|(_, t)| t.len()).max().unwrap_or(0);
        let slice = u32::try_from(slice).unwrap_or(u32::MAX);
        let noise = self.noise.as_ref().map(|n| n.draw(self.taken, slice, tokens)).transpose()?;
        all.extend(noise.iter().flatten().map(|(n, t)| (n.as_str(), t)));
        all.extend(scalars.iter().map(|(n, t)| (*n, t)));
        let start = Instant::now();
        let out = self.program.run(&all, &[&self.names.loss, &self.names.grad_norm]);
        self.engine_time += start.elapsed();
        let out = out?;
        let number = |t: &Tensor| t.to_f64().and_then(|v| v.first().copied()).unwrap_or(f64::NAN);
        Ok(StepResult { loss: out.first().map_or(f64::NAN, number), norm: out.get(1).map_or(f64::NAN, number) })
    }

    /// Takes a step and puts everything back as it was.
    ///
    /// # Errors
    /// What the engine says.
    pub fn try_out(&mut self, feeds: &[(String, Tensor)], lr: f64) -> Result<StepResult, TrainError> {
        let before = State::of(self)?;
        let result = self.run(feeds, lr)?;
        before.restore(self)?;
        Ok(result)
    }

    /// The trained values behind the last step.
    ///
    /// # Errors
    /// What the engine says.
    pub fn theta(&self) -> Result<Vec<f32>, TrainError> {
        Ok(self.program.state(&self.names.theta)?.to_vec::<f32>()?)
    }

    /// What is evaluated and deployed: the running mean of the trained values where one is kept, else [`Step::theta`].
    ///
    /// # Errors
    /// What the engine says.
    pub fn learnt(&self) -> Result<Vec<f32>, TrainError> {
        match &self.update.average {
            Some(mean) => Ok(self.program.state(mean)?.to_vec::<f32>()?),
            None => self.theta(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{BETA, Fault, numbers, quadratic, stateless};
    use lorac_ir::DType;
    use lorac_passes::{GRAD_NORM, LOSS, Scalar, ScalarValue};

    fn batch(target: f32) -> Vec<(String, Tensor)> {
        vec![
            ("ids".into(), Tensor::zeros(DType::I64, &[1, 8]).expect("ids")),
            ("labels".into(), Tensor::vector(&[target])),
        ]
    }

    /// Of three tokens each.
    fn two_rows(loss: f32) -> Vec<(String, Tensor)> {
        let (x, labels) = (Tensor::from_slice(&[2, 3], &[loss; 6]).expect("fits"), Tensor::vector(&[1.0f32; 2]));
        vec![("x".into(), x), ("labels".into(), labels)]
    }

    fn noise() -> Noise {
        let (rows, columns) = ("rows".to_string(), "columns".to_string());
        Noise { seed: 5, rows, row_limit: 64, columns, column_step: 1.0 / 65536.0, depth: 2, width: 3 }
    }

    #[test]
    fn losses_norms_and_parameters_are_those_of_the_quadratic() {
        let (mut step, _) = quadratic(&[3.0, -1.0], &[]);
        // |(2, -2)|^2 / 2; the corrected mean of one gradient is the gradient.
        let first = step.run(&batch(1.0), 0.25).expect("runs");
        assert_eq!(first, StepResult { loss: 4.0, norm: f64::from(8f32.sqrt()) });
        assert_eq!((step.taken, step.theta().expect("theta")), (1, vec![2.5, -0.5]));
        // m = 0.5 (1, -1) + 0.5 (1.5, -1.5), corrected by 1 - 0.5^2.
        assert_eq!(step.run(&batch(1.0), 0.375).expect("runs").loss, 2.25);
        assert_eq!((step.taken, step.theta().expect("theta")), (2, vec![1.875, 0.125]));
    }

    #[test]
    fn scalars_of_the_update_are_fed_under_their_names() {
        let scalar = |name, value| Scalar { name, value };
        let pow = ScalarValue::OneMinusPow;
        let scalars =
            vec![scalar("rate", ScalarValue::LearningRate), scalar("one", pow(0.9)), scalar("two", pow(BETA))];
        let (mut step, calls) = stateless(scalars, noise());
        for lr in [0.5, 0.25, 0.125] {
            step.run(&two_rows(1.0), lr).expect("runs");
        }
        let fed = |name: &str| calls.fed(name).iter().map(|t| numbers(t)[0]).collect::<Vec<_>>();
        assert_eq!(fed("rate"), [0.5, 0.25, 0.125]);
        assert_eq!(fed("one"), [0.1, 0.19, 0.271].map(|x| x as f32));
        assert_eq!(fed("two"), [0.5, 0.75, 0.875]);
        assert!(calls.all().iter().all(|c| c.fetch == [LOSS, GRAD_NORM]));
    }

    #[test]
    fn slices_are_run_in_order_each_with_noise_of_its_own_and_the_last_is_told() {
        let last = Scalar { name: "last", value: ScalarValue::LastSlice };
        let (mut step, calls) = stateless(vec![last], noise());
        assert!(matches!(step.run_slices(&[two_rows(1.0), two_rows(2.0)], 0.1), Err(TrainError::Slices { slices: 2 })));
        step.update.sums = vec![lorac_passes::StateSlot { input: "sum".into(), output: "sum.next".into(), len: 1 }];
        assert!(matches!(step.run_slices::<Vec<(String, Tensor)>>(&[], 0.1), Err(TrainError::Slices { slices: 0 })));
        let said = step.run_slices(&[two_rows(3.0), two_rows(2.0), two_rows(1.0)], 0.1).expect("runs");
        assert_eq!((said.loss, step.taken), (1.0, 1), "what the last says is of all");
        step.run(&two_rows(1.0), 0.1).expect("runs");
        let fed: Vec<f32> = calls.fed("last").iter().map(|t| numbers(t)[0]).collect();
        assert_eq!(fed, [0.0, 0.0, 1.0, 1.0]);
        let rows: Vec<Tensor> = calls.fed("rows");
        let drawn = |taken, slice| noise().draw(taken, slice, 6).expect("draws")[0].1.clone();
        assert_eq!(rows, [drawn(0, 0), drawn(0, 1), drawn(0, 2), drawn(1, 0)]);
        assert!(rows[0] != rows[1] && rows[1] != rows[2] && rows[0] != rows[3]);
    }

    #[test]
    fn noise_is_that_of_the_step_with_a_row_for_every_token() {
        let (mut step, calls) = stateless(Vec::new(), noise());
        // A step that is not finite is taken again.
        for loss in [1.0, f32::NAN, 1.0] {
            step.run(&two_rows(loss), 0.1).expect("runs");
        }
        for (call, taken) in calls.all().iter().zip([0, 1, 1]) {
            for (name, want) in noise().draw(taken, 0, 6).expect("draws") {
                assert_eq!(call.fed(&name), &want, "{name} behind {taken} steps");
            }
        }
    }

    #[test]
    fn a_step_that_is_tried_out_leaves_no_trace() {
        let (mut step, calls) = quadratic(&[3.0, -1.0], &[]);
        step.run(&batch(1.0), 0.25).expect("runs");
        let before = State::of(&step).expect("a state");
        let tried = step.try_out(&batch(5.0), 0.25).expect("runs");
        assert!(tried.is_finite() && calls.all().len() == 2);
        assert_eq!(State::of(&step).expect("a state"), before);
        assert!(quadratic(&[1.0], &[(1, Fault::Engine)]).0.try_out(&batch(1.0), 0.1).is_err());
    }

    #[test]
    fn only_finite_steps_count() {
        let (mut step, _) = quadratic(&[3.0], &[(2, Fault::Loss), (3, Fault::Gradient), (4, Fault::Engine)]);
        let mut counts = Vec::new();
        for _ in 0..5 {
            let finite = step.run(&batch(1.0), 0.1).is_ok_and(|r| r.is_finite());
            counts.push((finite, step.taken));
        }
        assert_eq!(counts, [(true, 1), (false, 1), (false, 1), (false, 1), (true, 2)]);
    }
}
