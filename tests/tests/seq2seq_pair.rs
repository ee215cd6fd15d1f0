//! Models with an encoder and a decoder in two files: thirty AdamW steps of LoRA on both against PyTorch's, what transformers'
//! `generate` writes, and from a pipeline to two files that differ from those of the model in the weights of targets alone
//! (tests/truth/seq2seq_pair.py).

use lorac::base::open_pair;
use lorac::data::Tokenizer;
use lorac::inputs::{caches, feeds};
use lorac::ir::{Graph, Tensor};
use lorac::onnx::{Model, compare, load};
use lorac::passes::{AdamW, Adaptation, Caches, Lora, Method, TrainingSpec, UpdateSpec, readable, training_step};
use lorac::predict::{Options, Predictor, Says};
use lorac::progress::Silent;
use lorac::run::{Outcome, RunOptions, run};
use lorac::task::Seq2Seq;
use lorac::train::{Generate, initial_theta, training_program};
use lorac::writing::{Parts, compile};
use lorac_tests::{ONNXRUNTIME, Truth, answers, data, engines, resolver, truth};
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use tempfile::TempDir;

#[derive(Deserialize)]
struct Cases {
    lr: f64,
    weight_decay: f64,
    rank: usize,
    alpha: f64,
    eos: i64,
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

/// The names that optimum gives.
const FILES: [&str; 2] = ["encoder_model.onnx", "decoder_model.onnx"];

fn cases() -> Cases {
    let text = fs::read_to_string(data("truth/seq2seq_pair/cases.json")).expect("cases.json");
    serde_json::from_str(&text).expect("cases")
}

fn source(model: &str, exporter: &str) -> PathBuf {
    data("truth/seq2seq_pair").join(format!("{model}.{exporter}"))
}

fn model(case: &Case, exporter: &str) -> (Model, Graph) {
    let [encoder, decoder] = FILES.map(|file| source(&case.model, exporter).join(file));
    let model = open_pair(&encoder, &decoder).unwrap_or_else(|e| panic!("{e}"));
    let graph = readable(&model.graph, &model.functions).expect("readable");
    (model, graph)
}

/// A batch of all of them.
fn row(all: &Truth, at: usize) -> Tensor {
    let (_, dims) = all.array.shape().split_first().expect("batches");
    let size: usize = dims.iter().product();
    let numbers: Vec<i64> = all.array.iter().skip(at * size).take(size).map(|x| *x as i64).collect();
    Tensor::from_slice(dims, &numbers).expect("fits")
}

#[test]
fn thirty_steps_of_lora_on_both_are_those_of_pytorch() {
    let all = cases();
    let truth = truth(&data("truth/seq2seq_pair/data.safetensors"));
    let adamw = AdamW { lr: all.lr, weight_decay: all.weight_decay, ..AdamW::default() };
    let lora = Lora { targets: vec!["all-linear".into()], rank: all.rank, alpha: all.alpha, ..Lora::default() };
    for case in &all.cases {
        for exporter in EXPORTERS {
            let (_, graph) = model(case, exporter);
            let targets = lora.select(&graph).unwrap_or_else(|e| panic!("{} {exporter}: {e}", case.model));
            let adaptations = vec![Adaptation { method: &lora as &dyn Method, targets }];
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
                let mut start = initial_theta(&compiled.params, 0).expect("first values");
                for slot in compiled.layout.slots() {
                    let [_, columns] = slot.dims[..] else { panic!("{who}: {slot:?}") };
                    for (at, x) in start[slot.start..slot.start + slot.len()].iter_mut().enumerate() {
                        let (i, j) = (at / columns, at % columns);
                        let a = 0.3 * f64::sin((7 * i + 3 * j + 1) as f64);
                        *x = if slot.name.ends_with("lora_A") { a as f32 } else { 0.0 };
                    }
                }
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

/// That of the tokens that are words: nothing is left out of texts.
fn tokenizer() -> Tokenizer {
    let folder = answers::folder(0);
    Tokenizer::from_file(&folder.path().join("tokenizer.json"), 64).expect("a tokenizer")
}

#[test]
fn answers_are_those_of_transformers() {
    let all = cases();
    for case in &all.cases {
        for (exporter, Texts { settings, texts }) in
            EXPORTERS.iter().flat_map(|e| case.texts.iter().map(move |t| (e, t)))
        {
            let (model, base) = model(case, exporter);
            let feeds = feeds(&base).expect("known inputs");
            for engine in engines() {
                let parts = Parts {
                    model: &model,
                    base: &base,
                    feeds: &feeds,
                    caches: &caches(&base, &feeds),
                    names: &BTreeMap::new(),
                    objective: &Seq2Seq::default(),
                    trained: None,
                    backend: engine.as_ref(),
                    source: None,
                    settings: settings.clone(),
                    ends: vec![all.eos],
                    tokenizer: tokenizer(),
                    rows: 16,
                    multiple: 8,
                    start: Some(case.start),
                };
                let writer = compile(parts).unwrap_or_else(|e| panic!("{e}"));
                let read = writer.encoder.as_ref().unwrap_or_else(|| panic!("{} {exporter}", case.model));
                assert!(read.by_rows, "{} {exporter}: {:?}", case.model, read.values);
                let (mut decoder, _) = writer.open(engine.as_ref(), &[], &[]).unwrap_or_else(|e| panic!("{e}"));
                let written = writer.write(&mut decoder, &all.prompts, &AtomicBool::new(false), |_| ());
                let written = written.unwrap_or_else(|e| panic!("{e}"));
                let words = |ids: &[i64]| ids.iter().map(|id| format!("w{id}")).collect::<Vec<_>>().join(" ");
                let got: Vec<&str> = written.iter().map(|one| one.text.as_str()).collect();
                let want: Vec<String> = texts.iter().map(|ids| words(ids)).collect();
                assert_eq!(got, want, "{} {exporter} on {}, {settings:?}", case.model, engine.name());
            }
        }
    }
}

/// A folder with the two files of a model, below `model`, its configuration and data.
fn folder(model: &str, exporter: &str) -> TempDir {
    let folder = answers::folder(usize::from(model == "bart"));
    fs::create_dir(folder.path().join("model")).expect("a folder");
    for file in FILES {
        fs::copy(source(model, exporter).join(file), folder.path().join("model").join(file)).expect("copies");
    }
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(folder.path().join(file), folder.path().join("model").join(file)).expect("copies");
    }
    let start = usize::from(model == "bart");
    let config = json!({ "decoder_start_token_id": start, "eos_token_id": 1, "model_type": model });
    fs::write(folder.path().join("model/config.json"), config.to_string()).expect("writes");
    folder
}

fn trained(folder: &Path, sets: &[&str]) -> Result<Outcome, String> {
    let loaded = answers::pipeline(folder, "model", sets)?;
    let options = RunOptions { out: folder.join("out"), command: "test".into(), progress: &Silent, emit: None };
    run(&loaded, &resolver(), &options, &AtomicBool::new(false)).map_err(|e| e.to_string())
}

#[test]
fn two_files_are_trained_and_deployed_as_two_files() {
    for (model, exporter, sets) in
        [("t5", "dynamo", &["deploy.metadata=true"][..]), ("bart", "torchscript", &["metrics.exact_match={}"])]
    {
        let folder = folder(model, exporter);
        let outcome = trained(folder.path(), sets).unwrap_or_else(|e| panic!("{model}: {e}"));
        let (manifest, out) = (&outcome.manifest, folder.path().join("out"));
        let eval = &manifest.eval;
        assert_eq!(outcome.gates, [] as [String; 0], "{model}: {eval:?}");
        let get = |name: &str| (eval.before.get(name).expect("a score"), eval.after.get(name).expect("a score"));
        assert!(get("perplexity").1 < get("perplexity").0 && get("exact_match").1 > 0.0, "{model}: {eval:?}");
        let models: Vec<&str> =
            manifest.artifacts.iter().filter(|a| a.kind == "model").map(|a| a.path.as_str()).collect();
        assert_eq!(models, FILES);
        assert!(!out.join("model.onnx").exists());
        let config = fs::read_to_string(out.join("adapter/adapter_config.json"));
        let config = config.unwrap_or_else(|_| panic!("no adapter: {:?}", manifest.notes));
        let all = fs::read(out.join("adapter/adapter_model.safetensors")).expect("an adapter");
        let names = String::from_utf8_lossy(&all).into_owned();
        assert!(
            config.contains("SEQ_2_SEQ_LM") && names.contains(".encoder.") && names.contains(".decoder."),
            "{config}"
        );
        let card = fs::read_to_string(out.join("README.md")).expect("a card");
        for said in [
            "encoder = ort.InferenceSession(\"encoder_model.onnx\")",
            "session = ort.InferenceSession(\"decoder_model.onnx\")",
            "hidden = encoder.run([\"last_hidden_state\"]",
            "\"encoder_attention_mask\": batch[\"attention_mask\"]",
            "\"encoder_hidden_states\": hidden",
            "\"input_ids\": answer",
        ] {
            assert!(card.contains(said), "{said} is not in {card}");
        }
        let mut changed = 0;
        for file in FILES {
            let [before, after] = [source(model, exporter), out.clone()].map(|at| load(at.join(file)).expect("loads"));
            let all: Vec<String> = before.graph.weights().map(|(_, v, _)| v.name.to_string()).collect();
            let of_targets = compare(&before, &after, &all).changed_targets;
            let found = compare(&before, &after, &of_targets);
            assert_eq!(found.changed_bytes_outside_targets, 0, "{model} {file}: {:?}", found.changed);
            assert!(of_targets.len() >= 8, "{model} {file}: {of_targets:?}");
            changed += of_targets.len();
        }
        assert_eq!(changed, manifest.targets.len(), "{model}");
        let both = |at: PathBuf| open_pair(&at.join(FILES[0]), &at.join(FILES[1])).expect("opens");
        let (before, after) = (both(source(model, exporter)), both(out.clone()));
        let all: Vec<String> = before.graph.weights().map(|(_, v, _)| v.name.to_string()).collect();
        let found = compare(&before, &after, &all);
        assert_eq!((found.changed_targets.len(), found.changed_bytes_outside_targets), (changed, 0), "{model}");
        let [first, rest @ ..] = &found.changed_targets[..] else { panic!("{model}: nothing has changed") };
        assert!(compare(&before, &after, rest).changed_bytes_outside_targets > 0, "{model}: {first}");
        let one = load(out.join(FILES[0])).expect("loads");
        assert!(compare(&before, &one, &all).changed[0].contains("the base is 2 files, and the other 1"));

        let loaded = answers::pipeline(folder.path(), "model", &[]).expect("loads");
        let named = out.display().to_string();
        answers::answer_alike(&named, &loaded, eval);
    }
}

/// What a model answers to prompts.
fn written(model: &Path, prompts: &[&str]) -> Result<Vec<String>, String> {
    let runtime = ONNXRUNTIME.to_string().try_into().expect("a source");
    let options = Options { runtime, writes: true, ..Options::default() };
    let mut predictor = Predictor::open(&model.display().to_string(), &options).map_err(|e| e.to_string())?;
    let answers = predictor.texts(prompts).map_err(|e| e.to_string())?;
    let text = |answer: lorac::predict::Answer| match answer.says {
        Says::Text { text, .. } => text,
        other => panic!("{other:?}"),
    };
    Ok(answers.into_iter().map(text).collect())
}

#[test]
fn a_rejected_pair_is_asked_by_the_name_of_either_file_and_no_model_of_another_run_for_it() {
    let folder = folder("t5", "torchscript");
    let out = folder.path().join("out");
    let outcome = trained(folder.path(), &["metrics.exact_match.min=1.01", "train.steps=2"]).expect("runs");
    let texts = &outcome.manifest.eval.texts;
    let prompts: Vec<&str> = texts.iter().map(|text| text.prompt.as_str()).collect();
    let want: Vec<String> = texts.iter().map(|text| text.after.clone()).collect();
    fs::write(out.join("model.onnx"), "of an earlier run").expect("writes");
    let said = written(&out, &prompts).expect_err("rejected");
    assert!(said.contains("encoder_model.rejected.onnx or decoder_model.rejected.onnx in it is asked only"), "{said}");
    for name in ["encoder_model.rejected.onnx", "decoder_model.rejected.onnx"] {
        assert_eq!(written(&out.join(name), &prompts).unwrap_or_else(|e| panic!("{name}: {e}")), want);
    }

    let outcome = trained(folder.path(), &["metrics.exact_match={}", "train.steps=2"]).expect("runs");
    assert_eq!(outcome.gates, [] as [String; 0]);
    fs::write(out.join("model.onnx"), "of an earlier run").expect("writes");
    assert_eq!(written(&out, &prompts).unwrap_or_else(|e| panic!("{e}")), want);
    fs::remove_file(out.join(FILES[1])).expect("removes");
    let said = written(&out, &prompts).expect_err("one file");
    assert!(said.contains("there is no encoder_model.onnx with decoder_model.onnx in the folder"), "{said}");
}

#[test]
fn a_pair_is_taken_where_the_weights_beside_it_are_of_no_type_that_is_built_and_its_configuration_from_above() {
    let folder = folder("t5", "torchscript");
    let model = folder.path().join("model");
    fs::write(model.join("model.safetensors"), "of a T5").expect("writes");
    trained(folder.path(), &["metrics={ bleu: {} }", "train.steps=1"]).expect("runs");

    fs::create_dir(model.join("onnx")).expect("a folder");
    for file in FILES.iter().chain(&["tokenizer.json", "tokenizer_config.json"]) {
        fs::rename(model.join(file), model.join("onnx").join(file)).expect("renames");
    }
    let start = json!({ "decoder_start_token_id": 7 });
    fs::write(model.join("generation_config.json"), start.to_string()).expect("writes");
    let loaded =
        answers::pipeline(folder.path(), "model/onnx", &["metrics={ bleu: {} }", "train.steps=1"]).expect("loads");
    let out = folder.path().join("above");
    let options = RunOptions { out, command: "test".into(), progress: &Silent, emit: None };
    let outcome = run(&loaded, &resolver(), &options, &AtomicBool::new(false)).unwrap_or_else(|e| panic!("{e}"));
    let served = outcome.manifest.served.expect("what is served");
    assert_eq!(served.decoder_start, Some(7));
    let runtime = ONNXRUNTIME.to_string().try_into().expect("a source");
    let mut asked = Predictor::open(
        &model.join("onnx").display().to_string(),
        &Options { runtime, writes: true, ..Options::default() },
    )
    .unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(asked.texts(&["w3 w20"]).expect("answers").len(), 1);
    let said = asked.pairs(&[("w3 w20", "w4")]).expect_err("one text").to_string();
    assert!(said.contains("the model reads one text, and 2 are given"), "{said}");
}

#[test]
fn files_that_do_not_belong_together_are_named_before_the_training() {
    let folder = folder("t5", "torchscript");
    let model = folder.path().join("model");
    let fails = |sets: &[&str]| trained(folder.path(), sets).map(|_| ()).expect_err("refused");
    let said = fails(&["task=causal_lm", "metrics={}"]);
    assert!(said.contains("the model has an encoder and a decoder") && said.contains("task: seq2seq"), "{said}");

    fs::copy(model.join(FILES[0]), model.join(FILES[1])).expect("copies");
    let said = fails(&[]);
    assert!(
        said.contains("the decoder has no input `encoder_hidden_states`") && said.contains("`decoder_model.onnx`"),
        "{said}"
    );
    fs::rename(model.join(FILES[1]), model.join("decoder_model_merged.onnx")).expect("renames");
    let said = fails(&[]);
    assert!(said.contains("`decoder_model_merged.onnx` and no decoder_model.onnx"), "{said}");
    fs::remove_file(model.join("decoder_model_merged.onnx")).expect("removes");
    let said = fails(&[]);
    assert!(
        said.contains("no input `decoder_input_ids`") && said.contains("encoder_model.onnx and decoder_model.onnx"),
        "{said}"
    );
    fs::remove_file(model.join(FILES[0])).expect("removes");
    fs::copy(source("t5", "torchscript").join(FILES[1]), model.join(FILES[1])).expect("copies");
    let said = fails(&[]);
    assert!(said.contains("`encoder_hidden_states`") && said.contains("encoder in another file"), "{said}");
    assert!(!folder.path().join("out/manifest.json").exists());
}
