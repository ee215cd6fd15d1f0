//! What a `config.json` says about the shape of a model, whatever its family calls the fields.

use crate::{Fault, ModelError};
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
    /// Rows of the token type table, in families that have one.
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

const ACTIVATIONS: &[(&str, Activation)] = &[
    ("gelu", Activation::Gelu),
    ("gelu_python", Activation::Gelu),
    ("gelu_new", Activation::GeluTanh),
    ("gelu_fast", Activation::GeluTanh),
    ("gelu_pytorch_tanh", Activation::GeluTanh),
    ("relu", Activation::Relu),
    ("silu", Activation::Silu),
    ("swish", Activation::Silu),
];

/// The fields of the JSON object in `file`.
///
/// # Errors
/// The file cannot be read or is no JSON object.
pub(crate) fn fields(file: &Path) -> Result<Map<String, Value>, ModelError> {
    let text = std::fs::read(file).map_err(|source| ModelError::Read { file: file.into(), source })?;
    serde_json::from_slice(&text).map_err(|source| ModelError::Json { file: file.into(), source })
}

/// The configuration that `fields` describe. What the Hugging Face classes assume where a field is absent is assumed
/// here, but no size is.
///
/// # Errors
/// Every field that is missing or does not fit.
pub(crate) fn config(file: &Path, fields: &Map<String, Value>) -> Result<Config, ModelError> {
    let mut reader = Reader { fields, faults: Vec::new() };
    let config = Config {
        model_type: fields.get("model_type").and_then(Value::as_str).unwrap_or_default().to_string(),
        architectures: reader.names("architectures"),
        hidden: reader.size(&["hidden_size", "dim"], None),
        layers: reader.size(&["num_hidden_layers", "n_layers"], None),
        heads: reader.size(&["num_attention_heads", "n_heads"], None),
        intermediate: reader.size(&["intermediate_size", "hidden_dim"], None),
        vocab: reader.size(&["vocab_size"], None),
        positions: reader.size(&["max_position_embeddings"], None),
        token_types: reader.size(&["type_vocab_size"], Some(2)),
        epsilon: reader.epsilon("layer_norm_eps", 1e-12),
        activation: reader.activation(&["hidden_act", "activation"], "gelu"),
        pad: reader.pad("pad_token_id"),
    };
    if config.heads > 0 && !config.hidden.is_multiple_of(config.heads) {
        reader.fault("hidden_size", &format!("a multiple of the {} heads", config.heads), config.hidden);
    }
    reader.only("position_embedding_type", &Value::from("absolute"));
    reader.only("is_decoder", &Value::from(false));
    reader.only("add_cross_attention", &Value::from(false));
    match reader.faults.is_empty() {
        true => Ok(config),
        false => Err(ModelError::Config { file: file.into(), faults: reader.faults }),
    }
}

struct Reader<'a> {
    fields: &'a Map<String, Value>,
    faults: Vec<Fault>,
}

impl<'a> Reader<'a> {
    fn fault(&mut self, field: &str, want: &str, got: impl ToString) {
        self.faults.push(Fault { field: field.into(), want: want.into(), got: got.to_string() });
    }

    /// The first of `names` that is there and not null, with its value.
    fn get<'n>(&self, names: &[&'n str]) -> Option<(&'n str, &'a Value)> {
        let given = names.iter().filter_map(|name| Some((*name, self.fields.get(*name)?)));
        given.into_iter().find(|(_, value)| !value.is_null())
    }

    fn size(&mut self, names: &[&str], default: Option<usize>) -> usize {
        let want = "a whole number above zero";
        let found = match (self.get(names), default) {
            (Some((name, value)), _) => match value.as_u64().and_then(|n| u32::try_from(n).ok()) {
                Some(n) if n > 0 => Some(n as usize),
                _ => {
                    self.fault(name, want, value);
                    None
                }
            },
            (None, Some(n)) => Some(n),
            (None, None) => {
                self.fault(&names.join(" or "), want, "absent");
                None
            }
        };
        found.unwrap_or(0)
    }

    fn epsilon(&mut self, name: &str, default: f32) -> f32 {
        let Some((_, value)) = self.get(&[name]) else { return default };
        match value.as_f64().map(|x| x as f32) {
            Some(x) if x >= 0.0 && x.is_finite() => x,
            _ => {
                self.fault(name, "a number, not negative", value);
                default
            }
        }
    }

    fn activation(&mut self, names: &[&str], default: &str) -> Activation {
        let default = Value::from(default);
        let (name, value) = self.get(names).unwrap_or(("", &default));
        match ACTIVATIONS.iter().find(|(a, _)| value.as_str() == Some(*a)) {
            Some((_, activation)) => *activation,
            None => {
                let known: Vec<&str> = ACTIVATIONS.iter().map(|(a, _)| *a).collect();
                self.fault(name, &format!("one of {}", known.join(", ")), value);
                Activation::Gelu
            }
        }
    }

    fn pad(&mut self, name: &str) -> Option<i64> {
        let (_, value) = self.get(&[name])?;
        let token = value.as_i64().filter(|n| (0..=i64::from(u32::MAX)).contains(n));
        if token.is_none() {
            self.fault(name, "a token", value);
        }
        token
    }

    fn names(&mut self, name: &str) -> Vec<String> {
        let Some((_, value)) = self.get(&[name]) else { return Vec::new() };
        let texts = value.as_array().and_then(|v| v.iter().map(|x| Some(x.as_str()?.to_string())).collect());
        if texts.is_none() {
            self.fault(name, "a list of names", value);
        }
        texts.unwrap_or_default()
    }

    /// Refuses any value of the field but `want`: other values mean a computation that is not built.
    fn only(&mut self, name: &str, want: &Value) {
        if let Some((_, value)) = self.get(&[name])
            && value != want
        {
            self.fault(name, &want.to_string(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Config, ModelError> {
        let fields: Map<String, Value> = serde_json::from_str(json).expect("an object");
        config(Path::new("config.json"), &fields)
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
        assert_eq!(faults[4].to_string(), "hidden_size is 30, wanted a multiple of the 4 heads");
    }
}
