//! Trainings without an engine: programs that compute in memory, and remember what they were given.

use crate::{Binding, Feeds, Noise, Step};
use lorac_data::{Dataset, Example, Field, LABELS, PadTo};
use lorac_ir::{DType, Fact, Tensor, ValueId};
use lorac_passes::{
    GRAD_NORM, Group, Init, LEARNING_RATE, LOSS, LOSS_COUNT, LOSS_SUM, Layout, Names, Param, Scalar, ScalarValue,
    StateSlot, THETA, Update,
};
use lorac_runtime::{Port, Program, RuntimeError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Tensors by name.
pub(crate) type Named = Vec<(String, Tensor)>;

/// What a program computes of its state, which it may change, and of the run.
type Compute = Box<dyn FnMut(&mut Named, &Call) -> Result<Named, RuntimeError> + Send>;

/// One run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Call {
    /// What it was fed.
    pub(crate) feeds: Named,
    /// The outputs that it was asked for.
    pub(crate) fetch: Vec<String>,
}

impl Call {
    /// What an input was fed.
    #[track_caller]
    pub(crate) fn fed(&self, input: &str) -> &Tensor {
        named(&self.feeds, input)
    }
}

/// The runs of a program, for the test that gave it away.
#[derive(Clone, Debug, Default)]
pub(crate) struct Calls(Arc<Mutex<Vec<Call>>>);

impl Calls {
    /// All runs so far.
    pub(crate) fn all(&self) -> Vec<Call> {
        self.0.lock().expect("no test panics while it holds the lock").clone()
    }

    /// What the input of this name was fed in every run.
    pub(crate) fn fed(&self, input: &str) -> Vec<Tensor> {
        self.all().iter().map(|c| c.fed(input).clone()).collect()
    }
}

/// The tensor of a name.
#[track_caller]
fn named<'a>(tensors: &'a Named, name: &str) -> &'a Tensor {
    let found = tensors.iter().find(|(known, _)| known == name);
    &found.unwrap_or_else(|| panic!("no `{name}` in {tensors:?}")).1
}

/// A program whose outputs a function computes.
pub(crate) struct Fake {
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    state: Named,
    compute: Compute,
    calls: Calls,
}

impl Fake {
    /// A program of these inputs and outputs.
    pub(crate) fn new(
        inputs: &[(&str, DType)],
        outputs: &[&str],
        state: Named,
        compute: impl FnMut(&mut Named, &Call) -> Result<Named, RuntimeError> + Send + 'static,
    ) -> Fake {
        let port = |name: &str, dtype| Port { name: name.into(), fact: Fact::unranked(dtype) };
        Fake {
            inputs: inputs.iter().map(|(name, dtype)| port(name, *dtype)).collect(),
            outputs: outputs.iter().map(|name| port(name, DType::F32)).collect(),
            state,
            compute: Box::new(compute),
            calls: Calls::default(),
        }
    }

    /// Its runs, those to come as well.
    pub(crate) fn calls(&self) -> Calls {
        self.calls.clone()
    }

    fn slot(&self, name: &str) -> Result<usize, RuntimeError> {
        let have = || self.state.iter().map(|s| s.0.clone()).collect();
        let at = self.state.iter().position(|s| s.0 == name);
        at.ok_or_else(|| RuntimeError::NoSuchState { name: name.into(), have: have() })
    }
}

impl Program for Fake {
    fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    fn run(&mut self, feeds: &[(&str, &Tensor)], fetch: &[&str]) -> Result<Vec<Tensor>, RuntimeError> {
        let names = |ports: &[Port]| ports.iter().map(|p| p.name.clone()).collect();
        if let Some((name, _)) = feeds.iter().find(|(name, _)| self.inputs.iter().all(|p| p.name != *name)) {
            return Err(RuntimeError::NoSuchInput { name: name.to_string(), have: names(&self.inputs) });
        }
        for port in &self.inputs {
            let given: Vec<&Tensor> = feeds.iter().filter(|(name, _)| *name == port.name).map(|f| f.1).collect();
            let [tensor] = given.as_slice() else {
                return Err(RuntimeError::Feed { name: port.name.clone(), times: given.len() });
            };
            assert_eq!(tensor.dtype(), port.fact.dtype, "{}", port.name);
        }
        let feeds: Named = feeds.iter().map(|(name, t)| (name.to_string(), (*t).clone())).collect();
        let fetch: Vec<String> = fetch.iter().map(|name| name.to_string()).collect();
        let call = Call { feeds, fetch };
        self.calls.0.lock().expect("no test panics while it holds the lock").push(call.clone());
        let mut state = self.state.clone();
        let outputs = (self.compute)(&mut state, &call)?;
        self.state = state;
        Ok(call.fetch.iter().map(|name| named(&outputs, name).clone()).collect())
    }

    fn state(&self, input: &str) -> Result<Tensor, RuntimeError> {
        Ok(self.state[self.slot(input)?].1.clone())
    }

    fn set_state(&mut self, input: &str, value: &Tensor) -> Result<(), RuntimeError> {
        let at = self.slot(input)?;
        let want = self.state[at].1.fact();
        if want != value.fact() {
            return Err(RuntimeError::ShapeMismatch { value: input.into(), want, got: value.fact() });
        }
        self.state[at].1 = value.clone();
        Ok(())
    }
}

/// What goes wrong in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Neither the loss nor the norm of the gradient is a number.
    Loss,
    /// The loss is finite, the norm of its gradient infinite.
    Gradient,
    /// The engine fails.
    Engine,
}

/// How much of the old mean stays in the running mean of gradients.
pub(crate) const BETA: f64 = 0.5;

/// Steps with the loss `|theta - t|^2 / 2`, where t is the mean of the batch's targets, by the descent
/// `m' = BETA m + (1 - BETA) (theta - t)`, `theta' = theta - lr m' / (1 - BETA^step)`. In the runs that `faults` name,
/// from 1, something else happens, and the state stays.
pub(crate) fn quadratic(theta: &[f32], faults: &'static [(u64, Fault)]) -> (Step, Calls) {
    let (lr, correction) = (LEARNING_RATE, "correction");
    let mut runs = 0;
    let compute = move |state: &mut Named, call: &Call| {
        runs += 1;
        let scalar = |name: &str| f64::from(numbers(call.fed(name))[0]);
        let targets: Vec<f32> = numbers(call.fed(LABELS)).into_iter().filter(|x| x.is_finite()).collect();
        let target = targets.iter().map(|x| f64::from(*x)).sum::<f64>() / targets.len() as f64;
        let [theta, m] = [THETA, "m"].map(|name| numbers(named(state, name)));
        let grad: Vec<f64> = theta.iter().map(|x| f64::from(*x) - target).collect();
        let square = grad.iter().map(|g| g * g).sum::<f64>();
        let (mut loss, mut norm) = (square / 2.0, square.sqrt());
        match faults.iter().find(|f| f.0 == runs).map(|f| f.1) {
            Some(Fault::Engine) => {
                return Err(RuntimeError::Run { backend: "fake".into(), node: None, why: "out of memory".into() });
            }
            Some(Fault::Loss) => (loss, norm) = (f64::NAN, f64::NAN),
            Some(Fault::Gradient) => norm = f64::INFINITY,
            None => {
                let mean = |(m, g): (&f32, &f64)| f64::from(*m) * BETA + g * (1.0 - BETA);
                let m: Vec<f64> = m.iter().zip(&grad).map(mean).collect();
                let rate = scalar(lr) / scalar(correction);
                let step = |(x, m): (&f32, &f64)| (f64::from(*x) - rate * m) as f32;
                let theta: Vec<f32> = theta.iter().zip(&m).map(step).collect();
                let m: Vec<f32> = m.into_iter().map(|x| x as f32).collect();
                *state = vector_state(&[(THETA, &theta), ("m", &m)]);
            }
        }
        Ok([(LOSS, loss), (GRAD_NORM, norm)].map(|(name, x)| (name.to_string(), Tensor::scalar(x as f32))).to_vec())
    };
    let inputs = [("ids", DType::I64), (LABELS, DType::F32), (lr, DType::F32), (correction, DType::F32)];
    let state = vector_state(&[(THETA, theta), ("m", &vec![0.0; theta.len()])]);
    let fake = Fake::new(&inputs, &[LOSS, GRAD_NORM], state, compute);
    let calls = fake.calls();
    let slot = |name: &str| StateSlot { input: name.into(), output: format!("{name}.next"), len: theta.len() };
    let scalar = |name, value| Scalar { name, value }.into();
    let update = Update {
        slots: vec![slot("m"), slot(THETA)],
        average: None,
        sums: Vec::new(),
        scalars: vec![scalar(lr, ScalarValue::LearningRate), scalar(correction, ScalarValue::OneMinusPow(BETA))],
    };
    let layout = layout(theta.len());
    (
        Step {
            program: Box::new(fake),
            update,
            layout,
            noise: None,
            names: Names::default(),
            taken: 0,
            engine_time: Duration::ZERO,
        },
        calls,
    )
}

/// A theta of scalars called `a`, `b` and so on.
fn layout(len: usize) -> Layout {
    let param = |letter: char| {
        let (name, init, group) = (letter.to_string(), Init::Zeros, Group::Adapter);
        Param { value: ValueId(0), name, dims: Vec::new(), init, group, decay: true }
    };
    Layout::of(&('a'..='z').take(len).map(param).collect::<Vec<_>>())
}

/// A step without state that is fed `x`, whose first element is its loss, `labels` and what it draws: of an update that
/// takes these scalars.
pub(crate) fn stateless(scalars: Vec<Scalar>, noise: Noise) -> (Step, Calls) {
    let mut inputs = vec![
        ("x", DType::F32),
        (LABELS, DType::F32),
        (noise.rows.as_str(), DType::F32),
        (noise.columns.as_str(), DType::F32),
    ];
    inputs.extend(scalars.iter().map(|s| (s.name, DType::F32)));
    let outputs = |_: &mut Named, call: &Call| {
        let x = numbers(call.fed("x"))[0];
        Ok([(LOSS, x), (GRAD_NORM, x)].map(|(name, x)| (name.to_string(), Tensor::scalar(x))).to_vec())
    };
    let fake = Fake::new(&inputs, &[LOSS, GRAD_NORM], Vec::new(), outputs);
    let calls = fake.calls();
    let scalars = scalars.into_iter().map(Into::into).collect();
    let update = Update { slots: Vec::new(), average: None, sums: Vec::new(), scalars };
    let (names, layout) = (Names::default(), layout(0));
    (
        Step {
            program: Box::new(fake),
            update,
            layout,
            noise: Some(noise),
            names,
            taken: 0,
            engine_time: Duration::ZERO,
        },
        calls,
    )
}

/// A program that evaluates: the loss is 1/2 for every target, its prediction what `predict` makes of the ids.
pub(crate) fn scorer(targets: DType, mut predict: impl FnMut(&Tensor) -> Tensor + Send + 'static) -> Fake {
    let compute = move |_: &mut Named, call: &Call| {
        let targets = call.fed(LABELS).to_f64().expect("numbers");
        let count = targets.iter().filter(|x| **x >= 0.0).count() as f32;
        let scores = [(LOSS_SUM, 0.5 * count), (LOSS_COUNT, count)];
        let mut outputs = scores.map(|(name, x)| (name.to_string(), Tensor::scalar(x))).to_vec();
        if call.fetch.iter().any(|name| name == "logits") {
            outputs.push(("logits".into(), predict(call.fed("ids"))));
        }
        Ok(outputs)
    };
    Fake::new(&[("ids", DType::I64), (LABELS, targets)], &[LOSS_SUM, LOSS_COUNT, "logits"], Vec::new(), compute)
}

/// Examples of these targets; the i-th has `i % 3 + 1` tokens, which are all i.
pub(crate) fn examples(targets: impl IntoIterator<Item = Field>) -> Dataset {
    let example = |(i, target): (usize, Field)| {
        let tokens = Field::Tokens { ids: vec![i as i64; i % 3 + 1], pad: -1 };
        Example { fields: vec![("input_ids", tokens), (LABELS, target)] }
    };
    Dataset::new(targets.into_iter().enumerate().map(example).collect(), PadTo::default())
}

/// What programs of this module take of a batch.
pub(crate) fn feeds(targets: DType) -> Feeds {
    let binding = |field: &str, input: &str, dtype| Binding { field: field.into(), input: input.into(), dtype };
    let inputs = vec![binding("input_ids", "ids", DType::I64), binding(LABELS, LABELS, targets)];
    Feeds { inputs, constants: Vec::new() }
}

/// The elements of an f32 tensor.
pub(crate) fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.to_vec().expect("f32")
}

fn vector_state(slots: &[(&str, &[f32])]) -> Named {
    slots.iter().map(|(name, values)| (name.to_string(), Tensor::vector(values))).collect()
}
