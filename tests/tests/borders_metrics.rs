//! What a run says of how good its model is.

use lorac::output::{Manifest, Status};
use lorac::train::{METRICS, Prediction};
use lorac_tests::border::border;
use std::fs;

/// Every metric of a classification as a gate that anything passes.
fn all_metrics() -> String {
    let fits = METRICS.iter().filter(|m| m.1.suits(Prediction::Classes));
    let gates: Vec<String> = fits.map(|(name, _)| format!("{name}: {{ max: 1000 }}")).collect();
    format!("metrics={{ {} }}", gates.join(", "))
}

#[test]
fn every_metric_of_a_task_may_be_asked_for_and_classes_have_rows() {
    let border = border("bert");
    let manifest = border.succeeds(&[&all_metrics()]).manifest;
    let eval = &manifest.eval;
    assert!(eval.after.scores.len() > 15 && eval.after.scores.iter().all(|s| s.value.is_finite()), "{:?}", eval.after);
    let by_class = eval.by_class.as_ref().expect("rows of classes");
    let names: Vec<&str> = by_class.classes.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["negative", "positive"]);
    let counts = by_class.confusion.as_ref().expect("a matrix");
    let all: u64 = counts.iter().flatten().sum();
    let score = |name: &str| eval.after.get(name).expect("a score");
    assert_eq!((all, score("accuracy")), (24, (counts[0][0] + counts[1][1]) as f64 / 24.0));
    assert_eq!((score("f1_binary"), score("f1")), (by_class.classes[1].f1, by_class.classes[1].f1));
    assert_eq!(score("recall_macro"), (by_class.classes[0].recall + by_class.classes[1].recall) / 2.0);
    assert_eq!(&Manifest::read(&border.out()).expect("a manifest"), &manifest);
    let report = fs::read_to_string(border.out().join("report.html")).expect("a report");
    assert!(report.contains("By class") && report.contains("<th>negative<td class=\"whole\"><b>"), "{report}");
}

/// The labels of what is held out the other way round: whoever learns gets worse.
fn contradict(folder: &std::path::Path) {
    let eval = folder.join("eval.csv");
    let text = fs::read_to_string(&eval).expect("reads");
    let turned = text.replace(",positive", ",?").replace(",negative", ",positive").replace(",?", ",negative");
    fs::write(&eval, turned).expect("writes");
}

#[test]
fn a_model_that_got_worse_is_told_of_or_rejected() {
    let border = border("bert");
    contradict(border.path());
    let manifest = border.succeeds(&["train.steps=30"]).manifest;
    let told = manifest.notes.iter().filter(|note| note.contains("the model got worse: loss ")).count();
    assert_eq!((manifest.status, told), (Status::Passed, 1), "{:?}", manifest.notes);

    let gates = "metrics={ loss: { not_worse_than: before }, accuracy: { not_worse_than: before, margin: 1 } }";
    let outcome = border.run(&["train.steps=30", gates]).unwrap_or_else(|e| panic!("{e}"));
    let manifest = outcome.manifest;
    let [gate] = manifest.gates.as_slice() else { panic!("{:?}", manifest.gates) };
    assert_eq!((manifest.status, gate.name.as_str()), (Status::Rejected, "metrics.loss.not_worse_than"));
    assert_eq!((gate.expected, Some(gate.got)), (manifest.eval.before.get("loss"), manifest.eval.after.get("loss")));
    assert!(manifest.notes.iter().all(|note| !note.contains("got worse")), "{:?}", manifest.notes);
}

#[test]
fn a_metric_of_two_classes_is_refused_for_three_before_anything_is_read() {
    let labels = "task.classify.labels=[negative, positive, neither]";
    let said = border("bert").fails(&[labels, "metrics={ f1_binary: { min: 0.5 } }"]);
    assert!(said.contains("`f1_binary` is of 2 classes, and the task has 3"), "{said}");
}

#[test]
fn labels_have_rows_and_metrics_of_their_own() {
    let border = border("bert");
    let task = "task={ multi_label: { labels: [negative, positive] } }";
    let metrics = "metrics={ f1_samples: {}, f1_macro: {}, recall_weighted: {}, auc: {} }";
    let manifest = border.succeeds(&[task, metrics]).manifest;
    let score = |name: &str| manifest.eval.after.get(name).expect("a score");
    let by_class = manifest.eval.by_class.as_ref().expect("rows of labels");
    let names: Vec<&str> = by_class.classes.iter().map(|c| c.name.as_str()).collect();
    let [negative, positive] = by_class.classes.as_slice() else { panic!("{by_class:?}") };
    assert_eq!((names, negative.support + positive.support), (vec!["negative", "positive"], 24));
    assert_eq!((score("f1_macro"), &by_class.confusion), ((negative.f1 + positive.f1) / 2.0, &None));
    assert!(["f1_samples", "recall_weighted", "auc", "f1_micro"].iter().all(|name| score(name).is_finite()));
    let said = border.fails(&[task, "metrics={ matthews: { min: 0.1 } }"]);
    assert!(said.contains("the task is not evaluated by `matthews`"), "{said}");
}
