//! Stochastic gradient descent with momentum.

use super::{Next, Optimizer, Scalar, State, Terms};
use crate::Layout;
use lorac_config::{Check, Problems};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Gradient descent with momentum, as PyTorch's SGD
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sgd {
    /// Highest learning rate
    pub lr: f64,
    /// Decay of the running sum of gradients; 0 for the gradient alone, which keeps nothing
    pub momentum: f64,
    /// Step along the gradient as it will be with this step's momentum (Nesterov)
    pub nesterov: bool,
    /// L2 penalty, added to the gradient
    pub weight_decay: f64,
}

impl Default for Sgd {
    fn default() -> Sgd {
        Sgd { lr: 1e-2, momentum: 0.9, nesterov: false, weight_decay: 0.0 }
    }
}

impl Check for Sgd {
    fn check(&self, problems: &mut Problems) {
        problems.positive("lr", self.lr, 1.0);
        problems.range("momentum", self.momentum, 0.0, 1.0 - 1e-9);
        problems.range("weight_decay", self.weight_decay, 0.0, 10.0);
        if self.nesterov && self.momentum == 0.0 {
            problems.report(
                "nesterov",
                "pipeline::idle",
                "`nesterov` looks ahead along a momentum, and `momentum` is 0",
            );
        }
    }
}

impl Optimizer for Sgd {
    fn lr(&self) -> f64 {
        self.lr
    }

    fn state(&self, layout: &Layout) -> Vec<State> {
        let momentum = State { name: "momentum", len: layout.len() };
        if self.momentum > 0.0 { vec![momentum] } else { Vec::new() }
    }

    fn scalars(&self) -> Vec<Scalar> {
        Vec::new()
    }

    fn update<'e, 'g>(&self, terms: &Terms<'e, 'g>) -> Next<'e, 'g> {
        let g = terms.penalized(self.weight_decay);
        let Some(momentum) = terms.state.first() else {
            return Next { theta: terms.theta - g * terms.lr, state: Vec::new() };
        };
        let momentum = *momentum * self.momentum + g;
        let direction = if self.nesterov { g + momentum * self.momentum } else { momentum };
        Next { theta: terms.theta - direction * terms.lr, state: vec![momentum] }
    }
}
