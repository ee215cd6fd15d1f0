//! A task of answers: prompts of two words that a model with an encoder and a decoder answers with the next ones.

use lorac::evaluate::evaluate;
use lorac::output::Evaluation;
use lorac::pipeline::Loaded;
use lorac::predict::{Options, Predictor, Says};
use lorac::progress::Silent;
use serde_json::json;
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use tempfile::TempDir;

use crate::words::ended_words;
use crate::{ONNXRUNTIME, resolver};

/// Words of the tokenizer: the second ends a text.
const WORDS: usize = 41;

/// Prompts of two words, of which the completion has the next ones in the other order; some of them are held out.
fn rows(held: bool) -> String {
    let pairs = (3..13).flat_map(|a| (20..26).map(move |b| (a, b)));
    let pairs = pairs.filter(|(a, b)| ((a + b) % 6 == 0) == held);
    let row = |(a, b)| json!({ "prompt": format!("w{a} w{b}"), "completion": format!("w{} w{}", b + 1, a + 1) });
    pairs.map(|pair| format!("{}\n", row(pair))).collect()
}

/// A folder with a tokenizer, a configuration and data, and no model; `start` is what the decoder begins with.
///
/// # Panics
/// Where nothing can be written.
pub fn folder(start: usize) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in [
        ("tokenizer.json", ended_words(WORDS, 1).to_string()),
        ("tokenizer_config.json", json!({ "eos_token": "w1", "pad_token": "w0" }).to_string()),
        ("config.json", json!({ "decoder_start_token_id": start, "eos_token_id": 1 }).to_string()),
        ("train.jsonl", rows(false)),
        ("eval.jsonl", rows(true)),
    ] {
        fs::write(folder.path().join(name), text).expect("writes");
    }
    folder
}

/// The pipeline of that folder, which trains its file or folder `model`, with more settings.
///
/// # Errors
/// What is wrong with them.
pub fn pipeline(folder: &Path, model: &str, sets: &[&str]) -> Result<Loaded, String> {
    let here = folder.display();
    let text = format!(
        "name: answers
model: {{ source: {here}/{model} }}
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

/// Asks what a run has deployed: `lorac eval` scores it as the run did, `lorac predict` writes what the run's report shows. Returns
/// how it was asked.
///
/// # Panics
/// Where either says something else.
pub fn answer_alike(deployed: &str, loaded: &Loaded, eval: &Evaluation) -> Options {
    let found = evaluate(deployed, loaded, &resolver(), &resolver(), &Silent, &AtomicBool::new(false));
    let found = found.unwrap_or_else(|e| panic!("{e}"));
    for score in &eval.after.scores {
        let again = found.scores.get(&score.name).expect("a score");
        assert!((again - score.value).abs() <= 1e-4 * score.value.abs().max(1.0), "{}: {again}", score.name);
    }
    let runtime = ONNXRUNTIME.to_string().try_into().expect("a source");
    let options = Options { runtime, writes: true, ..Options::default() };
    let mut predictor = Predictor::open(deployed, &options).unwrap_or_else(|e| panic!("{e}"));
    let prompts: Vec<&str> = eval.texts.iter().map(|text| text.prompt.as_str()).collect();
    let answers = predictor.texts(&prompts).unwrap_or_else(|e| panic!("{e}"));
    assert!(!prompts.is_empty() && answers.len() == prompts.len());
    for (text, answer) in eval.texts.iter().zip(answers) {
        let Says::Text { text: written, .. } = &answer.says else { panic!("{answer:?}") };
        assert_eq!(written, &text.after, "{}", text.prompt);
    }
    options
}
