//! A GGUF file's metadata and names as those of the Hugging Face class with the same forward pass.

use super::Gguf;
use super::value::Value as Meta;
use crate::weights::{Stored, Weights};
use crate::{Fault, ModelError};
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// Architectures whose tensors have the names below.
const KNOWN: &[&str] = &["llama", "qwen2"];

/// A module's name in the file, and in Hugging Face's class.
const MODULES: &[(&str, &str)] =
    &[("token_embd", "model.embed_tokens"), ("output_norm", "model.norm"), ("output", "lm_head")];

/// The same for modules of a layer.
const LAYER: &[(&str, &str)] = &[
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

impl Gguf {
    /// The metadata as a `config.json`.
    ///
    /// # Errors
    /// An architecture that is not known, or every value that is missing or means a computation that is not built.
    pub(crate) fn config(self: &Gguf) -> Result<Map<String, Value>, ModelError> {
        let architecture = self.values.get("general.architecture").and_then(Meta::text).unwrap_or_default();
        if !KNOWN.contains(&architecture) {
            return Err(ModelError::UnknownType {
                file: self.file.clone(),
                got: architecture.into(),
                nearest: None,
                known: KNOWN.iter().map(ToString::to_string).collect(),
            });
        }
        let mut keys = Keys { gguf: self, architecture, faults: Vec::new() };
        let hidden = keys.size("embedding_length", None);
        let heads = keys.size("attention.head_count", None);
        let head = keys.size("attention.key_length", hidden.checked_div(heads));
        keys.only("attention.value_length", head);
        keys.only("rope.dimension_count", head);
        keys.only("expert_count", 0);
        let rows = self.tensors.get("token_embd.weight").and_then(|t| t.dims.first()).map(|n| *n as u64);
        let mut config = json!({
            "model_type": architecture,
            "hidden_size": hidden,
            "num_hidden_layers": keys.size("block_count", None),
            "num_attention_heads": heads,
            "num_key_value_heads": keys.size("attention.head_count_kv", Some(heads)),
            "head_dim": head,
            "intermediate_size": keys.size("feed_forward_length", None),
            "vocab_size": rows.unwrap_or_else(|| keys.size("vocab_size", None)),
            "max_position_embeddings": keys.size("context_length", None),
            "rms_norm_eps": keys.float("attention.layer_norm_rms_epsilon", None),
            "rope_theta": keys.float("rope.freq_base", Some(10_000.0)),
            "hidden_act": "silu",
            "attention_bias": self.tensors.contains_key("blk.0.attn_q.bias"),
            "tie_word_embeddings": !self.tensors.contains_key("output.weight"),
        });
        if let Some(kind) = keys.get("rope.scaling.type").and_then(Meta::text).filter(|kind| *kind != "none") {
            config["rope_scaling"] = json!({"rope_type": kind, "factor": keys.float("rope.scaling.factor", None)});
        }
        if self.tensors.contains_key("rope_freqs.weight") {
            keys.fault("rope_freqs.weight".into(), "none: factors of single frequencies are not built", "a tensor");
        }
        match (keys.faults.is_empty(), config) {
            (true, Value::Object(fields)) => Ok(fields),
            _ => Err(ModelError::Config { file: self.file.clone(), faults: keys.faults }),
        }
    }

    /// The tensors under the names of Hugging Face's class.
    pub(crate) fn weights(self) -> Result<Weights, ModelError> {
        let key = |name: &str| self.values.get(&format!("llama.{name}")).and_then(Meta::size).map(|n| n as usize);
        // Of the architectures known only llama rotates neighbours, and only in this format.
        let heads = key("attention.head_count");
        let groups = key("attention.head_count_kv").or(heads);
        let renamed = self.tensors.into_iter().map(|(name, stored)| {
            let paired = match name.split('.').nth(2) {
                Some("attn_q") => heads,
                Some("attn_k") => groups,
                _ => None,
            };
            (renamed(&name), Stored { paired, ..stored })
        });
        let tensors: HashMap<String, Stored> = renamed.collect();
        Ok(Weights::new(&self.file, tensors))
    }
}

fn renamed(name: &str) -> String {
    let new = match *name.split('.').collect::<Vec<_>>().as_slice() {
        ["blk", layer, module, kind] => {
            let found = LAYER.iter().find(|(old, _)| *old == module);
            found.map(|(_, new)| format!("model.layers.{layer}.{new}.{kind}"))
        }
        [module, kind] => MODULES.iter().find(|(old, _)| *old == module).map(|(_, new)| format!("{new}.{kind}")),
        _ => None,
    };
    new.unwrap_or_else(|| name.into())
}

/// Values by their names below the architecture, with every one that does not fit.
struct Keys<'a> {
    gguf: &'a Gguf,
    architecture: &'a str,
    faults: Vec<Fault>,
}

impl<'a> Keys<'a> {
    fn get(&self, name: &str) -> Option<&'a Meta> {
        self.gguf.values.get(&format!("{}.{name}", self.architecture))
    }

    fn fault(&mut self, field: String, want: &str, got: &str) {
        self.faults.push(Fault { field, want: want.into(), got: got.into() });
    }

    /// Whatever `read` makes of a value, else `default`.
    fn number<T>(&mut self, name: &str, default: Option<T>, want: &str, read: fn(&Meta) -> Option<T>) -> Option<T> {
        let given = self.get(name);
        let value = given.map_or(default, read);
        if value.is_none() {
            let got = given.map_or_else(|| "absent".into(), Meta::describe);
            self.fault(format!("{}.{name}", self.architecture), want, &got);
        }
        value
    }

    fn size(&mut self, name: &str, default: Option<u64>) -> u64 {
        self.number(name, default, "a whole number", Meta::size).unwrap_or(0)
    }

    fn float(&mut self, name: &str, default: Option<f64>) -> f64 {
        self.number(name, default, "a number", Meta::float).unwrap_or(0.0)
    }

    /// Refuses any value but `want`: others mean a computation that is not built.
    fn only(&mut self, name: &str, want: u64) {
        if let Some(value) = self.get(name)
            && value.size() != Some(want)
        {
            self.fault(format!("{}.{name}", self.architecture), &want.to_string(), &value.describe());
        }
    }
}
