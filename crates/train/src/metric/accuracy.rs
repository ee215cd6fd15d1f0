//! The part of the examples whose class is predicted.

use super::confusion::Confusion;
use super::{Better, Evaluation, Metric, Prediction};

/// The part of the examples whose largest logit is that of their label.
pub struct Accuracy;

impl Metric for Accuracy {
    fn about(&self) -> &'static str {
        "Part of the examples whose label is predicted"
    }

    fn better(&self) -> Better {
        Better::Higher
    }

    fn suits(&self, kind: Prediction) -> bool {
        kind == Prediction::Classes
    }

    fn score(&self, evaluation: &Evaluation) -> f64 {
        Confusion::of(evaluation).accuracy()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::classes;
    use super::*;

    #[test]
    fn right_ones_over_all() {
        let e = classes(&[(&[0., 1.], 1), (&[2., 1.], 1), (&[0., 1.], 1), (&[0., 1.], 0)]);
        assert_eq!(Accuracy.score(&e), 0.5);
    }
}
