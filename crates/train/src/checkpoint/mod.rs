//! Checkpoints: a training between two steps as a file that describes itself, and that survives a crash.
//!
//! A file is safetensors. `theta/NAME` is a param in its own shape, `m/NAME` what the optimizer keeps of it in its slot
//! `m`; a slot that is not of theta's length is whole under its own name. `losses` are those of the last steps. Its
//! metadata say the rest: the step, how the training went so far, and what whoever trains has to say of it.

mod file;
mod keeper;

pub(crate) use keeper::Keeper;
pub use keeper::{Checkpoints, Kept};

use crate::{History, State, Step, TrainError};
use lorac_ir::{DType, Tensor};
use lorac_passes::{AVERAGE, Layout, LayoutError, THETA};
use std::collections::BTreeMap;

/// A training between two steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// Steps taken.
    pub step: u64,
    /// The params and what the optimizer keeps of them, f32, sorted by name: `theta/NAME`, `m/NAME`.
    pub tensors: Vec<(String, Tensor)>,
    /// How the training went.
    pub history: History,
    /// What whoever trains says of it, by key.
    pub about: BTreeMap<String, String>,
}

impl Checkpoint {
    /// Key in the metadata of the file, by which lorac knows its checkpoints; the value is the step.
    pub const MARK: &str = "lorac_step";

    /// A running training.
    ///
    /// # Errors
    /// What the engine says.
    pub fn of(step: &Step, history: &History, about: &BTreeMap<String, String>) -> Result<Checkpoint, TrainError> {
        Checkpoint::behind(&State::of(step)?, step, history, about)
    }

    /// A training as it was in this state.
    pub(crate) fn behind(
        state: &State,
        step: &Step,
        history: &History,
        about: &BTreeMap<String, String>,
    ) -> Result<Checkpoint, TrainError> {
        let mut tensors = Vec::new();
        for (slot, values) in &state.slots {
            tensors.extend(by_param(label(step, slot), values, &step.layout)?);
        }
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(Checkpoint { step: state.taken, tensors, history: history.clone(), about: about.clone() })
    }

    /// The params alone, without what only a training needs.
    pub fn params_only(mut self) -> Checkpoint {
        self.tensors.retain(|(name, _)| param(name).is_some());
        self
    }

    /// Puts the state back.
    ///
    /// # Errors
    /// State that either of the two does not have, or of another size. Then nothing is put back.
    pub fn restore(&self, step: &mut Step) -> Result<(), TrainError> {
        let mut slots = Vec::new();
        let mut read = 0;
        for slot in &step.update.slots {
            let (label, whole) = (label(step, &slot.input), self.tensor(&slot.input));
            let values = match whole {
                Some(values) if slot.len != step.layout.len() => {
                    read += 1;
                    self.checked(&slot.input, values, slot.len)?;
                    flat(values)?
                }
                _ => {
                    read += step.layout.slots().len();
                    self.joined(label, &step.layout)?
                }
            };
            slots.push((slot.input.clone(), values));
        }
        if read != self.tensors.len() {
            let known = |name: &str| {
                let of_param = |(slot, param): (&str, &str)| {
                    let slot = step.update.slots.iter().any(|s| label(step, &s.input) == slot);
                    slot && step.layout.slot(param).is_ok()
                };
                name.split_once('/').map_or(slots.iter().any(|s| s.0 == name), of_param)
            };
            let other = self.tensors.iter().find(|(name, _)| !known(name));
            let (name, got) = other.map_or(("", 0), |(name, values)| (name.as_str(), values.len()));
            return Err(TrainError::State { name: name.into(), want: 0, got });
        }
        State { taken: self.step, slots }.restore(step)
    }

    /// theta, of a layout whose params are all there.
    ///
    /// # Errors
    /// A param that is not there, or of another shape.
    pub fn theta(&self, layout: &Layout) -> Result<Vec<f32>, TrainError> {
        Ok(self.joined(THETA, layout)?.to_vec()?)
    }

    /// What is evaluated and deployed of a layout whose params are all there: their running mean where one was kept.
    ///
    /// # Errors
    /// A param that is not there, or of another shape.
    pub fn learnt(&self, layout: &Layout) -> Result<Vec<f32>, TrainError> {
        let is_mean = |name: &str| name.split_once('/').is_some_and(|(slot, _)| slot == AVERAGE);
        let slot = if self.tensors.iter().any(|(name, _)| is_mean(name)) { AVERAGE } else { THETA };
        Ok(self.joined(slot, layout)?.to_vec()?)
    }

    /// The params with their names.
    pub fn params(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors.iter().filter_map(|(name, values)| Some((param(name)?, values)))
    }

    fn tensor(&self, name: &str) -> Option<&Tensor> {
        let at = self.tensors.binary_search_by(|(known, _)| known.as_str().cmp(name)).ok()?;
        Some(&self.tensors[at].1)
    }

    fn checked(&self, name: &str, values: &Tensor, want: usize) -> Result<(), TrainError> {
        match values.len() {
            got if got == want => Ok(()),
            got => Err(TrainError::State { name: name.into(), want, got }),
        }
    }

    /// A slot of theta's length.
    fn joined(&self, slot: &str, layout: &Layout) -> Result<Tensor, TrainError> {
        let mut bytes = Vec::with_capacity(layout.len() * DType::F32.size());
        for param in layout.slots() {
            let name = format!("{slot}/{}", param.name);
            let Some(values) = self.tensor(&name) else {
                return Err(TrainError::State { name, want: param.len(), got: 0 });
            };
            if values.dims() != param.dims {
                return Err(TrainError::Shape { name, want: param.dims.clone(), got: values.dims().to_vec() });
            }
            bytes.extend_from_slice(values.bytes());
        }
        Ok(Tensor::new(DType::F32, vec![layout.len()], bytes.into())?)
    }
}

/// What a slot is called in a file: theta and its mean by their own names, whatever the graph had to call them.
fn label<'a>(step: &'a Step, slot: &'a str) -> &'a str {
    match slot {
        _ if slot == step.names.theta => THETA,
        _ if step.update.average.as_deref() == Some(slot) => AVERAGE,
        _ => slot,
    }
}

/// The param that a tensor of this name holds the values of.
fn param(name: &str) -> Option<&str> {
    name.strip_prefix(THETA)?.strip_prefix('/')
}

fn flat(values: &Tensor) -> Result<Tensor, TrainError> {
    Ok(Tensor::new(values.dtype(), vec![values.len()], values.bytes().clone())?)
}

/// A slot cut into what it keeps of each param; whole, where it is not of theta's length.
fn by_param(slot: &str, values: &Tensor, layout: &Layout) -> Result<Vec<(String, Tensor)>, TrainError> {
    if values.dtype() != DType::F32 {
        return Err(LayoutError::Unknown { name: slot.into() }.into());
    }
    if values.len() != layout.len() {
        return Ok(vec![(slot.to_string(), values.clone())]);
    }
    let size = DType::F32.size();
    let one = |param: &lorac_passes::Slot| {
        let bytes = values.bytes().slice(param.start * size..(param.start + param.len()) * size);
        Ok((format!("{slot}/{}", param.name), Tensor::new(DType::F32, param.dims.clone(), bytes)?))
    };
    layout.slots().iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::quadratic;

    fn about() -> BTreeMap<String, String> {
        [("run".to_string(), "5".to_string())].into()
    }

    fn history() -> History {
        let mut history = History { seconds: 1.25, ..History::default() };
        [0.1 + 0.2, f64::from(0.3f32)].iter().for_each(|loss| history.push(*loss, 7, 100));
        history
    }

    #[test]
    fn what_is_saved_is_restored_by_name() {
        let folder = tempfile::tempdir().expect("temp");
        let (mut first, _) = quadratic(&[1.0, 2.0], &[]);
        for (name, values) in [(THETA, [3.5f32, -4.5]), ("m", [0.25, 0.0])] {
            first.program.set_state(name, &Tensor::vector(&values)).expect("a slot");
        }
        first.taken = 9;
        let saved = Checkpoint::of(&first, &history(), &about()).expect("a state");
        let names: Vec<&str> = saved.tensors.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["m/a", "m/b", "theta/a", "theta/b"]);
        let path = saved.save(folder.path()).expect("saves");
        assert_eq!(path, folder.path().join("step-9.safetensors"));
        let loaded = Checkpoint::load(&path).expect("loads");
        assert_eq!(loaded, saved);
        let (mut second, _) = quadratic(&[0.0, 0.0], &[]);
        loaded.restore(&mut second).expect("fits");
        assert_eq!((second.taken, second.theta().expect("theta")), (9, vec![3.5, -4.5]));
        assert_eq!(second.program.state("m").expect("a slot").to_vec::<f32>().expect("f32"), [0.25, 0.0]);
        let params = loaded.params_only();
        assert_eq!(params.theta(&second.layout).expect("all there"), [3.5, -4.5]);
        assert_eq!(params.params().map(|(name, _)| name).collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn another_trainings_state_is_refused_and_nothing_put_back() {
        let tensor = |dims: &[usize]| Tensor::from_slice(dims, &vec![7.0f32; dims.iter().product()]).expect("fits");
        let named = |name: &str, dims: &[usize]| (name.to_string(), tensor(dims));
        let all = || ["m/a", "m/b", "theta/a", "theta/b"].map(|name| named(name, &[])).to_vec();
        let without = |i: usize| {
            let mut tensors = all();
            tensors.remove(i);
            tensors
        };
        let with = |i: usize, more: (String, Tensor)| {
            let mut tensors = all();
            tensors.insert(i, more);
            tensors
        };
        let mut longer = all();
        longer[1] = named("m/b", &[1, 3]);
        let cases = [
            (without(1), "`m/b`: the checkpoint has 0 elements, the training 1"),
            (longer, "`m/b`: its shape in the checkpoint is [1, 3], in the training []"),
            (with(2, named("m/c", &[1])), "`m/c`: the checkpoint has 1 elements, the training 0"),
            (with(4, named("v/a", &[2])), "`v/a`: the checkpoint has 2 elements, the training 0"),
            (with(4, named("v", &[2])), "`v`: the checkpoint has 2 elements, the training 0"),
        ];
        for (tensors, want) in cases {
            let (mut step, _) = quadratic(&[1.0, 2.0], &[]);
            let other = Checkpoint { step: 3, tensors, history: History::default(), about: BTreeMap::new() };
            let error = other.restore(&mut step).expect_err(want);
            assert!(error.to_string().contains(want), "{error}");
            assert_eq!((step.taken, step.theta().expect("theta")), (0, vec![1.0, 2.0]));
        }
    }

    #[test]
    fn a_slot_that_is_not_of_the_length_of_theta_is_whole() {
        let (step, _) = quadratic(&[1.0, 2.0], &[]);
        let counts = Tensor::vector(&[1.0f32, 2.0, 3.0]);
        let one = by_param("counts", &counts, &step.layout).expect("f32");
        assert_eq!(one, [("counts".to_string(), counts)]);
    }
}
