//! The loss itself.

use super::{Better, Evaluation, Metric, Prediction};

/// The mean of the loss that is trained on: cross-entropy in nats, or the squared error.
pub struct Loss;

impl Metric for Loss {
    fn about(&self) -> &'static str {
        "Mean of the loss that is trained on: cross-entropy in nats, or the squared error"
    }

    fn better(&self) -> Better {
        Better::Lower
    }

    fn suits(&self, _: Prediction) -> bool {
        true
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
