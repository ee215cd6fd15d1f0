//! What Adam and AdamW share: running means of the gradient and of its square, and the step that they give.

use super::{Scalar, ScalarValue, State, Terms};
use crate::Layout;
use lorac_config::Problems;
use lorac_ops::Val;

/// Running means of a gradient and of its square (Kingma & Ba 2015, algorithm 1).
pub(super) struct Moments {
    /// Decay of the first.
    pub(super) beta1: f64,
    /// Decay of the second.
    pub(super) beta2: f64,
    /// Added to the root of the second.
    pub(super) eps: f64,
}

impl Moments {
    /// Reports settings that make no sense.
    pub(super) fn check(&self, problems: &mut Problems) {
        problems.range("beta1", self.beta1, 0.0, 1.0 - 1e-9);
        problems.range("beta2", self.beta2, 0.0, 1.0 - 1e-9);
        problems.positive("eps", self.eps, 1.0);
    }

    /// Both means, each as long as theta.
    pub(super) fn state(layout: &Layout) -> Vec<State> {
        ["m", "v"].map(|name| State { name, len: layout.len() }).to_vec()
    }

    /// What their bias is divided out by.
    pub(super) fn scalars(&self) -> Vec<Scalar> {
        let correction = |name, beta| Scalar { name, value: ScalarValue::OneMinusPow(beta) };
        vec![correction("correction1", self.beta1), correction("correction2", self.beta2)]
    }

    /// The step that is taken off theta where the gradient is `g`, and the new means.
    pub(super) fn step<'e, 'g>(&self, terms: &Terms<'e, 'g>, g: Val<'e, 'g>) -> (Val<'e, 'g>, Vec<Val<'e, 'g>>) {
        let (m, v) = (terms.state[0], terms.state[1]);
        let m = m * self.beta1 + g * (1.0 - self.beta1);
        let v = v * self.beta2 + g * g * (1.0 - self.beta2);
        let root = (v / terms.scalars[1]).unary("Sqrt") + self.eps;
        (m / root * (terms.lr / terms.scalars[0]), vec![m, v])
    }
}
