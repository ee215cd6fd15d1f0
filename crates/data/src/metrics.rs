//! How well logits name the labels.

use crate::error::DataError;

/// Accuracy, F1 and mean cross-entropy over any number of batches.
///
/// A row with a NaN among its logits predicts nothing: it counts as wrong, and makes the loss NaN.
#[derive(Debug, Clone, PartialEq)]
pub struct Classification {
    /// By true label, then by predicted one; the last column counts rows that predict nothing.
    confusion: Vec<Vec<u64>>,
    loss_sum: f64,
    rows: u64,
}

impl Classification {
    /// An empty tally over `classes` labels.
    #[must_use]
    pub fn new(classes: usize) -> Self {
        Self { confusion: vec![vec![0; classes + 1]; classes], loss_sum: 0.0, rows: 0 }
    }

    /// Adds a batch: `logits` is `[rows, classes]`, row after row. Of equal logits the first is the prediction.
    ///
    /// # Errors
    /// `LengthMismatch`, `LabelOutOfRange`; the tally is then as it was.
    pub fn add(&mut self, logits: &[f32], labels: &[i64]) -> Result<(), DataError> {
        let classes = self.confusion.len();
        let want = labels.len() * classes;
        if logits.len() != want {
            return Err(DataError::LengthMismatch { what: "logits", want, have: logits.len() });
        }
        let index = |label: i64| usize::try_from(label).ok().filter(|index| *index < classes);
        if let Some(label) = labels.iter().copied().find(|label| index(*label).is_none()) {
            return Err(DataError::LabelOutOfRange { label, classes });
        }
        let labels = labels.iter().copied().filter_map(index);
        for (row, label) in logits.chunks_exact(classes.max(1)).zip(labels) {
            self.confusion[label][predicted(row).unwrap_or(classes)] += 1;
            self.loss_sum += cross_entropy(row, label);
            self.rows += 1;
        }
        Ok(())
    }

    /// How many rows were added.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Counts by true label, then by predicted one, with a last column for rows that predict nothing.
    #[must_use]
    pub fn confusion(&self) -> &[Vec<u64>] {
        &self.confusion
    }

    /// The part of the rows predicted right; NaN when there are none.
    #[must_use]
    pub fn accuracy(&self) -> f64 {
        let right: u64 = self.confusion.iter().enumerate().map(|(label, row)| row[label]).sum();
        right as f64 / self.rows as f64
    }

    /// With two labels, F1 of the last (the positive one); otherwise the mean of every label's F1, labels that are
    /// neither present nor predicted left out. NaN when there are no rows.
    #[must_use]
    pub fn f1(&self) -> f64 {
        if self.rows == 0 {
            return f64::NAN;
        }
        if self.confusion.len() == 2 {
            return self.f1_of(1).unwrap_or(0.0);
        }
        let each: Vec<f64> = (0..self.confusion.len()).filter_map(|label| self.f1_of(label)).collect();
        each.iter().sum::<f64>() / each.len() as f64
    }

    /// The mean cross-entropy in nats; NaN when there are no rows.
    #[must_use]
    pub fn loss(&self) -> f64 {
        self.loss_sum / self.rows as f64
    }

    /// 2tp / (2tp + fp + fn), or nothing for a label neither present nor predicted.
    fn f1_of(&self, label: usize) -> Option<f64> {
        let present: u64 = self.confusion[label].iter().sum();
        let predicted: u64 = self.confusion.iter().map(|row| row[label]).sum();
        (present + predicted > 0).then(|| 2.0 * self.confusion[label][label] as f64 / (present + predicted) as f64)
    }
}

fn predicted(row: &[f32]) -> Option<usize> {
    if row.iter().any(|logit| logit.is_nan()) {
        return None;
    }
    let mut best = 0;
    for (class, logit) in row.iter().enumerate() {
        if *logit > row[best] {
            best = class;
        }
    }
    Some(best)
}

/// Minus the log-softmax at `label`, shifted by the largest logit so that nothing overflows.
fn cross_entropy(row: &[f32], label: usize) -> f64 {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = row.iter().map(|logit| (f64::from(*logit) - f64::from(largest)).exp()).sum();
    sum.ln() + f64::from(largest) - f64::from(row[label])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(classes: usize, logits: &[f32], labels: &[i64]) -> Classification {
        let mut tally = Classification::new(classes);
        tally.add(logits, labels).unwrap();
        tally
    }

    #[test]
    fn binary_f1_is_of_the_last_label() {
        // Predicted 1 1 0 0 0 for true 1 0 1 0 0: one true positive, one false, one missed.
        let tally = tally(2, &[0., 1., 0., 1., 1., 0., 1., 0., 1., 0.], &[1, 0, 1, 0, 0]);
        assert_eq!(tally.accuracy(), 0.6);
        assert_eq!(tally.f1(), 0.5);
        assert_eq!(tally.confusion(), [vec![2, 1, 0], vec![1, 1, 0]]);
    }

    #[test]
    fn macro_f1_is_the_mean_over_seen_labels() {
        // True 0 1 1, predicted 0 1 2; label 3 is never seen. F1: 1, 2/3, 0.
        let tally = tally(4, &[1., 0., 0., 0., 0., 1., 0., 0., 0., 0., 1., 0.], &[0, 1, 1]);
        assert!((tally.f1() - 5.0 / 9.0).abs() < 1e-12);
    }

    #[test]
    fn cross_entropy_in_nats() {
        let even = tally(2, &[0.0, 0.0], &[0]);
        assert!((even.loss() - std::f64::consts::LN_2).abs() < 1e-12);
        let sure = tally(3, &[1e4, 0.0, 0.0, 1e4, 0.0, 0.0], &[0, 1]);
        assert!((sure.loss() - 5e3).abs() < 1e-9);
        // -log softmax([1,2,3])[0] = log(1 + e + e^2).
        let e = std::f64::consts::E;
        assert!((tally(3, &[1., 2., 3.], &[0]).loss() - (1.0 + e + e * e).ln()).abs() < 1e-12);
    }

    #[test]
    fn nan_is_wrong_and_spoils_the_loss() {
        for row in [[f32::NAN, 0.0], [0.0, f32::NAN], [f32::NAN, f32::NAN]] {
            for label in [0, 1] {
                let tally = tally(2, &row, &[label]);
                assert_eq!(tally.accuracy(), 0.0);
                assert_eq!(tally.f1(), 0.0);
                assert!(tally.loss().is_nan());
                assert_eq!(tally.confusion()[label as usize][2], 1);
            }
        }
    }

    #[test]
    fn nothing_is_not_perfect() {
        let empty = Classification::new(2);
        assert!(empty.accuracy().is_nan() && empty.f1().is_nan() && empty.loss().is_nan());
    }

    #[test]
    fn a_refused_batch_changes_nothing() {
        let mut tally = tally(2, &[0.0, 1.0], &[1]);
        let before = tally.clone();
        assert!(matches!(tally.add(&[0.0, 1.0, 2.0, 3.0], &[0, 2]), Err(DataError::LabelOutOfRange { label: 2, .. })));
        assert!(matches!(tally.add(&[0.0, 1.0], &[-100]), Err(DataError::LabelOutOfRange { label: -100, .. })));
        assert!(matches!(tally.add(&[0.0], &[0]), Err(DataError::LengthMismatch { want: 2, have: 1, .. })));
        assert_eq!(tally, before);
    }
}
