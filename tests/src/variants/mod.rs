//! Trainings of PEFT's variants: a folder for each, with the configuration, the adapter before and after, the batches, the
//! losses and the merged weights. Nothing here knows an architecture: what PyTorch calls a weight is found in an export by
//! its name or by its content.

mod change;
mod place;
mod unfold;

pub use change::Change;
pub use place::{Place, place};
pub use unfold::unfold;

use crate::{Truth, truth};
use lorac::ops::Array;
use lorac::passes::AdamW;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A training that PEFT has done.
pub struct Case {
    /// The folder.
    pub folder: PathBuf,
    /// What is learnt: `cls` and `image` are labels of rows, `lm` the next token.
    pub kind: String,
    /// PEFT's adapter_config.json.
    pub config: Value,
    /// PEFT's optimizer.
    pub optimizer: AdamW,
    /// What the rate of every B is multiplied by (LoRA+).
    pub lr_b: Option<f64>,
    /// Whether A is frozen, and the gradient of B projected onto it (LoRA-FA).
    pub freeze_a: bool,
    /// The loss of every step.
    pub losses: Vec<f64>,
    /// `stepNN.FIELD`, `eval.FIELD`, `eval.before`, `eval.after`.
    pub batches: BTreeMap<String, Truth>,
    /// What the adapter does to weights before the first step, by their names in PyTorch.
    pub first: BTreeMap<String, Change>,
    /// What it does to them after the last.
    pub last: BTreeMap<String, Change>,
    /// The merged weights by their names in PyTorch; none where the method does not merge.
    pub merged: BTreeMap<String, Array>,
}

/// Where keys of PEFT's begin.
const PREFIX: &str = "base_model.model.";

impl Case {
    /// Reads a folder.
    ///
    /// # Errors
    /// What is not as it should be.
    pub fn read(folder: &Path) -> Result<Case, String> {
        let case = json(&folder.join("case.json"))?;
        let mut config = json(&folder.join("adapter_init/adapter_config.json"))?;
        if let (Some(all), Some(given)) = (config.as_object_mut(), case["peft"].as_object()) {
            given.iter().for_each(|(k, v)| _ = all.entry(k).or_insert_with(|| v.clone()));
        }
        let number = |key: &str| case["optimizer"][key].as_f64().ok_or(format!("case.json: no optimizer.{key}"));
        let losses: Vec<f64> = case["losses"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
        if losses.is_empty() {
            return Err("case.json has no losses".into());
        }
        let merged = folder.join("merged.safetensors");
        let merged = if merged.exists() { truth(&merged) } else { BTreeMap::new() };
        let merged: BTreeMap<String, Array> = merged.into_iter().map(|(key, t)| (key, t.array)).collect();
        let read = |part: &str| {
            let tensors = truth(&folder.join(part).join("adapter_model.safetensors")).into_iter();
            let plain = |key: String| key.strip_prefix(PREFIX).map_or_else(|| key.clone(), String::from);
            Change::of_adapter(&config, tensors.map(|(key, t)| (plain(key), t.array)).collect(), &merged)
        };
        Ok(Case {
            kind: case["kind"].as_str().ok_or("case.json: no kind")?.to_string(),
            optimizer: AdamW {
                beta1: number("beta1")?,
                beta2: number("beta2")?,
                eps: number("eps")?,
                weight_decay: number("weight_decay")?,
                lr: number("lr")?,
            },
            lr_b: case["optimizer"]["lr_b"].as_f64(),
            freeze_a: case["optimizer"]["freeze_a"].as_bool().unwrap_or(false),
            losses,
            batches: truth(&folder.join("data.safetensors")),
            first: read("adapter_init")?,
            last: read("adapter_final")?,
            merged,
            folder: folder.to_path_buf(),
            config,
        })
    }

    /// The exports of the base: `torchscript` of `base.torchscript.onnx`.
    pub fn exporters(folder: &Path) -> Vec<String> {
        let names = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.file_name());
        let exporter = |name: String| Some(name.strip_prefix("base.")?.strip_suffix(".onnx")?.to_string());
        let mut all: Vec<String> = names.filter_map(|n| exporter(n.to_string_lossy().into_owned())).collect();
        all.sort();
        all
    }

    /// The fields of a batch, labels too.
    pub fn batch(&self, part: &str) -> BTreeMap<&str, &Truth> {
        let start = format!("{part}.");
        self.batches.iter().filter_map(|(key, t)| Some((key.strip_prefix(&start)?, t))).collect()
    }

    /// alpha of a module: `alpha_pattern` has keys that are whole paths or their ends.
    pub fn alpha(&self, path: &str) -> f64 {
        let fits = |key: &str| path == key || path.ends_with(&format!(".{key}"));
        let mut own = self.config["alpha_pattern"].as_object().into_iter().flatten().filter(|(k, _)| fits(k));
        own.next().and_then(|(_, v)| v.as_f64()).or(self.config["lora_alpha"].as_f64()).unwrap_or(1.0)
    }

    /// Whether branches are scaled by alpha / sqrt(r).
    pub fn rslora(&self) -> bool {
        self.config["use_rslora"].as_bool().unwrap_or(false)
    }

    /// What the branch of a module is multiplied by.
    pub fn scale(&self, path: &str, rank: usize) -> f64 {
        let rank = rank as f64;
        self.alpha(path) / if self.rslora() { rank.sqrt() } else { rank }
    }
}

fn json(path: &Path) -> Result<Value, String> {
    let bytes = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    serde_json::from_slice(&bytes).map_err(|e| format!("{}: {e}", path.display()))
}
