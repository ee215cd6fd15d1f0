//! Classification of tokens: the head that the model has for them, or a new one on the hidden states of every token.

use super::head::{HeadKind, LOGITS, NewHead};
use super::{Class, ClassWeights, LABELS, Resolution, Subject, Targets, Task, TaskChoice, check_labels};
use crate::pipeline::Split;
use lorac_config::{Check, Problem, Problems};
use lorac_data::encode::{Pieces, Words};
use lorac_data::{DataError, Field, IGNORE, Inputs, LabelCells, Row};
use lorac_ir::{Graph, ValueId};
use lorac_models::{Form, ModelKind};
use lorac_ops::Val;
use lorac_passes::{Attached, CrossEntropy, LossTerms, Objective, ParamValues, PassError, Pool};
use lorac_train::Prediction;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One label per word: the head that the model has for tokens, or a new one on the hidden states of every token
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("x-short" = "labels"))]
pub struct Tag {
    /// Names of the labels, in the order of the logits: O, B-place, I-place, ... Default: those that the config.json of a model
    /// with a head says, where that is trained; else the different labels of the training set, sorted, 1,000 at most
    pub labels: Vec<String>,
    /// What stands between hidden states and the logits. Default: existing, where the model has an output [batch, tokens, labels]
    /// and hidden is not given, else linear
    pub head: Option<TagHead>,
    /// The output of hidden states that a new head is put on. Default: the first float output of rank 3
    pub hidden: Option<String>,
    /// The output of the model's own head. Default: the one called logits, else the first float output [batch, tokens, labels]
    pub logits: Option<String>,
    /// Which tokens of a word have its label
    pub label_pieces: Pieces,
    /// How much of every label is spread over all classes, as CrossEntropyLoss of PyTorch does
    pub label_smoothing: f64,
    /// What each label counts, as weight of CrossEntropyLoss: balanced (words by labels and by words of the label), or a number for
    /// each label. Default: 1
    pub class_weights: Option<ClassWeights>,
}

/// What stands between hidden states and the logits of a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TagHead {
    /// As BertForTokenClassification and its kin: one new linear layer
    #[default]
    Linear,
    /// The head that the model has: an output [batch, tokens, labels]. Nothing is put on the model, and its weights stay as they are
    /// unless they are adapted: adapt: [lora: { .. }, full: { targets: ["*classifier*"] }] trains them in full
    Existing,
}

impl Tag {
    fn new_head(&self) -> NewHead<'_> {
        let (outputs, hidden) = (self.labels.len(), self.hidden.as_deref());
        NewHead { outputs, kind: HeadKind::Token, pool: Pool::default(), hidden }
    }

    /// The head, where the model is not asked for one.
    fn kind(&self) -> TagHead {
        match (self.head, &self.logits) {
            (Some(head), _) => head,
            (None, Some(_)) => TagHead::Existing,
            (None, None) => TagHead::Linear,
        }
    }

    /// The model's own head, an output `[batch, tokens, labels]`, and its labels.
    ///
    /// # Errors
    /// Why there is none, in words.
    fn own(&self, graph: &Graph, labels: usize) -> Result<ValueId, String> {
        let width = |v: ValueId| match graph.fact(v) {
            fact if !fact.dtype.is_float() => None,
            fact => fact.dims().and_then(|dims| if let [_, _, width] = dims { width.known() } else { None }),
        };
        let want = labels as i64;
        let all = graph.outputs();
        let named = |name: &str| all.iter().copied().find(|v| graph.name_of(*v) == name);
        let list = || {
            let each = all.iter().map(|v| format!("`{}` {}", graph.name_of(*v), graph.fact(*v)));
            each.collect::<Vec<_>>().join(", ")
        };
        let found = match &self.logits {
            Some(name) => {
                Some(named(name).ok_or_else(|| format!("the model has no output `{name}`: it has {}", list()))?)
            }
            None => named(LOGITS).or_else(|| all.iter().copied().find(|v| width(*v) == Some(want))),
        };
        match found {
            Some(value) if width(value) == Some(want) => Ok(value),
            Some(value) => Err(format!(
                "the model's own head, `{}` {}, does not have the {want} outputs of the task for every token",
                graph.name_of(value),
                graph.fact(value)
            )),
            None => Err(format!(
                "the model has no head for {want} labels of its own, a float output [batch, tokens, {want}]: it has {}",
                list()
            )),
        }
    }

    /// Columns of the words and of their labels in a split.
    fn columns(split: &Split) -> [String; 2] {
        split.text_and_label().map(|column| column.unwrap_or_default().to_owned())
    }
}

impl Check for Tag {
    fn check(&self, problems: &mut Problems) {
        check_labels(&self.labels, 2, problems);
        problems.range("label_smoothing", self.label_smoothing, 0.0, 0.999);
        if let Some(weights) = &self.class_weights {
            problems.within("class_weights", |p| weights.check(&self.labels, p));
        }
        let idle = match self.kind() {
            TagHead::Linear => ("logits", self.logits.is_some(), "it is the output of `head: existing`"),
            TagHead::Existing => ("hidden", self.hidden.is_some(), "nothing is put on it with `head: existing`"),
        };
        if let (key, true, why) = idle {
            problems.report(key, "pipeline::idle", format!("`{key}`: {why}"));
        }
    }
}

impl Objective for Tag {
    fn attach(&self, graph: &mut Graph) -> Result<Attached, PassError> {
        match self.kind() {
            TagHead::Linear => self.new_head().attach(graph),
            TagHead::Existing => {
                let prediction = self.own(graph, self.labels.len()).map_err(PassError::Unsuitable)?;
                Ok(Attached { prediction, params: Vec::new() })
            }
        }
    }

    fn loss<'e, 'g>(&self, prediction: Val<'e, 'g>) -> Result<LossTerms<'e, 'g>, PassError> {
        let weights = self.class_weights.as_ref().and_then(|weights| weights.of(&self.labels));
        CrossEntropy { weights, smoothing: self.label_smoothing, focal: 0.0 }.terms(prediction, LABELS)
    }

    fn evaluates_prediction(&self) -> bool {
        true
    }
}

impl Task for Tag {
    fn prediction(&self) -> Prediction {
        Prediction::Tags
    }

    fn packs(&self) -> bool {
        true
    }

    fn metrics(&self) -> &'static [&'static str] {
        match self.labels.iter().any(|label| label.starts_with("B-") || label.starts_with("I-")) {
            true => &["span_f1", "accuracy", "loss"],
            false => &["accuracy", "f1_macro", "loss"],
        }
    }

    fn reads(&self) -> &'static [&'static str] {
        &["text", "label", "label_map"]
    }

    fn check_split(&self, split: &Split, problems: &mut Problems) {
        if !split.is_table() {
            let message =
                "plain texts have no labels: a classification of tokens reads lists of words and of their labels";
            problems.report(&split.format, "pipeline::split", message);
        } else if split.text_and_label()[1].is_none() {
            let message = "a classification of tokens needs the column of the words' labels: label: COLUMN";
            problems.report("label", "pipeline::split", message);
        }
        if split.label.as_ref().is_some_and(|label| label.all().len() > 1) {
            let message = "a classification of tokens has one column of labels, which are lists";
            problems.report("label", "pipeline::split", message);
        }
        for (value, name) in split.label_map.iter().flatten() {
            if !self.labels.is_empty() && !self.labels.contains(name) {
                let known = self.labels.join(", ");
                let message = format!("label_map names `{name}`, which is not one of {known}");
                problems.within("label_map", |p| p.report(value, "pipeline::labels", message));
            }
        }
    }

    fn inputs(&self, split: &Split) -> Inputs {
        let [text, label] = Tag::columns(split);
        let (labels, label_map) = (self.labels.clone(), split.label_map.clone());
        Words { text, label, labels, label_map, pieces: self.label_pieces }.into()
    }

    fn label_cells<'a>(&self, split: &'a Split) -> Option<LabelCells<'a>> {
        split.text_and_label()[1].map(LabelCells::Words)
    }

    fn targets<'a>(&'a self, _: &'a Split) -> Result<Box<dyn Targets + 'a>, DataError> {
        Ok(Box::new(OfWords { labels: &self.labels }))
    }

    fn appendix(&self, model: &Graph, readable: &Graph, values: &ParamValues) -> Result<Option<Graph>, PassError> {
        self.head().map(|head| head.alone(model, readable, values)).transpose()
    }

    fn resolved(&self, subject: &Subject) -> Result<Option<Resolution>, Problem> {
        let may_be_own = self.kind() == TagHead::Existing || (self.head.is_none() && self.hidden.is_none());
        let is_own = |n| may_be_own && self.own(subject.graph, n).is_ok();
        let labels = if self.labels.is_empty() { subject.open_labels(is_own) } else { self.labels.clone() };
        if labels.is_empty() {
            let message = "the task needs its labels, in the order of the logits: neither the training set nor the config.json of a \
                           model with a head says them";
            let help = Some("labels: [O, B-place, I-place]".to_string());
            return Err(Problem { path: "labels".into(), code: "pipeline::labels", message: message.into(), help });
        }
        let own = self.own(subject.graph, labels.len());
        let fits = self.head.is_none() && self.logits.is_none() && self.hidden.is_none() && own.is_ok();
        let head = if fits { TagHead::Existing } else { self.kind() };
        let mut notes = Vec::new();
        match (head, own) {
            (TagHead::Existing, Err(message)) => {
                let path = if self.logits.is_some() { "logits" } else { "head" };
                let help = Some("`head: linear` puts a new one on the hidden states of every token".to_string());
                return Err(Problem { path: path.into(), code: "pipeline::head", message, help });
            }
            (TagHead::Existing, Ok(value)) => {
                let (name, fact) = (subject.graph.name_of(value), subject.graph.fact(value));
                notes.push(format!("the model's own head is trained: `{name}` {fact}"));
            }
            (TagHead::Linear, _) => {}
        }
        Ok(Some(Resolution { task: Tag { labels, head: Some(head), ..self.clone() }.into(), notes }))
    }

    fn counted(&self, counts: &[(String, usize)], _: usize) -> Option<TaskChoice> {
        let (labels, words) =
            (counts.iter().filter(|(_, n)| *n > 0).count(), counts.iter().map(|(_, n)| n).sum::<usize>());
        let weights = self.class_weights.as_ref()?.counted(counts, |n| words as f64 / (labels as f64 * n as f64));
        Some(Tag { class_weights: Some(weights?), ..self.clone() }.into())
    }

    fn own_output(&self) -> Option<&str> {
        self.logits.as_deref()
    }

    fn deployed(&self, output: &str) -> Option<TaskChoice> {
        let head = Some(TagHead::Existing);
        Some(Tag { head, hidden: None, logits: Some(output.into()), ..self.clone() }.into())
    }

    fn form(&self, _: Option<&ModelKind>) -> Form {
        match self.kind() {
            TagHead::Linear => self.new_head().form(),
            TagHead::Existing => Form::Saved,
        }
    }

    fn head(&self) -> Option<NewHead<'_>> {
        (self.kind() == TagHead::Linear).then(|| self.new_head())
    }

    fn labels(&self) -> &[String] {
        &self.labels
    }

    fn class(&self) -> Class {
        Class::TokenClassification
    }
}

/// Encoding the words gives tokens their labels.
struct OfWords<'a> {
    labels: &'a [String],
}

impl Targets for OfWords<'_> {
    fn columns(&self) -> Vec<&str> {
        Vec::new()
    }

    fn of_row(&self, _: &Row) -> Result<Option<Field>, DataError> {
        Ok(None)
    }

    fn classes(&self) -> &[String] {
        self.labels
    }

    fn of_tokens(&self, ids: &[i64]) -> Field {
        Field::Tokens { ids: vec![IGNORE; ids.len()], pad: IGNORE }
    }
}
