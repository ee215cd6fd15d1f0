//! Adafactor: Adam's second moment of a matrix as the product of a row and a column (Shazeer & Stern 2018).

use super::{Next, Optimizer, Scalar, ScalarValue, State, Terms};
use crate::{Layout, Slot};
use lorac_config::{Check, Problems};
use lorac_ops::{Emit, Val};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Adam with the second moment of every matrix as the product of a row and a column, and no first: a fraction of AdamW's
/// memory (Shazeer & Stern 2018), as in transformers with `relative_step=False`. Its rate relative to the step is a schedule
/// here: inverse_sqrt
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Adafactor {
    /// Highest learning rate; with `scale_parameter` relative to the size of what it changes
    pub lr: f64,
    /// Decoupled weight decay
    pub weight_decay: f64,
    /// Exponent of the second moment's decay: 1 - step^decay_rate
    pub decay_rate: f64,
    /// The largest root mean square of a parameter's update before the learning rate
    pub clip_threshold: f64,
    /// Whether every parameter's rate is multiplied by its root mean square, or by `scale_eps` where that is larger
    pub scale_parameter: bool,
    /// The least that a rate is multiplied by
    pub scale_eps: f64,
    /// Added to the square of the gradient
    pub eps: f64,
    /// Decay of a first moment, as long as what is trained. Default: none is kept
    pub beta1: Option<f64>,
}

impl Default for Adafactor {
    fn default() -> Adafactor {
        Adafactor {
            lr: 1e-3,
            weight_decay: 0.0,
            decay_rate: -0.8,
            clip_threshold: 1.0,
            scale_parameter: false,
            scale_eps: 1e-3,
            eps: 1e-30,
            beta1: None,
        }
    }
}

impl Check for Adafactor {
    fn check(&self, problems: &mut Problems) {
        problems.positive("lr", self.lr, 1.0);
        problems.range("weight_decay", self.weight_decay, 0.0, 10.0);
        problems.range("decay_rate", self.decay_rate, -10.0, -1e-9);
        problems.positive("clip_threshold", self.clip_threshold, f64::MAX);
        problems.positive("scale_eps", self.scale_eps, 1.0);
        // Smaller ones are zero in f32.
        problems.range("eps", self.eps, 1e-37, 1.0);
        if let Some(beta1) = self.beta1 {
            problems.range("beta1", beta1, 0.0, 1.0 - 1e-9);
        }
    }
}

/// Rows and columns of what is kept as their product: of the last two dimensions.
fn factored(slot: &Slot) -> Option<[usize; 2]> {
    match slot.dims.as_slice() {
        [.., rows, cols] => Some([slot.len() / cols.max(&1), slot.len() / rows.max(&1)]),
        _ => None,
    }
}

/// Numbers that are kept of a param's second moment.
fn kept(slot: &Slot) -> usize {
    factored(slot).map_or(slot.len(), |[rows, cols]| rows + cols)
}

impl Optimizer for Adafactor {
    fn lr(&self) -> f64 {
        self.lr
    }

    fn state(&self, layout: &Layout) -> Vec<State> {
        let second = State { name: "factors", len: layout.slots().iter().map(kept).sum() };
        let first = self.beta1.map(|_| State { name: "m", len: layout.len() });
        std::iter::once(second).chain(first).collect()
    }

    fn scalars(&self) -> Vec<Scalar> {
        vec![Scalar { name: "decay2", value: ScalarValue::OneMinusStepPow(self.decay_rate) }]
    }

    fn update<'e, 'g>(&self, terms: &Terms<'e, 'g>) -> Next<'e, 'g> {
        let (e, slots) = (terms.theta.emit(), terms.layout.slots());
        let lens: Vec<usize> = slots.iter().map(Slot::len).collect();
        let (grads, second) = (split(terms.grad, &lens), terms.state[0]);
        let seconds = split(second, &slots.iter().map(kept).collect::<Vec<_>>());
        let (mut updates, mut next) = (Vec::new(), Vec::new());
        for ((slot, grad), second) in slots.iter().zip(grads).zip(seconds) {
            let (update, second) = self.of_param(slot, grad, second, terms.scalars[0]);
            updates.push(update);
            next.push(second);
        }
        let scale = self.scale_parameter.then(|| {
            let scaled = |(theta, len): (Val<'e, 'g>, &usize)| {
                let scale = root_mean_square(theta, *len).binary("Max", theta.like(self.scale_eps));
                scale.binary("Expand", e.ints(&[*len as i64]))
            };
            join(e, &split(terms.theta, &lens).into_iter().zip(&lens).map(scaled).collect::<Vec<_>>())
        });
        let lr = scale.map_or(terms.lr, |scale| scale * terms.lr);
        let mut update = join(e, &updates) * lr;
        let mut state = vec![join(e, &next)];
        if let (Some(beta1), Some(m)) = (self.beta1, terms.state.get(1)) {
            update = *m * beta1 + update * (1.0 - beta1);
            state.push(update);
        }
        let decayed = terms.decay.of_theta(terms.theta, self.weight_decay, Some(lr));
        Next { theta: decayed.map_or(terms.theta, |part| terms.theta - part) - update, state }
    }
}

impl Adafactor {
    /// The update of a param before the learning rate, and its next second moment, both flat.
    fn of_param<'e, 'g>(
        &self,
        slot: &Slot,
        grad: Val<'e, 'g>,
        second: Val<'e, 'g>,
        decay: Val<'e, 'g>,
    ) -> (Val<'e, 'g>, Val<'e, 'g>) {
        let moved = |before: Val<'e, 'g>, square: Val<'e, 'g>| before * decay + square * (decay.like(1.0) - decay);
        let (update, second) = match (factored(slot), slot.dims.as_slice()) {
            (Some([rows, cols]), [before @ .., height, width]) => {
                let dims = |of: &[usize]| -> Vec<i64> { before.iter().chain(of).map(|d| *d as i64).collect() };
                let grad = grad.reshape(&dims(&[*height, *width]));
                let square = grad * grad + self.eps;
                let parts = split(second, &[rows, cols]);
                let row = moved(parts[0].reshape(&dims(&[*height, 1])), mean(square, -1));
                let col = moved(parts[1].reshape(&dims(&[1, *width])), mean(square, -2));
                // The product of both roots in one would leave the range of f32.
                let update = grad / (row / mean(row, -2)).unary("Sqrt") / col.unary("Sqrt");
                (update.reshape(&[-1]), join(grad.emit(), &[row.reshape(&[-1]), col.reshape(&[-1])]))
            }
            _ => {
                let second = moved(second, grad * grad + self.eps);
                (grad / second.unary("Sqrt"), second)
            }
        };
        let size = root_mean_square(update, slot.len()) / self.clip_threshold;
        (update / size.binary("Max", size.like(1.0)), second)
    }
}

/// The mean over an axis, which stays with one element.
fn mean<'e, 'g>(x: Val<'e, 'g>, axis: i64) -> Val<'e, 'g> {
    let e = x.emit();
    e.op("ReduceMean", &[x, e.ints(&[axis])], &[("keepdims", 1i64.into())])
}

fn root_mean_square<'e, 'g>(x: Val<'e, 'g>, len: usize) -> Val<'e, 'g> {
    let square = x.emit().op("ReduceSum", &[x * x], &[("keepdims", 0i64.into())]);
    (square / len.max(1) as f64).unary("Sqrt")
}

/// A vector in parts of these lengths.
fn split<'e, 'g>(x: Val<'e, 'g>, lens: &[usize]) -> Vec<Val<'e, 'g>> {
    let sizes: Vec<i64> = lens.iter().map(|len| *len as i64).collect();
    match sizes.len() {
        1 => vec![x],
        n => x.emit().ops("Split", &[x, x.emit().ints(&sizes)], &[("axis", 0i64.into())], n),
    }
}

/// Vectors one behind the other.
fn join<'e, 'g>(e: &'e Emit<'g>, parts: &[Val<'e, 'g>]) -> Val<'e, 'g> {
    match parts {
        [one] => *one,
        parts => e.op("Concat", parts, &[("axis", 0i64.into())]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Group, Init, Param};
    use lorac_ir::ValueId;

    #[test]
    fn a_matrix_keeps_a_row_and_a_column_and_a_vector_itself() {
        let param = |dims: &[usize]| {
            let (name, init, group) = (format!("{dims:?}"), Init::Zeros, Group::Adapter);
            Param { value: ValueId(0), name, dims: dims.to_vec(), init, group, decay: true }
        };
        let layout = Layout::of(&[param(&[8, 384]), param(&[384]), param(&[]), param(&[5, 2, 3])]);
        let kept = Adafactor::default().state(&layout);
        assert_eq!(kept, [State { name: "factors", len: 8 + 384 + 384 + 1 + 10 + 15 }]);
        let first = Adafactor { beta1: Some(0.9), ..Adafactor::default() }.state(&layout);
        assert_eq!(first[1], State { name: "m", len: layout.len() });
    }
}
