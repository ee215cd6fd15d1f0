//! Activation functions that recurrent networks name.

use crate::Val;
use lorac_ir::Attr;
use std::slice::Iter;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Activation {
    Affine(f32, f32),
    Elu(f32),
    HardSigmoid(f32, f32),
    LeakyRelu(f32),
    Relu,
    ScaledTanh(f32, f32),
    Sigmoid,
    Softplus,
    Softsign,
    Tanh,
    ThresholdedRelu(f32),
}

impl Activation {
    /// The function called `name`, in any case, as exporters write it; it takes the parameters it has from the lists.
    pub(super) fn named(name: &str, alphas: &mut Iter<f32>, betas: &mut Iter<f32>) -> Option<Activation> {
        let mut alpha = |default: f32| alphas.next().copied().unwrap_or(default);
        let mut beta = |default: f32| betas.next().copied().unwrap_or(default);
        Some(match name.to_ascii_lowercase().as_str() {
            "affine" => Activation::Affine(alpha(1.0), beta(0.0)),
            "elu" => Activation::Elu(alpha(1.0)),
            "hardsigmoid" => Activation::HardSigmoid(alpha(0.2), beta(0.5)),
            "leakyrelu" => Activation::LeakyRelu(alpha(0.01)),
            "relu" => Activation::Relu,
            "scaledtanh" => Activation::ScaledTanh(alpha(1.0), beta(1.0)),
            "sigmoid" => Activation::Sigmoid,
            "softplus" => Activation::Softplus,
            "softsign" => Activation::Softsign,
            "tanh" => Activation::Tanh,
            "thresholdedrelu" => Activation::ThresholdedRelu(alpha(1.0)),
            _ => return None,
        })
    }

    pub(super) fn eval(self, x: f64) -> f64 {
        match self {
            Activation::Affine(alpha, beta) => f64::from(alpha) * x + f64::from(beta),
            Activation::Elu(alpha) => {
                if x >= 0.0 {
                    x
                } else {
                    f64::from(alpha) * x.exp_m1()
                }
            }
            Activation::HardSigmoid(alpha, beta) => (f64::from(alpha) * x + f64::from(beta)).clamp(0.0, 1.0),
            Activation::LeakyRelu(alpha) => {
                if x >= 0.0 {
                    x
                } else {
                    f64::from(alpha) * x
                }
            }
            Activation::Relu => x.max(0.0),
            Activation::ScaledTanh(alpha, beta) => f64::from(alpha) * (f64::from(beta) * x).tanh(),
            Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Activation::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
            Activation::Softsign => x / (1.0 + x.abs()),
            Activation::Tanh => x.tanh(),
            Activation::ThresholdedRelu(alpha) => {
                if x > f64::from(alpha) {
                    x
                } else {
                    0.0
                }
            }
        }
    }

    pub(super) fn emit<'e, 'g>(self, x: Val<'e, 'g>) -> Val<'e, 'g> {
        let with = |op: &str, attrs: &[(&str, Attr)]| x.emit().op(op, &[x], attrs);
        match self {
            Activation::Affine(alpha, beta) => x * f64::from(alpha) + f64::from(beta),
            Activation::Elu(alpha) => with("Elu", &[("alpha", alpha.into())]),
            Activation::HardSigmoid(alpha, beta) => {
                with("HardSigmoid", &[("alpha", alpha.into()), ("beta", beta.into())])
            }
            Activation::LeakyRelu(alpha) => with("LeakyRelu", &[("alpha", alpha.into())]),
            Activation::Relu => x.unary("Relu"),
            Activation::ScaledTanh(alpha, beta) => (x * f64::from(beta)).unary("Tanh") * f64::from(alpha),
            Activation::Sigmoid => x.unary("Sigmoid"),
            Activation::Softplus => x.unary("Softplus"),
            Activation::Softsign => x.unary("Softsign"),
            Activation::Tanh => x.unary("Tanh"),
            Activation::ThresholdedRelu(alpha) => with("ThresholdedRelu", &[("alpha", alpha.into())]),
        }
    }
}
