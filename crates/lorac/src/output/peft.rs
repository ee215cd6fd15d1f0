//! Adapters as PEFT stores them: adapter_config.json and adapter_model.safetensors.

mod kinds;

pub use kinds::{PeftLayer, PeftScale, PeftTokens};

use super::{OutputError, write_atomic};
use lorac_ir::{DType, Tensor};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// An adapter.
#[derive(Clone, Debug, PartialEq)]
pub struct PeftAdapter {
    /// The base model.
    pub base: String,
    /// Its revision, where it is one of a hub's.
    pub revision: Option<String>,
    /// `SEQ_CLS`, `CAUSAL_LM`, ...
    pub task: String,
    /// r of modules that do not differ.
    pub rank: usize,
    /// alpha of modules that do not differ.
    pub alpha: f64,
    /// Whether the scale is alpha / sqrt(r).
    pub rslora: bool,
    /// Which biases it holds: `none`, `all`, or `lora_only`.
    pub bias: &'static str,
    /// Dropout in training: PEFT knows one for all modules.
    pub dropout: f64,
    /// Whether adapted modules keep their weights as `[in,out]`: `Conv1D` does.
    pub fan_in_fan_out: bool,
    /// The adapted modules.
    pub modules: Vec<PeftModule>,
    /// Modules that are scaled; PEFT has no branches beside them.
    pub scaled: Vec<PeftScale>,
    /// Tables some of whose rows are trained.
    pub tokens: Vec<PeftTokens>,
    /// Modules trained in full: key, shape, data.
    pub saved: Vec<(String, Vec<usize>, Vec<f32>)>,
    /// The modules that those belong to.
    pub modules_to_save: Vec<String>,
}

/// An adapted module.
#[derive(Clone, Debug, PartialEq)]
pub struct PeftModule {
    /// Module path: `encoder.layer.0.attention.self.query`.
    pub name: String,
    /// A, `[r, rows]`.
    pub a: Vec<f32>,
    /// B, `[cols, r]`.
    pub b: Vec<f32>,
    /// Length of the rows that the matrix multiplies.
    pub rows: usize,
    /// Length of its results.
    pub cols: usize,
    /// alpha.
    pub alpha: f64,
    /// Whether the scale is alpha / sqrt(r) and not alpha / r.
    pub rslora: bool,
    /// The lengths of its columns, of DoRA.
    pub magnitude: Option<Vec<f32>>,
    /// What layer it is.
    pub layer: PeftLayer,
}

impl PeftModule {
    /// r.
    pub fn rank(&self) -> usize {
        self.a.len() / self.rows.max(1)
    }

    /// What `B A` is multiplied by.
    pub fn scale(&self) -> f64 {
        let rank = self.rank() as f64;
        self.alpha / if self.rslora { rank.sqrt() } else { rank }
    }

    /// Says the same scale by alpha / sqrt(r), or by alpha / r: an adapter has one rule for all its modules.
    pub fn say_as(&mut self, rslora: bool) {
        let root = (self.rank() as f64).sqrt();
        match (self.rslora, rslora) {
            (true, false) => self.alpha *= root,
            (false, true) => self.alpha /= root,
            _ => {}
        }
        self.rslora = rslora;
    }
}

/// A tensor: its name, its shape and its elements.
pub type NamedValues = (String, Vec<usize>, Vec<f32>);

/// Shape and data of a stored tensor.
type Entry = (Vec<usize>, Vec<f32>);

const PREFIX: &str = "base_model.model.";

/// How the key of a module's magnitudes ends.
const MAGNITUDE: &str = ".lora_magnitude_vector";

/// Writes an adapter. Returns the files.
pub fn write_peft(folder: &Path, adapter: &PeftAdapter) -> Result<Vec<PathBuf>, OutputError> {
    std::fs::create_dir_all(folder).map_err(OutputError::io(folder))?;
    let mut tensors: Vec<(String, Vec<usize>, Vec<f32>)> = Vec::new();
    for m in &adapter.modules {
        let ([a, b, magnitude], name) = (m.layer.dims(m), format!("{PREFIX}{}", m.name));
        let [a_key, b_key] = m.layer.keys();
        tensors.push((format!("{name}.{a_key}"), a, m.a.clone()));
        tensors.push((format!("{name}.{b_key}"), b, m.b.clone()));
        tensors.extend(m.magnitude.iter().map(|v| (format!("{name}{MAGNITUDE}"), magnitude.clone(), v.clone())));
    }
    tensors.extend(adapter.more_tensors());
    for (key, dims, data) in &adapter.saved {
        tensors.push((format!("{PREFIX}{key}"), dims.clone(), data.clone()));
    }
    let path = folder.join("adapter_model.safetensors");
    write_safetensors(&path, &tensors)?;

    let config = folder.join("adapter_config.json");
    let modules: BTreeSet<&str> = adapter.modules.iter().map(|m| m.name.as_str()).collect();
    let saved = &adapter.modules_to_save;
    let (ranks, alphas) = patterns(adapter);
    let shared = json!({
        "peft_type": adapter.kind(),
        "task_type": if adapter.task.is_empty() { Value::Null } else { json!(adapter.task) },
        "base_model_name_or_path": adapter.base,
        "revision": adapter.revision,
        "modules_to_save": if saved.is_empty() { Value::Null } else { json!(saved) },
        "inference_mode": true,
    });
    let of_branches = json!({
        "r": adapter.rank,
        "lora_alpha": adapter.alpha,
        "lora_dropout": adapter.dropout,
        "use_rslora": adapter.rslora,
        "target_modules": modules,
        "bias": adapter.bias,
        "fan_in_fan_out": adapter.fan_in_fan_out,
        "init_lora_weights": true,
        "use_dora": adapter.modules.iter().any(|m| m.magnitude.is_some()),
        "rank_pattern": ranks,
        "alpha_pattern": alphas,
        "layers_to_transform": null,
        "layers_pattern": null,
        "exclude_modules": null,
    });
    let branches = of_branches.as_object().filter(|_| adapter.kind() == "LORA").cloned().unwrap_or_default();
    let mut text = shared.as_object().cloned().unwrap_or_default();
    text.extend(branches.into_iter().chain(adapter.more_config()));
    let mut text = serde_json::to_vec_pretty(&text).map_err(|e| OutputError::content(&config, e))?;
    text.push(b'\n');
    write_atomic(&config, &text)?;
    Ok(vec![config, path])
}

/// Writes tensors, each a name, a shape and its elements, as PyTorch reads them.
///
/// # Errors
/// A shape that does not fit its elements, and what the system refuses.
pub fn write_safetensors(path: &Path, tensors: &[(String, Vec<usize>, Vec<f32>)]) -> Result<(), OutputError> {
    let bytes = |data: &[f32]| data.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let tensors: BTreeMap<&str, (&[usize], Vec<u8>)> =
        tensors.iter().map(|(name, dims, data)| (name.as_str(), (dims.as_slice(), bytes(data)))).collect();
    let views = tensors.iter().map(|(name, (dims, data))| {
        let view = TensorView::new(Dtype::F32, dims.to_vec(), data);
        view.map(|v| (name.to_string(), v)).map_err(|e| OutputError::content(path, e))
    });
    let views = views.collect::<Result<Vec<_>, _>>()?;
    let format = [("format".to_string(), "pt".to_string())].into();
    let whole = serialize(views, Some(format)).map_err(|e| OutputError::content(path, e))?;
    write_atomic(path, &whole)
}

/// Reads tensors of any float type, each a name, a shape and its elements.
///
/// # Errors
/// What the system refuses, and what is not safetensors or no float.
pub fn read_safetensors(path: &Path) -> Result<Vec<NamedValues>, OutputError> {
    let bytes = bytes::Bytes::from(std::fs::read(path).map_err(OutputError::io(path))?);
    let tensors = SafeTensors::deserialize(&bytes).map_err(|e| OutputError::content(path, e))?;
    let one = |(key, view): (String, TensorView)| {
        let dtype = match view.dtype() {
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            Dtype::F64 => DType::F64,
            other => return Err(OutputError::content(path, format!("`{key}` is {other:?}, expected a float type"))),
        };
        let dims = view.shape().to_vec();
        let values = Tensor::new(dtype, dims.clone(), bytes.slice_ref(view.data()));
        let values = values.map_err(|e| OutputError::content(path, e))?.to_f64().unwrap_or_default();
        Ok((key, dims, values.into_iter().map(|x| x as f32).collect()))
    };
    tensors.tensors().into_iter().map(one).collect()
}

/// Ranks and alphas of modules that differ from the adapter's.
fn patterns(adapter: &PeftAdapter) -> (BTreeMap<&str, usize>, BTreeMap<&str, f64>) {
    let (mut ranks, mut alphas) = (BTreeMap::new(), BTreeMap::new());
    for m in &adapter.modules {
        if m.rank() != adapter.rank {
            ranks.insert(m.name.as_str(), m.rank());
        }
        if m.alpha != adapter.alpha {
            alphas.insert(m.name.as_str(), m.alpha);
        }
    }
    (ranks, alphas)
}

/// Reads an adapter. Ranks and alphas may differ by module (`rank_pattern`, `alpha_pattern`, by name or its end).
pub fn read_peft(folder: &Path) -> Result<PeftAdapter, OutputError> {
    let path = folder.join("adapter_config.json");
    let text = std::fs::read(&path).map_err(OutputError::io(&path))?;
    let config: Value = serde_json::from_slice(&text).map_err(|e| OutputError::content(&path, e))?;
    let kind = config["peft_type"].as_str().unwrap_or_default();
    if !["LORA", "IA3", "TRAINABLE_TOKENS"].contains(&kind) {
        let why = format!("peft_type is {}, expected LORA, IA3 or TRAINABLE_TOKENS", config["peft_type"]);
        return Err(OutputError::content(&path, why));
    }
    let number = |key: &str| match config[key].as_f64() {
        None if kind != "LORA" => Ok(1.0),
        number => number.ok_or_else(|| OutputError::content(&path, format!("no {key}"))),
    };
    let (rank, alpha) = (number("r")? as usize, number("lora_alpha")?);
    let rslora = config["use_rslora"].as_bool().unwrap_or(false);
    let dropout = config["lora_dropout"].as_f64().unwrap_or(0.0);
    let pattern = |table: &str, name: &str| {
        let entries = config[table].as_object().into_iter().flatten();
        let mut fits = entries.filter(|(k, _)| name == k.as_str() || name.ends_with(&format!(".{k}")));
        fits.next().and_then(|(_, v)| v.as_f64())
    };
    let file = folder.join("adapter_model.safetensors");
    let mut halves: BTreeMap<String, (bool, [Option<Entry>; 2])> = BTreeMap::new();
    let (mut scaled, mut tokens) = (Vec::new(), Vec::new());
    let mut magnitudes: BTreeMap<String, Vec<f32>> = BTreeMap::new();
    let mut saved = Vec::new();
    for (key, dims, data) in read_safetensors(&file)? {
        let Some(name) = key.strip_prefix(PREFIX) else {
            return Err(OutputError::content(&file, format!("the key `{key}` does not start with {PREFIX}")));
        };
        let entry = (dims, data);
        if let Some(module) = name.strip_suffix(MAGNITUDE) {
            magnitudes.insert(module.into(), entry.1);
            continue;
        }
        let half = |end: &str, table: bool, at: usize| Some((name.strip_suffix(end)?.to_string(), table, at));
        let half = half(".lora_A.weight", false, 0)
            .or_else(|| half(".lora_B.weight", false, 1))
            .or_else(|| half(".lora_embedding_A", true, 0))
            .or_else(|| half(".lora_embedding_B", true, 1));
        if let Some((module, table, at)) = half {
            let whole = halves.entry(module).or_default();
            whole.0 = table;
            whole.1[at] = Some(entry);
        } else if let Some(module) = name.strip_suffix(".ia3_l") {
            let inputs = entry.0.first() == Some(&1) && entry.0.get(1) != Some(&1);
            scaled.push(PeftScale { name: module.into(), values: entry.1, inputs });
        } else if let Some(module) = name.strip_suffix(".trainable_tokens_delta") {
            let name = module.strip_suffix(".token_adapter").unwrap_or(module).to_string();
            let wrong = || OutputError::content(&file, format!("`{name}`: the configuration lists other tokens"));
            let ids = kinds::token_ids(&config, &name).filter(|ids| entry.0.first() == Some(&ids.len()));
            let (ids, width) = (ids.ok_or_else(wrong)?, entry.0.get(1).copied().unwrap_or(1));
            tokens.push(PeftTokens { name, ids, width, values: entry.1 });
        } else {
            saved.push((name.to_string(), entry.0, entry.1));
        }
    }
    saved.sort_by(|a, b| a.0.cmp(&b.0));
    scaled.sort_by(|a, b| a.name.cmp(&b.name));
    tokens.sort_by(|a, b| a.name.cmp(&b.name));
    let mut modules = Vec::new();
    for (name, (is_table, [a, b])) in halves {
        let wrong = |why: &str| OutputError::content(&file, format!("`{name}`: {why}"));
        let (Some((da, a)), Some((db, b))) = (a, b) else { return Err(wrong("A or B is missing")) };
        let layer = match (is_table, da.as_slice()) {
            (true, _) => PeftLayer::Embedding,
            (false, [_, row @ ..]) if row.len() > 1 => PeftLayer::Convolution(row.to_vec()),
            _ => PeftLayer::Linear,
        };
        let ([r, row @ ..], [cols, r2, ..]) = (da.as_slice(), db.as_slice()) else {
            return Err(wrong("A and B are matrices"));
        };
        let rows = &row.iter().product::<usize>();
        if r != r2 || pattern("rank_pattern", &name).unwrap_or(rank as f64) as usize != *r {
            return Err(wrong("A, B and the configuration disagree about the rank"));
        }
        let alpha = pattern("alpha_pattern", &name).unwrap_or(alpha);
        let magnitude = magnitudes.remove(&name);
        if magnitude.as_ref().is_some_and(|m| m.len() != *cols) {
            return Err(wrong("it has another number of magnitudes than of results"));
        }
        let (rows, cols) = (*rows, *cols);
        modules.push(PeftModule { name: name.clone(), a, b, rows, cols, alpha, rslora, magnitude, layer });
    }
    if let Some(name) = magnitudes.keys().next() {
        return Err(OutputError::content(&file, format!("`{name}`: magnitudes without A and B")));
    }
    let base = config["base_model_name_or_path"].as_str().unwrap_or_default().to_string();
    let bias = ["all", "lora_only"].into_iter().find(|b| config["bias"] == *b).unwrap_or("none");
    let task = config["task_type"].as_str().unwrap_or_default().to_string();
    let revision = config["revision"].as_str().map(str::to_string);
    let fan_in_fan_out = config["fan_in_fan_out"].as_bool().unwrap_or(false);
    let names = config["modules_to_save"].as_array().into_iter().flatten();
    let modules_to_save = names.filter_map(|n| Some(n.as_str()?.to_string())).collect();
    Ok(PeftAdapter {
        base,
        revision,
        task,
        rank,
        alpha,
        rslora,
        bias,
        dropout,
        fan_in_fan_out,
        modules,
        scaled,
        tokens,
        saved,
        modules_to_save,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_peft_wrote_and_writes_it_back() {
        for case in ["bert-qv", "gpt2-cattn", "llama-patterns"] {
            let given = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/peft").join(case);
            let adapter = read_peft(&given.join("adapter_final")).expect("reads");
            assert_eq!(adapter.saved.is_empty(), case != "bert-qv");
            assert!(!adapter.modules.is_empty() && adapter.modules.iter().all(|m| m.b.iter().any(|x| *x != 0.0)));
            let folder = tempfile::tempdir().expect("temp");
            let files = write_peft(folder.path(), &adapter).expect("writes");
            assert_eq!(files.len(), 2);
            assert_eq!(read_peft(folder.path()).expect("reads"), adapter);
            let config: Value = serde_json::from_slice(&std::fs::read(&files[0]).expect("reads")).expect("JSON");
            let patterns = usize::from(case == "llama-patterns");
            assert_eq!(config["rank_pattern"].as_object().map(|m| m.len()), Some(patterns), "{case}");
            assert_eq!(config["alpha_pattern"].as_object().map(|m| m.len()), Some(patterns), "{case}");
        }
    }

    #[test]
    fn one_rule_of_scales_for_all_modules() {
        let plain = PeftModule {
            name: "q".into(),
            a: vec![0.0; 8],
            b: vec![0.0; 12],
            rows: 2,
            cols: 3,
            alpha: 6.0,
            rslora: false,
            magnitude: None,
            layer: PeftLayer::Linear,
        };
        let mut other = plain.clone();
        other.say_as(true);
        assert_eq!((other.alpha, other.scale(), plain.scale()), (3.0, 1.5, 1.5));
        other.say_as(false);
        assert_eq!(other, plain);
    }

    #[test]
    fn damage_is_named() {
        let folder = tempfile::tempdir().expect("temp");
        assert!(read_peft(folder.path()).expect_err("empty").to_string().contains("adapter_config.json"));
        std::fs::write(folder.path().join("adapter_config.json"), r#"{"peft_type":"VERA"}"#).expect("writes");
        assert!(read_peft(folder.path()).expect_err("other").to_string().contains("expected LORA"));
    }
}
