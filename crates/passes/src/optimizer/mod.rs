//! Optimizers: what they keep between steps, the numbers that a step needs, and the update as nodes. One file each.
//!
//! The training program, its state on the device and its checkpoints are built from this description.

mod average;
mod clip;
mod decay;
mod groups;
mod moments;
mod projection;
mod slices;

use crate::{LOSS, Layout, Packed, PassError, rewrite};
pub use average::{AVERAGE, Average};
pub use clip::Clip;
pub use decay::Decay;
pub use groups::{GroupRate, Groups, ParamGroup, SlotRate};
use lorac_ir::{DType, Fact, Graph, Tensor, ValueId};
use lorac_ops::Val;
pub use slices::SliceLoss;

#[cfg(test)]
mod truth;

lorac_config::choices! {
    /// How theta changes by its gradient.
    pub enum OptimizerChoice: Optimizer {
        adamw: AdamW,
        adam: Adam,
        sgd: Sgd,
        lion: Lion,
        adafactor: Adafactor,
    }
}

/// An optimizer.
pub trait Optimizer {
    /// The highest learning rate.
    fn lr(&self) -> f64;

    /// What it keeps beside theta: f32 vectors, zero before the first step.
    fn state(&self, layout: &Layout) -> Vec<State>;

    /// The numbers that every step is given beside the learning rate.
    fn scalars(&self) -> Vec<Scalar>;

    /// Writes the update. `terms` holds the state and the scalars in the order in which they were described.
    fn update<'e, 'g>(&self, terms: &Terms<'e, 'g>) -> Next<'e, 'g>;
}

/// A vector that an optimizer keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// Its name, that of an input of the graph unless the model has one of this name.
    pub name: &'static str,
    /// Number of elements.
    pub len: usize,
}

/// A number that is given to every step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scalar {
    /// Its name, that of an f32 input of the graph unless the model has one of this name.
    pub name: &'static str,
    /// What it is.
    pub value: ScalarValue,
}

/// What a step computes a scalar from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ScalarValue {
    /// The learning rate of the step.
    LearningRate,
    /// `1 - beta^t` in step t, from 1: what the bias of a running mean is divided out by.
    OneMinusPow(f64),
    /// `1 - t^rate` in step t, from 1: the decay of a running mean that gets slower (Adafactor).
    OneMinusStepPow(f64),
    /// What of theta goes into its running mean in step t, from 1.
    Averaged(Average),
    /// 1 for the last slice of a step, 0 for those before it.
    LastSlice,
}

impl ScalarValue {
    /// The number for the step after `taken` steps, and for the last of its slices or one before.
    pub fn at(&self, taken: u64, lr: f64, last: bool) -> f64 {
        match self {
            ScalarValue::LearningRate => lr,
            ScalarValue::OneMinusPow(beta) => 1.0 - beta.powi(i32::try_from(taken + 1).unwrap_or(i32::MAX)),
            ScalarValue::OneMinusStepPow(rate) => 1.0 - ((taken + 1) as f64).powf(*rate),
            ScalarValue::Averaged(average) => average.weight(taken + 1),
            ScalarValue::LastSlice => f64::from(u8::from(last)),
        }
    }
}

/// What an update is written with.
pub struct Terms<'e, 'g> {
    /// Everything trained, `[n]`.
    pub theta: Val<'e, 'g>,
    /// Its gradient, clipped.
    pub grad: Val<'e, 'g>,
    /// The learning rate of the step: one number, or a vector as long as theta where params have rates of their own.
    pub lr: Val<'e, 'g>,
    /// What the optimizer keeps.
    pub state: Vec<Val<'e, 'g>>,
    /// The numbers that it asked for.
    pub scalars: Vec<Val<'e, 'g>>,
    /// What weight decay applies to.
    pub decay: Decay,
    /// Where params lie in theta.
    pub layout: Layout,
}

impl<'e, 'g> Terms<'e, 'g> {
    /// `theta (1 - lr weight_decay)` where weight decay applies: decoupled decay (Loshchilov & Hutter 2019).
    pub fn decayed(&self, weight_decay: f64) -> Val<'e, 'g> {
        let decayed = self.decay.of_theta(self.theta, weight_decay, Some(self.lr));
        decayed.map_or(self.theta, |part| self.theta - part)
    }

    /// `grad + weight_decay theta` where weight decay applies: an L2 penalty.
    pub fn penalized(&self, weight_decay: f64) -> Val<'e, 'g> {
        let own = matches!(&self.decay, Decay::Each(each) if each.iter().any(|(_, own)| own.is_some_and(|d| d > 0.0)));
        let penalty = self.decay.of_theta(self.theta, weight_decay, None).filter(|_| own || weight_decay > 0.0);
        penalty.map_or(self.grad, |part| self.grad + part)
    }
}

/// What an update gives.
pub struct Next<'e, 'g> {
    /// The new theta.
    pub theta: Val<'e, 'g>,
    /// The new state, in its order.
    pub state: Vec<Val<'e, 'g>>,
}

/// A training step's inputs and outputs beside the batch, by name.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// theta and what the optimizer keeps, and last the running mean of theta where there is one.
    pub slots: Vec<StateSlot>,
    /// The input that holds the running mean of theta, which begins as theta does, where there is one: what is evaluated
    /// and deployed.
    pub average: Option<String>,
    /// What the slices of a step have added up to so far: zero between two steps. None where a step is one piece.
    pub sums: Vec<StateSlot>,
    /// The numbers that a step is given, the learning rate first.
    pub scalars: Vec<StepScalar>,
}

/// A number that a step is given.
#[derive(Clone, Debug, PartialEq)]
pub struct StepScalar {
    /// The input that takes it, f32.
    pub input: String,
    /// What it is.
    pub value: ScalarValue,
}

impl Update {
    /// Whether a step may come in slices.
    pub fn has_slices(&self) -> bool {
        !self.sums.is_empty()
    }
}

impl From<Scalar> for StepScalar {
    fn from(scalar: Scalar) -> StepScalar {
        StepScalar { input: scalar.name.into(), value: scalar.value }
    }
}

/// A vector that stays on the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateSlot {
    /// The input that holds it.
    pub input: String,
    /// The output that replaces it.
    pub output: String,
    /// Number of elements.
    pub len: usize,
}

/// Name of the output that holds the global norm of the gradient before clipping.
pub const GRAD_NORM: &str = "grad_norm";

/// Name of the input that holds the learning rate.
pub const LEARNING_RATE: &str = "lr";

/// How theta is updated.
#[derive(Clone, Copy)]
pub struct UpdateSpec<'a> {
    /// By which rule.
    pub optimizer: &'a dyn Optimizer,
    /// The limit of gradients; `None` for any.
    pub clip: Option<Clip>,
    /// What is not the same for all params.
    pub groups: Groups<'a>,
    /// Whether the batch of a step may come in slices, one after the other, whose gradients are added up.
    pub slices: bool,
    /// The running mean of theta that is kept, if any.
    pub average: Option<Average>,
}

impl<'a> UpdateSpec<'a> {
    /// By this optimizer, all params alike, with gradients of any length, every step in one piece.
    pub fn of(optimizer: &'a dyn Optimizer) -> UpdateSpec<'a> {
        UpdateSpec { optimizer, clip: None, groups: Groups::default(), slices: false, average: None }
    }
}

/// What a step makes smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepLoss {
    /// The loss of its batch.
    Whole(ValueId),
    /// That of a slice of it.
    Slice(SliceLoss),
}

/// Adds the update of theta, whose slots have the rates `rates` (none: all alike). Outputs: [`LOSS`](crate::LOSS),
/// [`GRAD_NORM`] and the new state, nothing else; of a step in slices, loss and norm are those of the slices so far.
///
/// A step whose gradient is not finite changes nothing: the state stays the last good one.
pub fn optimize(
    graph: &mut Graph,
    packed: &Packed,
    layout: &Layout,
    loss: StepLoss,
    spec: &UpdateSpec,
    rates: &[SlotRate],
) -> Result<Update, PassError> {
    let optimizer = spec.optimizer;
    let Some(grad) = packed.grad else {
        return Err(PassError::Unsuitable("an optimizer needs gradients".into()));
    };
    let kept = optimizer.state(layout);
    let lr = Scalar { name: LEARNING_RATE, value: ScalarValue::LearningRate };
    let last = matches!(loss, StepLoss::Slice(_)).then_some(slices::LAST);
    let weight = spec.average.map(Average::scalar);
    let scalars: Vec<Scalar> = std::iter::once(lr).chain(optimizer.scalars()).chain(weight).chain(last).collect();
    rewrite(graph, "optimizer", |e| {
        let (theta, grad) = (e.val(packed.theta), e.val(grad));
        let state: Vec<Val> = kept.iter().map(|s| e.input(s.name, Fact::new(DType::F32, [s.len]))).collect();
        let mut numbers: Vec<Val> = scalars.iter().map(|s| e.input(s.name, Fact::scalar(DType::F32))).collect();
        let scalars = scalars.iter().zip(&numbers);
        let scalars = scalars.map(|(s, v)| StepScalar { input: e.name_of(v.id()), value: s.value }).collect();
        let lr = numbers.remove(0);
        let sums = match (loss, last.and_then(|_| numbers.pop())) {
            (StepLoss::Slice(loss), Some(last)) => Some(slices::add(e, loss, grad, last)),
            _ => None,
        };
        let weight = weight.and_then(|_| numbers.pop());
        let grad = sums.as_ref().map_or(grad, |sums| sums.grad);
        let lr = own_rates(layout, rates).map_or(lr, |own| lr * e.weight("", Tensor::vector(&own)));
        let square = e.op("ReduceSum", &[grad * grad], &[("keepdims", 0i64.into())]);
        let norm = e.named(GRAD_NORM, "Sqrt", &[square], &[], 1)[0];
        let grad = spec.clip.map_or(grad, |clip| clip.apply(grad, norm));
        let grad = projection::projected(layout, theta, grad);
        let decay = Decay::of(layout, rates);
        let terms = Terms { theta, grad, lr, state: state.clone(), scalars: numbers, decay, layout: layout.clone() };
        let next = optimizer.update(&terms);
        // False for NaN as for infinity.
        let finite = square.binary("Less", square.like(f64::from(f32::MAX)));
        let taken = sums.as_ref().map_or(finite, |sums| finite.binary("And", sums.last));
        let loss = match (loss, &sums) {
            (StepLoss::Whole(loss), _) => loss,
            (StepLoss::Slice(loss), None) => loss.mean,
            (_, Some(sums)) => {
                let named = e.named(LOSS, "Identity", &[sums.loss], &[], 1);
                named.first().copied().unwrap_or(sums.loss).id()
            }
        };
        let mut outputs = vec![loss, norm.id()];
        let mut slots = Vec::new();
        let average = weight.map(|weight| average::next(e, next.theta, weight, layout));
        let pairs = std::iter::once((theta, next.theta)).chain(state.into_iter().zip(next.state)).chain(average);
        for (old, new) in pairs {
            let input = e.name_of(old.id());
            let made = e.named(&format!("{input}.next"), "Where", &[taken, new, old], &[], 1);
            outputs.extend(made.iter().map(|v| v.id()));
            let output = made.first().map(|v| e.name_of(v.id())).unwrap_or_default();
            let len = old.fact().known_dims().map_or(0, |d| d.iter().product());
            slots.push(StateSlot { input, output, len });
        }
        let (sums, more) = sums.map_or_else(Default::default, |sums| (sums.slots, sums.outputs));
        outputs.extend(more);
        e.edit(|p| p.set_outputs(outputs));
        Ok(Update { slots, average: average.map(|(old, _)| e.name_of(old.id())), sums, scalars })
    })
}

/// What the learning rate of every element is multiplied by, where that is not always 1.
fn own_rates(layout: &Layout, rates: &[SlotRate]) -> Option<Vec<f32>> {
    let slots = layout.slots().iter().zip(rates);
    let each = slots.flat_map(|(slot, rate)| std::iter::repeat_n(rate.scale as f32, slot.len()));
    rates.iter().any(|rate| rate.scale != 1.0).then(|| each.collect())
}
