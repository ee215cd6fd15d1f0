//! How often what is right is ranked above what is not.

use super::ranks::ranks;
use super::{Better, Definition, Evaluation, Metric, Prediction};

/// The area under the curve of true against false positives: the probability that a positive example is scored above a
/// negative one, ties counting half (Fawcett 2006, "An introduction to ROC analysis"). Of more than two classes the mean
/// over each against the rest, scored by the softmax; of labels the mean over labels. NaN where a class has no example, or
/// no other, and where a logit is NaN.
pub struct Auc;

impl Metric for Auc {
    fn definition(&self) -> Definition {
        Definition {
            about: "Probability that a positive example is scored above a negative one; of several classes the mean of each against the rest",
            formula: "the mean over classes of P(score of a positive > score of a negative) + P(equal) / 2",
            source: "sklearn.metrics.roc_auc_score(multi_class=\"ovr\", average=\"macro\")",
            range: "0 to 1",
            better: Better::Higher,
            suits: &[Prediction::Classes, Prediction::Labels],
            classes: None,
            synonyms: &["roc_auc", "auroc", "roc_auc_score"],
        }
    }

    fn score(&self, evaluation: &Evaluation) -> f64 {
        if evaluation.predictions.iter().any(|logit| logit.is_nan()) {
            return f64::NAN;
        }
        let width = evaluation.width;
        match (evaluation.kind, width) {
            (Prediction::Labels, _) => mean((0..width).map(|label| {
                let all = evaluation.labels().map(|(row, targets)| (f64::from(row[label]), targets[label]));
                area(all.filter(|(_, target)| !target.is_nan()).map(|(score, target)| (score, target > 0.5)))
            })),
            (_, 2) => {
                area(evaluation.rows().map(|(row, target)| (f64::from(row[1]) - f64::from(row[0]), target == 1.0)))
            }
            _ => {
                let rows: Vec<Vec<f64>> = evaluation.rows().map(|(row, _)| softmax(row)).collect();
                mean((0..width).map(|class| {
                    let scores = rows.iter().map(|row| row[class]);
                    area(scores.zip(&evaluation.targets).map(|(score, target)| (score, *target == class as f64)))
                }))
            }
        }
    }
}

fn mean(areas: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = areas.len() as f64;
    areas.sum::<f64>() / count
}

/// The area of scores, with whether they are of a positive example, by the sum of the ranks of these (Mann and Whitney).
fn area(scored: impl Iterator<Item = (f64, bool)>) -> f64 {
    let (scores, positive): (Vec<f64>, Vec<bool>) = scored.unzip();
    let count = positive.iter().filter(|p| **p).count() as f64;
    let sum: f64 = ranks(&scores).iter().zip(&positive).filter(|(_, p)| **p).map(|(rank, _)| rank).sum();
    (sum - count * (count + 1.0) / 2.0) / (count * (scores.len() as f64 - count))
}

/// Equal logits have equal probabilities to the bit, wherever they stand in the row.
fn softmax(row: &[f32]) -> Vec<f64> {
    let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exps: Vec<f64> = row.iter().map(|logit| (f64::from(*logit) - f64::from(top)).exp()).collect();
    let mut ordered = exps.clone();
    ordered.sort_unstable_by(f64::total_cmp);
    let sum: f64 = ordered.iter().sum();
    exps.into_iter().map(|exp| exp / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::classes;
    use super::*;

    #[test]
    fn pairs_in_the_right_order_over_all_pairs() {
        // Scores of negatives 1 and 3, of positives 2, 3 and 4: of six pairs four are right, one is tied.
        let e = classes(&[(&[0., 1.], 0), (&[0., 3.], 0), (&[1., 3.], 1), (&[0., 3.], 1), (&[0., 4.], 1)]);
        assert!((Auc.score(&e) - 4.5 / 6.0).abs() < 1e-12);
        assert!(Auc.score(&classes(&[(&[f32::NAN, 0.], 0), (&[0., 1.], 1)])).is_nan());
    }

    #[test]
    fn equal_rows_are_tied_in_whatever_order_they_have_their_logits() {
        let [a, b] = [softmax(&[0.1, 0.7, 0.3, 0.2]), softmax(&[0.1, 0.2, 0.7, 0.3])];
        assert_eq!((a[0], a[1]), (b[0], b[2]));
    }
}
