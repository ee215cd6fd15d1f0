//! Causal language modelling: the next token, by the logits that the model has already.

use super::unlabelled::Unlabelled;
use super::{Class, LABELS, Targets, Task, TaskChoice};
use crate::pipeline::Split;
use lorac_config::{Check, Problems};
use lorac_data::encode::{Dialogue, Form, LossOn, Text};
use lorac_data::{DataError, Inputs};
use lorac_ir::Graph;
use lorac_ops::Val;
use lorac_passes::{Attached, LossTerms, Objective, ParamValues, PassError, language_logits, next_token_terms};
use lorac_train::{Generate, Prediction};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The next token of texts, of completions of prompts or of an assistant's turns, by the model's own logits
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CausalLm {
    /// The output of logits. Default: the one called logits, else the first float output of rank 3
    pub logits: Option<String>,
    /// Which tokens of prompts and conversations are learnt. Default: completion; of texts, all
    pub loss_on: Option<LossOn>,
    /// Whether the end of text is put behind an example. Default: true behind the completion of a prompt, else false
    pub append_eos: Option<bool>,
    /// The Jinja template that makes texts of conversations. Default: that of tokenizer_config.json or chat_template.jinja beside
    /// the tokenizer, or of the GGUF file
    pub chat_template: Option<String>,
    /// Whether prompts and completions that are texts become turns of user and assistant
    pub as_chat: bool,
    /// How texts are written behind prompts that are held out, for metrics that compare them with completions (bleu, rougeL, ...)
    pub generate: Option<Generate>,
}

impl Check for CausalLm {
    fn check(&self, problems: &mut Problems) {
        if let Some(template) = &self.chat_template
            && !template.contains("{{")
            && !template.contains("{%")
        {
            let message =
                format!("`{template}` is not a template: the text of one is expected, not the name of a file");
            problems.report("chat_template", "pipeline::value", message);
        }
        if let Some(generate) = &self.generate {
            problems.within("generate", |p| generate.check(p));
        }
    }
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

    fn packs(&self) -> bool {
        true
    }

    fn metrics(&self) -> &'static [&'static str] {
        &["perplexity", "loss"]
    }

    fn reads(&self) -> &'static [&'static str] {
        &[
            "text",
            "messages",
            "prompt",
            "completion",
            "instruction",
            "input",
            "output",
            "tools",
            "system",
            "roles",
            "message_keys",
        ]
    }

    fn is_causal(&self) -> bool {
        true
    }

    fn check_split(&self, split: &Split, problems: &mut Problems) {
        if self.loss_on == Some(LossOn::Completion) && split.dialogue_key().is_none() {
            let (at, what) = if split.is_table() { ("text", "a text") } else { (split.format.as_str(), "plain texts") };
            let message = format!(
                "`loss_on: completion`: {what} has no completion; name the columns prompt and completion, or messages"
            );
            problems.report(at, "pipeline::split", message);
        }
        let (at, what) = match (split.dialogue_key(), split.is_table()) {
            (Some(key), _) => (key, "a conversation has turns already"),
            (None, true) => ("text", "a text is learnt as it is"),
            (None, false) => (split.format.as_str(), "plain texts are learnt as they are"),
        };
        let no_turns = self.as_chat && matches!(split.dialogue_key(), None | Some("messages"));
        let no_template = self.chat_template.is_some() && split.dialogue_key().is_none();
        for key in [("as_chat", no_turns), ("chat_template", no_template)]
            .into_iter()
            .filter_map(|(k, idle)| idle.then_some(k))
        {
            problems.report(at, "pipeline::idle", format!("`{key}`: {what}"));
        }
        if self.append_eos == Some(true) && !split.is_table() {
            let message = "`append_eos`: plain texts are cut into blocks, which have no end";
            problems.report(&split.format, "pipeline::idle", message);
        }
    }

    fn inputs(&self, split: &Split) -> Inputs {
        let ends = self.append_eos == Some(true) && split.is_table();
        let (form, usual) = match split.dialogue() {
            Some(form) => (form, LossOn::Completion),
            None if ends => (Form::Text(split.text.clone().unwrap_or_default()), LossOn::All),
            None if split.is_table() => return Text { column: split.text.clone().unwrap_or_default() }.into(),
            None => return split.inputs(),
        };
        let (chat_template, loss_on) = (self.chat_template.clone(), self.loss_on.unwrap_or(usual));
        let (append_eos, as_chat) = (self.append_eos, self.as_chat);
        Dialogue { chat_template, loss_on, append_eos, as_chat, ..split.dialogue_of(form) }.into()
    }

    fn targets<'a>(&'a self, _: &'a Split) -> Result<Box<dyn Targets + 'a>, DataError> {
        Ok(Box::new(Unlabelled::Tokens))
    }

    fn appendix(&self, _: &Graph, _: &Graph, _: &ParamValues) -> Result<Option<Graph>, PassError> {
        Ok(None)
    }

    fn deployed(&self, output: &str) -> Option<TaskChoice> {
        Some(CausalLm { logits: Some(output.into()), ..self.clone() }.into())
    }

    fn generation(&self) -> Option<&Generate> {
        self.generate.as_ref()
    }

    fn generating(&self) -> Option<TaskChoice> {
        Some(CausalLm { generate: Some(self.generate.clone().unwrap_or_default()), ..self.clone() }.into())
    }

    fn class(&self) -> Class {
        Class::CausalLm
    }
}
