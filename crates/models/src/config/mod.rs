//! What a `config.json` says about the shape of a model, whatever its family calls the fields.

mod decoder;
mod reader;

pub(crate) use decoder::{Decoder, gpt2, llama};

use crate::ModelError;
use reader::Reader;
use serde_json::{Map, Value};
use std::path::Path;

/// A model's configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `bert`, `roberta`, ...
    pub model_type: String,
    /// The classes that the weights were saved from.
    pub architectures: Vec<String>,
    /// Width of the hidden states.
    pub hidden: usize,
    /// Number of layers.
    pub layers: usize,
    /// Attention heads of a layer; divides `hidden`.
    pub heads: usize,
    /// Width of the feed-forward part of a layer.
    pub intermediate: usize,
    /// Number of tokens.
    pub vocab: usize,
    /// Rows of the position table.
    pub positions: usize,
    /// Rows of the token type table; 0 in families that have none.
    pub token_types: usize,
    /// Added to the variance by every layer normalisation.
    pub epsilon: f32,
    /// The nonlinearity of the feed-forward part.
    pub activation: Activation,
    /// The token that fills short rows, if the configuration names one.
    pub pad: Option<i64>,
}

/// The nonlinearity of a feed-forward part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x * Phi(x)`, by the error function.
    Gelu,
    /// Its approximation by a hyperbolic tangent.
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
    /// `x * sigmoid(x)`.
    Silu,
}

/// The fields of the JSON object in `file`.
///
/// # Errors
/// The file cannot be read or is not a JSON object.
pub(crate) fn fields(file: &Path) -> Result<Map<String, Value>, ModelError> {
    let text = std::fs::read(file).map_err(|source| ModelError::Read { file: file.into(), source })?;
    serde_json::from_slice(&text).map_err(|source| ModelError::Json { file: file.into(), source })
}

/// The configuration of an encoder that `fields` describe. What the Hugging Face classes assume where a field is absent is assumed
/// here, but no size is.
///
/// # Errors
/// Every field that is missing or does not fit.
pub(crate) fn encoder(file: &Path, fields: &Map<String, Value>) -> Result<Config, ModelError> {
    let mut reader = Reader::new(file, fields);
    let config = Config {
        model_type: reader.model_type(),
        architectures: reader.names("architectures"),
        hidden: reader.size(&["hidden_size", "dim"], None),
        layers: reader.size(&["num_hidden_layers", "n_layers"], None),
        heads: reader.size(&["num_attention_heads", "n_heads"], None),
        intermediate: reader.size(&["intermediate_size", "hidden_dim"], None),
        vocab: reader.size(&["vocab_size"], None),
        positions: reader.size(&["max_position_embeddings"], None),
        token_types: reader.size(&["type_vocab_size"], Some(2)),
        epsilon: reader.epsilon(&["layer_norm_eps"], 1e-12),
        activation: reader.activation(&["hidden_act", "activation"], "gelu"),
        pad: reader.pad("pad_token_id"),
    };
    if config.heads > 0 && !config.hidden.is_multiple_of(config.heads) {
        reader.fault("hidden_size", &format!("a multiple of the {} heads", config.heads), config.hidden);
    }
    reader.only("position_embedding_type", &Value::from("absolute"));
    reader.only("is_decoder", &Value::from(false));
    reader.only("add_cross_attention", &Value::from(false));
    reader.finish(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Config, ModelError> {
        let fields: Map<String, Value> = serde_json::from_str(json).expect("an object");
        encoder(Path::new("config.json"), &fields)
    }

    #[test]
    fn both_families_of_names_are_read() {
        let bert = read(
            r#"{"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
            "intermediate_size": 64, "vocab_size": 97, "max_position_embeddings": 64, "hidden_act": "gelu_new"}"#,
        );
        let distilbert = read(
            r#"{"model_type": "bert", "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "vocab_size": 97,
            "max_position_embeddings": 64, "activation": "gelu_new", "pad_token_id": null}"#,
        );
        let bert = bert.expect("reads");
        assert_eq!(bert, distilbert.expect("reads"));
        assert_eq!((bert.activation, bert.epsilon, bert.token_types), (Activation::GeluTanh, 1e-12, 2));
    }

    #[test]
    fn all_faults_are_named_at_once() {
        let wrong = read(
            r#"{"model_type": "bert", "hidden_size": 30, "num_hidden_layers": 0, "num_attention_heads": 4,
            "vocab_size": "many", "max_position_embeddings": 64, "hidden_act": "mish", "is_decoder": true,
            "position_embedding_type": "relative_key"}"#,
        );
        let Err(ModelError::Config { faults, .. }) = wrong else { panic!("accepted") };
        let fields: Vec<&str> = faults.iter().map(|f| f.field.as_str()).collect();
        let want = ["num_hidden_layers", "intermediate_size or hidden_dim", "vocab_size", "hidden_act", "hidden_size"];
        assert_eq!(fields[..5], want);
        assert_eq!(fields[5..], ["position_embedding_type", "is_decoder"]);
        assert_eq!(faults[4].to_string(), "hidden_size is 30, expected a multiple of the 4 heads");
    }
}
