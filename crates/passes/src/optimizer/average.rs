//! A running mean of everything trained, which is evaluated and deployed in its place.

use super::{Scalar, ScalarValue};
use crate::Layout;
use lorac_config::{Check, Problems};
use lorac_ir::{DType, Fact};
use lorac_ops::{Emit, Val};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A running mean of the parameters, which is evaluated and deployed in place of the last ones (Polyak & Juditsky 1992):
/// `mean = decay mean + (1 - decay) parameters` behind every step
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Average {
    /// How much of the mean stays in a step: 0.999 is a mean over about a thousand steps
    pub decay: f64,
    /// Whether the first steps forget faster, by at most (1 + step) / (10 + step), so that little is left of the first
    /// parameters in a short training
    pub warmup: bool,
}

impl Default for Average {
    fn default() -> Average {
        Average { decay: 0.999, warmup: true }
    }
}

impl Check for Average {
    fn check(&self, problems: &mut Problems) {
        problems.range("decay", self.decay, 0.0, 1.0 - 1e-9);
    }
}

/// Name of the state that holds the mean, that of an input of the graph unless the model has one of this name.
pub const AVERAGE: &str = "average";

impl Average {
    /// What of theta goes into the mean in step `step`, from 1.
    pub fn weight(&self, step: u64) -> f64 {
        let step = step as f64;
        let fastest = if self.warmup { (1.0 + step) / (10.0 + step) } else { 1.0 };
        1.0 - self.decay.min(fastest)
    }

    /// The number that a step is given.
    pub(super) fn scalar(self) -> Scalar {
        Scalar { name: "average_weight", value: ScalarValue::Averaged(self) }
    }
}

/// The mean before a step, a new input, and behind it.
pub(super) fn next<'e, 'g>(
    e: &'e Emit<'g>,
    theta: Val<'e, 'g>,
    weight: Val<'e, 'g>,
    layout: &Layout,
) -> (Val<'e, 'g>, Val<'e, 'g>) {
    let before = e.input(AVERAGE, Fact::new(DType::F32, [layout.len()]));
    (before, before + (theta - before) * weight)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Group, Groups, Init, Packed, Param, Sgd, StepLoss, UpdateSpec};
    use lorac_ir::ValueId;
    use lorac_ops::{Array, evaluate};

    #[test]
    fn the_first_steps_forget_faster() {
        let (plain, warm) = (Average { warmup: false, ..Average::default() }, Average::default());
        assert!((plain.weight(1) - 0.001).abs() < 1e-12 && (warm.weight(1) - 9.0 / 11.0).abs() < 1e-12);
        assert!((warm.weight(90) - 0.09).abs() < 1e-12 && (warm.weight(1 << 20) - 0.001).abs() < 1e-12);
    }

    #[test]
    fn the_mean_is_of_the_new_theta_and_stays_where_a_step_is_not_taken() {
        let text = "graph g(%theta: f32[2], %loss: f32[], %g: f32[2]) -> %loss { }";
        let mut graph = lorac_ir::parse(text).expect("parses");
        let find = |name: &str| graph.find(name).expect("there");
        let (loss, packed) = (find("loss"), Packed { theta: find("theta"), grad: Some(find("g")) });
        let (name, dims, init, group) = ("p".to_string(), vec![2], Init::Zeros, Group::Adapter);
        let layout = Layout::of(&[Param { value: ValueId(0), name, dims, init, group, decay: true }]);
        let sgd = Sgd { lr: 1.0, momentum: 0.0, nesterov: false, weight_decay: 0.0 };
        let average = Some(Average { decay: 0.75, warmup: false });
        let spec = UpdateSpec { average, groups: Groups::default(), ..UpdateSpec::of(&sgd) };
        let update = crate::optimize(&mut graph, &packed, &layout, StepLoss::Whole(loss), &spec, &[]).expect("writes");
        assert_eq!(update.average.as_deref(), Some("average"));
        assert_eq!(update.slots.iter().map(|s| s.input.as_str()).collect::<Vec<_>>(), ["theta", "average"]);
        let vector = |x: [f64; 2]| Array::from_shape_vec(vec![2], x.to_vec()).expect("fits");
        let scalar = |x: f64| Array::from_shape_vec(vec![], vec![x]).expect("fits");
        let mut state = vec![vector([1.0, 2.0]), vector([1.0, 2.0])];
        for (grad, want) in
            [([1.0, -1.0], [0.75, 2.25]), ([f64::NAN, 0.0], [0.75, 2.25]), ([0.0, 0.0], [0.5625, 2.4375])]
        {
            let mut feeds = vec![("loss", scalar(0.0)), ("g", vector(grad))];
            feeds.extend(update.scalars.iter().map(|s| (s.input.as_str(), scalar(s.value.at(0, 1.0, true)))));
            feeds.extend(update.slots.iter().zip(&state).map(|(s, v)| (s.input.as_str(), v.clone())));
            state = evaluate(&graph, &feeds).expect("runs")[2..].to_vec();
            assert_eq!((state[0].clone(), state[1].clone()), (vector([0.0, 3.0]), vector(want)));
        }
    }
}
