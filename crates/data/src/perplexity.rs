//! How well logits foretell the next token.

use crate::batch::IGNORE;
use crate::error::DataError;
use crate::metrics::cross_entropy;

/// Perplexity over any number of batches: the exponential of the mean negative log likelihood of the counted tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Perplexity {
    nats: f64,
    tokens: u64,
}

impl Perplexity {
    /// Adds a batch: `logits` is `[rows, len, vocab]`, `labels` is `[rows, len]` and holds the tokens themselves. The
    /// logits at a place are compared with the label of the next; a label of -100 counts for nothing.
    ///
    /// # Errors
    /// `LengthMismatch`, `LabelOutOfRange`; the tally is then as it was.
    pub fn add(&mut self, logits: &[f32], labels: &[i64], len: usize, vocab: usize) -> Result<(), DataError> {
        if len == 0 || !labels.len().is_multiple_of(len) {
            let want = labels.len().next_multiple_of(len.max(1));
            return Err(DataError::LengthMismatch { what: "labels", want, have: labels.len() });
        }
        let want = labels.len().saturating_mul(vocab);
        if logits.len() != want {
            return Err(DataError::LengthMismatch { what: "logits", want, have: logits.len() });
        }
        let index = |label: i64| usize::try_from(label).ok().filter(|index| *index < vocab);
        if let Some(label) = labels.iter().copied().find(|label| *label != IGNORE && index(*label).is_none()) {
            return Err(DataError::LabelOutOfRange { label, classes: vocab });
        }
        for (logits, labels) in logits.chunks_exact((len * vocab).max(1)).zip(labels.chunks_exact(len)) {
            let next = labels.iter().skip(1);
            for (row, label) in logits.chunks_exact(vocab.max(1)).zip(next) {
                if let Some(label) = index(*label) {
                    self.add_nats(cross_entropy(row, label), 1);
                }
            }
        }
        Ok(())
    }

    /// Adds tokens whose negative log likelihoods sum up to `nats`.
    pub fn add_nats(&mut self, nats: f64, tokens: u64) {
        self.nats += nats;
        self.tokens += tokens;
    }

    /// How many tokens were counted.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// The mean negative log likelihood in nats; NaN when there are no tokens.
    #[must_use]
    pub fn loss(&self) -> f64 {
        self.nats / self.tokens as f64
    }

    /// The exponential of [`Perplexity::loss`]; NaN when there are no tokens.
    #[must_use]
    pub fn perplexity(&self) -> f64 {
        self.loss().exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_logits_are_as_perplexed_as_there_are_tokens() {
        let mut tally = Perplexity::default();
        tally.add(&[0.0; 2 * 3 * 5], &[0, 1, 2, 3, 4, IGNORE], 3, 5).unwrap();
        assert_eq!(tally.tokens(), 3, "first tokens are not foretold, ignored ones not counted");
        assert!((tally.perplexity() - 5.0).abs() < 1e-12);
    }

    #[test]
    fn logits_are_compared_with_the_next_token() {
        let mut tally = Perplexity::default();
        // [1, 2] foretells the label 1, [9, 0] stands at the last place.
        tally.add(&[1.0, 2.0, 9.0, 0.0], &[0, 1], 2, 2).unwrap();
        assert!((tally.loss() - (1.0 + (-1.0f64).exp()).ln()).abs() < 1e-12);
        tally.add_nats(3.0, 2);
        assert!((tally.loss() - ((1.0 + (-1.0f64).exp()).ln() + 3.0) / 3.0).abs() < 1e-12);
    }

    #[test]
    fn mistakes_are_refused_and_nothing_is_not_perfect() {
        let mut tally = Perplexity::default();
        let two = [0.0; 4];
        assert!(matches!(tally.add(&two, &[0, 2], 2, 2), Err(DataError::LabelOutOfRange { label: 2, classes: 2 })));
        assert!(matches!(tally.add(&two, &[0, 1, 1], 2, 2), Err(DataError::LengthMismatch { want: 4, have: 3, .. })));
        assert!(matches!(tally.add(&two, &[0], 1, 2), Err(DataError::LengthMismatch { want: 2, have: 4, .. })));
        assert!(matches!(tally.add(&[], &[], 0, 2), Err(DataError::LengthMismatch { .. })));
        assert!(tally == Perplexity::default() && tally.perplexity().is_nan());
        tally.add(&[f32::NAN, 0.0, 0.0, 0.0], &[0, 1], 2, 2).unwrap();
        assert!(tally.perplexity().is_nan());
    }
}
