//! How good predictions are: outputs and targets to a number. One file each.

#![allow(non_snake_case, reason = "a metric's file has its name, and rougeL is one")]

mod average;
mod breakdown;
mod confusion;
mod evaluation;
mod label_counts;
mod ranks;
mod retrieval;
mod rouge;
mod spans;
mod tokens_13a;

pub use breakdown::{Breakdown, ClassScores, Mistake, OtherClasses};
pub use evaluation::{Count, Evaluation, Generated, Prediction};

use serde::{Deserialize, Serialize};

lorac_config::members! {
    /// Every metric by its name.
    pub static METRICS: dyn Metric = {
        accuracy: Accuracy,
        balanced_accuracy: BalancedAccuracy,
        precision_binary: PrecisionBinary,
        precision_micro: PrecisionMicro,
        precision_macro: PrecisionMacro,
        precision_weighted: PrecisionWeighted,
        recall_binary: RecallBinary,
        recall_micro: RecallMicro,
        recall_macro: RecallMacro,
        recall_weighted: RecallWeighted,
        f1: F1,
        f1_binary: F1Binary,
        f1_micro: F1Micro,
        f1_macro: F1Macro,
        f1_weighted: F1Weighted,
        f1_samples: F1Samples,
        subset_accuracy: SubsetAccuracy,
        matthews: Matthews,
        auc: Auc,
        span_precision: SpanPrecision,
        span_recall: SpanRecall,
        span_f1: SpanF1,
        mse: Mse,
        mae: Mae,
        r2: R2,
        pearson: Pearson,
        spearman: Spearman,
        recall_at_1: RecallAt1,
        recall_at_5: RecallAt5,
        recall_at_10: RecallAt10,
        mrr: Mrr,
        perplexity: Perplexity,
        bleu: Bleu,
        chrf: Chrf,
        rouge1: Rouge1,
        rouge2: Rouge2,
        rougeL: RougeL,
        exact_match: ExactMatch,
        loss: Loss,
    };
}

/// A number that says how good predictions are.
pub trait Metric {
    /// What it is.
    fn definition(&self) -> Definition;

    /// The number; NaN where there is nothing to score, and where it is not defined.
    fn score(&self, evaluation: &Evaluation) -> f64;

    /// Which of two numbers is the better one.
    fn better(&self) -> Better {
        self.definition().better
    }

    /// Whether it says anything of such predictions.
    fn suits(&self, kind: Prediction) -> bool {
        self.definition().suits.contains(&kind)
    }

    /// Whether it compares generated texts with their references.
    fn reads_texts(&self) -> bool {
        false
    }
}

/// What a metric is, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Definition {
    /// One line for the schema.
    pub about: &'static str,
    /// How it is computed.
    pub formula: &'static str,
    /// The function of another library that computes the same.
    pub source: &'static str,
    /// Its numbers, from the worst to the best.
    pub range: &'static str,
    /// Which of two numbers is the better one.
    pub better: Better,
    /// The predictions that it says something of.
    pub suits: &'static [Prediction],
    /// How many classes there must be, where it says nothing of any other number of them.
    pub classes: Option<usize>,
    /// What other tools call it.
    pub synonyms: &'static [&'static str],
}

/// The metric of a name.
pub fn metric(name: &str) -> Option<&'static (dyn Metric + Sync)> {
    METRICS.iter().find(|(known, _)| *known == name).map(|(_, metric)| *metric)
}

/// Which of two numbers is the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// The higher.
    Higher,
    /// The lower.
    Lower,
}

impl Better {
    /// Whether `now` is worse than `before` by more than `margin`. A number is better than none.
    pub fn is_worse(self, now: f64, before: f64, margin: f64) -> bool {
        let fell = match self {
            Better::Higher => before - now,
            Better::Lower => now - before,
        };
        // What is within a margin of 0.01 in decimals is so in binary, too.
        let rounding = 1e-12 * before.abs().max(1.0);
        !(before.is_nan() || fell <= margin + rounding || now == before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of logits with the class that is right.
    pub(crate) fn classes(rows: &[(&[f32], usize)]) -> Evaluation {
        Evaluation {
            predictions: rows.iter().flat_map(|r| r.0.to_vec()).collect(),
            width: rows.first().map_or(0, |r| r.0.len()),
            targets: rows.iter().map(|r| r.1 as f64).collect(),
            counts: vec![1; rows.len()],
            ..Evaluation::new(Prediction::Classes)
        }
    }

    /// Numbers predicted for numbers.
    pub(crate) fn values(predictions: &[f32], targets: &[f64]) -> Evaluation {
        Evaluation {
            predictions: predictions.to_vec(),
            width: 1,
            targets: targets.to_vec(),
            counts: vec![1; targets.len()],
            ..Evaluation::new(Prediction::Values)
        }
    }

    /// Texts with their references.
    pub(crate) fn texts(texts: &[(&str, &[&str])]) -> Evaluation {
        let one = |(text, references): &(&str, &[&str])| Generated {
            prompt: String::new(),
            text: text.to_string(),
            references: references.iter().map(ToString::to_string).collect(),
        };
        Evaluation { texts: texts.iter().map(one).collect(), ..Evaluation::new(Prediction::Tokens) }
    }

    #[test]
    fn nothing_is_not_perfect() {
        for kind in Prediction::ALL {
            for (name, metric) in METRICS.iter().filter(|m| m.1.suits(kind)) {
                for width in [0, 2, 3] {
                    let classes = ["O", "B-A", "B-B"].iter().take(width).map(|name| name.to_string()).collect();
                    let nothing = Evaluation { width, classes, ..Evaluation::new(kind) };
                    assert!(metric.score(&nothing).is_nan(), "{name} of {kind:?}");
                }
            }
        }
    }

    #[test]
    fn every_kind_of_prediction_has_a_metric_of_its_own() {
        for kind in Prediction::ALL {
            // A model's own loss is all that is known of it.
            let least = if kind == Prediction::Loss { 1 } else { 2 };
            assert!(METRICS.iter().filter(|m| m.1.suits(kind)).count() >= least, "{kind:?}");
        }
        assert!(metric("accuracy").is_some() && metric("acuracy").is_none());
    }

    #[test]
    fn a_synonym_is_no_name_and_means_one_metric() {
        let mut all: Vec<&str> = METRICS.iter().flat_map(|m| m.1.definition().synonyms).copied().collect();
        assert!(all.iter().all(|synonym| metric(synonym).is_none()), "{all:?}");
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn worse_is_below_or_above_by_more_than_the_margin() {
        let worse = |now, before, margin| [Better::Higher, Better::Lower].map(|b| b.is_worse(now, before, margin));
        assert_eq!(worse(0.5, 0.5, 0.0), [false, false]);
        assert_eq!(worse(0.4, 0.5, 0.0), [true, false]);
        assert_eq!(worse(0.6, 0.5, 0.0), [false, true]);
        assert_eq!(worse(0.375, 0.5, 0.125), [false, false]);
        assert_eq!(worse(0.625, 0.5, 0.0625), [false, true]);
        assert_eq!(worse(0.8, 0.81, 0.01), [false, false]);
        assert_eq!(worse(f64::NAN, 0.5, 1.0), [true, true]);
        assert_eq!(worse(0.5, f64::NAN, 0.0), [false, false]);
        assert_eq!(worse(f64::NAN, f64::NAN, 0.0), [false, false]);
        assert_eq!(worse(f64::INFINITY, f64::INFINITY, 0.0), [false, false]);
        assert_eq!(worse(f64::INFINITY, 0.5, 0.0), [false, true]);
    }
}
