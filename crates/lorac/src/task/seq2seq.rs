//! Sequence to sequence: an encoder reads a text, and a decoder writes the one that answers it.

use super::unlabelled::Unlabelled;
use super::{Class, LABELS, Targets, Task, TaskChoice};
use crate::pipeline::Split;
use lorac_config::{Check, Problems};
use lorac_data::encode::Seq2Seq as Pairs;
use lorac_data::{DataError, Inputs};
use lorac_ir::Graph;
use lorac_ops::Val;
use lorac_passes::{Attached, LossTerms, Objective, ParamValues, PassError, cross_entropy_terms, language_logits};
use lorac_train::{Generate, Prediction};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The completion of a prompt, by a model with an encoder that reads the prompt and a decoder that writes, by its own logits: one
/// file with the inputs input_ids, attention_mask and decoder_input_ids, or a folder with encoder_model.onnx and decoder_model.onnx
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Seq2Seq {
    /// The output of logits. Default: the one called logits, else the first float output of rank 3
    pub logits: Option<String>,
    /// The id of the token that the decoder begins with. Default: that of generation_config.json or config.json beside the model
    pub decoder_start_token_id: Option<u32>,
    /// Whether the end of text is put behind a completion that the tokenizer does not end. Default: where its files say which
    /// token that is
    pub append_eos: Option<bool>,
    /// How texts are written for prompts that are held out, for metrics that compare them with completions (bleu, rougeL, ...)
    pub generate: Option<Generate>,
}

impl Check for Seq2Seq {
    fn check(&self, problems: &mut Problems) {
        if let Some(generate) = &self.generate {
            problems.within("generate", |p| generate.check(p));
        }
    }
}

impl Objective for Seq2Seq {
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

impl Task for Seq2Seq {
    fn prediction(&self) -> Prediction {
        Prediction::Tokens
    }

    fn metrics(&self) -> &'static [&'static str] {
        &["perplexity", "loss"]
    }

    fn reads(&self) -> &'static [&'static str] {
        &["prompt", "completion"]
    }

    fn has_decoder(&self) -> bool {
        true
    }

    fn decoder_start(&self) -> Option<i64> {
        self.decoder_start_token_id.map(i64::from)
    }

    fn starting(&self, id: u32) -> Option<TaskChoice> {
        Some(Seq2Seq { decoder_start_token_id: Some(id), ..self.clone() }.into())
    }

    fn check_split(&self, split: &Split, problems: &mut Problems) {
        let at = if split.is_table() { "prompt" } else { split.format.as_str() };
        if split.dialogue_key().is_none() {
            let message =
                "an encoder reads prompts and a decoder writes completions: prompt: COLUMN, completion: COLUMN";
            problems.report(at, "pipeline::split", message);
        }
    }

    fn inputs(&self, split: &Split) -> Inputs {
        let of = |column: &Option<String>| column.clone().unwrap_or_default();
        let (prompt, completion) = (of(&split.prompt), of(&split.completion));
        let start = self.decoder_start().unwrap_or_default();
        Pairs { prompt, completion, start, append_eos: self.append_eos }.into()
    }

    fn targets<'a>(&'a self, _: &'a Split) -> Result<Box<dyn Targets + 'a>, DataError> {
        Ok(Box::new(Unlabelled::Tokens))
    }

    fn appendix(&self, _: &Graph, _: &Graph, _: &ParamValues) -> Result<Option<Graph>, PassError> {
        Ok(None)
    }

    fn deployed(&self, output: &str) -> Option<TaskChoice> {
        Some(Seq2Seq { logits: Some(output.into()), ..self.clone() }.into())
    }

    fn generation(&self) -> Option<&Generate> {
        self.generate.as_ref()
    }

    fn generating(&self) -> Option<TaskChoice> {
        Some(Seq2Seq { generate: Some(self.generate.clone().unwrap_or_default()), ..self.clone() }.into())
    }

    fn class(&self) -> Class {
        Class::Seq2SeqLm
    }
}
