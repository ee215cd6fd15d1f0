//! Output folders as their users run them: by the snippets of their model cards.

use crate::{root, skipped};
use lorac::onnx::load;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

/// The snippet in Python of the model card in a folder.
#[track_caller]
pub fn python_snippet(folder: &Path) -> String {
    let file = folder.join("README.md");
    let card = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let code = card.split_once("```python\n").and_then(|(_, rest)| rest.split_once("```"));
    code.unwrap_or_else(|| panic!("no Python: {card}")).0.to_string()
}

/// The inputs of the model in a folder that the snippet in Python does not feed.
#[track_caller]
pub fn unfed(folder: &Path) -> Vec<String> {
    let model = load(folder.join("model.onnx")).unwrap_or_else(|e| panic!("{e}"));
    let code = python_snippet(folder);
    let inputs = model.graph.inputs().iter().map(|v| model.graph.name_of(*v));
    inputs.filter(|name| !code.contains(&format!("{}: ", json!(name)))).collect()
}

/// Runs the snippets in Python of folders, where `LORAC_PEFT_PYTHON` is one with transformers and onnxruntime. A row is a name, a
/// folder, what `lorac predict` says there, and of what: `texts`, where those are not the two of every snippet.
#[track_caller]
pub fn in_python(rows: Vec<Value>) {
    let Ok(program) = std::env::var("LORAC_PEFT_PYTHON") else {
        return skipped("LORAC_PEFT_PYTHON, a Python with PyTorch, transformers and PEFT (tests/peft/venv.sh)");
    };
    let folder = tempfile::tempdir().unwrap_or_else(|e| panic!("no temporary folder: {e}"));
    let (list, count) = (folder.path().join("folders.json"), rows.len());
    std::fs::write(&list, Value::from(rows).to_string()).unwrap_or_else(|e| panic!("{}: {e}", list.display()));
    let output = Command::new(&program).arg(root().join("tests/peft/serve.py")).arg(&list).output();
    let output = output.unwrap_or_else(|e| panic!("LORAC_PEFT_PYTHON, {program}: {e}"));
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("ok ")).count(), count, "{text}");
    println!("{text}");
}
