//! The linear correlation of predictions and targets.

use super::{Better, Definition, Evaluation, Metric, Prediction};

/// Pearson's correlation coefficient: NaN where all predictions or all targets are equal, and of fewer than two examples.
pub struct Pearson;

impl Metric for Pearson {
    fn definition(&self) -> Definition {
        Definition {
            about: "Pearson's linear correlation of predictions and targets",
            formula: "cov(y, t) / (sd(y) sd(t))",
            source: "scipy.stats.pearsonr",
            range: "-1 to 1",
            better: Better::Higher,
            suits: &[Prediction::Values],
            classes: None,
            synonyms: &["pearsonr", "pearson_correlation", "pearson_r"],
        }
    }

    fn score(&self, evaluation: &Evaluation) -> f64 {
        let (predictions, targets): (Vec<f64>, Vec<f64>) =
            evaluation.rows().map(|(row, target)| (f64::from(row[0]), target)).unzip();
        correlation(&predictions, &targets)
    }
}

/// The correlation of two columns of the same length.
pub(super) fn correlation(xs: &[f64], ys: &[f64]) -> f64 {
    // The mean of equal numbers may differ from them in its last bit.
    if [xs, ys].iter().any(|all| all.windows(2).all(|pair| pair[0] == pair[1])) {
        return f64::NAN;
    }
    let [x_mean, y_mean] = [xs, ys].map(|all| all.iter().sum::<f64>() / all.len() as f64);
    let (mut xy, mut xx, mut yy) = (0.0, 0.0, 0.0);
    for (x, y) in xs.iter().map(|x| x - x_mean).zip(ys.iter().map(|y| y - y_mean)) {
        (xy, xx, yy) = (xy + x * y, xx + x * x, yy + y * y);
    }
    (xy / (xx * yy).sqrt()).clamp(-1.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::super::tests::values;
    use super::*;

    #[test]
    fn what_never_changes_is_correlated_with_nothing() {
        assert!(Pearson.score(&values(&[0.1; 3], &[1., 2., 3.])).is_nan());
        assert!(Pearson.score(&values(&[1., 2., 3.], &[0.1; 3])).is_nan());
        assert!(Pearson.score(&values(&[1.], &[2.])).is_nan());
        assert!(Pearson.score(&values(&[1., f32::NAN, 3.], &[1., 2., 3.])).is_nan());
        assert_eq!(Pearson.score(&values(&[1., 2., 4.], &[-2., -4., -8.])), -1.0);
    }
}
