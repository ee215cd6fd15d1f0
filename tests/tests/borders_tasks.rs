//! What a task finds on a model: the head that it has already, and what does not fit.

use lorac::output::{Manifest, read_peft};
use lorac::pipeline::Loaded;
use lorac::progress::Silent;
use lorac::run::{RunOptions, run};
use lorac::source::Resolver;
use lorac_tests::{ONNXRUNTIME, data};
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use tempfile::TempDir;

const QUERY_VALUE: &str = "lora: { targets: [\"role:query\", \"role:value\"], rank: 2, alpha: 4 }";

/// A copy of a model of tests/data/peft_artifacts beside the tables of tests/data/borders/common.
fn case(model: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("temp");
    for from in [data("peft_artifacts").join(model), data("borders/common")] {
        for entry in fs::read_dir(&from).expect("a folder").flatten() {
            fs::copy(entry.path(), folder.path().join(entry.file_name())).expect("copies");
        }
    }
    folder
}

/// Runs a task in a folder, on model.onnx where there is one.
fn done(folder: &Path, task: &str, adapt: &str) -> Result<Manifest, String> {
    let source = if folder.join("model.onnx").exists() { "model.onnx" } else { "." };
    let label = if task.contains("regress") { "score" } else { "label" };
    let text = format!(
        "name: tasks\nmodel: {{ source: {source} }}\ntask: {{ {task} }}\nadapt: [{{ {adapt} }}]\n\
         data: {{ train: {{ csv: train.csv, text: text, label: {label} }}, eval: {{ csv: eval.csv, text: text, label: {label} }}, max_length: 24 }}\n\
         train: {{ steps: 4, batch: 8, optimizer: {{ adamw: {{ lr: 0.02 }} }} }}\n\
         runtime: {{ source: \"{ONNXRUNTIME}\" }}\n"
    );
    let loaded = Loaded::parse(&text, &folder.join("p.yaml"), &[]).map_err(|e| e.to_string())?;
    let resolver = Resolver::new(None, folder).expect("a cache");
    let options = RunOptions { out: folder.join("out"), command: "test".into(), progress: &Silent, emit: None };
    let outcome = run(&loaded, &resolver, &options, &AtomicBool::new(false)).map_err(|e| e.to_string())?;
    assert!(outcome.gates.is_empty(), "{:?}", outcome.gates);
    Ok(outcome.manifest)
}

fn says(manifest: &Manifest, words: &str) -> bool {
    manifest.notes.iter().any(|note| note.contains(words))
}

#[test]
fn the_head_of_an_exported_classifier_is_trained_and_nothing_is_added() {
    for model in ["bert-dynamo-cls", "roberta-cls"] {
        for task in ["classify: {}", "classify: [negative, positive]", "classify: { head: existing }"] {
            let folder = case(model);
            let manifest = done(folder.path(), task, QUERY_VALUE).unwrap_or_else(|e| panic!("{model}, {task}: {e}"));
            let verify = &manifest.verify;
            assert!(verify.passed && verify.nodes_after == verify.nodes_before, "{verify:?}");
            assert_eq!((verify.nodes_of_head, verify.inserted_bytes, verify.changed_bytes_outside_targets), (0, 0, 0));
            assert_eq!(manifest.trainable_parameters, 4 * 2 * (8 + 8), "nothing of a head is new");
            assert!(says(&manifest, "the model's own head is trained: `logits`"), "{:?}", manifest.notes);
            let adapter = read_peft(&folder.path().join("out/adapter")).expect("an adapter");
            assert_eq!((adapter.task.as_str(), adapter.modules.len()), ("SEQ_CLS", 4));
        }
    }
}

#[test]
fn the_adapter_holds_the_head_as_it_is_deployed() {
    let named = |folder: &TempDir, name: &str| {
        let adapter = read_peft(&folder.path().join("out/adapter")).expect("an adapter");
        adapter.saved.into_iter().find(|(key, ..)| key == name).unwrap_or_else(|| panic!("no {name}"))
    };
    let of_file = |folder: &TempDir, file: &str, name: &str| -> Vec<f32> {
        let model = lorac::onnx::load(folder.path().join(file)).expect("loads");
        let mut weights = model.graph.weights();
        let found = weights.find(|w| w.1.name.ends_with(name)).unwrap_or_else(|| panic!("no {name}"));
        found.2.to_vec().expect("f32")
    };
    let frozen = case("bert-dynamo-cls");
    done(frozen.path(), "classify: {}", QUERY_VALUE).expect("runs");
    let (full, low_rank) = (case("bert-dynamo-cls"), case("bert-dynamo-cls"));
    let of_all = |adapt: &str| format!("{QUERY_VALUE} }}, {{ {adapt}");
    done(full.path(), "classify: {}", &of_all("full: { targets: [\"*classifier*\"] }")).expect("runs");
    done(low_rank.path(), "classify: {}", &of_all("lora: { targets: [\"*classifier*\"], rank: 1 }")).expect("runs");
    for (folder, trained) in [(&frozen, [false, false]), (&full, [true, true]), (&low_rank, [true, false])] {
        for (end, trained) in ["classifier.weight", "classifier.bias"].into_iter().zip(trained) {
            let (_, dims, saved) = named(folder, end);
            assert_eq!(dims[0], 2, "{end}");
            assert_eq!(saved, of_file(folder, "out/model.onnx", end), "{end}");
            assert_eq!(saved != of_file(folder, "model.onnx", end), trained, "{end}");
        }
    }
}

#[test]
fn a_head_that_does_not_fit_is_refused_with_its_place_and_the_numbers() {
    let folder = case("bert-dynamo-cls");
    let wrong = |task: &str| done(folder.path(), task, QUERY_VALUE).expect_err(task);
    let three = wrong("classify: [negative, neutral, positive]");
    let want = "error[pipeline::labels]: the model's own head, `logits` f32[batch,2], has 2 outputs, and the task 3";
    assert!(three.contains("p.yaml:3:9") && three.contains(want), "{three}");
    let regress = wrong("regress: { head: existing }");
    assert!(regress.contains("has 2 outputs, and the task 1"), "{regress}");
    let unknown = wrong("classify: { logits: logit }");
    assert!(unknown.contains("error[pipeline::head]: the model has no output `logit`"), "{unknown}");
    let none = wrong("classify: { labels: [negative, positive], head: linear }");
    assert!(none.contains("hidden states are [batch, sequence, hidden]"), "{none}");

    let base = case("bert-dynamo-base");
    let wrong = done(base.path(), "classify: {}", QUERY_VALUE).expect_err("no labels");
    assert!(wrong.contains("error[pipeline::labels]: the task needs its labels"), "{wrong}");
    let wrong = done(base.path(), "classify: { labels: [negative, positive], head: existing }", QUERY_VALUE);
    assert!(wrong.expect_err("pooled, 8 wide").contains("`pooler_output` f32[batch,8], has 8 outputs, and the task 2"));
    let new = done(base.path(), "classify: [negative, positive]", QUERY_VALUE).expect("a new head");
    assert!(
        new.verify.nodes_of_head > 0 && !says(&new, "head is trained"),
        "a pooled vector is no head: {:?}",
        new.notes
    );
}

#[test]
fn labels_in_another_order_than_the_model_s_are_told_of() {
    let folder = case("bert-dynamo-cls");
    let manifest = done(folder.path(), "classify: [positive, negative]", QUERY_VALUE).expect("runs");
    assert!(says(&manifest, "in another order than the pipeline: negative, positive"), "{:?}", manifest.notes);
}
