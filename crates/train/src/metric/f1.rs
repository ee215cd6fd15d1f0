//! F1 of the positive class, or of all.

use super::confusion::Confusion;
use super::{Better, Evaluation, Metric, Prediction};

/// With two labels, F1 of the last, the positive one; otherwise the mean of every label's F1.
pub struct F1;

impl Metric for F1 {
    fn about(&self) -> &'static str {
        "F1 of the last of two labels, the mean over labels where there are more"
    }

    fn better(&self) -> Better {
        Better::Higher
    }

    fn suits(&self, kind: Prediction) -> bool {
        kind == Prediction::Classes
    }

    fn score(&self, evaluation: &Evaluation) -> f64 {
        let confusion = Confusion::of(evaluation);
        match confusion.classes() {
            2 => confusion.f1(1).unwrap_or(0.0),
            _ => confusion.f1_macro(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::classes;
    use super::*;

    #[test]
    fn of_two_labels_the_last_is_positive() {
        let e = classes(&[(&[0., 1.], 1), (&[0., 1.], 0), (&[1., 0.], 1), (&[1., 0.], 0)]);
        assert_eq!(F1.score(&e), 0.5);
    }

    #[test]
    fn of_more_it_is_the_mean_over_labels_that_are_seen() {
        // True 0 1 1, predicted 0 1 2; label 3 is never seen. F1: 1, 2/3, 0.
        let e = classes(&[(&[1., 0., 0., 0.], 0), (&[0., 1., 0., 0.], 1), (&[0., 0., 1., 0.], 1)]);
        assert!((F1.score(&e) - 5.0 / 9.0).abs() < 1e-12);
    }
}
