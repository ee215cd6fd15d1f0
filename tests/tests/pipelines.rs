//! The shipped pipelines, shortened, on real models and data: what they promise holds on both engines.

use lorac::error::Error;
use lorac::onnx::proto::{FunctionProto, ModelProto, NodeProto, OperatorSetIdProto};
use lorac::onnx::{EncodeOptions, OnnxError, SaveOptions, encode, load};
use lorac::output::Manifest;
use lorac::pipeline::Loaded;
use lorac::progress::{Progress, Silent};
use lorac::run::{RunOptions, plan, run};
use lorac::source::Resolver;
use lorac::train::{Checkpoint, Event, training_program};
use lorac_tests::{data, engines, package, resolver, root};
use prost::Message;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

const SHORT: [&str; 4] = ["train.steps=20", "data.eval.take=64", "data.train.take=400", "deploy.verify.samples=32"];

fn shortened(pipeline: &str, extra: &[&str], out: &Path) -> Manifest {
    let sets: Vec<String> = SHORT.iter().chain(extra).map(|s| s.to_string()).collect();
    let path = root().join("pipelines").join(pipeline);
    let loaded = Loaded::load(&path, &sets).unwrap_or_else(|e| panic!("{e}"));
    let options = RunOptions { out: out.to_path_buf(), command: "test".into(), progress: &Silent, emit: None };
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

/// Each with the metric that it must get better by.
#[test]
fn every_task_over_whole_texts_learns() {
    for (pipeline, metric) in [("multi-label.yaml", "loss"), ("regress.yaml", "pearson"), ("pairs.yaml", "loss")] {
        let out = tempfile::tempdir().expect("temp");
        let manifest = shortened(pipeline, &["data.max_length=24"], out.path());
        holds(&manifest, out.path(), 12);
        let of = |scores: &lorac::train::Scores| scores.get(metric).unwrap_or(f64::NAN);
        let eval = &manifest.eval;
        let (before, after) = (of(&eval.before), of(&eval.after));
        assert!(if metric == "loss" { after < before } else { after > before }, "{pipeline}: {before} to {after}");
    }
}

/// A vision transformer, whose positions are resized to the image, and pictures in folders.
#[test]
fn a_vision_transformer_learns_classes_of_pictures() {
    let out = tempfile::tempdir().expect("temp");
    let sets = ["train.steps=4", "deploy.verify.samples=4", "metrics={accuracy: {not_worse_than: before}}"];
    let sets = sets.map(String::from);
    let loaded = Loaded::load(&root().join("pipelines/image.yaml"), &sets).unwrap_or_else(|e| panic!("{e}"));
    let outcome = run(&loaded, &resolver(), &silent(out.path()), &AtomicBool::new(false));
    let manifest = outcome.unwrap_or_else(|e| panic!("{e}")).manifest;
    assert_eq!((manifest.targets.len(), manifest.data.train.examples), (24, 52));
    let verify = &manifest.verify;
    assert!(verify.passed && verify.changed_bytes_outside_targets == 0 && verify.nodes_of_head == 2, "{verify:?}");
    let loss = |scores: &lorac::train::Scores| scores.get("loss").unwrap_or(f64::NAN);
    assert!(loss(&manifest.eval.after) < loss(&manifest.eval.before), "{:?}", manifest.eval);
}

/// Arrays out of a table without a header, for a head and for a loss of the model's own: their gates hold.
#[test]
fn digits_are_learnt_from_rows_of_numbers() {
    for (pipeline, matrices, metric) in [("digits.yaml", 12, "accuracy"), ("custom.yaml", 12, "loss")] {
        let out = tempfile::tempdir().expect("temp");
        let loaded = Loaded::load(&root().join("pipelines").join(pipeline), &[]).unwrap_or_else(|e| panic!("{e}"));
        let resolver = Resolver::new(None, root().join("pipelines")).expect("a cache");
        let outcome = run(&loaded, &resolver, &silent(out.path()), &AtomicBool::new(false));
        let outcome = outcome.unwrap_or_else(|e| panic!("{pipeline}: {e}"));
        assert_eq!(outcome.gates, Vec::<String>::new(), "{pipeline}");
        let manifest = outcome.manifest;
        assert_eq!((manifest.targets.len(), manifest.data.train.examples), (matrices, 1397), "{pipeline}");
        assert!(manifest.verify.passed && manifest.verify.changed_bytes_outside_targets == 0, "{:?}", manifest.verify);
        let of = |scores: &lorac::train::Scores| scores.get(metric).unwrap_or(f64::NAN);
        let (before, after) = (of(&manifest.eval.before), of(&manifest.eval.after));
        let learnt = if metric == "loss" { after < before / 4.0 } else { before < 0.3 && after > 0.85 };
        assert!(learnt, "{pipeline}: {before} to {after}");
    }
}

/// SmolLM2-135M out of its GGUF file; blocks and batches are small, since each token has 49,152 logits.
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
        "metrics.perplexity.max=10000",
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

/// Of opset 16, older than what the training copies are raised to: the head must speak the model's own.
#[test]
fn an_anonymised_export_with_odd_outputs_on_both_engines() {
    for extra in [&[] as &[&str], &["runtime.source=embedded"]] {
        let out = tempfile::tempdir().expect("temp");
        let manifest = shortened("exported-onnx.yaml", extra, out.path());
        holds(&manifest, out.path(), 6);
        assert!(manifest.targets.iter().all(|t| t.name.starts_with("onnx::MatMul_")), "{:?}", manifest.targets);
        let deployed = load(out.path().join("model.onnx")).expect("loads");
        assert!(deployed.graph.opset() < 18, "{}", deployed.graph.opset());
        let outputs: Vec<String> = deployed.graph.outputs().iter().map(|v| deployed.graph.name_of(*v)).collect();
        assert_eq!(outputs.len(), 5, "{outputs:?}");
        assert!(outputs.contains(&"logits".to_string()) && outputs.contains(&"463".to_string()));
        let checkpoints = std::fs::read_dir(out.path().join("checkpoints")).expect("what was trained").flatten();
        let checkpoints: Vec<_> = checkpoints.map(|e| e.file_name()).collect();
        assert_eq!(checkpoints, ["trained.safetensors"], "nobody asked for others");
    }
}

/// Older than opset 13, where axes became operands: what comes behind the model must have them as attributes.
#[test]
fn a_model_of_opset_12_on_both_engines() {
    for extra in [&[] as &[String], &["runtime.source=embedded".into()]] {
        let out = tempfile::tempdir().expect("temp");
        let loaded = Loaded::load(&data("opset12").join("pipeline.yaml"), extra).unwrap_or_else(|e| panic!("{e}"));
        let resolver = Resolver::new(None, data("opset12")).expect("a cache");
        let stop = AtomicBool::new(false);
        let outcome = run(&loaded, &resolver, &silent(out.path()), &stop).unwrap_or_else(|e| panic!("{e}"));
        let verify = &outcome.manifest.verify;
        assert!(verify.passed && verify.max_abs_diff < 1e-5 && verify.nodes_of_head > 0, "{verify:?}");
        let deployed = load(out.path().join("model.onnx")).expect("loads");
        assert_eq!(deployed.graph.opset(), 12);
        let reduced = deployed.graph.nodes().filter(|(_, n)| &*n.op.name == "ReduceSum" && n.ints("axes").is_some());
        assert!(reduced.count() > 0, "a mean over the tokens");
    }
}

/// The short exported pipeline, with more settings.
fn exported(extra: &[&str]) -> Loaded {
    let sets: Vec<String> = SHORT.iter().chain(extra).map(|s| s.to_string()).collect();
    Loaded::load(&root().join("pipelines/exported-onnx.yaml"), &sets).unwrap_or_else(|e| panic!("{e}"))
}

fn silent(out: &Path) -> RunOptions<'static> {
    RunOptions { out: out.into(), command: "test".into(), progress: &Silent, emit: None }
}

#[test]
fn a_loss_that_explodes_ends_the_run_with_a_checkpoint_and_no_model() {
    let out = tempfile::tempdir().expect("temp");
    let loaded = exported(&[
        "train.optimizer.adamw.lr=1",
        "train.optimizer.adamw.weight_decay=10",
        "train.schedule=constant",
        "train.steps=100",
    ]);
    let options = silent(out.path());
    let error = run(&loaded, &resolver(), &options, &AtomicBool::new(false)).expect_err("explodes");
    let text = error.to_string();
    assert!(text.contains("step ") && text.contains("last good parameters") && error.exit_code() == 3, "{text}");
    let checkpoints = std::fs::read_dir(out.path().join("checkpoints")).expect("checkpoints");
    let checkpoints: Vec<_> = checkpoints.flatten().map(|e| e.path()).collect();
    let [checkpoint] = checkpoints.as_slice() else { panic!("{checkpoints:?}") };
    assert!(!out.path().join("model.onnx").exists() && !out.path().join("manifest.json").exists());

    let checkpoint = Checkpoint::load(checkpoint).expect("a checkpoint");
    let plan = plan(&loaded, &resolver(), options.progress, None).unwrap_or_else(|e| panic!("{e}"));
    let zeros = vec![0.0f32; plan.training.layout.len()];
    let mut step = training_program(plan.engine.backend.as_ref(), &plan.training, &zeros, 0).expect("compiles");
    checkpoint.restore(&mut step).expect("fits");
    let rows = plan.sampler.epoch(0).nth(checkpoint.step as usize).expect("a batch");
    let slices: Vec<_> = plan
        .train
        .slices(&rows, &plan.steps.most)
        .iter()
        .map(|slice| {
            let batch = plan.train.batch(slice, plan.steps.fill).expect("a batch");
            plan.feeds.for_program(step.program.as_ref(), &batch).expect("feeds")
        })
        .collect();
    let loss = step.run_slices(&slices, 0.0).expect("runs").loss;
    assert!(loss.is_finite(), "the last good parameters, after step {}, give {loss}", checkpoint.step);
}

/// Large batches of the data at hand pay for sums of weights, small ones keep branches; dropout always does.
#[test]
fn the_order_of_branches_is_that_for_the_tokens_of_a_step() {
    let products = |extra: &[&str]| {
        let plan = plan(&exported(extra), &resolver(), &Silent, None).unwrap_or_else(|e| panic!("{e}"));
        let nodes = plan.training.eval.nodes().filter(|(_, n)| &*n.op.name == "Gemm").count();
        (nodes, plan.training.deltas.len())
    };
    let (few, branches) = products(&["train.batch=1"]);
    let (many, _) = products(&["train.batch=64"]);
    assert_eq!((few - many, branches), (6, 6));
    assert_eq!(products(&["train.batch=64", "adapt.0.lora.dropout=0.1"]).0, few);
}

#[test]
fn dropout_of_a_pipeline_reaches_its_steps() {
    let outs = [(); 3].map(|()| tempfile::tempdir().expect("temp"));
    let sets = ["adapt.0.lora.dropout=0.2", "adapt.0.lora.dropout=0.2", "adapt.0.lora.dropout=0"];
    let [a, b, none] = std::array::from_fn(|i| {
        holds(&shortened("exported-onnx.yaml", &sets[i..=i], outs[i].path()), outs[i].path(), 6);
        losses(outs[i].path())
    });
    assert_eq!(a, b, "the same seed drops the same");
    // B is zero in the first step.
    assert_eq!(a[0], none[0]);
    assert!(a[1..].iter().zip(&none[1..]).all(|(a, b)| a != b), "{a:?} {none:?}");
    let config = std::fs::read_to_string(outs[0].path().join("adapter/adapter_config.json")).expect("a file");
    let config: serde_json::Value = serde_json::from_str(&config).expect("JSON");
    assert_eq!(config["lora_dropout"], 0.2);
}

#[test]
fn ctrl_c_before_the_training_ends_the_run() {
    let out = tempfile::tempdir().expect("temp");
    let error = run(&exported(&[]), &resolver(), &silent(out.path()), &AtomicBool::new(true)).expect_err("stopped");
    assert_eq!(error.exit_code(), 130);
    assert!(error.to_string().contains("nothing is trained"), "{error}");
    assert_eq!(std::fs::read_dir(out.path()).expect("lists").count(), 0);
}

/// Sets `stop` as soon as it hears that the work called `what` has come to `position`.
#[derive(Debug)]
struct StopsAt<'a> {
    what: &'static str,
    position: u64,
    stop: &'a AtomicBool,
    begun: Mutex<String>,
}

impl Progress for StopsAt<'_> {
    fn line(&self, _text: &str) {}

    fn begin(&self, what: &str, _len: u64) {
        *self.begun.lock().expect("nobody panics with it") = what.into();
    }

    fn at(&self, position: u64, _message: &str) {
        if position >= self.position && *self.begun.lock().expect("nobody panics with it") == self.what {
            self.stop.store(true, Ordering::Relaxed);
        }
    }

    fn end(&self) {}
}

/// Stops where work has come to a position: the run ends with 130 and the checkpoint of a step, and deploys nothing.
#[track_caller]
fn stops_at(what: &'static str, position: u64, extra: &[&str], step: u64) {
    let out = tempfile::tempdir().expect("temp");
    let (loaded, stop) = (exported(extra), AtomicBool::new(false));
    let progress = StopsAt { what, position, stop: &stop, begun: Mutex::default() };
    let options = RunOptions { progress: &progress, ..silent(out.path()) };
    let error = run(&loaded, &resolver(), &options, &stop).expect_err("stopped");
    assert_eq!(error.exit_code(), 130, "{error}");
    assert!(error.to_string().contains(&format!("behind step {step} are in ")), "{error}");
    assert!(
        error.to_string().contains("continue with: lorac run ") && error.to_string().ends_with(" --resume"),
        "{error}"
    );
    let checkpoints = std::fs::read_dir(out.path().join("checkpoints")).expect("checkpoints");
    let checkpoints: Vec<_> = checkpoints.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    assert_eq!(checkpoints, [format!("step-{step}.safetensors")]);
    assert!(!out.path().join("model.onnx").exists() && !out.path().join("manifest.json").exists());
}

#[test]
fn ctrl_c_saves_the_state() {
    stops_at("training", 2, &[], 2);
}

#[test]
fn ctrl_c_in_the_last_evaluation_saves_the_state() {
    stops_at("after", 1, &["train.eval_batch=1"], 20);
}

#[test]
fn a_model_that_would_be_written_over_is_refused_before_the_training() {
    let out = tempfile::tempdir().expect("temp");
    let model = out.path().join("model.onnx");
    let source = exported(&[]).pipeline.model.source;
    let original = package(&source.to_string());
    std::fs::copy(&original.path, &model).expect("copies");
    let loaded = exported(&[&format!("model.source={}", model.display())]);
    let error = run(&loaded, &resolver(), &silent(out.path()), &AtomicBool::new(false)).expect_err("overwrites");
    assert!(matches!(error, Error::Onnx(OnnxError::Overwrites { .. })), "{error}");
    assert!(!out.path().join("metrics.jsonl").exists());
    assert_eq!(lorac::output::sha256_file(&model).expect("still there").0, original.sha256);
}

/// The same model with its weights in a file of their own: that is an artifact as well.
#[test]
fn external_data_is_in_the_manifest() {
    let (base, out) = (tempfile::tempdir().expect("temp"), tempfile::tempdir().expect("temp"));
    let source = exported(&[]).pipeline.model.source;
    let original = package(&source.to_string());
    let graph = load(&original.path).expect("loads").graph;
    let model = base.path().join("base.onnx");
    let options = SaveOptions { external_threshold: 0, ..SaveOptions::default() };
    lorac::onnx::save(&graph, &model, &options).expect("saves");
    let manifest = shortened("exported-onnx.yaml", &[&format!("model.source={}", model.display())], out.path());
    holds(&manifest, out.path(), 6);
    let weights: Vec<&str> =
        manifest.artifacts.iter().filter(|a| a.kind == "weights").map(|a| a.path.as_str()).collect();
    assert_eq!(weights, ["base.onnx.data"]);
}

/// `y = op(x)`, where `own.Twice` is a function of the model.
fn one_node(domain: &str, op: &str) -> ModelProto {
    let shape = "graph g(%x: f32[3,4]) -> %y { %y = Relu(%x) : f32[3,4] }";
    let text = lorac::ir::parse(shape).expect("parses");
    let mut model = ModelProto::decode(encode(&text, &EncodeOptions::default()).expect("encodes").bytes.as_slice())
        .expect("decodes");
    let opset = |domain: &str, version| OperatorSetIdProto { domain: Some(domain.into()), version: Some(version) };
    model.opset_import.push(opset(domain, 1));
    let node = &mut model.graph.as_mut().expect("a graph").node[0];
    (node.op_type, node.domain) = (Some(op.into()), Some(domain.into()));
    if domain == "own" {
        let names = |list: &[&str]| list.iter().map(|s| s.to_string()).collect::<Vec<_>>();
        let add = NodeProto {
            op_type: Some("Add".into()),
            input: names(&["a", "a"]),
            output: names(&["b"]),
            ..Default::default()
        };
        model.functions.push(FunctionProto {
            name: Some(op.into()),
            domain: Some(domain.into()),
            input: names(&["a"]),
            output: names(&["b"]),
            node: vec![add],
            opset_import: model.opset_import.clone(),
            ..Default::default()
        });
    }
    model
}

#[test]
fn functions_and_fused_operators_are_verified_on_both_engines() {
    let folder = tempfile::tempdir().expect("temp");
    for (domain, op) in [("own", "Twice"), ("com.microsoft", "FastGelu")] {
        let path = folder.path().join(format!("{op}.onnx"));
        std::fs::write(&path, one_node(domain, op).encode_to_vec()).expect("writes");
        let model = load(&path).expect("loads");
        let seen = lorac::inspect::summary(&model.graph, &model.functions);
        let inside = if domain == "own" { "Add" } else { "com.microsoft.FastGelu" };
        assert_eq!((seen.operators.get(inside), seen.problem), (Some(&1), None), "{:?}", seen.operators);
        for engine in engines() {
            let name = engine.name();
            let request = lorac::verify::Request { tolerance: Some(0.0), samples: 2, ..Default::default() };
            let verdict = lorac::verify::files(&model, &model, &request, || Ok(engine));
            let verdict = verdict.unwrap_or_else(|e| panic!("{op} on {name}: {e}"));
            assert!(verdict.passed, "{op} on {name}: {verdict:?}");
        }
    }
}
