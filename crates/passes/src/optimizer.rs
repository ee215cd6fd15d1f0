//! AdamW with decoupled weight decay (Loshchilov & Hutter 2019) and clipping by the global norm, as nodes.

use crate::{Arena, PassError, rewrite};
use lorac_ir::{DType, Fact, Graph, ValueId};

/// Hyperparameters that do not change during a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Largest global norm of a gradient; longer ones are shortened to it. `None`: never.
    pub clip: Option<f64>,
}

/// The update's inputs and outputs, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// State: input and the output that replaces it.
    pub state: [(&'static str, &'static str); 3],
    /// Learning rate of the step, f32.
    pub lr: &'static str,
    /// `1 - beta^t` of both moments in step t (from 1), f32.
    pub corrections: [&'static str; 2],
    /// Global norm of the gradient before clipping, an output.
    pub norm: &'static str,
}

/// Added to the norm before dividing by it, as PyTorch's `clip_grad_norm_` does.
const NORM_EPS: f64 = 1e-6;

/// Adds the update of theta and of the moments `m` and `v`. Outputs: `loss`, the norm and the new state, nothing else.
///
/// A step whose gradient is not finite changes nothing: the state stays the last good one.
pub fn adamw(graph: &mut Graph, arena: &Arena, loss: ValueId, cfg: &AdamW) -> Result<Update, PassError> {
    let Some(grad) = arena.grad else {
        return Err(PassError::Unsuitable("an optimizer needs gradients".into()));
    };
    let update = Update {
        state: [("theta", "theta.next"), ("m", "m.next"), ("v", "v.next")],
        lr: "lr",
        corrections: ["correction1", "correction2"],
        norm: "grad_norm",
    };
    rewrite(graph, "optimizer", |e| {
        let (theta, grad) = (e.val(arena.theta), e.val(grad));
        let vector = Fact::new(DType::F32, [arena.len()]);
        let (m, v) = (e.input("m", vector.clone()), e.input("v", vector));
        let number = |name: &str| e.input(name, Fact::scalar(DType::F32));
        let (lr, correction1, correction2) =
            (number(update.lr), number(update.corrections[0]), number(update.corrections[1]));
        let square = e.op("ReduceSum", &[grad * grad], &[("keepdims", 0i64.into())]);
        let norm = e.named(update.norm, "Sqrt", &[square], &[], 1)[0];
        let g = match cfg.clip {
            Some(clip) => grad * (norm.like(clip) / (norm + NORM_EPS)).binary("Min", norm.like(1.0)),
            None => grad,
        };
        let next_m = m * cfg.beta1 + g * (1.0 - cfg.beta1);
        let next_v = v * cfg.beta2 + g * g * (1.0 - cfg.beta2);
        let root = (next_v / correction2).unary("Sqrt") + cfg.eps;
        let step = next_m / root * (lr / correction1);
        let decayed = theta - theta * (lr * cfg.weight_decay);
        // False for NaN as for infinity.
        let finite = square.binary("Less", square.like(f64::from(f32::MAX)));
        let mut outputs = vec![loss, norm.id()];
        for ((old, new), (_, name)) in [(theta, decayed - step), (m, next_m), (v, next_v)].into_iter().zip(update.state)
        {
            outputs.extend(e.named(name, "Where", &[finite, new, old], &[], 1).iter().map(|v| v.id()));
        }
        e.edit(|p| p.set_outputs(outputs));
        Ok(update.clone())
    })
}
