//! Every choice of a pipeline does its work: a small model, trained with it on both engines and verified.

use lorac::output::Manifest;
use lorac::pipeline::Loaded;
use lorac::progress::Silent;
use lorac::run::{RunOptions, run};
use lorac::source::Resolver;
use lorac_tests::data;
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// Trains the pipeline of a folder with more settings, on both engines: the loss falls alike on both, and the deployed
/// model is verified. Returns the manifest of the first.
fn trains_in(folder: &Path, settings: &[&str]) -> Manifest {
    let mut all = Vec::new();
    for engine in [None, Some("runtime.source=embedded")] {
        let sets: Vec<String> = settings.iter().copied().chain(engine).map(String::from).collect();
        let loaded = Loaded::load(&folder.join("pipeline.yaml"), &sets).unwrap_or_else(|e| panic!("{sets:?}: {e}"));
        let resolver = Resolver::new(None, folder).unwrap_or_else(|e| panic!("no cache: {e}"));
        let out = tempfile::tempdir().expect("temp");
        let options = RunOptions { out: out.path().into(), command: "test".into(), progress: &Silent, emit: None };
        let outcome = run(&loaded, &resolver, &options, &AtomicBool::new(false));
        let manifest = outcome.unwrap_or_else(|e| panic!("{sets:?}: {e}")).manifest;
        let (verify, train) = (&manifest.verify, &manifest.train);
        assert!(verify.passed && verify.changed_bytes_outside_targets == 0, "{sets:?}: {verify:?}");
        assert!(train.loss_last < 0.95 * train.loss_first, "{sets:?}: {} to {}", train.loss_first, train.loss_last);
        all.push(manifest);
    }
    let [a, b] = [0, 1].map(|i| all[i].train.loss_last);
    assert!((a - b).abs() <= 1e-3, "{settings:?}: a loss of {a} on ONNX Runtime, {b} on tract");
    all.remove(0)
}

fn trains(settings: &[&str]) -> Manifest {
    trains_in(&data("opset12"), settings)
}

#[test]
fn lora_with_adamw_and_a_constant_rate() {
    let manifest = trains(&["train.schedule={ constant: { warmup: 0 } }"]);
    assert!(manifest.targets.iter().all(|t| t.rank == Some(4) && t.scale == Some(2.0)), "{:?}", manifest.targets);
}

#[test]
fn biases_alone() {
    let manifest = trains(&["adapt=[bias]", "train.optimizer.adamw.lr=0.03"]);
    let vector = |t: &lorac::output::TargetRecord| t.shape.len() == 1 && t.rank.is_none();
    assert!(manifest.targets.len() > 10 && manifest.targets.iter().all(vector), "{:?}", manifest.targets);
}

#[test]
fn all_weights_in_full() {
    let manifest = trains(&["adapt=[{ full: { targets: [\"*\"] } }]", "train.optimizer.adamw.lr=3e-3"]);
    assert!(manifest.targets.iter().any(|t| t.shape.len() == 2) && manifest.targets.iter().all(|t| t.rank.is_none()));
}

#[test]
fn lion() {
    trains(&["train.optimizer={ lion: { lr: 3e-3 } }", "train.epochs=6"]);
}

#[test]
fn adafactor() {
    trains(&["train.optimizer={ adafactor: { lr: 2e-2 } }", "train.epochs=4"]);
    trains(&[
        "train.optimizer={ adafactor: { lr: 0.3, scale_parameter: true, scale_eps: 0.05, beta1: 0.9 } }",
        "train.epochs=6",
    ]);
}

#[test]
fn a_running_mean() {
    trains(&["train.ema={ decay: 0.9 }"]);
}

#[test]
fn adam() {
    trains(&["train.optimizer={ adam: { weight_decay: 1e-4, lr: 1e-2 } }"]);
}

#[test]
fn gradient_descent_with_momentum_and_clipped_elements() {
    trains(&["train.optimizer={ sgd: { lr: 0.2, nesterov: true } }", "train.clip={ value: 0.05 }", "train.epochs=12"]);
}

#[test]
fn a_cosine() {
    trains(&["train.schedule=cosine"]);
}

#[test]
fn a_cosine_with_restarts_behind_a_warm_up_of_steps() {
    trains(&["train.schedule={ cosine: { min: 10%, restarts: 1, warmup: 2 steps } }"]);
}

#[test]
fn a_polynomial() {
    trains(&["train.schedule={ polynomial: { power: 0.5, end: 1e-5 } }"]);
}

#[test]
fn an_inverse_root() {
    trains(&["train.schedule=inverse_sqrt"]);
}

#[test]
fn parameters_with_rates_of_their_own() {
    let groups = "train.groups=[{ match: role:head, lr: 3x, weight_decay: 0 }, { match: \"*.lora_A\", lr: 1e-4 }]";
    trains(&[groups, "train.lora_plus=4", "train.no_decay=[\"*.bias\"]"]);
}

/// The small model's tables, written anew.
fn tables(cell: fn(&str) -> String, separator: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("temp");
    for file in ["model.onnx", "tokenizer.json", "pipeline.yaml"] {
        std::fs::copy(data("opset12").join(file), folder.path().join(file)).expect("copies");
    }
    for file in ["train.csv", "eval.csv"] {
        let text = std::fs::read_to_string(data("opset12").join(file)).expect("reads");
        let row = |line: &str| {
            let (text, label) = line.rsplit_once(',').expect("two columns");
            format!("{text}{separator}{}\n", cell(label))
        };
        std::fs::write(folder.path().join(file), text.lines().map(row).collect::<String>()).expect("writes");
    }
    folder
}

#[test]
fn a_regression() {
    let number = |label: &str| label.replace("positive", "2.5").replace("negative", "-0.5");
    let folder = tables(number, ",");
    let manifest = trains_in(folder.path(), &["task={ regress: { pool: mean } }", "train.epochs=8"]);
    let [before, after] = [&manifest.eval.before, &manifest.eval.after].map(|s| s.get("loss").expect("a loss"));
    // The targets have a variance of 2.25.
    assert!(before > 2.0 && after < 1.5, "{before} to {after}");
}

#[test]
fn tab_separated_tables() {
    let folder = tables(str::to_string, "\t");
    let split = |file: &str| format!("{{ tsv: {file}, text: text, label: label }}");
    let [train, eval] = ["train", "eval"].map(|s| format!("data.{s}={}", split(&format!("{s}.csv"))));
    trains_in(folder.path(), &[&train, &eval]);
}

#[test]
fn macro_f1_of_a_gate() {
    let manifest = trains(&["metrics={ f1_macro: { min: 0.0 } }"]);
    assert!(manifest.eval.after.get("f1_macro").is_some_and(|f1| f1 > 0.0 && f1 < 1.0), "{:?}", manifest.eval.after);
}
