//! The correlation of the order of predictions with that of targets.

use super::pearson::correlation;
use super::ranks::ranks;
use super::{Better, Definition, Evaluation, Metric, Prediction};

/// Spearman's rank correlation coefficient: Pearson's of the ranks, equal numbers having the mean of their places. NaN
/// where all predictions or all targets are equal, and of fewer than two examples.
pub struct Spearman;

impl Metric for Spearman {
    fn definition(&self) -> Definition {
        Definition {
            about: "Spearman's correlation of the ranks of predictions and targets",
            formula: "Pearson's correlation of the ranks, of equal numbers their mean",
            source: "scipy.stats.spearmanr",
            range: "-1 to 1",
            better: Better::Higher,
            suits: &[Prediction::Values],
            classes: None,
            synonyms: &["spearmanr", "spearman_correlation", "spearman_r"],
        }
    }

    fn score(&self, evaluation: &Evaluation) -> f64 {
        let (predictions, targets): (Vec<f64>, Vec<f64>) =
            evaluation.rows().map(|(row, target)| (f64::from(row[0]), target)).unzip();
        if predictions.iter().chain(&targets).any(|x| x.is_nan()) {
            return f64::NAN;
        }
        correlation(&ranks(&predictions), &ranks(&targets))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::values;
    use super::*;

    #[test]
    fn the_order_alone_counts() {
        assert_eq!(Spearman.score(&values(&[1., 10., 100.], &[1., 2., 3.])), 1.0);
        assert!(Spearman.score(&values(&[1., f32::NAN, 3.], &[1., 2., 3.])).is_nan());
    }
}
