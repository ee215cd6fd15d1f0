//! How many tokens a model hesitates between.

use super::{Better, Definition, Evaluation, Metric, Prediction};

/// e to the mean negative log-likelihood of a token.
pub struct Perplexity;

impl Metric for Perplexity {
    fn definition(&self) -> Definition {
        Definition {
            about: "e to the mean negative log-likelihood of a token",
            formula: "exp(loss)",
            source: "exp of torch.nn.CrossEntropyLoss, evaluate's perplexity of one model",
            range: "infinity to 1",
            better: Better::Lower,
            suits: &[Prediction::Tokens, Prediction::Masked],
            classes: None,
            synonyms: &["ppl"],
        }
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
