//! Perplexity of a language model.

use crate::{Dataset, Feeds, TrainError, number};
use lorac_data::Sampler;
use lorac_ir::Tensor;
use lorac_runtime::Program;
use serde::{Deserialize, Serialize};

/// The output that sums the negative log-likelihood of a batch's tokens.
pub const NLL: &str = "nll_sum";
/// The output that counts them.
pub const TOKENS: &str = "token_count";

/// How well a model predicts the next token.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LanguageScores {
    /// e to the mean negative log-likelihood of a token.
    #[serde(deserialize_with = "number")]
    pub perplexity: f64,
    /// The mean negative log-likelihood of a token, in nats.
    #[serde(deserialize_with = "number")]
    pub loss: f64,
    /// Tokens that were predicted: all but the first of each example.
    pub tokens: u64,
}

/// Runs the program, whose outputs are [`NLL`] and [`TOKENS`], over the whole set in order. Every token counts the same,
/// in whatever batch it stands.
pub fn evaluate_language(
    program: &mut dyn Program,
    feeds: &Feeds,
    data: &Dataset,
    batch: usize,
    mut seen: impl FnMut(usize),
) -> Result<LanguageScores, TrainError> {
    let (mut nll, mut tokens) = (0.0, 0.0);
    for rows in Sampler::sequential(data.labels.len(), batch)?.epoch(0) {
        let b = data.batch(&rows, batch)?;
        let tensors = feeds.for_program(program, &b)?;
        let refs: Vec<(&str, &Tensor)> = tensors.iter().map(|(n, t)| (n.as_str(), t)).collect();
        let out = program.run(&refs, &[NLL, TOKENS])?;
        let number = |i: usize| out.get(i).and_then(|t| t.to_f64()?.first().copied()).unwrap_or(f64::NAN);
        nll += number(0);
        tokens += number(1);
        seen(b.real_rows);
    }
    let loss = nll / tokens;
    Ok(LanguageScores { perplexity: loss.exp(), loss, tokens: tokens as u64 })
}
