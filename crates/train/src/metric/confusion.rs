//! Which classes are taken for which.

use super::Evaluation;

/// Counts by true class, then by predicted one. A row with a NaN among its logits predicts nothing: it counts as wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Confusion {
    counts: Vec<Vec<u64>>,
}

impl Confusion {
    /// The last column counts rows that predict nothing.
    pub(super) fn of(evaluation: &Evaluation) -> Confusion {
        let classes = evaluation.width;
        let mut counts = vec![vec![0; classes + 1]; classes];
        for (row, target) in evaluation.rows() {
            if let Some(counts) = counts.get_mut(target as usize) {
                counts[predicted(row).unwrap_or(classes)] += 1;
            }
        }
        Confusion { counts }
    }

    pub(super) fn classes(&self) -> usize {
        self.counts.len()
    }

    /// The part of the rows predicted right; NaN when there are none.
    pub(super) fn accuracy(&self) -> f64 {
        let right: u64 = self.counts.iter().enumerate().map(|(class, row)| row[class]).sum();
        let all: u64 = self.counts.iter().flatten().sum();
        right as f64 / all as f64
    }

    /// 2 TP / (2 TP + FP + FN) of a class; nothing where it is neither present nor predicted.
    pub(super) fn f1(&self, class: usize) -> Option<f64> {
        let row = self.counts.get(class)?;
        let present: u64 = row.iter().sum();
        let predicted: u64 = self.counts.iter().map(|row| row[class]).sum();
        (present + predicted > 0).then(|| 2.0 * row[class] as f64 / (present + predicted) as f64)
    }

    /// The mean of the classes' F1, those left out that are neither present nor predicted; NaN where all are.
    pub(super) fn f1_macro(&self) -> f64 {
        let each: Vec<f64> = (0..self.classes()).filter_map(|class| self.f1(class)).collect();
        each.iter().sum::<f64>() / each.len() as f64
    }
}

/// The class of the largest logit; of equal ones the first.
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
        assert_eq!((confusion.accuracy(), confusion.f1(1)), (0.6, Some(0.5)));
    }

    #[test]
    fn what_is_no_number_predicts_nothing() {
        for row in [[f32::NAN, 0.0], [0.0, f32::NAN], [f32::NAN, f32::NAN]] {
            for class in [0, 1] {
                let confusion = Confusion::of(&classes(&[(&row, class)]));
                assert_eq!((confusion.accuracy(), confusion.f1(class)), (0.0, Some(0.0)));
                assert_eq!(confusion.counts[class][2], 1);
            }
        }
    }

    #[test]
    fn the_first_of_equal_logits_is_the_prediction() {
        assert_eq!(predicted(&[0.5, 0.5, 0.25]), Some(0));
    }
}
