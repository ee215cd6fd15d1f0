//! Losses of numbers: by the distance of what is predicted from what it should be.

use super::{LossTerms, total, wide};
use lorac_ir::{DType, Fact};
use lorac_ops::Val;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How far a number is from its target, as PyTorch's `MSELoss`, `L1Loss` and `HuberLoss`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Distance {
    /// The square of the difference
    #[default]
    Mse,
    /// The difference without its sign
    L1,
    /// Half the square up to delta, and linear beyond: delta (|difference| - delta / 2)
    Huber,
}

impl Distance {
    /// The loss of `y` against a new f32 input `targets` of its shape, where NaN does not count. `delta` is that of
    /// [`Distance::Huber`].
    pub fn terms<'e, 'g>(self, y: Val<'e, 'g>, targets: &str, delta: f64) -> LossTerms<'e, 'g> {
        let e = y.emit();
        let fact = y.fact();
        let targets = e.input(targets, Fact { dtype: DType::F32, ..fact });
        let y = wide(y);
        let targets = targets.cast(y.fact().dtype);
        let missing = targets.unary("IsNaN");
        // NaN times 0 is NaN: what does not count is replaced on both sides.
        let difference = e.op("Where", &[missing, y.like(0.0), y - targets], &[]);
        let counted = missing.unary("Not").cast(y.fact().dtype);
        let each = match self {
            Distance::Mse => difference * difference,
            Distance::L1 => difference.unary("Abs"),
            Distance::Huber => {
                let far = difference.unary("Abs");
                let near = far.binary("Min", far.like(delta));
                near * (far - near * near.like(0.5))
            }
        };
        LossTerms { sum: total(each), count: total(counted) }
    }
}

/// Squares of the differences of `y` from a new f32 input `targets` of its shape, where NaN does not count.
pub fn squared_error_terms<'e, 'g>(y: Val<'e, 'g>, targets: &str) -> LossTerms<'e, 'g> {
    Distance::Mse.terms(y, targets, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::differentiate;
    use crate::loss::mean_loss;
    use lorac_ops::{Array, evaluate};

    #[test]
    fn distances_and_their_slopes_are_pytorch_s() {
        let x = [0.0, 0.25, -0.25, 3.0, -3.0, 1.0];
        let targets = [0.0, 0.0, 0.0, 0.0, 0.0, f64::NAN];
        for (distance, delta, value, slope) in [
            (Distance::Mse, 1.0, [0.0, 0.0625, 0.0625, 9.0, 9.0], [0.0, 0.5, -0.5, 6.0, -6.0]),
            (Distance::L1, 1.0, [0.0, 0.25, 0.25, 3.0, 3.0], [0.0, 1.0, -1.0, 1.0, -1.0]),
            (Distance::Huber, 0.5, [0.0, 0.03125, 0.03125, 1.375, 1.375], [0.0, 0.25, -0.25, 0.5, -0.5]),
        ] {
            let mut graph =
                lorac_ir::parse("graph g(%x: f64[6]) -> %y { %y = Identity(%x) : f64[6] }").expect("parses");
            let (input, y) = (graph.find("x").expect("x"), graph.outputs()[0]);
            let loss = mean_loss(&mut graph, y, |y| Ok(distance.terms(y, "t", delta))).expect("a loss");
            let grads = differentiate(&mut graph, loss, &[input]).expect("differentiates");
            graph.set_outputs(vec![loss, grads[0]]).expect("there");
            let array = |v: &[f64]| Array::from_shape_vec(vec![6], v.to_vec()).expect("fits");
            let found = evaluate(&graph, &[("x", array(&x)), ("t", array(&targets))]).expect("evaluates");
            assert!((found[0].sum() - value.iter().sum::<f64>() / 5.0).abs() < 1e-12, "{distance:?}: {}", found[0]);
            for (got, want) in found[1].iter().zip(slope.iter().map(|s| s / 5.0).chain([0.0])) {
                assert!((got - want).abs() < 1e-12, "{distance:?}: {}", found[1]);
            }
        }
    }
}
