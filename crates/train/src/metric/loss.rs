//! The loss itself.

use super::{Better, Definition, Evaluation, Metric, Prediction};

/// The mean of the loss that the task is trained on, cross-entropies in nats.
pub struct Loss;

impl Metric for Loss {
    fn definition(&self) -> Definition {
        Definition {
            about: "Mean of the loss that the task is trained on, cross-entropies in nats",
            formula: "sum of the losses / what they are summed over",
            source: "torch.nn.CrossEntropyLoss, BCEWithLogitsLoss, MSELoss, L1Loss or HuberLoss, as the task has it",
            range: "infinity to 0",
            better: Better::Lower,
            suits: &Prediction::ALL,
            classes: None,
            synonyms: &["eval_loss", "val_loss"],
        }
    }

    fn score(&self, evaluation: &Evaluation) -> f64 {
        evaluation.loss_sum / evaluation.loss_count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_over_what_counts() {
        let e = Evaluation { loss_sum: 3.0, loss_count: 4.0, ..Evaluation::new(Prediction::Tokens) };
        assert_eq!(Loss.score(&e), 0.75);
    }
}
