//! What those who run a deployed model need to know, and its file does not say.

use crate::inputs::{FIELDS, seeing};
use crate::output::InputRecord;
use crate::pipeline::Pipeline;
use crate::task::Task;
use lorac_data::{Preprocess, Tokenizer, Truncate};
use lorac_ir::Graph;
use lorac_models::ModelKind;
use lorac_passes::{Pool, Training};
use lorac_train::{Feeds, Generate, Prediction};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Key of the section of a config.json that holds a [`Served`].
pub const SECTION: &str = "lorac";

/// What those who run a deployed model need to know: a section of the config.json beside it, of the manifest of its run and,
/// where that is asked for, of its file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Served {
    /// The lorac that trained it.
    pub lorac_version: String,
    /// The name of the task: `classify`.
    pub task: String,
    /// What it predicts.
    pub predicts: Prediction,
    /// Names of the outputs, in their order; empty where they have none.
    #[serde(default)]
    pub labels: Vec<String>,
    /// The output of the predictions.
    pub output: String,
    /// The inputs by what they are fed with: `input_ids`.
    #[serde(default)]
    pub inputs: BTreeMap<String, String>,
    /// Tokens that a text is cut to, special ones included.
    pub max_length: usize,
    /// The side on which it is cut. Default: the tokenizer's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truncate: Option<Truncate>,
    /// The id that pads texts on the right.
    #[serde(default)]
    pub pad_id: i64,
    /// How hidden states become one vector, where lorac has put a head on them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<Pool>,
    /// The column, or the template of columns, that it was trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The column, or the template of columns, of the second text, where it reads pairs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_pair: Option<String>,
    /// What it reads.
    #[serde(default, skip_serializing_if = "Reads::is_texts")]
    pub reads: Reads,
    /// What is done to images before it is fed them, where it reads those.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<Preprocess>,
    /// Tokens that end a text that it writes, beside those that its files name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ends: Vec<i64>,
    /// The id that its decoder begins with, where it has an encoder beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoder_start: Option<i64>,
    /// Whether the mask of pairs of tokens that it takes hides what follows a token; none where it takes no such mask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub causal_mask: Option<bool>,
    /// How it writes texts, where it was judged by them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generate: Option<Generate>,
    /// What it was made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<BaseRecord>,
}

/// What a model reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reads {
    /// Texts, as tokens.
    #[default]
    Texts,
    /// Images.
    Images,
    /// Arrays of numbers.
    Arrays,
}

impl Reads {
    fn is_texts(&self) -> bool {
        *self == Reads::Texts
    }
}

impl std::fmt::Display for Reads {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Reads::Texts => "texts",
            Reads::Images => "images",
            Reads::Arrays => "arrays",
        })
    }
}

/// The model that another one was made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseRecord {
    /// The source, as the pipeline names it.
    pub source: String,
    /// Its sum.
    pub sha256: String,
}

impl Served {
    /// Of the model that a training will end with.
    pub(crate) fn of(
        pipeline: &Pipeline,
        model: &Graph,
        task: &dyn Task,
        training: &Training,
        feeds: &Feeds,
        tokenizer: Option<&Tokenizer>,
        read: &[InputRecord],
    ) -> Served {
        let is_output = |name: &str| model.outputs().iter().any(|v| model.name_of(*v) == name);
        let own = task.own_output().filter(|_| task.head().is_none() && !is_output(&training.prediction));
        let is_input = |name: &str| model.inputs().iter().any(|v| model.name_of(*v) == name);
        let inputs = feeds.inputs.iter().filter(|b| FIELDS.contains(&b.made_of()) && is_input(&b.input));
        let base = read.iter().find(|input| input.role == "model");
        let first = pipeline.data.train.first().filter(|_| tokenizer.is_some());
        // An embedder is given one text after the other.
        let second = pipeline.data.train.first().filter(|_| task.prediction() != Prediction::Embeddings);
        Served {
            lorac_version: env!("CARGO_PKG_VERSION").into(),
            task: pipeline.task.name().into(),
            predicts: task.prediction(),
            labels: task.labels().to_vec(),
            output: own.unwrap_or(&training.prediction).into(),
            inputs: inputs.map(|b| (b.made_of().to_string(), b.input.clone())).collect(),
            max_length: tokenizer.map_or(0, Tokenizer::max_length),
            truncate: pipeline.data.truncate,
            pad_id: tokenizer.map_or(0, Tokenizer::pad_id),
            pool: task.pool(),
            text: first.and_then(|split| split.text_and_label()[0].map(String::from)),
            reads: match pipeline.data.train.first() {
                Some(split) if split.is_images() => Reads::Images,
                _ if tokenizer.is_none() => Reads::Arrays,
                _ => Reads::Texts,
            },
            text_pair: second.and_then(|split| split.text_pair.clone()),
            images: None,
            ends: Vec::new(),
            decoder_start: task.decoder_start(),
            causal_mask: feeds.hides_what_follows(),
            generate: task.generation().cloned(),
            base: base.map(|b| BaseRecord { source: b.source.clone(), sha256: b.sha256.clone() }),
        }
    }

    /// What stands in the file of a model where that is asked for: this as JSON, and the parts that people look for. A model
    /// whose metadata tells of earlier trainings keeps what it says of them.
    pub(crate) fn metadata(&self, model: &BTreeMap<String, String>, read: &[InputRecord]) -> BTreeMap<String, String> {
        let sources: Vec<_> =
            read.iter().map(|r| json!({ "role": r.role, "source": r.source, "sha256": r.sha256 })).collect();
        let mut entries = vec![
            ("version", self.lorac_version.clone()),
            ("task", self.task.clone()),
            ("inputs", text(&sources)),
            ("served", text(self)),
        ];
        entries.extend((!self.labels.is_empty()).then(|| ("labels", text(&self.labels))));
        let begin = prefix(times(model));
        entries.into_iter().map(|(key, value)| (format!("{begin}{key}"), value)).collect()
    }

    /// Of a model of which no more is known.
    pub(crate) fn plain(task: &str, predicts: Prediction, output: &str) -> Served {
        Served {
            lorac_version: String::new(),
            task: task.into(),
            predicts,
            labels: Vec::new(),
            output: output.into(),
            inputs: BTreeMap::new(),
            max_length: 512,
            truncate: None,
            pad_id: 0,
            pool: None,
            text: None,
            text_pair: None,
            reads: Reads::Texts,
            images: None,
            ends: Vec::new(),
            decoder_start: None,
            causal_mask: None,
            generate: None,
            base: None,
        }
    }

    /// The feeds of it, whose mask of pairs of tokens is the one that it was trained with; where nothing says that, as
    /// [`seeing`] has it.
    pub(crate) fn seeing(&self, feeds: Feeds, is_causal: bool, kind: Option<&ModelKind>) -> Feeds {
        match self.causal_mask {
            Some(true) => feeds,
            Some(false) => feeds.seeing_all(),
            None => seeing(feeds, is_causal, kind),
        }
    }

    /// Whether what it has learnt answers what it reads by itself.
    pub(crate) fn answers(&self) -> bool {
        !matches!(self.predicts, Prediction::Loss | Prediction::Masked) && self.reads != Reads::Arrays
    }

    /// The side on which texts are cut, where it is one.
    pub(crate) fn side(&self) -> Option<&'static str> {
        match self.truncate {
            Some(Truncate::Left) => Some("left"),
            Some(Truncate::Right) => Some("right"),
            Some(Truncate::Refuse) | None => None,
        }
    }
}

/// Whether an output is made by a softmax or a sigmoid: probabilities, and no scores.
pub(crate) fn is_probability(graph: &Graph, output: &str) -> bool {
    let made = graph.outputs().iter().find(|v| graph.name_of(**v) == output).and_then(|v| graph.producer(*v));
    made.is_some_and(|(_, node)| matches!(&*node.op.name, "Softmax" | "Sigmoid"))
}

fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// What begins the keys of a file's metadata that are lorac's: `lorac.`, in a model that was trained again `lorac.2.`.
const KEYS: &str = "lorac.";

/// What the metadata of a file says of it, of several trainings the last.
pub(crate) fn in_metadata(metadata: &BTreeMap<String, String>) -> Option<Served> {
    (0..=times(metadata)).rev().find_map(|n| serde_json::from_str(metadata.get(&format!("{}served", prefix(n)))?).ok())
}

/// The beginning of the keys of the n-th training.
fn prefix(n: usize) -> String {
    if n == 0 { KEYS.to_string() } else { format!("{KEYS}{}.", n + 1) }
}

/// How many trainings the metadata tells of.
fn times(metadata: &BTreeMap<String, String>) -> usize {
    let number = |key: &String| match key.strip_prefix(KEYS)?.split_once('.') {
        Some((n, _)) if n.bytes().all(|b| b.is_ascii_digit()) => n.parse::<usize>().ok().filter(|n| *n < 1 << 20),
        _ => Some(1),
    };
    metadata.keys().filter_map(number).max().unwrap_or(0)
}

/// Why a model cannot be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServedError {
    /// The folder is that of a run that missed a gate.
    #[error("{}: the run was rejected ({gates}): {} in it is asked only by its own name", .folder.display(), .files.join(" or "))]
    Rejected {
        /// The folder.
        folder: PathBuf,
        /// What it missed.
        gates: String,
        /// The names of the files of its model: an encoder and its decoder have one each.
        files: Vec<String>,
    },
    /// The folder has a manifest and no model.
    #[error("{}: there is no {} in the folder of this run", .folder.display(), .files.join(" with "))]
    NoModel {
        /// The folder.
        folder: PathBuf,
        /// The names that the files of its model had.
        files: Vec<String>,
    },
    /// The section in a config.json cannot be read.
    #[error("{}: `{SECTION}`: {why}", .file.display())]
    Section {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The model reads neither texts nor images.
    #[error(
        "`{model}` reads {reads}, and texts and images are answered: `lorac eval` scores it on the data of a pipeline"
    )]
    NoTexts {
        /// The model.
        model: String,
        /// What it reads.
        reads: Reads,
    },
    /// A model is given what it does not read.
    #[error("the model reads {reads}, and is given {given}")]
    OtherInput {
        /// What it reads.
        reads: Reads,
        /// What it is given, in words.
        given: String,
    },
    /// Nothing says what is done to images before the model is fed them.
    #[error(
        "nothing says what is done to images before `{model}` is fed them: the section `{SECTION}` of its config.json has no `images`"
    )]
    NoPreprocessing {
        /// The model.
        model: String,
    },
    /// What the model has learnt does not answer a text.
    #[error(
        "`{model}` does the task `{task}`, which answers no text by itself: `lorac eval` scores it on the data of a pipeline"
    )]
    NoAnswer {
        /// The model.
        model: String,
        /// The task.
        task: String,
    },
    /// A model with an encoder and a decoder is asked how well it would have told a text.
    #[error(
        "a model of `{task}` writes the answer of a text, and has no perplexity of it: ask what it writes, without --perplexity"
    )]
    WritesOnly {
        /// The task.
        task: String,
    },
    /// What is said of writing is said to a model that writes nothing.
    #[error("a model of `{task}` writes no texts: {} is for models that do", .options.join(", "))]
    WritesNothing {
        /// The task.
        task: String,
        /// What is said, by the names of the command's options.
        options: Vec<&'static str>,
    },
    /// Nothing says what the decoder of a model begins with.
    #[error(
        "nothing says which token the decoder of `{model}` begins with: neither config.json nor generation_config.json beside it has `decoder_start_token_id`"
    )]
    NoStart {
        /// The model.
        model: String,
    },
    /// Nothing says what the model predicts.
    #[error(
        "nothing says what the model predicts: no config.json or manifest.json of lorac's is beside it, and its outputs {outputs} are no scores of a known kind"
    )]
    Unknown {
        /// Its outputs.
        outputs: String,
    },
    /// The output is not what the task predicts.
    #[error("`{model}` is not the model that its config.json or manifest.json is of: {why}")]
    Output {
        /// The model.
        model: String,
        /// What is wrong.
        why: String,
    },
}

impl ServedError {
    /// Stable name of the fault.
    pub fn code(&self) -> &'static str {
        match self {
            ServedError::Rejected { .. } => "served::rejected",
            ServedError::NoModel { .. } => "served::no_model",
            ServedError::Section { .. } => "served::section",
            ServedError::NoAnswer { .. } => "served::no_answer",
            ServedError::WritesOnly { .. } => "served::writes_only",
            ServedError::WritesNothing { .. } => "served::writes_nothing",
            ServedError::NoStart { .. } => "served::no_start",
            ServedError::NoTexts { .. } => "served::no_texts",
            ServedError::OtherInput { .. } => "served::other_input",
            ServedError::NoPreprocessing { .. } => "served::no_preprocessing",
            ServedError::Unknown { .. } => "served::unknown",
            ServedError::Output { .. } => "served::output",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_training_counts_and_the_first_stays() {
        let served = |labels: &[&str]| Served {
            labels: labels.iter().map(ToString::to_string).collect(),
            ..Served::plain("classify", Prediction::Classes, "logits")
        };
        let mut all = BTreeMap::from([("author".to_string(), "somebody".to_string())]);
        for (labels, begin) in [(["a", "b"], "lorac."), (["c", "d"], "lorac.2."), (["e", "f"], "lorac.3.")] {
            let more = served(&labels).metadata(&all, &[]);
            assert_eq!(more[&format!("{begin}labels")], text(&labels));
            assert!(more.keys().all(|key| !all.contains_key(key)));
            all.extend(more);
            assert_eq!(in_metadata(&all).expect("served").labels, labels);
        }
        assert_eq!(in_metadata(&BTreeMap::from([("lorac.served".into(), "{".into())])), None);
    }
}
