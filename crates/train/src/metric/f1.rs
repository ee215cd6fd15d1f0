//! F1 of the positive class, or of all.

use super::average::{Average, RATE, Rate, averaged};
use super::{Definition, Evaluation, Metric, Prediction};

/// With two classes, [`F1Binary`](super::F1Binary); with more, [`F1Macro`](super::F1Macro).
pub struct F1;

impl Metric for F1 {
    fn definition(&self) -> Definition {
        Definition {
            about: "F1 of the last of two classes, the mean over classes where there are more",
            formula: "`f1_binary` of two classes, `f1_macro` of more",
            source: "sklearn.metrics.f1_score(average=\"binary\"), or \"macro\" of more than two classes",
            suits: &[Prediction::Classes],
            synonyms: &["f1_score"],
            ..RATE
        }
    }

    fn score(&self, evaluation: &Evaluation) -> f64 {
        let average = if evaluation.width == 2 { Average::Binary } else { Average::Macro };
        averaged(Rate::F1, average, evaluation)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::classes;
    use super::*;

    #[test]
    fn of_two_classes_the_last_is_positive() {
        let e = classes(&[(&[0., 1.], 1), (&[0., 1.], 0), (&[1., 0.], 1), (&[1., 0.], 0)]);
        assert_eq!(F1.score(&e), 0.5);
    }

    #[test]
    fn of_more_it_is_the_mean_over_classes_that_are_seen() {
        // True 0 1 1, predicted 0 1 2; class 3 is never seen. F1: 1, 2/3, 0.
        let e = classes(&[(&[1., 0., 0., 0.], 0), (&[0., 1., 0., 0.], 1), (&[0., 0., 1., 0.], 1)]);
        assert!((F1.score(&e) - 5.0 / 9.0).abs() < 1e-12);
    }
}
