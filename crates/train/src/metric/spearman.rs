//! The correlation of the order of predictions with that of targets.

use super::pearson::correlation;
use super::ranks::ranks;
use super::{Better, Definition, Evaluation, Metric, Prediction};

/// Spearman's rank correlation coefficient: Pearson's of the ranks, equal numbers having the mean of their places. NaN
/// where all predictions or all targets are equal, and of fewer than two examples. Of pairs of texts, that of their similarities
/// with the scores that they have; those without one do not count.
pub struct Spearman;

impl Metric for Spearman {
    fn definition(&self) -> Definition {
        Definition {
            about: "Spearman's correlation of the ranks of predictions and targets, of pairs of texts of similarities and scores",
            formula: "Pearson's correlation of the ranks, of equal numbers their mean",
            source: "scipy.stats.spearmanr",
            range: "-1 to 1",
            better: Better::Higher,
            suits: &[Prediction::Values, Prediction::Embeddings],
            classes: None,
            synonyms: &["spearmanr", "spearman_correlation", "spearman_r"],
        }
    }

    fn score(&self, evaluation: &Evaluation) -> f64 {
        let pairs = evaluation.kind == Prediction::Embeddings;
        let counted = |(_, target): &(f64, f64)| !(pairs && target.is_nan());
        let (predictions, targets): (Vec<f64>, Vec<f64>) =
            evaluation.rows().map(|(row, target)| (f64::from(row[0]), target)).filter(counted).unzip();
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
    fn pairs_without_a_score_do_not_count() {
        let pairs = |targets: Vec<f64>| Evaluation {
            predictions: vec![0.1, 0.9, 0.4],
            width: 1,
            targets,
            counts: vec![1; 3],
            ..Evaluation::new(Prediction::Embeddings)
        };
        assert_eq!(Spearman.score(&pairs(vec![1.0, f64::NAN, 5.0])), 1.0);
        assert!(Spearman.score(&pairs(vec![f64::NAN; 3])).is_nan());
    }

    #[test]
    fn the_order_alone_counts() {
        assert_eq!(Spearman.score(&values(&[1., 10., 100.], &[1., 2., 3.])), 1.0);
        assert!(Spearman.score(&values(&[1., f32::NAN, 3.], &[1., 2., 3.])).is_nan());
    }
}
