//! What adapters of PEFT hold beside low-rank branches of linear layers.

use super::{NamedValues, PREFIX, PeftAdapter, PeftModule};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The class of layer that a low-rank branch is of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PeftLayer {
    /// A linear layer, or a `Conv1D`.
    #[default]
    Linear,
    /// A table of embeddings: rows are its entries.
    Embedding,
    /// A convolution; the shape of a row of its weight, `[in, ..kernel]`.
    Convolution(Vec<usize>),
}

impl PeftLayer {
    /// How the keys of A and B end.
    pub(super) fn keys(&self) -> [&'static str; 2] {
        match self {
            PeftLayer::Embedding => ["lora_embedding_A", "lora_embedding_B"],
            _ => ["lora_A.weight", "lora_B.weight"],
        }
    }

    /// The shapes of A, B and the magnitudes.
    pub(super) fn dims(&self, m: &PeftModule) -> [Vec<usize>; 3] {
        match self {
            PeftLayer::Convolution(row) => {
                let ones = vec![1; row.len().saturating_sub(1)];
                let [a, b] = [[&[m.rank()], &row[..]].concat(), [&[m.cols, m.rank()], &ones[..]].concat()];
                [a, b, [&[1, m.cols], &ones[..]].concat()]
            }
            _ => [vec![m.rank(), m.rows], vec![m.cols, m.rank()], vec![m.cols]],
        }
    }
}

/// A module whose results, or inputs, are scaled (IA3).
#[derive(Clone, Debug, PartialEq)]
pub struct PeftScale {
    /// Module path.
    pub name: String,
    /// The scales: as many as results, or as inputs.
    pub values: Vec<f32>,
    /// Whether inputs are scaled: PEFT's feed-forward modules.
    pub inputs: bool,
}

/// A table some of whose rows are trained.
#[derive(Clone, Debug, PartialEq)]
pub struct PeftTokens {
    /// Module path.
    pub name: String,
    /// The numbers of the rows.
    pub ids: Vec<usize>,
    /// Length of a row.
    pub width: usize,
    /// The rows.
    pub values: Vec<f32>,
}

impl PeftAdapter {
    /// PEFT's name for what it is.
    pub(super) fn kind(&self) -> &'static str {
        match (self.scaled.is_empty(), self.tokens.is_empty()) {
            (false, _) => "IA3",
            (true, false) if self.modules.is_empty() => "TRAINABLE_TOKENS",
            _ => "LORA",
        }
    }

    /// The tensors of scales and of tokens.
    pub(super) fn more_tensors(&self) -> impl Iterator<Item = NamedValues> {
        let scales = self.scaled.iter().map(|s| {
            let (name, count) = (format!("{PREFIX}{}.ia3_l", s.name), s.values.len());
            (name, if s.inputs { vec![1, count] } else { vec![count, 1] }, s.values.clone())
        });
        let inner = if self.kind() == "LORA" { ".token_adapter" } else { "" };
        let tokens = self.tokens.iter().map(move |t| {
            let name = format!("{PREFIX}{}{inner}.trainable_tokens_delta", t.name);
            (name, vec![t.ids.len(), t.width], t.values.clone())
        });
        scales.chain(tokens)
    }

    /// What a configuration says of them, and what it says otherwise than that of an adapter with branches alone.
    pub(super) fn more_config(&self) -> Map<String, Value> {
        let names = |all: &mut dyn Iterator<Item = &str>| json!(all.collect::<BTreeSet<&str>>());
        let ids: BTreeMap<&str, &[usize]> = self.tokens.iter().map(|t| (t.name.as_str(), &t.ids[..])).collect();
        let config = match self.kind() {
            "IA3" => json!({
                "peft_type": "IA3",
                "target_modules": names(&mut self.scaled.iter().map(|s| s.name.as_str())),
                "feedforward_modules": names(&mut self.scaled.iter().filter(|s| s.inputs).map(|s| s.name.as_str())),
                "fan_in_fan_out": self.fan_in_fan_out,
                "init_ia3_weights": true,
            }),
            "TRAINABLE_TOKENS" => json!({
                "peft_type": "TRAINABLE_TOKENS",
                "target_modules": names(&mut self.tokens.iter().map(|t| t.name.as_str())),
                "token_indices": self.tokens.first().map(|t| &t.ids),
                "init_weights": true,
            }),
            _ if ids.is_empty() => json!({}),
            _ => json!({ "trainable_token_indices": ids }),
        };
        match config {
            Value::Object(map) => map,
            _ => Map::new(),
        }
    }
}

/// The numbers of the tokens that a configuration lists for a table.
pub(super) fn token_ids(config: &Value, name: &str) -> Option<Vec<usize>> {
    let fits = |key: &str| name == key || name.ends_with(&format!(".{key}"));
    let list = |v: &Value| -> Option<Vec<usize>> {
        v.as_array()?.iter().map(|id| usize::try_from(id.as_u64()?).ok()).collect()
    };
    match &config["trainable_token_indices"] {
        Value::Object(tables) => tables.iter().find(|(key, _)| fits(key)).and_then(|(_, v)| list(v)),
        Value::Null => list(&config["token_indices"]),
        all => list(all),
    }
}
