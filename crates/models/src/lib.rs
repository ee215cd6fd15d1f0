//! ONNX graphs built from a folder with a `config.json` and a `model.safetensors`, as Hugging Face publishes models, or
//! from a GGUF file.
//!
//! [`build`] reads the configuration, picks the builder of its `model_type` and writes an opset 20 graph in f32. Weights
//! keep their names; those that a product reads are transposed from `[out,in]` to `[in,out]`, all others are ranges
//! of the mapped file. Quantized weights become f32. The crate knows no `.onnx` file, no pass and no runtime.
//!
//! ```
//! use lorac_models::{ModelError, build, model_types};
//! assert!(model_types().any(|name| name == "bert"));
//! let wrong = build("no/such/folder".as_ref()).err();
//! assert!(matches!(wrong, Some(ModelError::Read { .. })));
//! ```

mod config;
mod decoder;
mod encoder;
mod error;
mod gguf;
mod modules;
mod registry;
mod weights;
mod write;

pub use config::{Activation, Config};
pub use error::{Fault, ModelError, ShapeMismatch};
pub use gguf::{gguf_chat, gguf_file, gguf_tokenizer};
pub use modules::{ClassHead, Classes, Place, base_path, classes_by_paths, classes_of};
pub use registry::model_types;

use lorac_ir::Graph;
use registry::Family;
use serde_json::{Map, Value};
use std::path::Path;
use weights::Weights;

/// A model as a graph, and what is known of it.
#[derive(Clone, Debug)]
pub struct Built {
    /// Inputs `input_ids` and `attention_mask`, for bert also `token_type_ids`, each `i64[batch,sequence]`. Output of
    /// [`Form::Base`] `last_hidden_state`: `f32[batch,sequence,hidden]`, of [`Form::Pooled`] with `pooler_output`:
    /// `f32[batch,hidden]` behind it where the file holds a pooler. Of [`Form::Saved`], output of encoders `last_hidden_state`: `f32[batch,sequence,hidden]`, or `logits`: `f32[batch,labels]` where the file
    /// holds a sequence classifier; of decoders `logits`: `f32[batch,sequence,vocab]`, the scores of the next token, or `f32[batch,labels]`
    /// of a sequence classifier, which reads the last token that is not padding.
    pub graph: Graph,
    /// The Hugging Face class whose forward pass this is: `BertModel`, `RobertaForSequenceClassification`, ...
    pub architecture: String,
    /// The configuration that was read.
    pub config: Config,
    /// Width of the hidden states.
    pub hidden: usize,
}

/// What is built of a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Form {
    /// The class that the weights were saved from: with the classifier that they have, decoders else with the scores of the
    /// next token.
    #[default]
    Saved,
    /// The base class: hidden states.
    Base,
    /// The base class, with the pooler of families that have one.
    Pooled,
    /// Decoders as [`Form::Saved`], with caches of the tokens before: inputs `past_key_values.N.key` and `.value`, which may
    /// be empty, outputs `present.N.key` and `.value`. The axes are those that attention has them in. Encoders have none.
    Cached,
}

impl Form {
    /// Whether a decoder scores the next token.
    pub(crate) fn scores(self) -> bool {
        matches!(self, Form::Saved | Form::Cached)
    }
}

/// [`build_form`] of the class that the weights were saved from.
///
/// # Errors
/// As [`build_form`].
pub fn build(path: &Path) -> Result<Built, ModelError> {
    build_form(path, Form::Saved)
}

/// What a configuration says of a model's classes, whether or not [`build`] knows its type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelKind {
    /// `model_type`: `bert`; empty where a configuration of labels says none.
    pub model_type: String,
    /// Number of layers, where one is given.
    pub layers: Option<usize>,
    /// Names of the outputs of its classifier, in their order (`id2label`); empty where it says nothing of them.
    pub labels: Vec<String>,
    /// Whether [`Form::Saved`] of its folder may have a sequence classifier's logits for an output.
    pub classifies: bool,
    /// Whether its type or its class is one whose tokens see those before them alone.
    pub is_decoder: bool,
}

/// What the configuration of the model at `path`, which [`build`] takes, says; none where it cannot be read.
pub fn model_kind(path: &Path) -> Option<ModelKind> {
    let fields = match gguf_file(path) {
        Some(file) => gguf::open(&file).ok()?.config().ok()?,
        None => config::fields(&path.join("config.json")).ok()?,
    };
    let model_type = fields.get("model_type").and_then(Value::as_str).unwrap_or_default().to_string();
    let layers = ["num_hidden_layers", "n_layer", "n_layers"].iter().find_map(|key| fields.get(*key)?.as_u64());
    let architectures = fields.get("architectures").and_then(Value::as_array).into_iter().flatten();
    let architectures: Vec<&str> = architectures.filter_map(Value::as_str).collect();
    let is = |end: &str| architectures.iter().any(|name| name.ends_with(end));
    let classifier = is("ForSequenceClassification");
    let says = |key: &str| fields.get(key).and_then(Value::as_bool).unwrap_or(false);
    let writes = modules::is_decoder(&model_type) || says("is_decoder") || is("ForCausalLM") || is("LMHeadModel");
    let is_decoder = writes && !says("is_encoder_decoder");
    let known = registry::family(path, &fields).is_ok();
    let (layers, labels) = (layers.map(|n| n as usize), labels(&fields));
    if model_type.is_empty() && labels.is_empty() {
        return None;
    }
    Some(ModelKind { model_type, layers, labels, classifies: classifier && known, is_decoder })
}

/// More outputs than any classifier has.
const MOST_LABELS: u64 = 1 << 20;

/// Names of a classifier's outputs: `id2label`, or as many as `num_labels` says, called as `transformers` calls them.
fn labels(fields: &Map<String, Value>) -> Vec<String> {
    let number = fields.get("num_labels").and_then(Value::as_u64).filter(|n| *n <= MOST_LABELS);
    let numbered = || (0..number.unwrap_or(0)).map(|i| format!("LABEL_{i}")).collect();
    let Some(named) = fields.get("id2label").and_then(Value::as_object) else { return numbered() };
    let name = |i: usize| match named.get(&i.to_string())? {
        Value::String(name) => Some(name.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    (0..named.len()).map(name).collect::<Option<_>>().unwrap_or_default()
}

/// The model at `path`: a folder with `config.json` and `model.safetensors` (or the files that
/// `model.safetensors.index.json` lists), a `.gguf` file, or a folder with one such file and no `config.json`.
///
/// # Errors
/// A file that cannot be read, a model type that is not known, every field of the configuration that does not fit, or
/// every tensor that is missing or misshapen.
pub fn build_form(path: &Path, form: Form) -> Result<Built, ModelError> {
    if let Some(file) = gguf_file(path) {
        let model = gguf::open(&file)?;
        return assemble(&file, &model.config()?, form, || model.weights());
    }
    let file = path.join("config.json");
    assemble(&file, &config::fields(&file)?, form, || weights::open(path))
}

/// The model that `fields` of `file` describe, made of the weights that `open` opens.
fn assemble(
    file: &Path,
    fields: &Map<String, Value>,
    form: Form,
    open: impl FnOnce() -> Result<Weights, ModelError>,
) -> Result<Built, ModelError> {
    let enough = |config: &Config| {
        let weights = open()?;
        if config.layers <= weights.len() {
            return Ok(weights);
        }
        let want = format!("at most {}, as many as there are tensors", weights.len());
        let fault = Fault { field: "num_hidden_layers".into(), want, got: config.layers.to_string() };
        Err(ModelError::Config { file: file.into(), faults: vec![fault] })
    };
    match registry::family(file, fields)? {
        Family::Encoder(layout) => {
            let config = config::encoder(file, fields)?;
            let weights = enough(&config)?;
            encoder::encoder(layout, config, &weights, form)
        }
        Family::Gpt2 => {
            let decoder = config::gpt2(file, fields)?;
            let weights = enough(&decoder.config)?;
            decoder::gpt2(decoder, &weights, form)
        }
        Family::Llama(class) => {
            let decoder = config::llama(file, fields)?;
            let weights = enough(&decoder.config)?;
            decoder::llama(class, decoder, &weights, form)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_names_the_outputs_of_a_classifier() {
        let of = |json: &str| labels(&serde_json::from_str(json).expect("an object"));
        let eleven: Vec<String> = (0..11).map(|i| format!("\"{i}\": \"l{i}\"")).collect();
        let eleven = of(&format!("{{\"id2label\": {{{}}}}}", eleven.join(", ")));
        assert_eq!(
            (eleven.len(), eleven[2].as_str(), eleven[10].as_str()),
            (11, "l2", "l10"),
            "in the order of numbers"
        );
        assert_eq!(of(r#"{"id2label": {"0": "a", "1": 5}, "num_labels": 7}"#), ["a", "5"]);
        assert_eq!(of(r#"{"num_labels": 2}"#), ["LABEL_0", "LABEL_1"]);
        for none in
            [r#"{}"#, r#"{"id2label": {"0": "a", "2": "b"}}"#, r#"{"id2label": {"0": []}}"#, r#"{"num_labels": -1}"#]
        {
            assert_eq!(of(none), Vec::<String>::new(), "{none}");
        }
    }
}
