//! AdamW: Adam with decoupled weight decay (Loshchilov & Hutter 2019).

use super::{Next, Optimizer, Scalar, ScalarValue, State, Terms};
use crate::Layout;
use lorac_config::{Check, Problems};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Adam with decoupled weight decay (Loshchilov & Hutter 2019)
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdamW {
    /// Highest learning rate
    pub lr: f64,
    /// Decoupled weight decay
    pub weight_decay: f64,
    /// Decay of the first moment
    pub beta1: f64,
    /// Decay of the second moment
    pub beta2: f64,
    /// Added to the root of the second moment
    pub eps: f64,
}

impl Default for AdamW {
    fn default() -> AdamW {
        AdamW { lr: 5e-4, weight_decay: 0.01, beta1: 0.9, beta2: 0.999, eps: 1e-8 }
    }
}

impl Check for AdamW {
    fn check(&self, problems: &mut Problems) {
        problems.positive("lr", self.lr, 1.0);
        problems.range("weight_decay", self.weight_decay, 0.0, 10.0);
        problems.range("beta1", self.beta1, 0.0, 1.0 - 1e-9);
        problems.range("beta2", self.beta2, 0.0, 1.0 - 1e-9);
        problems.positive("eps", self.eps, 1.0);
    }
}

impl Optimizer for AdamW {
    fn lr(&self) -> f64 {
        self.lr
    }

    fn state(&self, layout: &Layout) -> Vec<State> {
        ["m", "v"].map(|name| State { name, len: layout.len() }).to_vec()
    }

    fn scalars(&self) -> Vec<Scalar> {
        let correction = |name, beta| Scalar { name, value: ScalarValue::OneMinusPow(beta) };
        vec![correction("correction1", self.beta1), correction("correction2", self.beta2)]
    }

    fn update<'e, 'g>(&self, terms: &Terms<'e, 'g>) -> Next<'e, 'g> {
        let (g, m, v) = (terms.grad, terms.state[0], terms.state[1]);
        let m = m * self.beta1 + g * (1.0 - self.beta1);
        let v = v * self.beta2 + g * g * (1.0 - self.beta2);
        let root = (v / terms.scalars[1]).unary("Sqrt") + self.eps;
        let step = m / root * (terms.lr / terms.scalars[0]);
        Next { theta: terms.decayed(self.weight_decay) - step, state: vec![m, v] }
    }
}
