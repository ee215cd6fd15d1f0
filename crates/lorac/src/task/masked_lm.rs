//! Masked language modelling: tokens that are hidden, by the logits that the model has already.

use super::unlabelled::Unlabelled;
use super::{Class, LABELS, Targets, Task, TaskChoice};
use crate::pipeline::Split;
use lorac_config::{Check, Problems};
use lorac_data::DataError;
use lorac_ir::Graph;
use lorac_ops::Val;
use lorac_passes::{Attached, LossTerms, Objective, ParamValues, PassError, cross_entropy_terms, language_logits};
use lorac_train::Prediction;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Tokens that are hidden from the model, by its own logits of every token: of texts or plain texts. Of ten hidden tokens eight
/// become the mask, one any token, and one stays; every epoch hides others
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MaskedLm {
    /// The output of logits. Default: the one called logits, else the first float output of rank 3
    pub logits: Option<String>,
    /// The share of the tokens that is hidden
    pub share: f64,
}

impl Default for MaskedLm {
    fn default() -> MaskedLm {
        MaskedLm { logits: None, share: 0.15 }
    }
}

impl Check for MaskedLm {
    fn check(&self, problems: &mut Problems) {
        problems.range("share", self.share, 0.001, 0.9);
    }
}

impl Objective for MaskedLm {
    fn attach(&self, graph: &mut Graph) -> Result<Attached, PassError> {
        let prediction = language_logits(graph, self.logits.as_deref())?;
        Ok(Attached { prediction, params: Vec::new() })
    }

    fn loss<'e, 'g>(&self, prediction: Val<'e, 'g>) -> Result<LossTerms<'e, 'g>, PassError> {
        cross_entropy_terms(prediction, LABELS)
    }

    fn evaluates_prediction(&self) -> bool {
        false
    }
}

impl Task for MaskedLm {
    fn prediction(&self) -> Prediction {
        Prediction::Masked
    }

    fn packs(&self) -> bool {
        true
    }

    fn metrics(&self) -> &'static [&'static str] {
        &["perplexity", "loss"]
    }

    fn hides(&self) -> Option<f64> {
        Some(self.share)
    }

    fn reads(&self) -> &'static [&'static str] {
        &["text", "text_pair"]
    }

    fn check_split(&self, _: &Split, _: &mut Problems) {}

    fn targets<'a>(&'a self, _: &'a Split) -> Result<Box<dyn Targets + 'a>, DataError> {
        Ok(Box::new(Unlabelled::Tokens))
    }

    fn appendix(&self, _: &Graph, _: &Graph, _: &ParamValues) -> Result<Option<Graph>, PassError> {
        Ok(None)
    }

    fn deployed(&self, output: &str) -> Option<TaskChoice> {
        Some(MaskedLm { logits: Some(output.into()), ..self.clone() }.into())
    }

    fn class(&self) -> Class {
        Class::MaskedLm
    }
}
