//! Precision, recall and F1 of several classes as one number.

use super::confusion::Confusion;
use super::label_counts::LabelCounts;
use super::{Better, Definition, Evaluation, Prediction};

/// How often a class is predicted, present, and both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Predicted where it is present: true positives.
    pub(super) right: u64,
    /// Predicted.
    pub(super) predicted: u64,
    /// Present: its support.
    pub(super) present: u64,
}

impl Tally {
    pub(super) fn is_seen(&self) -> bool {
        self.predicted + self.present > 0
    }
}

impl std::iter::Sum for Tally {
    fn sum<I: Iterator<Item = Tally>>(tallies: I) -> Tally {
        tallies.fold(Tally::default(), |a, b| Tally {
            right: a.right + b.right,
            predicted: a.predicted + b.predicted,
            present: a.present + b.present,
        })
    }
}

/// What is averaged. A part of nothing is 0, as in scikit-learn and seqeval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rate {
    Precision,
    Recall,
    F1,
}

impl Rate {
    /// The rate of one class.
    pub(super) fn of(self, tally: &Tally) -> f64 {
        let (part, whole) = match self {
            Rate::Precision => (tally.right, tally.predicted),
            Rate::Recall => (tally.right, tally.present),
            Rate::F1 => (2 * tally.right, tally.predicted + tally.present),
        };
        if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
    }
}

/// How many classes become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Average {
    /// The last of two classes alone.
    Binary,
    /// The rate of all counts together.
    Micro,
    /// The mean over classes.
    Macro,
    /// The mean over classes, each by its support.
    Weighted,
}

impl Average {
    /// The rate over classes; NaN where there are none, and where [`Average::Binary`] meets others than two.
    pub(super) fn of(self, rate: Rate, tallies: &[Tally]) -> f64 {
        let mean = |weight: fn(&Tally) -> f64| {
            let whole: f64 = tallies.iter().map(weight).sum();
            let sum: f64 = tallies.iter().map(|t| weight(t) * rate.of(t)).sum();
            if whole == 0.0 && !tallies.is_empty() { 0.0 } else { sum / whole }
        };
        match (self, tallies) {
            (Average::Binary, [_, positive]) => rate.of(positive),
            (_, []) | (Average::Binary, _) => f64::NAN,
            (Average::Micro, _) => rate.of(&tallies.iter().copied().sum()),
            (Average::Macro, _) => mean(|_| 1.0),
            (Average::Weighted, _) => mean(|t| t.present as f64),
        }
    }
}

/// The rate over the classes of an evaluation. Of classes those count that are present or predicted, of labels all, as in
/// scikit-learn.
pub(super) fn averaged(rate: Rate, average: Average, evaluation: &Evaluation) -> f64 {
    if evaluation.targets.is_empty() {
        return f64::NAN;
    }
    if evaluation.kind == Prediction::Labels {
        return average.of(rate, &LabelCounts::of(evaluation).labels);
    }
    let mut tallies = Confusion::of(evaluation).tallies();
    if average != Average::Binary {
        tallies.retain(Tally::is_seen);
    }
    average.of(rate, &tallies)
}

/// What the averages have in common.
pub(super) const RATE: Definition = Definition {
    about: "",
    formula: "",
    source: "",
    range: "0 to 1",
    better: Better::Higher,
    suits: &[Prediction::Classes, Prediction::Labels, Prediction::Tags],
    classes: None,
    synonyms: &[],
};

#[cfg(test)]
mod tests {
    use super::*;

    const SOME: [Tally; 3] = [
        Tally { right: 2, predicted: 2, present: 4 },
        Tally { right: 1, predicted: 3, present: 1 },
        Tally { right: 0, predicted: 0, present: 0 },
    ];

    #[test]
    fn a_part_of_nothing_is_zero() {
        let all = [Rate::Precision, Rate::Recall, Rate::F1];
        assert_eq!(all.map(|rate| rate.of(&SOME[0])), [1.0, 0.5, 2.0 / 3.0]);
        assert_eq!(all.map(|rate| rate.of(&SOME[2])), [0.0; 3]);
    }

    #[test]
    fn classes_count_together_alike_or_by_their_support() {
        let recall = |average: Average, tallies: &[Tally]| average.of(Rate::Recall, tallies);
        assert_eq!(recall(Average::Micro, &SOME), 3.0 / 5.0);
        assert_eq!(recall(Average::Macro, &SOME), (0.5 + 1.0 + 0.0) / 3.0);
        assert_eq!(recall(Average::Weighted, &SOME), (4.0 * 0.5 + 1.0) / 5.0);
        assert_eq!(recall(Average::Weighted, &SOME[2..]), 0.0);
        assert_eq!(recall(Average::Binary, &SOME[..2]), 1.0);
        assert!(recall(Average::Binary, &SOME).is_nan() && recall(Average::Macro, &[]).is_nan());
    }
}
