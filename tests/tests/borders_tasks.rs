//! What a task finds on a model: the head that it has already, and what does not fit.

use lorac::data::Tokenizer;
use lorac::output::{Manifest, read_peft};
use lorac::pipeline::Loaded;
use lorac::progress::Silent;
use lorac::run::{RunOptions, run};
use lorac::source::Resolver;
use lorac_tests::{ONNXRUNTIME, data};
use serde_json::Value;
use std::collections::BTreeMap;
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
    started(folder, &text)
}

/// Runs a pipeline in a folder.
fn started(folder: &Path, text: &str) -> Result<Manifest, String> {
    let loaded = Loaded::parse(text, &folder.join("p.yaml"), &[]).map_err(|e| e.to_string())?;
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
fn an_existing_head_is_trained_in_full_and_nothing_else() {
    let folder = case("bert-dynamo-cls");
    let manifest = done(folder.path(), "classify: { head: existing }", "full: { targets: [\"*classifier*\"] }");
    let manifest = manifest.unwrap_or_else(|e| panic!("{e}"));
    let verify = &manifest.verify;
    assert!(verify.passed && verify.nodes_after == verify.nodes_before, "{verify:?}");
    assert_eq!((verify.nodes_of_head, verify.changed_bytes_outside_targets), (0, 0));
    assert_eq!(manifest.trainable_parameters, 2 * 8 + 2, "a matrix and a bias");
    let weights = |file: &str| -> BTreeMap<String, Vec<u8>> {
        let model = lorac::onnx::load(folder.path().join(file)).expect("loads");
        model.graph.weights().map(|(_, w, tensor)| (w.name.to_string(), tensor.bytes().to_vec())).collect()
    };
    let (before, after) = (weights("model.onnx"), weights("out/model.onnx"));
    let changed: Vec<&str> =
        before.iter().filter(|(name, was)| after.get(*name) != Some(was)).map(|(name, _)| name.as_str()).collect();
    assert!(changed.len() == 2 && changed.iter().all(|name| name.contains("classifier.")), "{changed:?}");
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
    let wrong = done(base.path(), "classify: { labels: [negative, positive], head: existing }", QUERY_VALUE);
    assert!(wrong.expect_err("pooled, 8 wide").contains("`pooler_output` f32[batch,8], has 8 outputs, and the task 2"));
    let new = done(base.path(), "classify: [negative, positive]", QUERY_VALUE).expect("a new head");
    assert!(
        new.verify.nodes_of_head > 0 && !says(&new, "head is trained"),
        "a pooled vector is not a head: {:?}",
        new.notes
    );
}

#[test]
fn labels_in_another_order_than_the_model_s_are_told_of() {
    let folder = case("bert-dynamo-cls");
    let manifest = done(folder.path(), "classify: [positive, negative]", QUERY_VALUE).expect("runs");
    assert!(says(&manifest, "in another order than the pipeline: negative, positive"), "{:?}", manifest.notes);
}

/// The numbers are those of transformers' AutoTokenizer: tests/truth/pairs.py.
#[test]
fn pairs_of_texts_are_encoded_as_transformers_does() {
    let golden = fs::read(data("truth/pairs/golden.json")).expect("a file");
    let golden: Value = serde_json::from_slice(&golden).expect("JSON");
    let texts: Vec<(String, String)> = serde_json::from_value(golden["texts"].clone()).expect("pairs");
    for case in golden["cases"].as_array().expect("cases") {
        let (name, folder) = (case["tokenizer"].as_str().expect("a name"), tempfile::tempdir().expect("temp"));
        let file = fs::read(data("tokenizer_config").join(format!("{name}.json"))).expect("a file");
        let mut file: Value = serde_json::from_slice(&file).expect("JSON");
        file["post_processor"] = case["post_processor"].clone();
        fs::write(folder.path().join("tokenizer.json"), file.to_string()).expect("writes");
        fs::write(folder.path().join("tokenizer_config.json"), case["config"].to_string()).expect("writes");
        for length in [9, 10, 64] {
            let tokenizer = Tokenizer::from_file(&folder.path().join("tokenizer.json"), length).expect("a tokenizer");
            let encoded = tokenizer.encode_pairs(&texts).expect("encodes");
            let got: Vec<_> = encoded.into_iter().map(|one| (one.ids, one.type_ids)).collect();
            assert_eq!(serde_json::json!(got), case[length.to_string()], "{name} {} {length}", case["config"]);
        }
    }
}

/// Rows of tests/data/borders/common as JSON lines: the label, whether it is, numbers, and the text in two halves.
fn as_rows(folder: &Path) {
    for table in ["train", "eval"] {
        let text = fs::read_to_string(folder.join(format!("{table}.csv"))).expect("a table");
        let rows = text.lines().skip(1).enumerate().map(|(i, line)| {
            let (text, label) = line.rsplit_once(',').expect("two columns");
            let (first, second) = text.split_at(text.len() / 2);
            let positive = label == "positive";
            let mut tags = vec![label];
            tags.extend((i % 3 == 0).then_some("third"));
            let row = serde_json::json!({
                "first": first, "second": second, "text": text, "label": label, "tags": tags, "joined": tags.join(" | "),
                "negative": u8::from(!positive), "positive": positive, "third": u8::from(i % 3 == 0),
                "score": if positive { 0.5 } else { -0.75 },
            });
            format!("{row}\n")
        });
        fs::write(folder.join(format!("{table}.jsonl")), rows.collect::<String>()).expect("writes");
    }
}

/// Runs a task on JSON lines.
fn on_rows(folder: &Path, task: &str, split: &str) -> Result<Manifest, String> {
    let source = if folder.join("model.onnx").exists() { "model.onnx" } else { "." };
    let text = format!(
        "name: tasks\nmodel: {{ source: {source} }}\ntask: {{ {task} }}\nadapt: [{{ {QUERY_VALUE} }}]\n\
         data: {{ train: {{ jsonl: train.jsonl, {split} }}, eval: {{ jsonl: eval.jsonl, {split} }}, max_length: 24 }}\n\
         train: {{ steps: 12, batch: 8, optimizer: {{ adamw: {{ lr: 0.02 }} }} }}\n\
         runtime: {{ source: \"{ONNXRUNTIME}\" }}\n"
    );
    started(folder, &text)
}

#[test]
fn several_labels_are_a_list_a_joined_text_or_a_column_each() {
    let three = "labels: [negative, positive, third]";
    let mut seen = Vec::new();
    for (task, split) in [
        (format!("multi_label: {{ {three}, pos_weight: balanced }}"), "text: text, label: tags"),
        (
            format!("multi_label: {{ {three}, pos_weight: balanced }}"),
            "text: text, label: joined, label_separator: \"|\"",
        ),
        ("multi_label: { pos_weight: balanced }".into(), "text: text, label: [negative, positive, third]"),
    ] {
        let folder = case("bert-dynamo-base");
        as_rows(folder.path());
        let manifest = on_rows(folder.path(), &task, split).unwrap_or_else(|e| panic!("{split}: {e}"));
        let names: Vec<(&str, usize)> =
            manifest.data.train.labels.iter().map(|l| (l.name.as_str(), l.examples)).collect();
        assert_eq!(names, [("negative", 49), ("positive", 71), ("third", 40)], "{split}");
        seen.push((manifest.train.loss_last, manifest.eval.after.get("f1_micro")));
    }
    assert!(seen.iter().all(|one| *one == seen[0]), "one data set, written in three ways: {seen:?}");
    let folder = case("bert-dynamo-base");
    as_rows(folder.path());
    let wrong = |task: &str, split: &str| on_rows(folder.path(), task, split).expect_err(split);
    let two = wrong("multi_label: { labels: [negative, positive] }", "text: text, label: tags");
    assert!(two.contains("unknown label `third`") && two.contains("in `tags`"), "{two}");
    let count = wrong("multi_label: { labels: [a, b] }", "text: text, label: [negative, positive, third]");
    assert!(count.contains("error[pipeline::split]: there are 3 columns of labels, and 2 labels"), "{count}");
    let classify = wrong("classify: [negative, positive]", "text: text, label: [negative, positive]");
    assert!(classify.contains("several are for multi_label"), "{classify}");
    let flag = wrong("multi_label: {}", "text: text, label: [negative, score]");
    assert!(flag.contains("unknown label `-0.75`") && flag.contains("`0`, `1`"), "{flag}");
}

#[test]
fn the_head_of_a_model_is_trained_on_several_labels() {
    let folder = case("roberta-cls");
    as_rows(folder.path());
    let manifest = on_rows(folder.path(), "multi_label: {}", "text: text, label: tags").expect_err("no third output");
    assert!(manifest.contains("unknown label `third`"), "{manifest}");
    let manifest = on_rows(folder.path(), "multi_label: {}", "text: text, label: label").expect("runs");
    assert_eq!((manifest.verify.nodes_of_head, manifest.trainable_parameters), (0, 4 * 2 * (8 + 8)));
    assert!(manifest.verify.passed && manifest.train.loss_last < manifest.train.loss_first);
}

#[test]
fn pairs_are_for_every_task_and_count_in_two_texts() {
    for (task, label) in [
        ("classify: { labels: [negative, positive], label_smoothing: 0.1, class_weights: balanced }", "label"),
        ("multi_label: { labels: [negative, positive] }", "label"),
        ("regress: { loss: huber, delta: 0.5 }", "score"),
    ] {
        let folder = case("bert-dynamo-base");
        as_rows(folder.path());
        let split = format!("text: first, text_pair: second, label: {label}");
        let manifest = on_rows(folder.path(), task, &split).unwrap_or_else(|e| panic!("{task}: {e}"));
        assert!(manifest.verify.passed && manifest.train.loss_last.is_finite(), "{task}");
    }
    let folder = case("bert-dynamo-base");
    as_rows(folder.path());
    let wrong = on_rows(folder.path(), "classify: [negative, positive]", "text: first, text_pair: secnd, label: label");
    let wrong = wrong.expect_err("no such column");
    assert!(wrong.contains("`secnd`") && wrong.contains("second"), "{wrong}");
}

#[test]
fn weights_of_no_label_and_a_loss_that_has_no_delta_are_named() {
    let folder = case("bert-dynamo-base");
    as_rows(folder.path());
    let wrong =
        |task: &str, label: &str| on_rows(folder.path(), task, &format!("text: text, label: {label}")).expect_err(task);
    let weights = wrong("classify: { labels: [negative, positive], class_weights: { postive: 2 } }", "label");
    assert!(
        weights.contains("error[pipeline::labels]: `postive` is not one of") && weights.contains("nearest: positive")
    );
    let smoothing = wrong("classify: { labels: [negative, positive], label_smoothing: 1 }", "label");
    assert!(smoothing.contains("`label_smoothing` is 1"), "{smoothing}");
    assert!(wrong("regress: { delta: 2 }", "score").contains("`delta` is for `loss: huber`"));
    assert!(wrong("regress: { loss: huber, delta: 0 }", "score").contains("`delta` is 0"));
}
