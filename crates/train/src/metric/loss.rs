//! The loss itself.

use super::{Better, Definition, Evaluation, Metric, Prediction};

/// The mean of the loss that is trained on: cross-entropy in nats, or the squared error.
pub struct Loss;

impl Metric for Loss {
    fn definition(&self) -> Definition {
        Definition {
            about: "Mean of the loss that is trained on: cross-entropy in nats, or the squared error",
            formula: "sum of the losses / what they are summed over",
            source: "torch.nn.CrossEntropyLoss, BCEWithLogitsLoss or MSELoss, as the task has it",
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
