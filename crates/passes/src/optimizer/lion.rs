//! Lion: the sign of a mixture of gradient and momentum (Chen et al. 2023).

use super::{Next, Optimizer, Scalar, State, Terms};
use crate::Layout;
use lorac_config::{Check, Problems};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The sign of a mixture of gradient and momentum: half of AdamW's memory (Lion, Chen et al. 2023)
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Lion {
    /// Highest learning rate: a third to a tenth of AdamW's
    pub lr: f64,
    /// Decoupled weight decay: three to ten times AdamW's
    pub weight_decay: f64,
    /// Part of the momentum in a step
    pub beta1: f64,
    /// Decay of the momentum
    pub beta2: f64,
}

impl Default for Lion {
    /// The paper's betas; rate and decay have the product of [`super::AdamW`]'s.
    fn default() -> Lion {
        Lion { lr: 1e-4, weight_decay: 0.05, beta1: 0.9, beta2: 0.99 }
    }
}

impl Check for Lion {
    fn check(&self, problems: &mut Problems) {
        problems.positive("lr", self.lr, 1.0);
        problems.range("weight_decay", self.weight_decay, 0.0, 100.0);
        problems.range("beta1", self.beta1, 0.0, 1.0 - 1e-9);
        problems.range("beta2", self.beta2, 0.0, 1.0 - 1e-9);
    }
}

impl Optimizer for Lion {
    fn lr(&self) -> f64 {
        self.lr
    }

    fn state(&self, layout: &Layout) -> Vec<State> {
        vec![State { name: "m", len: layout.len() }]
    }

    fn scalars(&self) -> Vec<Scalar> {
        Vec::new()
    }

    fn update<'e, 'g>(&self, terms: &Terms<'e, 'g>) -> Next<'e, 'g> {
        let (g, m) = (terms.grad, terms.state[0]);
        let direction = (m * self.beta1 + g * (1.0 - self.beta1)).unary("Sign");
        let m = m * self.beta2 + g * (1.0 - self.beta2);
        Next { theta: terms.decayed(self.weight_decay) - direction * terms.lr, state: vec![m] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Decay, rewrite};
    use lorac_ops::{Array, array, evaluate};

    #[test]
    fn steps_are_those_of_the_papers_algorithm() {
        let lion = Lion { lr: 0.1, weight_decay: 0.5, beta1: 0.9, beta2: 0.8 };
        let text = "graph g(%theta: f32[3], %g: f32[3], %m: f32[3], %lr: f32[])";
        let mut graph = lorac_ir::parse(&format!("{text} {{ }}")).expect("parses");
        rewrite(&mut graph, "lion", |e| {
            let [theta, grad, m, lr] =
                ["theta", "g", "m", "lr"].map(|name| e.val(e.graph().find(name).expect("there")));
            let terms = Terms {
                theta,
                grad,
                lr,
                state: vec![m],
                scalars: Vec::new(),
                decay: Decay::All,
                layout: Layout::default(),
            };
            let next = lion.update(&terms);
            e.edit(|p| p.set_outputs(vec![next.theta.id(), next.state[0].id()]));
            Ok(())
        })
        .expect("writes");
        // Algorithm 2 of the paper, element by element; the last never has a gradient.
        let (mut theta, mut m) = ([1.0f64, -2.0, 3.0], [0.0f64; 3]);
        for grads in [[0.5f64, -1.0, 0.0], [-0.2, -1.0, 0.0], [-3.0, 0.1, 0.0]] {
            let vector = |x: &[f64]| Array::from_shape_vec(vec![x.len()], x.to_vec()).expect("fits");
            let lr = array(&lorac_ir::Tensor::scalar(0.1f32)).expect("a real");
            let feeds = [("theta", vector(&theta)), ("g", vector(&grads)), ("m", vector(&m)), ("lr", lr)];
            let out = evaluate(&graph, &feeds).expect("runs");
            for i in 0..3 {
                let mixed = lion.beta1 * m[i] + (1.0 - lion.beta1) * grads[i];
                let sign = if mixed == 0.0 { 0.0 } else { mixed.signum() };
                theta[i] -= lion.lr * (sign + lion.weight_decay * theta[i]);
                m[i] = lion.beta2 * m[i] + (1.0 - lion.beta2) * grads[i];
                assert!((out[0][i] - theta[i]).abs() < 1e-6 && (out[1][i] - m[i]).abs() < 1e-6, "{out:?}");
            }
        }
        assert!((theta[2] - 3.0 * 0.95f64.powi(3)).abs() < 1e-12, "decay alone");
    }
}
