//! Models with an encoder and a decoder, from a pipeline to the answers of what is deployed; and those that do not fit.

use lorac::evaluate::evaluate;
use lorac::pipeline::Loaded;
use lorac::predict::{Options, Predictor, Says};
use lorac::progress::Silent;
use lorac::run::{Outcome, RunOptions, run};
use lorac_tests::{ONNXRUNTIME, data, resolver};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use tempfile::TempDir;

const WORDS: usize = 41;

/// Prompts of two words, of which the completion has the next ones in the other order; some of them are held out.
fn rows(held: bool) -> String {
    let pairs = (3..13).flat_map(|a| (20..26).map(move |b| (a, b)));
    let pairs = pairs.filter(|(a, b)| ((a + b) % 6 == 0) == held);
    let row = |(a, b)| json!({ "prompt": format!("w{a} w{b}"), "completion": format!("w{} w{}", b + 1, a + 1) });
    pairs.map(|pair| format!("{}\n", row(pair))).collect()
}

/// A folder with a model of the truth, its configuration and data.
fn folder(model: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let vocab: serde_json::Map<String, Value> = (0..WORDS).map(|i| (format!("w{i}"), i.into())).collect();
    let end = json!({ "SpecialToken": { "id": "w1", "type_id": 0 } });
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "decoder": null,
        "added_tokens": [{ "id": 1, "content": "w1", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            "special": true }],
        "pre_tokenizer": { "type": "WhitespaceSplit" },
        "post_processor": { "type": "TemplateProcessing", "single": [{ "Sequence": { "id": "A", "type_id": 0 } }, end],
            "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, end, { "Sequence": { "id": "B", "type_id": 0 } }, end],
            "special_tokens": { "w1": { "id": "w1", "ids": [1], "tokens": ["w1"] } } },
        "model": { "type": "WordLevel", "vocab": vocab, "unk_token": "w0" }
    });
    let start = if model.starts_with("bart") { 1 } else { 0 };
    for (name, text) in [
        ("tokenizer.json", tokenizer.to_string()),
        ("tokenizer_config.json", json!({ "eos_token": "w1", "pad_token": "w0" }).to_string()),
        ("config.json", json!({ "decoder_start_token_id": start, "eos_token_id": 1 }).to_string()),
        ("train.jsonl", rows(false)),
        ("eval.jsonl", rows(true)),
    ] {
        fs::write(folder.path().join(name), text).expect("writes");
    }
    fs::copy(data("truth/seq2seq").join(model), folder.path().join("model.onnx")).expect("copies");
    folder
}

fn loaded(folder: &Path, sets: &[&str]) -> Result<Loaded, String> {
    let here = folder.display();
    let text = format!(
        "name: answers
model: {{ source: {here}/model.onnx }}
task: {{ seq2seq: {{ generate: {{ max_new_tokens: 6 }} }} }}
data:
  train: {{ jsonl: {here}/train.jsonl, prompt: \"{{prompt}}\", completion: completion }}
  eval: {{ jsonl: {here}/eval.jsonl, prompt: prompt, completion: completion }}
  max_length: 16
adapt:
  - lora: {{ targets: [\"all-linear\"], rank: 8, alpha: 16 }}
train: {{ epochs: 40, batch: 8, optimizer: {{ adamw: {{ lr: 2e-2 }} }} }}
runtime: {{ source: {ONNXRUNTIME} }}
metrics: {{ bleu: {{}}, rougeL: {{ not_worse_than: before }}, exact_match: {{ min: 0.5 }}, perplexity: {{}} }}
deploy: {{ formats: [onnx, serving, peft], verify: {{ samples: 4 }} }}
"
    );
    let sets: Vec<String> = sets.iter().map(|s| s.to_string()).collect();
    Loaded::parse(&text, &folder.join("p.yaml"), &sets).map_err(|e| e.to_string())
}

fn trained(folder: &Path, sets: &[&str]) -> Result<Outcome, String> {
    let loaded = loaded(folder, sets)?;
    let options = RunOptions { out: folder.join("out"), command: "test".into(), progress: &Silent, emit: None };
    run(&loaded, &resolver(), &options, &AtomicBool::new(false)).map_err(|e| e.to_string())
}

#[test]
fn a_model_learns_to_answer_and_what_is_deployed_answers_alike() {
    // The one is taught to be right, the other to be better.
    for (model, sets) in [("t5.dynamo.onnx", &[][..]), ("bart.torchscript.onnx", &["metrics.exact_match={}"])] {
        let folder = folder(model);
        let outcome = trained(folder.path(), sets).unwrap_or_else(|e| panic!("{model}: {e}"));
        let eval = &outcome.manifest.eval;
        assert_eq!(outcome.gates, [] as [String; 0], "{model}: {eval:?}");
        let get = |name: &str| (eval.before.get(name).expect("a score"), eval.after.get(name).expect("a score"));
        assert!(get("exact_match").0 == 0.0 && get("perplexity").1 < get("perplexity").0, "{model}: {eval:?}");
        let served = outcome.manifest.served.as_ref().expect("served");
        assert_eq!((served.task.as_str(), served.decoder_start.is_some()), ("seq2seq", true));
        let config = fs::read_to_string(folder.path().join("out/adapter/adapter_config.json")).expect("an adapter");
        assert!(config.contains("SEQ_2_SEQ_LM"), "{config}");
        let card = fs::read_to_string(folder.path().join("out/README.md")).expect("a card");
        let feeds = format!("answer = np.full((len(texts), 1), {})", served.decoder_start.unwrap_or(-1));
        assert!(card.contains(&feeds) && card.contains("\"decoder_input_ids\": answer"), "{card}");
        assert!(card.contains("Options { writes: true") && card.contains("text2text-generation"), "{card}");

        let loaded = loaded(folder.path(), &[]).expect("loads");
        let out = folder.path().join("out").display().to_string();
        let found = evaluate(&out, &loaded, &resolver(), &resolver(), &Silent, &AtomicBool::new(false))
            .unwrap_or_else(|e| panic!("{e}"));
        for score in &eval.after.scores {
            let again = found.scores.get(&score.name).expect("a score");
            assert!((again - score.value).abs() <= 1e-4 * score.value.abs().max(1.0), "{}: {again}", score.name);
        }
        let runtime = ONNXRUNTIME.to_string().try_into().expect("a source");
        let options = Options { runtime, writes: true, ..Options::default() };
        let mut predictor = Predictor::open(&out, &options).unwrap_or_else(|e| panic!("{e}"));
        let prompts: Vec<&str> = eval.texts.iter().map(|text| text.prompt.as_str()).collect();
        let answers = predictor.texts(&prompts).unwrap_or_else(|e| panic!("{e}"));
        for (text, answer) in eval.texts.iter().zip(answers) {
            let Says::Text { text: written, .. } = &answer.says else { panic!("{answer:?}") };
            assert_eq!(written, &text.after, "{model}: {}", text.prompt);
        }
        let error = Predictor::open(&out, &Options { writes: false, ..options }).map(drop).expect_err("refused");
        assert!(error.to_string().contains("has no perplexity of it"), "{error}");
    }
}

#[test]
fn models_and_tasks_that_do_not_belong_together_are_named() {
    let folder = folder("t5.torchscript.onnx");
    let fails = |sets: &[&str]| trained(folder.path(), sets).map(|_| ()).expect_err("refused");
    let said = fails(&["task=causal_lm", "metrics={}"]);
    assert!(said.contains("the model has an encoder and a decoder") && said.contains("task: seq2seq"), "{said}");
    assert!(said.contains("p.yaml:") && said.contains("pipeline::decoder"), "{said}");
    let decoder = format!("model={}", data("cached/llama/model.onnx").display());
    let here = format!("tokenizer={}", folder.path().display());
    let said = fails(&[&decoder, &here]);
    assert!(said.contains("the model has no input `decoder_input_ids`") && said.contains("task: causal_lm"), "{said}");
    let said = fails(&[&format!("data.eval={{ jsonl: {}/eval.jsonl, text: prompt }}", folder.path().display())]);
    assert!(said.contains("prompt: COLUMN, completion: COLUMN") && said.contains("does not read it"), "{said}");
    let said = fails(&["data.max_length=1"]);
    assert!(said.contains("max_length"), "{said}");

    fs::remove_file(folder.path().join("config.json")).expect("removes");
    let said = fails(&[]);
    assert!(said.contains("nothing says which token the decoder begins with"), "{said}");
    let outcome =
        trained(folder.path(), &["task.seq2seq.decoder_start_token_id=0", "train.steps=1", "metrics={ bleu: {} }"]);
    assert_eq!(outcome.unwrap_or_else(|e| panic!("{e}")).gates, [] as [String; 0]);
    let said = fails(&["task.seq2seq.decoder_start_token_id=99", "train.steps=1", "metrics={ bleu: {} }"]);
    assert!(said.contains("token 99") && said.contains("41 rows"), "{said}");

    let model = folder.path().join("model.onnx");
    let split = folder.path().join("split");
    fs::create_dir(&split).expect("a folder");
    for name in ["encoder_model.onnx", "decoder_model.onnx"] {
        fs::copy(&model, split.join(name)).expect("copies");
    }
    let said = fails(&[&format!("model={}", split.display())]);
    assert!(said.contains("holds encoder and decoder as two models") && said.contains("decoder_input_ids"), "{said}");
}
