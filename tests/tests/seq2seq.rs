//! Models with an encoder and a decoder: thirty AdamW steps against PyTorch's, and what transformers' `generate` writes, of T5, BART
//! and Marian by both exporters on both engines (tests/truth/seq2seq.py).

use lorac::inputs::{caches, feeds};
use lorac::ir::{Graph, Tensor};
use lorac::onnx::proto::ModelProto;
use lorac::onnx::{Model, load};
use lorac::passes::{AdamW, Adaptation, Caches, Full, Method, TrainingSpec, UpdateSpec, readable, training_step};
use lorac::runtime::Backend;
use lorac::task::Seq2Seq;
use lorac::train::{Generate, initial_theta, training_program};
use lorac::writing::{Parts, Writer, compile};
use lorac_tests::words::{tokenizer, words};
use lorac_tests::{Truth, data, engines, truth};
use prost::Message;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

#[derive(Deserialize)]
struct Cases {
    lr: f64,
    weight_decay: f64,
    eos: i64,
    vocab: usize,
    prompts: Vec<Vec<i64>>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    model: String,
    start: i64,
    texts: Vec<Texts>,
    losses: Vec<f64>,
}

#[derive(Deserialize)]
struct Texts {
    settings: Generate,
    texts: Vec<Vec<i64>>,
}

const EXPORTERS: [&str; 2] = ["torchscript", "dynamo"];

fn cases() -> Cases {
    let text = std::fs::read_to_string(data("truth/seq2seq/cases.json")).expect("cases.json");
    serde_json::from_str(&text).expect("cases")
}

fn model(case: &Case, exporter: &str) -> (Model, Graph) {
    let file = data("truth/seq2seq").join(format!("{}.{exporter}.onnx", case.model));
    let model = load(file).unwrap_or_else(|e| panic!("{e}"));
    let graph = readable(&model.graph, &model.functions).expect("readable");
    (model, graph)
}

#[test]
fn thirty_steps_are_those_of_pytorch() {
    let all = cases();
    let truth = truth(&data("truth/seq2seq/data.safetensors"));
    let adamw = AdamW { lr: all.lr, weight_decay: all.weight_decay, ..AdamW::default() };
    let full = Full { targets: vec!["all-linear".into()] };
    for case in &all.cases {
        for exporter in EXPORTERS {
            let (_, graph) = model(case, exporter);
            let targets = full.select(&graph).unwrap_or_else(|e| panic!("{} {exporter}: {e}", case.model));
            let adaptations = vec![Adaptation { method: &full as &dyn Method, targets }];
            for engine in engines() {
                let who = format!("{} {exporter} on {}", case.model, engine.name());
                let spec = TrainingSpec {
                    adaptations: &adaptations,
                    objective: &Seq2Seq::default(),
                    update: UpdateSpec::of(&adamw),
                    dialect: engine.dialect(),
                    tokens: None,
                    caches: Caches::default(),
                    packed: false,
                };
                let compiled = training_step(&graph, &spec, &mut |_| {}).unwrap_or_else(|e| panic!("{who}: {e}"));
                let start = initial_theta(&compiled.params, 0).expect("first values");
                let mut step =
                    training_program(engine.as_ref(), &compiled, &start, 0).unwrap_or_else(|e| panic!("{who}: {e}"));
                for (i, want) in case.losses.iter().enumerate() {
                    let answers = format!("{}.decoder_input_ids", case.model);
                    let fed = ["input_ids", "attention_mask", answers.as_str(), "labels"].map(|key| {
                        let input = if key == "labels" { compiled.names.targets.as_str() } else { key };
                        (input.rsplit('.').next().unwrap_or(input).to_string(), row(&truth[key], i))
                    });
                    let got = step.run(&fed, all.lr).unwrap_or_else(|e| panic!("{who}: {e}"));
                    assert!((got.loss - want).abs() <= 1e-4, "{who}: step {i}: {} instead of {want}", got.loss);
                }
            }
        }
    }
}

/// A batch of all of them.
fn row(all: &Truth, at: usize) -> Tensor {
    let (_, dims) = all.array.shape().split_first().expect("batches");
    let size: usize = dims.iter().product();
    let numbers: Vec<i64> = all.array.iter().skip(at * size).take(size).map(|x| *x as i64).collect();
    Tensor::from_slice(dims, &numbers).expect("fits")
}

fn writer(case: &Case, exporter: &str, engine: &dyn Backend, settings: &Generate, all: &Cases, rows: usize) -> Writer {
    let (model, base) = model(case, exporter);
    writer_of(&model, &base, case, engine, settings, all, rows)
}

fn writer_of(
    model: &Model,
    base: &Graph,
    case: &Case,
    engine: &dyn Backend,
    settings: &Generate,
    all: &Cases,
    rows: usize,
) -> Writer {
    let feeds = feeds(base).expect("known inputs");
    let parts = Parts {
        model,
        base,
        feeds: &feeds,
        caches: &caches(base, &feeds),
        names: &BTreeMap::new(),
        objective: &Seq2Seq::default(),
        trained: None,
        backend: engine,
        source: None,
        settings: settings.clone(),
        ends: vec![all.eos],
        tokenizer: tokenizer(&words(all.vocab)),
        rows,
        multiple: 8,
        start: Some(case.start),
    };
    compile(parts).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn answers_are_those_of_transformers() {
    let all = cases();
    for case in &all.cases {
        for (exporter, Texts { settings, texts }) in
            EXPORTERS.iter().flat_map(|e| case.texts.iter().map(move |t| (e, t)))
        {
            for engine in engines() {
                let rows = if engine.dialect().reads_any_graph() { &[16, 1][..] } else { &[16] };
                for rows in rows.iter().copied() {
                    let writer = writer(case, exporter, engine.as_ref(), settings, &all, rows);
                    let read = writer.encoder.as_ref().unwrap_or_else(|| panic!("{} {exporter}", case.model));
                    assert!(read.by_rows, "{} {exporter}: {:?}", case.model, read.values);
                    let (mut decoder, note) = writer.open(engine.as_ref(), &[], &[]).unwrap_or_else(|e| panic!("{e}"));
                    assert_eq!(note, None);
                    let stop = AtomicBool::new(false);
                    let written = writer.write(&mut decoder, &all.prompts, &stop, |_| ());
                    let written = written.unwrap_or_else(|e| panic!("{e}"));
                    let got: Vec<&str> = written.iter().map(|one| one.text.as_str()).collect();
                    assert_eq!(
                        got,
                        of_words(texts),
                        "{} {exporter} on {}, {settings:?}, {rows} rows",
                        case.model,
                        engine.name()
                    );
                }
            }
        }
    }
}

fn of_words(texts: &[Vec<i64>]) -> Vec<String> {
    texts.iter().map(|ids| ids.iter().map(|id| format!("w{id}")).collect::<Vec<_>>().join(" ")).collect()
}

/// A model of opset 17 in the words of an older one.
fn of_opset(model: &[u8], opset: i64) -> Vec<u8> {
    let mut model = ModelProto::decode(model).expect("decodes");
    model.opset_import.iter_mut().for_each(|import| import.version = Some(opset));
    for node in model.graph.iter_mut().flat_map(|graph| &mut graph.node) {
        // That 0 is not meant, Reshape says since opset 14.
        node.attribute.retain(|attr| attr.name.as_deref() != Some("allowzero"));
    }
    model.encode_to_vec()
}

/// What is written into the graph of an older opset is of that opset: nothing raises it for an engine that reads any.
#[test]
fn models_of_older_opsets_answer_too() {
    let all = cases();
    let case = all.cases.iter().find(|case| case.model == "t5").expect("a T5");
    let Texts { settings, texts } = &case.texts[0];
    for engine in engines().into_iter().filter(|engine| engine.dialect().reads_any_graph()) {
        for opset in [13, 14, 15] {
            let folder = tempfile::tempdir().expect("temp");
            let file = folder.path().join("model.onnx");
            let newer = std::fs::read(data("truth/seq2seq/t5.torchscript.onnx")).expect("a model");
            std::fs::write(&file, of_opset(&newer, opset)).expect("writes");
            let model = load(&file).unwrap_or_else(|e| panic!("{e}"));
            let base = readable(&model.graph, &model.functions).expect("readable");
            let writer = writer_of(&model, &base, case, engine.as_ref(), settings, &all, 16);
            assert!(writer.encoder.is_some());
            assert_eq!(writer.graph.opset(), opset);
            let opened = writer.open(engine.as_ref(), &[], &[]);
            let (mut decoder, _) = opened.unwrap_or_else(|e| panic!("opset {opset} on {}: {e}", engine.name()));
            let written = writer.write(&mut decoder, &all.prompts, &AtomicBool::new(false), |_| ());
            let written = written.unwrap_or_else(|e| panic!("opset {opset} on {}: {e}", engine.name()));
            let got: Vec<&str> = written.iter().map(|one| one.text.as_str()).collect();
            assert_eq!(got, of_words(texts), "opset {opset} on {}", engine.name());
        }
    }
}
