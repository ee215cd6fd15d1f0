//! What a model is to learn: what is put on its graph, its targets, its loss and what it is evaluated by. One file each.

mod existing;
mod head;
mod naming;
mod teacher;
mod unlabelled;
mod weights;

pub(crate) use head::{LOGITS, is_logits};

pub use distill::What;
pub use embed::PairLoss;
pub use head::{HeadKind, NewHead};
pub use teacher::Teacher;
pub use weights::ClassWeights;

use crate::pipeline::{SourceSpec, Split, Train};
use lorac_config::{Problem, Problems};
use lorac_data::{DataError, Field, Inputs, LabelCells, Row};
use lorac_ir::Graph;
use lorac_models::{Classes, Form, ModelKind};
use lorac_passes::{Objective, ParamValues, PassError, Pool};
use lorac_train::{Generate, Prediction};
use std::collections::BTreeSet;

lorac_config::choices! {
    /// What the model is to learn.
    pub enum TaskChoice: Task {
        classify: Classify,
        multi_label: MultiLabel,
        causal_lm: CausalLm,
        regress: Regress,
        tag: Tag,
        embed: Embed,
        custom: Custom,
        distill: Distill,
        masked_lm: MaskedLm,
        seq2seq: Seq2Seq,
    }
}

/// A task. Its [`Objective`] is what the graphs of the training see of it.
pub trait Task: Objective {
    /// What the model predicts.
    fn prediction(&self) -> Prediction;

    /// Names of the metrics that it is evaluated by, the telling one first.
    fn metrics(&self) -> &'static [&'static str];

    /// The keys of a split of a table that say what of a row it reads: any other such key is refused.
    fn reads(&self) -> &'static [&'static str];

    /// Reports what the task needs of a split and does not find.
    fn check_split(&self, split: &Split, problems: &mut Problems);

    /// Reports what of the training the task cannot follow.
    fn check_train(&self, _: &Train, _: &mut Problems) {}

    /// Whether the loss of an example depends on the others of its batch, so that a batch is computed at once.
    fn whole_batch(&self) -> bool {
        false
    }

    /// Whether the last batch of an epoch, or of an evaluation, may be filled up with rows that count for nothing.
    fn fills(&self) -> bool {
        true
    }

    /// Whether several examples may share a row of tokens: what is learnt is one thing a token.
    fn packs(&self) -> bool {
        false
    }

    /// Whether the model may be fed arrays and images in place of texts.
    fn takes_arrays(&self) -> bool {
        false
    }

    /// The model by which the task is taught.
    fn teacher(&self) -> Option<&SourceSpec> {
        None
    }

    /// The graph of that model, once it is read.
    fn taught_by(&self) -> Option<&Graph> {
        None
    }

    /// The task with its teacher, which was read.
    fn with_teacher(&self, _: Teacher) -> Option<TaskChoice> {
        None
    }

    /// Whether a token is told by those before it alone.
    fn is_causal(&self) -> bool {
        false
    }

    /// Whether the model has a decoder of its own beside what reads the texts.
    fn has_decoder(&self) -> bool {
        false
    }

    /// The id that such a decoder begins with, where it is known.
    fn decoder_start(&self) -> Option<i64> {
        None
    }

    /// The task with a decoder that begins with this id.
    fn starting(&self, _: u32) -> Option<TaskChoice> {
        None
    }

    /// The share of tokens that are hidden from the model, which is to tell them.
    fn hides(&self) -> Option<f64> {
        None
    }

    /// What of the rows of a split the model is fed.
    fn inputs(&self, split: &Split) -> Inputs {
        split.inputs()
    }

    /// Where the labels of a split stand, where they are names.
    fn label_cells<'a>(&self, _: &'a Split) -> Option<LabelCells<'a>> {
        None
    }

    /// The same, of a model that is known.
    fn inputs_of(&self, split: &Split, _: &Graph) -> Inputs {
        self.inputs(split)
    }

    /// How targets are read in a split.
    ///
    /// # Errors
    /// Labels that cannot be told apart.
    fn targets<'a>(&'a self, split: &'a Split) -> Result<Box<dyn Targets + 'a>, DataError>;

    /// The graph behind the deployed model, whose inputs name values of it; none where the task adds nothing. `model` is
    /// the graph as the file has it, `readable` the same with its facts.
    ///
    /// # Errors
    /// A model that does not have what the task needs.
    fn appendix(&self, model: &Graph, readable: &Graph, values: &ParamValues) -> Result<Option<Graph>, PassError>;

    /// The task for a model, of which something is left open: none where nothing is.
    ///
    /// # Errors
    /// A model that does not have what the task asks for; the path is that of a key of the task.
    fn resolved(&self, _: &Subject) -> Result<Option<Resolution>, Problem> {
        Ok(None)
    }

    /// The task for so many examples to train on, and how many of them have each label: none where it does not depend on
    /// them.
    fn counted(&self, _: &[(String, usize)], _: usize) -> Option<TaskChoice> {
        None
    }

    /// What is built of a model that is not an `.onnx` file, where its configuration says this.
    fn form(&self, _: Option<&ModelKind>) -> Form {
        Form::Saved
    }

    /// The new head, where the task puts one on the model.
    fn head(&self) -> Option<NewHead<'_>> {
        None
    }

    /// How hidden states become one vector, where the task puts something on them that does.
    fn pool(&self) -> Option<Pool> {
        self.head().filter(|head| head.kind != HeadKind::Token).map(|head| head.pool())
    }

    /// The output of the model's own head, where that is trained and known.
    fn own_output(&self) -> Option<&str> {
        None
    }

    /// The task of the model as it is deployed, which predicts in the output of this name: nothing is put on it any more.
    /// None where the task cannot tell.
    fn deployed(&self, _: &str) -> Option<TaskChoice> {
        None
    }

    /// Names of the outputs, where they have any.
    fn labels(&self) -> &[String] {
        &[]
    }

    /// How texts are written for metrics that compare them with completions; none where no such metric is asked for.
    fn generation(&self) -> Option<&Generate> {
        None
    }

    /// The task of a model whose texts are compared with completions; none where it writes no texts.
    fn generating(&self) -> Option<TaskChoice> {
        None
    }

    /// The class of `transformers` that computes what the trained model does, or what is before its head.
    fn class(&self) -> Class;
}

/// The model that a task is resolved for.
pub struct Subject<'a> {
    /// Its graph, readable.
    pub graph: &'a Graph,
    /// Names of the outputs of its head by its configuration; empty where that says nothing.
    pub labels: &'a [String],
    /// The columns of labels, where there are several.
    pub columns: &'a [String],
    /// The different labels of the training set, sorted; none where it cannot be read. Costly.
    pub of_data: &'a dyn Fn() -> Option<Vec<String>>,
    /// What is known of the classes of its type; costly where nothing says the type.
    pub classes: &'a dyn Fn() -> Option<&'static Classes>,
}

/// Reports a list of labels of which there are too few, or one twice. None at all are not given.
fn check_labels(labels: &[String], least: usize, problems: &mut Problems) {
    if !labels.is_empty() && labels.len() < least {
        problems.report("labels", "pipeline::labels", "a classification needs at least two labels");
    }
    let mut seen = BTreeSet::new();
    for (i, label) in labels.iter().enumerate() {
        if !seen.insert(label) {
            let message = format!("`{label}` is a duplicate label");
            problems.within("labels", |p| p.report(&i.to_string(), "pipeline::labels", message));
        }
    }
}

/// A task of which nothing is left open.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolution {
    /// The task.
    pub task: TaskChoice,
    /// What a user should know of it.
    pub notes: Vec<String>,
}

/// Classes of `transformers`, one for each model type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Without a head: hidden states.
    Base,
    /// With the head of a sequence classifier.
    SequenceClassification,
    /// With the head of a token classifier.
    TokenClassification,
    /// With the scores of the next token.
    CausalLm,
    /// With the scores of tokens that are hidden.
    MaskedLm,
    /// With an encoder, and with a decoder that scores the next token of the answer.
    Seq2SeqLm,
}

impl Class {
    /// The class that loads any of them: `AutoModel`.
    pub fn auto(self) -> &'static str {
        match self {
            Class::Base => "AutoModel",
            Class::SequenceClassification => "AutoModelForSequenceClassification",
            Class::TokenClassification => "AutoModelForTokenClassification",
            Class::CausalLm => "AutoModelForCausalLM",
            Class::MaskedLm => "AutoModelForMaskedLM",
            Class::Seq2SeqLm => "AutoModelForSeq2SeqLM",
        }
    }

    /// The class with a new head; with its own where there is none.
    fn of(head: Option<&NewHead>) -> Class {
        match head.map(|head| head.kind) {
            Some(HeadKind::Linear) => Class::Base,
            Some(HeadKind::Token) => Class::TokenClassification,
            _ => Class::SequenceClassification,
        }
    }
}

/// How the targets of a split are read.
pub trait Targets {
    /// The columns that they are read from.
    fn columns(&self) -> Vec<&str>;

    /// The target of a row; none where it is made of the tokens that the model is fed.
    ///
    /// # Errors
    /// A cell that is not a target.
    fn of_row(&self, row: &Row) -> Result<Option<Field>, DataError>;

    /// Names of the classes, each at its index; none where targets are not classes of examples.
    fn classes(&self) -> &[String] {
        &[]
    }

    /// The target of an example without one of its row.
    fn of_tokens(&self, ids: &[i64]) -> Field;
}

/// Name of the input that the loss is taken against; the field of targets in a batch.
pub const LABELS: &str = lorac_data::LABELS;

/// Reports a split without pairs of texts.
fn check_pairs(split: &Split, problems: &mut Problems) {
    if !split.is_table() {
        let message = "plain texts are no pairs: an embedder reads a table";
        problems.report(&split.format, "pipeline::split", message);
    } else if split.text_pair.is_none() {
        let message = "an embedder reads pairs of texts that belong together: text_pair: COLUMN";
        problems.report("text_pair", "pipeline::split", message);
    }
    if split.label.as_ref().is_some_and(|label| label.all().len() > 1) {
        problems.report("label", "pipeline::split", "a pair of texts has one score");
    }
}

/// Reports a split of plain texts, or one without the column that its targets are in, or with several of them.
fn check_target_column(split: &Split, what: &str, problems: &mut Problems) {
    check_target_columns(split, what, problems);
    if split.label.as_ref().is_some_and(|label| label.all().len() > 1) {
        let message = format!("{what} has one column of targets: several are for multi_label");
        problems.report("label", "pipeline::split", message);
    }
}

/// Reports a split of plain texts, or one without columns that its targets are in.
fn check_target_columns(split: &Split, what: &str, problems: &mut Problems) {
    if !split.has_texts() && !split.is_images() && split.arrays.is_empty() {
        let message = format!("a {} file has arrays: name those for the model's inputs", split.format);
        let help = Some("arrays: { INPUT: ARRAY }".to_string());
        problems.report_with_help("arrays", "pipeline::split", message, help);
    }
    if !split.is_table() {
        let message = format!("plain texts have no labels: {what} reads a table");
        problems.report(&split.format, "pipeline::split", message);
    } else if split.label_column().is_none() {
        let message = format!("{what} needs the column of its targets: label: COLUMN");
        problems.report("label", "pipeline::split", message);
    }
}
