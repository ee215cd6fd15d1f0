//! Labels that the pipeline leaves to its training set.

use lorac::output::{LabelsFrom, Manifest};
use lorac::pipeline::Loaded;
use lorac::progress::Silent;
use lorac::run::plan;
use lorac::source::Resolver;
use lorac_tests::border::{Border, border};
use std::fs;

const TASK: &str = "task={ classify: { class_weights: balanced } }";
const NAMED: &str = "task={ classify: { labels: [negative, positive], class_weights: balanced } }";

fn write(case: &Border, name: &str, text: &str) {
    fs::write(case.path().join(name), text).unwrap_or_else(|e| panic!("{name}: {e}"));
}

fn labels(manifest: &Manifest) -> Vec<(&str, usize)> {
    manifest.data.train.labels.iter().map(|label| (label.name.as_str(), label.examples)).collect()
}

/// The table with other labels: `of` is given each label and the number of its row.
fn relabelled(case: &Border, name: &str, of: impl Fn(&str, usize) -> String) {
    let text = fs::read_to_string(case.path().join(name)).expect("a table");
    let rows = text.lines().skip(1).enumerate().map(|(at, line)| {
        let (text, label) = line.rsplit_once(',').expect("two columns");
        format!("{text},{}\n", of(label, at))
    });
    write(case, name, &format!("text,label\n{}", rows.collect::<String>()));
}

#[test]
fn labels_are_those_of_the_training_set() {
    let case = border("bert");
    let named = case.succeeds(&[NAMED, "train.steps=3"]).manifest;
    let open = case.succeeds(&[TASK, "train.steps=3", "train.seed=0"]).manifest;
    assert_eq!((&open.eval.after, labels(&open)), (&named.eval.after, labels(&named)));
    assert_eq!((named.data.labels_from, open.data.labels_from), (Some(LabelsFrom::Pipeline), Some(LabelsFrom::Data)));
    let note = "the labels are those of data.train: negative, positive";
    assert!(open.notes.iter().any(|other| other == note) && !named.notes.iter().any(|other| other == note));
    let config = fs::read_to_string(case.out().join("config.json")).expect("config.json");
    assert!(config.contains("\"0\": \"negative\""), "{config}");

    // What a training depends on is the same.
    let keys = |set: &str| {
        let loaded = Loaded::load(&case.path().join("pipeline.yaml"), &[set.to_string()]).expect("a pipeline");
        plan(&loaded, &Resolver::new(None, case.path()).expect("a cache"), &Silent, None).expect("a plan").keys
    };
    assert_eq!(keys(TASK).differing(&keys(NAMED)), []);
    let differing =
        keys("task={ classify: { labels: [positive, negative], class_weights: balanced } }").differing(&keys(TASK));
    assert_eq!(differing.iter().map(|d| d.key.as_str()).collect::<Vec<_>>(), ["task.classify.labels"]);
    // The model that was trained says its labels itself.
    let loaded = Loaded::load(&case.path().join("pipeline.yaml"), &[TASK.to_string()]).expect("a pipeline");
    fs::rename(case.path().join("train.csv"), case.path().join("gone.csv")).expect("renames");
    let resolver = Resolver::new(None, case.path()).expect("a cache");
    let options = plan(&loaded, &resolver, &Silent, None).map(|_| ()).expect_err("no training set").to_string();
    assert!(options.contains("train.csv"), "{options}");
}

#[test]
fn numbers_come_by_their_value_and_all_rows_count() {
    let case = border("bert");
    let stars = |label: &str, at: usize| {
        if at == 0 { "10".to_string() } else { (if label == "positive" { "9" } else { "-1" }).into() }
    };
    relabelled(&case, "train.csv", stars);
    relabelled(&case, "eval.csv", |label, at| stars(label, at + 1));
    let manifest = case.succeeds(&["task=classify", "train.steps=1", "data.train.take=8"]).manifest;
    assert_eq!(labels(&manifest).iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["-1", "9", "10"]);
    let mapped = ["task=classify", "train.steps=1", "data.train.label_map={ -1: bad, 9: good, 10: good, 11: best }"];
    let eval = "data.eval.label_map={ -1: bad, 9: good }";
    let manifest = case.succeeds(&[mapped[0], mapped[1], mapped[2], eval]).manifest;
    assert_eq!(labels(&manifest).iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["bad", "best", "good"]);
}

#[test]
fn columns_that_hold_no_classes_are_refused() {
    let case = border("bert");
    relabelled(&case, "eval.csv", |label, at| if at == 3 { "neutral".into() } else { label.into() });
    let unseen = case.fails(&["task=classify"]);
    assert!(unseen.contains("eval.csv: row 4 (line 5) has the unknown label `neutral`"), "{unseen}");
    assert!(unseen.contains("the labels are `negative`, `positive`"), "{unseen}");
    let weights = case.fails(&["task={ classify: { class_weights: { postive: 2 } } }"]);
    assert!(weights.contains("`postive` is not one of the labels negative, positive"), "{weights}");

    relabelled(&case, "train.csv", |_, _| "positive".into());
    let one = case.fails(&["task=classify"]);
    assert!(one.contains("error[pipeline::labels]: a classification needs at least two labels"), "{one}");
    assert!(one.contains("the labels are those of data.train: positive"), "{one}");

    let many: String = (0..1001).map(|i| format!("w{i},{i}.5\n")).collect();
    write(&case, "train.csv", &format!("text,label\n{many}"));
    let many = case.run(&["task=classify"]).expect_err("too many");
    assert_eq!(many.code(), "data::many_labels");
    assert!(many.to_string().contains("train.csv: `label` has more than 1000 different values"), "{many}");
}

#[test]
fn several_labels_and_tags_are_taken_from_the_training_set_too() {
    let case = border("bert");
    let rows: String = (0..24)
        .map(|i| {
            let (tags, kinds) = ([vec!["a"], vec!["c", "b"], vec![]][i % 3].clone(), ["O", "B-x", "I-x", "O"]);
            let words = ["w1".to_string(), "good".into(), "film".into(), format!("w{i}")];
            serde_json::json!({ "text": format!("w{i} good"), "tags": tags, "words": words, "kinds": kinds })
                .to_string()
                + "\n"
        })
        .collect();
    write(&case, "rows.jsonl", &rows);
    let data = |columns: &str| {
        format!("data={{ train: {{ jsonl: rows.jsonl, {columns} }}, eval: {{ split: 4 }}, max_length: 16 }}")
    };
    for (task, columns, want) in [
        ("multi_label", "text: text, label: tags", ["a", "b", "c"]),
        ("tag", "text: words, label: kinds", ["B-x", "I-x", "O"]),
    ] {
        let manifest = case
            .succeeds(&[&format!("task={task}"), &data(columns), "train.steps=1", "deploy.formats=[onnx]"])
            .manifest;
        assert_eq!(labels(&manifest).iter().map(|(name, _)| *name).collect::<Vec<_>>(), want, "{task}");
        assert_eq!(manifest.data.labels_from, Some(LabelsFrom::Data));
    }
}
