//! The part of the examples whose class is predicted.

use super::confusion::Confusion;
use super::{Better, Definition, Evaluation, Metric, Prediction};

/// The part of the examples, or of the tokens, whose largest logit is that of their class.
pub struct Accuracy;

impl Metric for Accuracy {
    fn definition(&self) -> Definition {
        Definition {
            about: "Part of the examples whose class is predicted",
            formula: "right / all",
            source: "sklearn.metrics.accuracy_score",
            range: "0 to 1",
            better: Better::Higher,
            suits: &[Prediction::Classes, Prediction::Tags],
            classes: None,
            synonyms: &["acc", "accuracy_score"],
        }
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
