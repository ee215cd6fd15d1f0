//! The mean of every label's F1.

use super::confusion::Confusion;
use super::{Better, Evaluation, Metric, Prediction};

/// The mean of the labels' F1, each counting alike however rare it is; labels that are neither present nor predicted are
/// left out.
pub struct F1Macro;

impl Metric for F1Macro {
    fn about(&self) -> &'static str {
        "Mean of the labels' F1, each counting alike"
    }

    fn better(&self) -> Better {
        Better::Higher
    }

    fn suits(&self, kind: Prediction) -> bool {
        kind == Prediction::Classes
    }

    fn score(&self, evaluation: &Evaluation) -> f64 {
        Confusion::of(evaluation).f1_macro()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::classes;
    use super::*;

    #[test]
    fn both_of_two_labels_count() {
        // True 0 0 0 1, predicted 0 0 1 1: F1 of 0 is 4/5, of 1 it is 2/3.
        let zero: &[f32] = &[1., 0.];
        let one: &[f32] = &[0., 1.];
        let e = classes(&[(zero, 0), (zero, 0), (one, 0), (one, 1)]);
        assert!((F1Macro.score(&e) - (0.8 + 2.0 / 3.0) / 2.0).abs() < 1e-12);
    }
}
