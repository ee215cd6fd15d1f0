//! Causal language modelling: the next token, by the logits that the model has already.

use super::{Attached, LABELS, free};
use lorac_ir::{Graph, ValueId};
use lorac_passes::{PassError, causal_cross_entropy, causal_log_likelihood, language_logits};
use lorac_train::{NLL, TOKENS};

/// The next token of every token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CausalLm {
    /// The output of logits, where the one called `logits` or the first of rank 3 is not meant.
    pub logits: Option<String>,
}

impl CausalLm {
    pub(super) fn attach(&self, graph: &mut Graph) -> Result<Attached, PassError> {
        free(graph, &[LABELS, NLL, TOKENS], "what training adds")?;
        let logits = language_logits(graph, self.logits.as_deref())?;
        Ok(Attached { logits, params: Vec::new(), head: None })
    }

    pub(super) fn loss(&self, graph: &mut Graph, logits: ValueId) -> Result<ValueId, PassError> {
        causal_cross_entropy(graph, logits, LABELS)
    }

    /// Sums, so that no logits leave the device: a batch of them is larger than everything else.
    pub(super) fn score(&self, graph: &mut Graph, logits: ValueId) -> Result<(), PassError> {
        causal_log_likelihood(graph, logits, LABELS, [NLL, TOKENS])
    }
}
