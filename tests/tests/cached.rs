//! A LLaMA with `past_key_values.*` inputs and `present.*` outputs, as PyTorch's exporter wrote it: trained with empty
//! caches like PyTorch says, and deployed with its caches in working order.

use lorac::data::{Batch, IGNORE, LABELS};
use lorac::inputs::{caches, feeds};
use lorac::ir::{DType, Graph, Tensor};
use lorac::onnx::Model;
use lorac::ops::{Array, array};
use lorac::passes::{AdamW, Adaptation, DeltaForm, Lora, Method, TrainingSpec, UpdateSpec, readable, training_step};
use lorac::pipeline::Loaded;
use lorac::progress::Silent;
use lorac::run::{RunOptions, run};
use lorac::runtime::Backend;
use lorac::task::CausalLm;
use lorac::train::{Binding, compile_graph, initial_theta, training_program};
use lorac_tests::{ONNXRUNTIME, data, engines, largest_difference, relative_error, resolver, truth};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;

fn lora() -> Lora {
    Lora { targets: vec!["all-linear".into()], rank: 4, alpha: 8.0, ..Lora::default() }
}

fn model(path: &Path) -> Model {
    lorac::onnx::load(path).unwrap_or_else(|e| panic!("{e}"))
}

fn exported() -> std::path::PathBuf {
    data("cached/llama/model.onnx")
}

/// With B = 0 the gradient of B is s (dL/dW) A^T: PyTorch's gradients of the whole matrices say what it must be.
#[test]
fn loss_and_gradients_with_empty_caches_are_pytorchs() {
    let truth = truth(&data("cached/llama/truth.safetensors"));
    let exported = model(&exported());
    let graph = readable(&exported.graph, &exported.functions).expect("readable");
    let lora = lora();
    let targets = lora.select(&graph).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(targets.len(), 14, "seven in each of two layers");
    let mut feeds = feeds(&graph).expect("known inputs");
    let caches = caches(&graph, &feeds);
    feeds.inputs.push(Binding { field: LABELS.into(), input: LABELS.into(), dtype: DType::I64 });
    let ints = |key: &str| -> Vec<i64> { truth[key].array.iter().map(|x| *x as i64).collect() };
    let [rows, len] = *truth["in.input_ids"].array.shape() else { panic!("rank 2") };
    let (ids, mask) = (ints("in.input_ids"), ints("in.attention_mask"));
    let labels: Vec<i64> = ids.iter().zip(&mask).map(|(id, m)| if *m == 1 { *id } else { IGNORE }).collect();
    let places: Vec<i64> = mask.chunks(len).flat_map(|row| (0..row.len() as i64).collect::<Vec<_>>()).collect();
    let tensors = [("input_ids", &ids), ("attention_mask", &mask), (LABELS, &labels), ("position_ids", &places)]
        .map(|(name, v)| (name.to_string(), Tensor::from_slice(&[rows, len], v).expect("fits")))
        .to_vec();
    let batch = Batch { tensors, rows, real_rows: rows, tokens: mask.iter().sum::<i64>() as usize };
    for engine in engines() {
        let optimizer = AdamW { beta1: 0.5, weight_decay: 0.0, ..AdamW::default() };
        let spec = TrainingSpec {
            adaptations: &[Adaptation { method: &lora, targets: targets.clone() }],
            objective: &CausalLm::default(),
            update: UpdateSpec::of(&optimizer),
            dialect: engine.dialect(),
            tokens: None,
            caches: caches.clone(),
            packed: false,
        };
        let compiled = training_step(&graph, &spec, &mut |_| {}).unwrap_or_else(|e| panic!("{e}"));
        let names: Vec<String> = compiled.step.inputs().iter().map(|v| compiled.step.name_of(*v)).collect();
        // Nothing is concatenated any more; the exporter asks the first cache for its length.
        let caches: Vec<&String> = names.iter().filter(|n| n.starts_with("past")).collect();
        assert_eq!(caches, ["past_key_values.0.key"]);
        let theta = initial_theta(&compiled.params, 7).expect("a theta");
        let mut step = training_program(engine.as_ref(), &compiled, &theta, 0).unwrap_or_else(|e| panic!("{e}"));
        let feeds = feeds.for_program(step.program.as_ref(), &batch).unwrap_or_else(|e| panic!("{e}"));
        let loss = step.run(&feeds, 0.0).unwrap_or_else(|e| panic!("{e}")).loss;
        let want = truth["loss"].array.sum();
        assert!((loss - want).abs() <= 1e-5, "{}: loss {loss}, expected {want}", engine.name());

        // The first moment after one step is half the gradient.
        let m: Vec<f32> = step.program.state("m").expect("a slot").to_vec().expect("f32");
        let matrix = |of: &[f32], name: &str| {
            let tensor = compiled.layout.values(of).and_then(|v| v.tensor(name)).expect("a param");
            array(&tensor).expect("reals")
        };
        for (_, delta) in &compiled.deltas {
            let w = graph.weight(delta.target.weight).and_then(array).expect("a weight");
            let w = if delta.target.matrix().expect("a matrix").transposed { w } else { w.t().to_owned() };
            let param = truth.iter().find(|(k, v)| {
                k.starts_with("param.") && v.array.shape() == w.shape() && largest_difference(&v.array, &w) < 1e-6
            });
            let key = param.map(|(k, _)| k.replace("param.", "grad.")).expect("a parameter");
            let DeltaForm::LowRank { a, b, .. } = &delta.form else { panic!("{delta:?}") };
            let (a, got) = (matrix(&theta, a), matrix(&m, b) * 2.0);
            let dw = &truth[&key].array;
            let want = Array::from_shape_fn(got.raw_dim(), |at| {
                let width = a.shape()[1];
                lora.scale() * (0..width).map(|i| dw[[at[0], i]] * a[[at[1], i]]).sum::<f64>()
            });
            let error = relative_error(&got, &want);
            assert!(error <= 1e-4, "{}: gradient of B of {key} is off by {error:e}", engine.name());
        }
    }
}

/// Logits of a row of tokens, a part at a time, what came before in the caches.
fn in_parts(engine: &dyn Backend, graph: &Graph, ids: &[i64], parts: &[usize]) -> Array {
    let mut run = compile_graph(engine, graph, Vec::new()).unwrap_or_else(|e| panic!("{e}"));
    let names = |values: &[lorac::ir::ValueId]| -> Vec<String> { values.iter().map(|v| graph.name_of(*v)).collect() };
    let (inputs, outputs) = (names(graph.inputs()), names(graph.outputs()));
    let row = |values: &[i64]| {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Tensor::new(DType::I64, vec![1, values.len()], bytes.into()).expect("fits")
    };
    let mut caches: BTreeMap<String, Tensor> = inputs
        .iter()
        .filter(|n| n.starts_with("past_key_values."))
        .map(|n| (n.clone(), Tensor::zeros(DType::F32, &[1, 2, 0, 8]).expect("empty")))
        .collect();
    assert_eq!(caches.len(), 4, "{inputs:?}");
    let (mut logits, mut done) = (Vec::new(), 0);
    for part in parts {
        let (tokens, mask) = (row(&ids[done..done + part]), row(&vec![1; done + part]));
        let mut feeds = vec![("input_ids", &tokens), ("attention_mask", &mask)];
        feeds.extend(caches.iter().map(|(n, t)| (n.as_str(), t)));
        let fetch: Vec<&str> = outputs.iter().map(String::as_str).collect();
        let got = run.run(&feeds, &fetch).unwrap_or_else(|e| panic!("{e}"));
        done += part;
        for (name, tensor) in outputs.iter().zip(got) {
            match name.strip_prefix("present.") {
                Some(rest) => {
                    assert_eq!(tensor.dims(), [1, 2, done, 8]);
                    caches.insert(format!("past_key_values.{rest}"), tensor);
                }
                None => logits.extend(array(&tensor).expect("reals")),
            }
        }
    }
    Array::from_shape_vec(vec![ids.len(), 97], logits).expect("logits of every token")
}

#[test]
fn the_deployed_model_keeps_its_caches() {
    let folder = tempfile::tempdir().expect("temp");
    let here = folder.path().display().to_string();
    std::fs::write(folder.path().join("tokenizer.json"), lorac_tests::words::words(97).to_string()).expect("writes");
    let words: Vec<String> = (0..400).map(|i| format!("w{}", i * i % 89)).collect();
    std::fs::write(folder.path().join("text.txt"), words.join(" ")).expect("writes");
    let text = format!(
        "name: cached
model: {{ source: {model} }}
tokenizer: {{ source: {here}/tokenizer.json }}
task: causal_lm
data:
  train: {{ txt: {here}/text.txt, block: 16, skip: 5 }}
  eval: {{ txt: {here}/text.txt, block: 16, take: 5 }}
adapt:
  - lora: {{ targets: [\"role:query\", \"role:value\", \"role:down\"], rank: 4, alpha: 8 }}
train: {{ epochs: 40, batch: 4, steps: 40, optimizer: {{ adamw: {{ lr: 1e-2 }} }} }}
runtime: {{ source: {ONNXRUNTIME} }}
deploy: {{ verify: {{ samples: 4 }} }}
",
        model = exported().display()
    );
    let base = model(&exported()).graph;
    let ids: Vec<i64> = (0..12).map(|i| (i * 31 + 5) % 97).collect();
    for (engine, source) in engines().iter().zip([ONNXRUNTIME, "embedded"]) {
        let sets = [format!("runtime.source={source}")];
        let loaded = Loaded::parse(&text, &folder.path().join("p.yaml"), &sets).unwrap_or_else(|e| panic!("{e}"));
        let out = tempfile::tempdir().expect("temp");
        let options = RunOptions { out: out.path().into(), command: "test".into(), progress: &Silent, emit: None };
        let outcome = run(&loaded, &resolver(), &options, &AtomicBool::new(false)).unwrap_or_else(|e| panic!("{e}"));
        let m = outcome.manifest;
        assert!(m.verify.passed && m.verify.changed_bytes_outside_targets == 0, "{:?}", m.verify);
        assert_eq!((m.verify.nodes_after, m.verify.inserted_bytes), (m.verify.nodes_before, 0));
        assert!(m.train.loss_last < 0.9 * m.train.loss_first, "{:?}", m.train);

        let deployed = model(&out.path().join("model.onnx")).graph;
        let names =
            |g: &Graph| -> Vec<String> { g.inputs().iter().chain(g.outputs()).map(|v| g.name_of(*v)).collect() };
        assert_eq!(names(&deployed), names(&base));
        let whole = in_parts(engine.as_ref(), &deployed, &ids, &[12]);
        for parts in [&[5, 4, 3][..], &[11, 1]] {
            let off = largest_difference(&in_parts(engine.as_ref(), &deployed, &ids, parts), &whole);
            assert!(off <= 1e-4, "{parts:?}: off by {off:e}");
        }
        let before = in_parts(engine.as_ref(), &base, &ids, &[12]);
        assert!(largest_difference(&before, &whole) > 0.1, "nothing was learned");
    }
}
