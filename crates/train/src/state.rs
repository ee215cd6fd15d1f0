//! What a training is between two steps, in memory.

use crate::{Step, TrainError};
use lorac_ir::Tensor;

/// theta and what the optimizer keeps behind a number of steps.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Steps taken.
    pub taken: u64,
    /// The slots of the update by the names of their inputs, in its order.
    pub slots: Vec<(String, Tensor)>,
}

impl State {
    /// The state of a running training.
    ///
    /// # Errors
    /// What the engine says.
    pub fn of(step: &Step) -> Result<State, TrainError> {
        let names = step.update.slots.iter().map(|s| s.input.clone());
        let get = |name: String| step.program.state(&name).map(|values| (name, values));
        Ok(State { taken: step.taken, slots: names.map(get).collect::<Result<_, _>>()? })
    }

    /// Puts the state back.
    ///
    /// # Errors
    /// State that either of the two does not have, or of another size. Then nothing is put back.
    pub fn restore(&self, step: &mut Step) -> Result<(), TrainError> {
        let here: Vec<(&str, usize)> = self.slots.iter().map(|(name, values)| (name.as_str(), values.len())).collect();
        let there: Vec<(&str, usize)> = step.update.slots.iter().map(|s| (s.input.as_str(), s.len)).collect();
        let len = |of: &[(&str, usize)], name: &str| of.iter().find(|s| s.0 == name).map_or(0, |s| s.1);
        for (name, _) in there.iter().chain(&here) {
            let (want, got) = (len(&there, name), len(&here, name));
            if want != got {
                return Err(TrainError::State { name: name.to_string(), want, got });
            }
        }
        for (name, values) in &self.slots {
            step.program.set_state(name, values)?;
        }
        step.taken = self.taken;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::quadratic;
    use lorac_passes::THETA;

    #[test]
    fn another_trainings_state_is_refused_and_nothing_put_back() {
        let named = |name: &str, len: usize| (name.to_string(), Tensor::vector(&vec![7.0f32; len]));
        let cases = [
            (vec![named(THETA, 2)], "`m`: the checkpoint has 0 elements, the training 2"),
            (vec![named(THETA, 2), named("m", 3)], "`m`: the checkpoint has 3 elements, the training 2"),
            (vec![named(THETA, 2), named("m", 2), named("v", 2)], "`v`: the checkpoint has 2 elements, the training 0"),
        ];
        for (slots, want) in cases {
            let (mut step, _) = quadratic(&[1.0, 2.0], &[]);
            let error = State { taken: 3, slots }.restore(&mut step).expect_err(want);
            assert!(error.to_string().contains(want), "{error}");
            assert_eq!((step.taken, step.theta().expect("theta")), (0, vec![1.0, 2.0]));
        }
    }
}
