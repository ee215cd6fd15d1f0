//! How many tokens a model hesitates between.

use super::{Better, Evaluation, Metric, Prediction};

/// e to the mean negative log-likelihood of a token.
pub struct Perplexity;

impl Metric for Perplexity {
    fn about(&self) -> &'static str {
        "e to the mean negative log-likelihood of a token"
    }

    fn better(&self) -> Better {
        Better::Lower
    }

    fn suits(&self, kind: Prediction) -> bool {
        kind == Prediction::Tokens
    }

    fn score(&self, evaluation: &Evaluation) -> f64 {
        (evaluation.loss_sum / evaluation.loss_count).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_odds_are_as_perplexed_as_there_are_tokens() {
        let loss_sum = 3.0 * 5.0f64.ln();
        let e = Evaluation { loss_sum, loss_count: 3.0, ..Evaluation::new(Prediction::Tokens) };
        assert!((Perplexity.score(&e) - 5.0).abs() < 1e-12);
    }
}
