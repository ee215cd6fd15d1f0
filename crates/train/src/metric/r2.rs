//! The part of the variance that is explained.

use super::{Better, Definition, Evaluation, Metric, Prediction};

/// The coefficient of determination: 1 where all is right, 0 for the mean of the targets, below for worse. NaN of fewer
/// than two examples. Of targets that are all equal 1 where all is right, else 0, as in scikit-learn.
pub struct R2;

impl Metric for R2 {
    fn definition(&self) -> Definition {
        Definition {
            about: "Part of the targets' variance that is explained",
            formula: "1 - sum (y - t)^2 / sum (t - mean t)^2",
            source: "sklearn.metrics.r2_score",
            range: "-infinity to 1",
            better: Better::Higher,
            suits: &[Prediction::Values],
            classes: None,
            synonyms: &["r_squared", "r2_score"],
        }
    }

    fn score(&self, evaluation: &Evaluation) -> f64 {
        let targets = &evaluation.targets;
        if targets.len() < 2 {
            return f64::NAN;
        }
        let mean = targets.iter().sum::<f64>() / targets.len() as f64;
        let left: f64 = evaluation.rows().map(|(row, target)| (f64::from(row[0]) - target).powi(2)).sum();
        let whole: f64 = targets.iter().map(|target| (target - mean).powi(2)).sum();
        match (left, whole) {
            (0.0, _) => 1.0,
            _ if left.is_nan() => f64::NAN,
            (_, 0.0) => 0.0,
            _ => 1.0 - left / whole,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::values;
    use super::*;

    #[test]
    fn the_mean_of_the_targets_explains_nothing() {
        assert_eq!(R2.score(&values(&[2., 2., 2.], &[1., 2., 3.])), 0.0);
        assert_eq!(R2.score(&values(&[1., 2., 3.], &[1., 2., 3.])), 1.0);
        assert!(R2.score(&values(&[f32::NAN, 1.], &[1., 1.])).is_nan());
    }
}
