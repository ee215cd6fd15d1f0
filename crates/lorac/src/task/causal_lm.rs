//! Causal language modelling: the next token, by the logits that the model has already.

use super::{Class, LABELS, Targets, Task, TaskChoice};
use crate::pipeline::Split;
use lorac_config::{Check, Problems};
use lorac_data::{DataError, Field, IGNORE, Row};
use lorac_ir::Graph;
use lorac_ops::Val;
use lorac_passes::{Attached, LossTerms, Objective, ParamValues, PassError, language_logits, next_token_terms};
use lorac_train::Prediction;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The next token of plain texts, by the model's own logits
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CausalLm {
    /// The output of logits. Default: the one called logits, else the first float output of rank 3
    pub logits: Option<String>,
}

impl Check for CausalLm {
    fn check(&self, _: &mut Problems) {}
}

impl Objective for CausalLm {
    fn attach(&self, graph: &mut Graph) -> Result<Attached, PassError> {
        let prediction = language_logits(graph, self.logits.as_deref())?;
        Ok(Attached { prediction, params: Vec::new() })
    }

    fn loss<'e, 'g>(&self, prediction: Val<'e, 'g>) -> Result<LossTerms<'e, 'g>, PassError> {
        next_token_terms(prediction, LABELS)
    }

    fn evaluates_prediction(&self) -> bool {
        false
    }
}

impl Task for CausalLm {
    fn prediction(&self) -> Prediction {
        Prediction::Tokens
    }

    fn metrics(&self) -> &'static [&'static str] {
        &["perplexity", "loss"]
    }

    fn check_split(&self, split: &Split, problems: &mut Problems) {
        for (key, given) in [("label", split.label.is_some()), ("label_map", split.label_map.is_some())] {
            if given && split.is_table() {
                let message = format!("`{key}`: the next token is the label of a language model");
                problems.report(key, "pipeline::idle", message);
            }
        }
    }

    fn targets<'a>(&'a self, _: &'a Split) -> Result<Box<dyn Targets + 'a>, DataError> {
        Ok(Box::new(NextTokens))
    }

    fn appendix(&self, _: &Graph, _: &Graph, _: &ParamValues) -> Result<Option<Graph>, PassError> {
        Ok(None)
    }

    fn deployed(&self, output: &str) -> Option<TaskChoice> {
        Some(CausalLm { logits: Some(output.into()), ..self.clone() }.into())
    }

    fn class(&self) -> Class {
        Class::CausalLm
    }
}

/// Every token is its own label: the graph compares it with the logits of the token before.
struct NextTokens;

impl Targets for NextTokens {
    fn columns(&self) -> Vec<&str> {
        Vec::new()
    }

    fn of_row(&self, _: &Row) -> Result<Option<Field>, DataError> {
        Ok(None)
    }

    fn of_tokens(&self, ids: &[i64]) -> Field {
        Field::Tokens { ids: ids.to_vec(), pad: IGNORE }
    }
}
