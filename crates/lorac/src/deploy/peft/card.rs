//! What lies beside an adapter: README.md, which says how it is loaded, and the head where no class of transformers has it.

use super::contract::{self, Contract};
use crate::deploy::Trained;
use crate::error::Error;
use crate::output::{NamedValues, OutputError, read_safetensors, write_atomic, write_safetensors};
use crate::task::{Class, HeadKind};
use lorac_passes::{Group, Pool};
use serde_json::json;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// The head's weights: `classifier.weight` `[outputs, hidden]` and `classifier.bias` `[outputs]`.
const HEAD: &str = "head.safetensors";
/// What the head is put on.
const HEAD_CONFIG: &str = "head_config.json";

/// Writes them. Returns the files.
pub(super) fn write(folder: &Path, trained: &Trained, contract: &Contract) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    let task = &trained.plan.task;
    let beside = task.head().filter(|head| head.kind == HeadKind::Linear);
    if let Some(head) = &beside {
        let params = trained.plan.training.params.iter().filter(|p| p.group == Group::Head);
        let mut tensors = Vec::new();
        for (key, param) in head.paths().into_iter().zip(params) {
            tensors.push((key, param.dims.clone(), trained.values.get(&param.name)?.to_vec()));
        }
        let path = folder.join(HEAD);
        write_safetensors(&path, &tensors)?;
        files.push(path);
        let shapes = tensors.iter().map(|(key, dims, _)| (key.clone(), json!(dims)));
        let config = json!({
            "task": task.name(),
            "input": contract.input,
            "pool": head.pool().to_string(),
            "outputs": head.outputs,
            "labels": task.labels(),
            "tensors": shapes.collect::<serde_json::Map<_, _>>(),
        });
        let path = folder.join(HEAD_CONFIG);
        let mut text = serde_json::to_vec_pretty(&config)
            .map_err(|e| OutputError::Content { path: path.clone(), why: e.to_string() })?;
        text.push(b'\n');
        write_atomic(&path, &text)?;
        files.push(path);
    }
    let path = folder.join("README.md");
    write_atomic(&path, readme(trained, contract).as_bytes())?;
    files.push(path);
    Ok(files)
}

/// The head beside an adapter: key, shape and elements.
///
/// # Errors
/// Why it cannot be read, in words.
pub(super) fn read_head(folder: &Path) -> Result<Vec<NamedValues>, String> {
    let path = folder.join(HEAD);
    read_safetensors(&path).map_err(|e| e.to_string())
}

fn readme(trained: &Trained, contract: &Contract) -> String {
    let task = &trained.plan.task;
    let (base, revision) = contract::base_model(trained.plan, &trained.pipeline.model.source);
    let (auto, kind) = (contract.class.auto(), contract.task_type());
    let mut given = revision.map_or(String::new(), |r| format!(", revision={r:?}"));
    let classifier = matches!(contract.class, Class::SequenceClassification | Class::TokenClassification);
    if let Some(head) = task.head().filter(|_| classifier) {
        // Writing to a String cannot fail.
        _ = write!(given, ", num_labels={}", head.outputs);
        if head.outputs == 1 {
            given.push_str(", problem_type=\"regression\"");
        }
    }
    // A file of another format says nothing to transformers.
    let (loaded, comment) = match contract::is_pretrained(trained.plan, &trained.pipeline.model.source) {
        true => (base.as_str(), String::new()),
        false => ("MODEL", format!("# the PyTorch model that {base} was made of\n")),
    };
    let what = contract.described();
    let mut text = format!(
        "---\nbase_model: {base:?}\nlibrary_name: peft\n---\n\n{what} that lorac trained, for `{auto}` (`{kind}`).\n\n\
         ```python\nfrom peft import PeftModel\nfrom transformers import {auto}\n\n\
         {comment}base = {auto}.from_pretrained({loaded:?}{given})\n\
         model = PeftModel.from_pretrained(base, \"adapter\").eval()\n```\n"
    );
    let Some(head) = task.head() else { return text };
    if head.kind == HeadKind::Linear {
        let input = contract.input.as_deref().unwrap_or_default();
        let (field, of) = match contract.class {
            Class::CausalLm => ("logits", String::new()),
            _ if head.hidden.is_none_or(|name| name == "last_hidden_state") => ("last_hidden_state", String::new()),
            _ => ("last_hidden_state", format!("  # or what `{input}` of the exported model is")),
        };
        let pooled = match head.pool() {
            Pool::Mean => {
                "mask = inputs[\"attention_mask\"].unsqueeze(-1).to(hidden.dtype)\n\
                 pooled = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)"
            }
            Pool::Cls => "pooled = hidden[:, 0]",
            Pool::Last => {
                "mask = inputs[\"attention_mask\"]\n\
                 last = (mask * torch.arange(mask.shape[1])).argmax(1)\n\
                 pooled = hidden[torch.arange(len(last)), last]"
            }
        };
        _ = write!(
            text,
            "\nThe head that was trained is none of a class of transformers: `{}` pooling of the `{field}` and one linear \
             layer. Its weights are in `{HEAD}`, its description in `{HEAD_CONFIG}`. `AutoModelForSequenceClassification` \
             computes something else.\n\n\
             ```python\nimport torch\nfrom safetensors.torch import load_file\n\n\
             head = load_file(\"adapter/{HEAD}\")\nhidden = model(**inputs).{field}{of}\n{pooled}\n\
             logits = pooled @ head[\"classifier.weight\"].T + head[\"classifier.bias\"]\n```\n",
            head.pool()
        );
    } else if head.kind == HeadKind::LastToken {
        text.push_str(
            "\nThe head reads the last token that the attention mask attends to. The class finds it by the padding token: \
             `model.config.pad_token_id` must be set to the one that texts are padded with, on the right.\n",
        );
    }
    let labels = task.labels();
    if !labels.is_empty() {
        _ = write!(text, "\nLabels, in the order of the logits: {}\n", labels.join(", "));
    }
    text
}
