//! Which classes are taken for which.

use super::Evaluation;
use super::average::Tally;

/// Counts by true class, then by predicted one. A row with a NaN among its logits predicts nothing: it counts as wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Confusion {
    /// The last column counts rows that predict nothing.
    pub(super) counts: Vec<Vec<u64>>,
}

impl Confusion {
    /// The counts of a class an example, or a token.
    pub(super) fn of(evaluation: &Evaluation) -> Confusion {
        let classes = evaluation.width;
        let mut counts = vec![vec![0; classes + 1]; classes];
        for (row, target) in evaluation.rows().filter(|(_, target)| *target >= 0.0) {
            if let Some(counts) = counts.get_mut(target as usize) {
                counts[predicted(row).unwrap_or(classes)] += 1;
            }
        }
        Confusion { counts }
    }

    /// How often each class is predicted, present, and both.
    pub(super) fn tallies(&self) -> Vec<Tally> {
        let rows = self.counts.iter().enumerate();
        let mut tallies: Vec<Tally> =
            rows.map(|(class, row)| Tally { right: row[class], predicted: 0, present: row.iter().sum() }).collect();
        for row in &self.counts {
            tallies.iter_mut().zip(row).for_each(|(tally, count)| tally.predicted += count);
        }
        tallies
    }

    /// The part of the rows predicted right; NaN when there are none.
    pub(super) fn accuracy(&self) -> f64 {
        let Tally { right, present, .. } = self.tallies().into_iter().sum();
        right as f64 / present as f64
    }
}

/// The class of the largest logit; of equal ones the first.
pub(super) fn predicted(row: &[f32]) -> Option<usize> {
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

#[cfg(test)]
mod tests {
    use super::super::tests::classes;
    use super::*;

    #[test]
    fn rows_are_counted_by_both_classes() {
        // Predicted 1 1 0 0 0 for true 1 0 1 0 0: one true positive, one false, one missed.
        let logits: [(&[f32], usize); 5] =
            [(&[0., 1.], 1), (&[0., 1.], 0), (&[1., 0.], 1), (&[1., 0.], 0), (&[1., 0.], 0)];
        let confusion = Confusion::of(&classes(&logits));
        assert_eq!(confusion.counts, [vec![2, 1, 0], vec![1, 1, 0]]);
        let positive = Tally { right: 1, predicted: 2, present: 2 };
        assert_eq!((confusion.accuracy(), confusion.tallies()[1]), (0.6, positive));
    }

    #[test]
    fn what_is_no_number_predicts_nothing() {
        for row in [[f32::NAN, 0.0], [0.0, f32::NAN], [f32::NAN, f32::NAN]] {
            for class in [0, 1] {
                let confusion = Confusion::of(&classes(&[(&row, class)]));
                let missed = Tally { right: 0, predicted: 0, present: 1 };
                assert_eq!((confusion.accuracy(), confusion.tallies()[class]), (0.0, missed));
                assert_eq!(confusion.counts[class][2], 1);
            }
        }
    }

    #[test]
    fn the_first_of_equal_logits_is_the_prediction() {
        assert_eq!(predicted(&[0.5, 0.5, 0.25]), Some(0));
    }

    #[test]
    fn targets_that_are_no_class_count_for_nothing() {
        let mut evaluation = classes(&[(&[0., 1.], 1), (&[1., 0.], 0), (&[1., 0.], 0)]);
        evaluation.targets = vec![-100.0, 2.0, 0.0];
        assert_eq!(Confusion::of(&evaluation).counts, [vec![1, 0, 0], vec![0, 0, 0]]);
    }
}
