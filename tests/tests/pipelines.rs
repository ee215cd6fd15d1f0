//! The shipped pipelines, shortened, on real models and data: what they promise holds on both engines.

use lorac::output::Manifest;
use lorac::pipeline::Loaded;
use lorac::progress::Progress;
use lorac::run::{RunOptions, run};
use lorac::train::Event;
use lorac_tests::{resolver, root};
use std::path::Path;
use std::sync::atomic::AtomicBool;

const SHORT: [&str; 4] = ["train.steps=20", "data.eval.take=64", "data.train.take=400", "deploy.verify.samples=32"];

fn shortened(pipeline: &str, extra: &[&str], out: &Path) -> Manifest {
    let sets: Vec<String> = SHORT.iter().chain(extra).map(|s| s.to_string()).collect();
    let path = root().join("pipelines").join(pipeline);
    let loaded = Loaded::load(&path, &sets).unwrap_or_else(|e| panic!("{e}"));
    let options = RunOptions { out: out.to_path_buf(), command: "test".into(), progress: Progress { quiet: true } };
    let outcome = run(&loaded, &resolver(), &options, &AtomicBool::new(false)).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(outcome.gates, Vec::<String>::new());
    outcome.manifest
}

fn losses(out: &Path) -> Vec<f64> {
    let text = std::fs::read_to_string(out.join("metrics.jsonl")).expect("metrics.jsonl");
    text.lines().filter_map(|l| serde_json::from_str::<Event>(l).ok()).map(|r| r.loss).collect()
}

fn holds(manifest: &Manifest, out: &Path, matrices: usize) {
    assert_eq!(manifest.targets.len(), matrices);
    assert!(manifest.verify.passed && manifest.verify.max_abs_diff <= 1e-4, "{:?}", manifest.verify);
    assert_eq!(manifest.verify.changed_bytes_outside_targets, 0);
    assert_eq!(manifest.verify.nodes_after, manifest.verify.nodes_before + manifest.verify.nodes_of_head);
    assert_eq!(manifest.train.steps, 20);
    assert_eq!(&Manifest::read(out).expect("manifest.json"), manifest);
    for artifact in &manifest.artifacts {
        let (sum, size) = lorac::output::sha256_file(&out.join(&artifact.path)).expect("an artifact");
        assert_eq!((&sum, size), (&artifact.sha256, artifact.size), "{}", artifact.path);
    }
    let report = std::fs::read_to_string(out.join("report.html")).expect("report.html");
    let target = &manifest.targets[0].name;
    assert!(report.contains("<svg") && report.contains(target.as_str()) && report.contains("passed"), "{report}");
}

#[test]
fn quickstart_on_both_engines() {
    let (ort, tract) = (tempfile::tempdir().expect("temp"), tempfile::tempdir().expect("temp"));
    let manifest = shortened("quickstart.yaml", &[], ort.path());
    holds(&manifest, ort.path(), 12);
    assert!(manifest.runtime.engine.starts_with("onnxruntime 1.31.1"));
    assert_eq!(manifest.trainable_parameters, 12 * 2 * 8 * 384 + 2 * 384 + 2);
    let embedded = shortened("quickstart.yaml", &["runtime.source=embedded"], tract.path());
    holds(&embedded, tract.path(), 12);
    assert!(embedded.runtime.engine.starts_with("tract"));
    let (a, b) = (losses(ort.path()), losses(tract.path()));
    assert_eq!((a.len(), b.len()), (20, 20));
    for (i, (x, y)) in a.iter().zip(&b).enumerate() {
        assert!((x - y).abs() <= 1e-3, "step {}: {x} on ONNX Runtime, {y} on tract", i + 1);
    }
}

/// SmolLM2-135M out of its GGUF file; blocks and batches are small, since each token is judged against 49,152.
#[test]
fn a_language_model_on_plain_texts() {
    let out = tempfile::tempdir().expect("temp");
    let small = [
        "train.steps=3",
        "train.batch=2",
        "train.eval_batch=2",
        "data.train.block=32",
        "data.train.take=8",
        "data.eval.block=32",
        "data.eval.take=4",
        "deploy.verify.samples=1",
        "deploy.metrics.perplexity_max=10000",
    ];
    let manifest = shortened("causal-lm.yaml", &small, out.path());
    assert_eq!(manifest.targets.len(), 120);
    assert_eq!(manifest.trainable_parameters, 921_600);
    assert!(manifest.verify.passed && manifest.verify.max_abs_diff <= 1e-4, "{:?}", manifest.verify);
    assert_eq!(manifest.verify.changed_bytes_outside_targets, 0);
    assert_eq!(manifest.verify.nodes_after, manifest.verify.nodes_before);
    let losses = losses(out.path());
    assert!(losses.len() == 3 && losses.iter().all(|l| (2.0..8.0).contains(l)), "{losses:?}");
}

#[test]
fn an_anonymised_export_with_odd_outputs() {
    let out = tempfile::tempdir().expect("temp");
    let manifest = shortened("exported-onnx.yaml", &[], out.path());
    holds(&manifest, out.path(), 6);
    assert!(manifest.targets.iter().all(|t| t.name.starts_with("onnx::MatMul_")), "{:?}", manifest.targets);
    let deployed = lorac::onnx::load(out.path().join("model.onnx")).expect("loads");
    let outputs: Vec<String> = deployed.graph.outputs().iter().map(|v| deployed.graph.name_of(*v)).collect();
    assert_eq!(outputs.len(), 5, "{outputs:?}");
    assert!(outputs.contains(&"logits".to_string()) && outputs.contains(&"463".to_string()));
}

#[test]
fn a_loss_that_explodes_ends_the_run_with_a_checkpoint_and_no_model() {
    let out = tempfile::tempdir().expect("temp");
    let sets: Vec<String> = SHORT
        .iter()
        .copied()
        .chain([
            "train.optimizer.adamw.lr=10",
            "train.optimizer.adamw.weight_decay=10",
            "train.schedule.linear.warmup=0",
        ])
        .map(String::from)
        .collect();
    let loaded = Loaded::load(&root().join("pipelines/exported-onnx.yaml"), &sets).unwrap_or_else(|e| panic!("{e}"));
    let options = RunOptions { out: out.path().into(), command: "test".into(), progress: Progress { quiet: true } };
    let error = run(&loaded, &resolver(), &options, &AtomicBool::new(false)).expect_err("explodes");
    let text = error.to_string();
    assert!(text.contains("step ") && text.contains("last good parameters") && error.exit_code() == 3, "{text}");
    let checkpoints = std::fs::read_dir(out.path().join("checkpoints")).expect("checkpoints").count();
    assert_eq!(checkpoints, 1);
    assert!(!out.path().join("model.onnx").exists() && !out.path().join("manifest.json").exists());
}

#[test]
fn ctrl_c_saves_the_state() {
    let out = tempfile::tempdir().expect("temp");
    let sets = SHORT.map(String::from);
    let loaded = Loaded::load(&root().join("pipelines/exported-onnx.yaml"), &sets).unwrap_or_else(|e| panic!("{e}"));
    let options = RunOptions { out: out.path().into(), command: "test".into(), progress: Progress { quiet: true } };
    let error = run(&loaded, &resolver(), &options, &AtomicBool::new(true)).expect_err("stopped");
    assert_eq!(error.exit_code(), 130);
    assert!(out.path().join("checkpoints/step-0.safetensors").exists(), "{error}");
}
