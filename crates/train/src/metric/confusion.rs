//! Which classes are taken for which.

use super::Evaluation;
use super::average::Tally;
use std::collections::BTreeMap;

/// Counts by true class and predicted one: those that are not zero, since there may be thousands of classes. A row with a
/// NaN among its logits predicts nothing: it counts as wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Confusion {
    classes: usize,
    counts: BTreeMap<(usize, Option<usize>), u64>,
}

impl Confusion {
    /// The counts of a class an example, or a token.
    pub(super) fn of(evaluation: &Evaluation) -> Confusion {
        let (classes, mut counts) = (evaluation.width, BTreeMap::new());
        for (row, target) in evaluation.rows().filter(|(_, target)| *target >= 0.0) {
            let class = target as usize;
            if class < classes {
                *counts.entry((class, predicted(row))).or_default() += 1;
            }
        }
        Confusion { classes, counts }
    }

    /// How often each class is predicted, present, and both.
    pub(super) fn tallies(&self) -> Vec<Tally> {
        let mut tallies = vec![Tally::default(); self.classes];
        for ((class, predicted), count) in &self.counts {
            tallies[*class].present += count;
            if let Some(predicted) = predicted {
                tallies[*predicted].predicted += count;
                tallies[*class].right += if predicted == class { *count } else { 0 };
            }
        }
        tallies
    }

    /// The part of the rows predicted right; NaN when there are none.
    pub(super) fn accuracy(&self) -> f64 {
        let Tally { right, present, .. } = self.tallies().into_iter().sum();
        right as f64 / present as f64
    }

    /// All counts, those that are zero as well, by true class, then by predicted one.
    pub(super) fn matrix(&self) -> Vec<Vec<u64>> {
        let mut matrix = vec![vec![0; self.classes]; self.classes];
        for ((class, predicted), count) in &self.counts {
            predicted.iter().for_each(|predicted| matrix[*class][*predicted] = *count);
        }
        matrix
    }

    /// How often a class is taken for another: class, the other, how often.
    pub(super) fn mistakes(&self) -> impl Iterator<Item = (usize, usize, u64)> {
        let all = self.counts.iter().filter_map(|((class, predicted), count)| Some((*class, (*predicted)?, *count)));
        all.filter(|(class, predicted, _)| class != predicted)
    }

    /// Rows that predict nothing.
    pub(super) fn unpredicted(&self) -> u64 {
        self.counts.iter().filter(|((_, predicted), _)| predicted.is_none()).map(|(_, count)| count).sum()
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
        assert_eq!(confusion.matrix(), [[2, 1], [1, 1]]);
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
                assert_eq!((confusion.unpredicted(), confusion.mistakes().count()), (1, 0));
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
        assert_eq!(Confusion::of(&evaluation).matrix(), [[1, 0], [0, 0]]);
    }
}
