//! `task: causal_lm` from a pipeline to its artifacts, on a decoder as its exporter left it, on both engines.

use lorac::ir::Graph;
use lorac::onnx::load;
use lorac::ops::infer;
use lorac::output::{Manifest, read_peft};
use lorac::passes::{Caches, Target, select};
use lorac::pipeline::Loaded;
use lorac::progress::Silent;
use lorac::run::{RunOptions, run};
use lorac::train::{Count, Scores};
use lorac::verify::Check;
use lorac_tests::words::words;
use lorac_tests::{ONNXRUNTIME, data, resolver};
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// A word for every token of the tiny decoders' vocabulary.
const WORDS: usize = 97;

/// A tokenizer, texts of a kind and others, and a pipeline over them.
fn pipeline(folder: &Path, model: &str) -> String {
    std::fs::write(folder.join("tokenizer.json"), words(WORDS).to_string()).expect("writes");
    std::fs::create_dir_all(folder.join("texts")).expect("a folder");
    // Twice the last word, modulo 11; but every seventh word is whatever comes.
    for (name, seed) in [("one.txt", 1usize), ("two.txt", 4), ("held.txt", 2)] {
        let (mut word, mut state) = (seed, seed);
        let mut next = |i: usize| {
            state = (state * 1103515245 + 12345) % (1 << 31);
            word = if i.is_multiple_of(7) { 1 + (state >> 16) % 10 } else { word * 2 % 11 };
            format!("w{word}")
        };
        let words: Vec<String> = (0..400).map(&mut next).collect();
        std::fs::write(folder.join("texts").join(name), words.join(" ")).expect("writes");
    }
    let model = data("exports").join(model).join("model.onnx");
    let (model, here) = (model.display(), folder.display());
    format!(
        "name: tiny
model: {{ source: {model} }}
tokenizer: {{ source: {here}/tokenizer.json }}
task: causal_lm
data:
  train: {{ txt: {here}/texts, exclude: [\"held*\"], block: 16 }}
  eval: {{ txt: {here}/texts/held.txt, block: 16 }}
adapt:
  - lora: {{ targets: [\"role:query\", \"role:value\"], rank: 4, alpha: 8 }}
  - lora: {{ targets: [\"role:head\", \"role:down\"], rank: 8, alpha: 32 }}
train: {{ epochs: 40, batch: 8, steps: 60, eval_batch: 4, optimizer: {{ adamw: {{ lr: 2e-2 }} }} }}
runtime: {{ source: {ONNXRUNTIME} }}
metrics: {{ perplexity: {{ max: 8 }} }}
deploy: {{ verify: {{ samples: 8 }} }}
"
    )
}

#[test]
fn a_decoder_learns_to_predict_held_out_text_on_both_engines() {
    let folder = tempfile::tempdir().expect("temp");
    let text = pipeline(folder.path(), "llama-dynamo");
    let mut seen = Vec::new();
    for source in [None, Some("runtime.source=embedded".to_string())] {
        let sets: Vec<String> = source.into_iter().collect();
        let loaded = Loaded::parse(&text, &folder.path().join("p.yaml"), &sets).unwrap_or_else(|e| panic!("{e}"));
        let out = tempfile::tempdir().expect("temp");
        let options = RunOptions { out: out.path().into(), command: "test".into(), progress: &Silent, emit: None };
        let outcome = run(&loaded, &resolver(), &options, &AtomicBool::new(false)).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(outcome.gates, Vec::<String>::new());
        let m = outcome.manifest;
        let (before, after) = (&m.eval.before, &m.eval.after);
        let get = |s: &Scores, name: &str| s.get(name).unwrap_or_else(|| panic!("no {name}: {s:?}"));
        assert_eq!(before.count, Count::Tokens(25 * 15), "400 words in blocks of 16, the first of each not predicted");
        let perplexity = get(before, "perplexity");
        assert!((perplexity - get(before, "loss").exp()).abs() < 1e-9 && perplexity > 80.0, "{before:?}");
        // Who knew but how often each of the ten words comes would reach 10.
        assert!(get(after, "perplexity") < 8.0, "{before:?} {after:?}");
        assert!(m.verify.passed && m.verify.nodes_after == m.verify.nodes_before, "{:?}", m.verify);
        assert_eq!((m.verify.inserted_bytes, m.verify.nodes_of_head), (0, 0));
        assert_eq!(m.train.steps, 60);
        let ranks: Vec<usize> = m.targets.iter().filter_map(|t| t.rank).collect();
        assert_eq!(ranks, [4, 4, 4, 4, 8, 8, 8]);
        assert_eq!(Manifest::read(out.path()).expect("manifest.json"), m);
        let config = std::fs::read_to_string(out.path().join("adapter/adapter_config.json")).expect("adapter");
        let config: serde_json::Value = serde_json::from_str(&config).expect("JSON");
        assert_eq!(config["task_type"], "CAUSAL_LM");
        assert_eq!((config["r"].as_u64(), config["rank_pattern"].as_object().map(|p| p.len())), (Some(4), Some(3)));
        let report = std::fs::read_to_string(out.path().join("report.html")).expect("report.html");
        assert!(report.contains("Perplexity"), "{report}");
        seen.push(get(after, "loss"));
    }
    assert!((seen[0] - seen[1]).abs() <= 1e-3, "{seen:?}");
}

#[test]
fn a_perplexity_that_is_too_high_and_a_matrix_with_two_branches_are_named() {
    let folder = tempfile::tempdir().expect("temp");
    let text = pipeline(folder.path(), "llama-torchscript");
    let go = |sets: &[&str]| {
        let sets: Vec<String> = sets.iter().map(|s| s.to_string()).collect();
        let loaded = Loaded::parse(&text, &folder.path().join("p.yaml"), &sets).unwrap_or_else(|e| panic!("{e}"));
        let out = folder.path().join("out");
        let options = RunOptions { out, command: "test".into(), progress: &Silent, emit: None };
        run(&loaded, &resolver(), &options, &AtomicBool::new(false))
    };
    let outcome = go(&["train.steps=1", "metrics.perplexity.max=1.5"]).unwrap_or_else(|e| panic!("{e}"));
    assert!(outcome.gates.len() == 1 && outcome.gates[0].contains("metrics.perplexity.max 1.5"));
    let error = go(&["adapt.1.lora.targets=[all-linear]"]).expect_err("twice").to_string();
    assert!(error.contains("target::twice") && error.contains("`role:query` and by `all-linear`"), "{error}");
}

/// Query and value of GPT-2's fused matrices, each with a rank and a scale of its own: the keys stay to the byte, and
/// PEFT's one branch per matrix is both.
#[test]
fn parts_of_fused_matrices_are_adapted_on_both_engines() {
    let folder = tempfile::tempdir().expect("temp");
    for name in ["gpt2-torchscript", "gpt2-dynamo"] {
        let text = pipeline(folder.path(), name);
        let mut losses = Vec::new();
        for engine in [ONNXRUNTIME, "embedded"] {
            let sets = [
                format!("runtime.source={engine}"),
                "train.steps=6".into(),
                "metrics.perplexity.max=1000".into(),
                "adapt.0.lora.targets=[\"role:query\"]".into(),
                "adapt.1.lora.targets=[\"role:value\"]".into(),
            ];
            let loaded = Loaded::parse(&text, &folder.path().join("p.yaml"), &sets).unwrap_or_else(|e| panic!("{e}"));
            let out = tempfile::tempdir().expect("temp");
            let progress = &Silent;
            let options = RunOptions { out: out.path().into(), command: "test".into(), progress, emit: None };
            let outcome =
                run(&loaded, &resolver(), &options, &AtomicBool::new(false)).unwrap_or_else(|e| panic!("{e}"));
            let m = outcome.manifest;
            assert!(m.verify.passed && m.verify.changed_bytes_outside_targets == 0, "{:?}", m.verify);
            let base = load(data("exports").join(name).join("model.onnx")).expect("loads");
            let deployed = load(out.path().join("model.onnx")).expect("loads");
            let adapter = read_peft(&out.path().join("adapter")).expect("an adapter");
            let targets = select(&inferred(&base.graph), &["role:query"]).expect("targets");
            let named: Vec<String> = ["query", "value"]
                .iter()
                .flat_map(|role| targets.iter().map(move |t| format!("{}.{role}", t.weight_name)))
                .collect();
            assert_eq!(m.targets.iter().map(|t| t.name.clone()).collect::<Vec<_>>(), named);
            assert_eq!((targets.len(), adapter.modules.len()), (2, 2));
            for (target, module) in targets.iter().zip(&adapter.modules) {
                let matrix = target.matrix().expect("a matrix");
                let third = matrix.cols / 3;
                let weight = |graph: &Graph| {
                    graph.weight(graph.find(&matrix.name).expect("a weight")).and_then(|t| t.to_f64()).expect("reals")
                };
                let (before, after) = (weight(&base.graph), weight(&deployed.graph));
                assert_eq!((module.a.len(), module.b.len()), (12 * matrix.rows, matrix.cols * 12));
                let (mut moved, mut worst) = ([0usize; 3], 0.0f64);
                for (i, (old, new)) in before.iter().zip(&after).enumerate() {
                    let (row, col) = match matrix.transposed {
                        true => (i % matrix.rows, i / matrix.rows),
                        false => (i / matrix.cols, i % matrix.cols),
                    };
                    moved[col / third] += usize::from(old.to_bits() != new.to_bits());
                    let delta: f64 = (0..12)
                        .map(|k| f64::from(module.b[col * 12 + k]) * f64::from(module.a[k * matrix.rows + row]))
                        .sum();
                    worst = worst.max((old + module.scale() * delta - new).abs());
                }
                assert!(moved[0] > 0 && moved[1] == 0 && moved[2] > 0, "{name}: {moved:?} elements changed");
                assert!(worst <= 1e-6, "{name}: PEFT's branch is {worst:e} off");
            }
            // Had the values been no targets, their bytes would count.
            let queries: Vec<&Target> = targets.iter().collect();
            let check = Check {
                base: &base,
                deployed: &deployed,
                targets: &queries,
                head: 0,
                metadata: &[],
                caches: &Caches::default(),
                tolerance: Some(1.0),
                stop: &std::sync::atomic::AtomicBool::new(false),
            };
            let outside = check.files(0.0, 0);
            assert!(!outside.passed && outside.changed_bytes_outside_targets > 1000, "{outside:?}");
            losses.push(m.train.loss_last);
        }
        assert!((losses[0] - losses[1]).abs() <= 1e-4, "{name}: {losses:?}");
    }
}

fn inferred(graph: &Graph) -> Graph {
    let mut graph = graph.clone();
    infer(&mut graph).expect("infers");
    graph
}
