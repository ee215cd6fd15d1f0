//! Which labels are given and which are right, where an example has any number of them.

use super::Evaluation;
use super::average::Tally;

/// Counts of labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LabelCounts {
    /// Of every label, over examples.
    pub(super) labels: Vec<Tally>,
    /// Of every example with a target, over its labels.
    pub(super) examples: Vec<Example>,
}

/// The labels of an example.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Example {
    pub(super) tally: Tally,
    /// Labels given that are not right, or the other way round.
    pub(super) wrong: u64,
}

impl LabelCounts {
    /// A label is given where its logit is above 0, which is a probability above 1/2. A target that is NaN counts for
    /// nothing, a logit that is NaN is wrong.
    pub(super) fn of(evaluation: &Evaluation) -> LabelCounts {
        let mut labels = vec![Tally::default(); evaluation.width];
        let mut examples = Vec::new();
        for (row, targets) in evaluation.labels() {
            let mut example = Example::default();
            let known = labels.iter_mut().zip(row.iter().zip(targets)).filter(|(_, (_, target))| !target.is_nan());
            let mut any = false;
            for (label, (logit, target)) in known {
                any = true;
                let present = *target > 0.5;
                let predicted = if logit.is_nan() { !present } else { *logit > 0.0 };
                for tally in [label, &mut example.tally] {
                    tally.present += u64::from(present);
                    tally.predicted += u64::from(predicted);
                    tally.right += u64::from(present && predicted);
                }
                example.wrong += u64::from(present != predicted);
            }
            examples.extend(any.then_some(example));
        }
        LabelCounts { labels, examples }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Prediction;
    use super::*;

    #[test]
    fn what_is_not_known_counts_for_nothing_and_what_is_no_number_is_wrong() {
        let nan = f64::NAN;
        let evaluation = Evaluation {
            predictions: vec![1.0, f32::NAN, 0.0, -1.0, 2.0, f32::NAN, 1.0, 1.0, 1.0],
            width: 3,
            targets: vec![1.0, 0.0, nan, 1.0, 0.0, 1.0, nan, nan, nan],
            ..Evaluation::new(Prediction::Labels)
        };
        let counts = LabelCounts::of(&evaluation);
        let tally = |right, predicted, present| Tally { right, predicted, present };
        assert_eq!(counts.labels, [tally(1, 1, 2), tally(0, 2, 0), tally(0, 0, 1)]);
        let of = |tally, wrong| Example { tally, wrong };
        assert_eq!(counts.examples, [of(tally(1, 2, 1), 1), of(tally(0, 1, 2), 3)]);
    }
}
