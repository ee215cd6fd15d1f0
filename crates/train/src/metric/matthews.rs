//! The correlation of the predicted class with the true one.

use super::average::Tally;
use super::confusion::Confusion;
use super::{Better, Definition, Evaluation, Metric, Prediction};

/// Matthews' correlation coefficient, of more than two classes that of Gorodkin (2004, "Comparing two K-category
/// assignments by a K-category correlation coefficient"). 0 where one class alone is predicted or present.
pub struct Matthews;

impl Metric for Matthews {
    fn definition(&self) -> Definition {
        Definition {
            about: "Matthews' correlation of predicted and true classes",
            formula: "(c s - sum p t) / sqrt((s^2 - sum p^2) (s^2 - sum t^2)): s examples, c right ones, a class p times predicted and t times present",
            source: "sklearn.metrics.matthews_corrcoef",
            range: "-1 to 1",
            better: Better::Higher,
            suits: &[Prediction::Classes, Prediction::Tags],
            classes: None,
            synonyms: &["mcc", "matthews_correlation", "matthews_corrcoef", "matthews_correlation_coefficient", "phi"],
        }
    }

    fn score(&self, evaluation: &Evaluation) -> f64 {
        let tallies = Confusion::of(evaluation).tallies();
        let Tally { right, predicted, present: all } = tallies.iter().copied().sum();
        if all == 0 {
            return f64::NAN;
        }
        // Rows that predict nothing are a class of their own.
        let nothing = Tally { right: 0, predicted: all - predicted, present: 0 };
        let (mut both, mut squares) = (0.0, [0.0; 2]);
        for tally in tallies.iter().chain([&nothing]) {
            let (p, t) = (tally.predicted as f64, tally.present as f64);
            both += p * t;
            squares = [squares[0] + p * p, squares[1] + t * t];
        }
        let (all, right) = (all as f64, right as f64);
        let [predicted, present] = squares.map(|sum| all * all - sum);
        if predicted * present == 0.0 { 0.0 } else { (right * all - both) / (predicted * present).sqrt() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::classes;
    use super::*;

    #[test]
    fn of_two_classes_it_is_their_correlation() {
        // TP 2, FP 1, FN 1, TN 4: (2 * 4 - 1 * 1) / sqrt(3 * 3 * 5 * 5).
        let (no, yes): (&[f32], &[f32]) = (&[1., 0.], &[0., 1.]);
        let e = classes(&[(yes, 1), (yes, 1), (yes, 0), (no, 1), (no, 0), (no, 0), (no, 0), (no, 0)]);
        assert!((Matthews.score(&e) - 7.0 / 15.0).abs() < 1e-12);
    }

    #[test]
    fn rows_that_predict_nothing_are_wrong() {
        let nan: &[f32] = &[f32::NAN, 0.];
        let e = classes(&[(nan, 0), (nan, 1), (nan, 0)]);
        assert_eq!(Matthews.score(&e), 0.0);
    }
}
