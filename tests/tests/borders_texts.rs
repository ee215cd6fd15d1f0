//! Metrics of texts that a language model writes, from a pipeline to its manifest, and to those who ask the deployed model.

use lorac::evaluate::evaluate;
use lorac::output::Manifest;
use lorac::pipeline::Loaded;
use lorac::predict::{Options, Predictor, Says};
use lorac::progress::Silent;
use lorac::run::{Outcome, RunOptions, run};
use lorac_tests::words::words;
use lorac_tests::{ONNXRUNTIME, data, resolver};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use tempfile::TempDir;

const WORDS: usize = 97;

/// Prompts of two words, the second of which says what follows: one word, and one of two others. Of every second word the
/// prompt with one of the first words is held out.
fn rows(held: bool) -> String {
    let prompts = (0..8).flat_map(|first| (0..6).map(move |what| (first, what)));
    let prompts = prompts.filter(|(first, what)| (first == what) == held);
    let row = |(first, what, end): (usize, usize, usize)| json!({ "prompt": format!("w{} w{what}", 60 + first), "completion": format!(" w{} w{end}", what + 10) });
    let both = prompts.flat_map(|(first, what)| [(first, what, 40), (first, what, 41)]);
    both.map(|one| format!("{}\n", row(one))).collect()
}

fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in [
        ("tokenizer.json", words(WORDS).to_string()),
        ("tokenizer_config.json", json!({ "eos_token": "w96" }).to_string()),
        ("train.jsonl", rows(false)),
        ("eval.jsonl", rows(true)),
        ("text.txt", "w1 w2 w3 w4 ".repeat(40)),
    ] {
        fs::write(folder.path().join(name), text).expect("writes");
    }
    folder
}

/// A pipeline over a decoder, which has caches or not.
fn loaded(folder: &Path, model: &str, sets: &[&str]) -> Result<Loaded, String> {
    let (model, here) = (data(model).display().to_string(), folder.display());
    let text = format!(
        "name: texts
model: {{ source: {model} }}
tokenizer: {{ source: {here} }}
task: {{ causal_lm: {{ generate: {{ max_new_tokens: 6 }} }} }}
data:
  train: {{ jsonl: {here}/train.jsonl, prompt: \"{{prompt}}\", completion: completion }}
  eval: {{ jsonl: {here}/eval.jsonl, prompt: prompt, completion: completion }}
  max_length: 16
adapt:
  - full: {{ targets: [\"all-linear\"] }}
train: {{ epochs: 25, batch: 8, optimizer: {{ adamw: {{ lr: 1e-2 }} }} }}
runtime: {{ source: {ONNXRUNTIME} }}
metrics: {{ bleu: {{}}, chrf: {{}}, rouge1: {{}}, rouge2: {{}}, rougeL: {{ min: 0.5 }}, exact_match: {{}} }}
deploy: {{ verify: {{ samples: 4 }} }}
"
    );
    let sets: Vec<String> = sets.iter().map(|s| s.to_string()).collect();
    Loaded::parse(&text, &folder.join("p.yaml"), &sets).map_err(|e| e.to_string())
}

fn trained(folder: &Path, model: &str, sets: &[&str]) -> Result<Outcome, String> {
    let loaded = loaded(folder, model, sets)?;
    let options = RunOptions { out: folder.join("out"), command: "test".into(), progress: &Silent, emit: None };
    run(&loaded, &resolver(), &options, &AtomicBool::new(false)).map_err(|e| e.to_string())
}

#[test]
fn a_model_is_judged_by_what_it_writes_before_on_the_way_and_after() {
    let folder = folder();
    for model in ["cached/llama/model.onnx", "exports/gpt2-torchscript/model.onnx"] {
        let sets = ["train.evaluate={ every: 100 steps }"];
        let manifest = trained(folder.path(), model, &sets).unwrap_or_else(|e| panic!("{model}: {e}")).manifest;
        let (before, after) = (&manifest.eval.before, &manifest.eval.after);
        let names: Vec<&str> = after.scores.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["perplexity", "loss", "bleu", "chrf", "exact_match", "rouge1", "rouge2", "rougeL"]);
        let get = |name: &str| (before.get(name).expect("a score"), after.get(name).expect("a score"));
        // Either of the two ends is a reference of each of the six prompts.
        let right = get("exact_match");
        assert!(right.0 == 0.0 && right.1 > 0.6, "{:?}", manifest.eval.texts);
        assert!(get("rougeL").0 < 0.3 && get("rougeL").1 > 0.8 && get("chrf").1 > 80.0, "{before:?} {after:?}");
        let [first, ..] = manifest.eval.texts.as_slice() else { panic!("texts") };
        let what: usize = first.prompt.rsplit('w').next().and_then(|n| n.parse().ok()).expect("a word");
        assert_eq!((manifest.eval.texts.len(), &first.prompt), (5, &format!("w{} w{what}", 60 + what)));
        let mut references = first.references.clone();
        references.sort();
        assert_eq!(references, [40, 41].map(|end| format!(" w{} w{end}", what + 10)));
        assert_ne!(first.before, first.after);
        assert_eq!(Manifest::read(&folder.path().join("out")).expect("a manifest").eval, manifest.eval);
        let log = fs::read_to_string(folder.path().join("out/metrics.jsonl")).expect("a log");
        let evals: Vec<Value> = log
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .filter(|v: &Value| v["kind"] == "eval")
            .collect();
        assert!(evals.len() >= 4 && evals.iter().all(|v| v["rougeL"].is_number()), "{evals:?}");
        assert_eq!(evals.last().map(|v| v["generated"][0]["text"].clone()), Some(first.after.clone().into()));
        let report = fs::read_to_string(folder.path().join("out/report.html")).expect("a report");
        assert!(report.contains("What it writes") && report.contains(&first.prompt));

        let loaded = loaded(folder.path(), model, &[]).expect("loads");
        let out = folder.path().join("out").display().to_string();
        let found = evaluate(&out, &loaded, &resolver(), &resolver(), &Silent, &AtomicBool::new(false))
            .unwrap_or_else(|e| panic!("{e}"));
        for score in &after.scores {
            let again = found.scores.get(&score.name).expect("a score");
            assert!((again - score.value).abs() <= 1e-4 * score.value.abs().max(1.0), "{}: {again}", score.name);
        }
        assert_eq!(found.texts.len(), 5);
        // What only decides which parameters are kept is nothing that a deployed model is scored by.
        let sets = [
            "metrics={ perplexity: {} }",
            "train.checkpoint={ every: 30 steps, best: rougeL }",
            "train.evaluate={ every: 30 steps }",
        ];
        let loaded = self::loaded(folder.path(), model, &sets).expect("loads");
        let found = evaluate(&out, &loaded, &resolver(), &resolver(), &Silent, &AtomicBool::new(false))
            .unwrap_or_else(|e| panic!("{e}"));
        assert!(found.texts.is_empty() && found.scores.get("perplexity").is_some(), "{found:?}");
        let options = Options {
            runtime: ONNXRUNTIME.to_string().try_into().expect("a source"),
            writes: true,
            ..Options::default()
        };
        let mut model = Predictor::open(&out, &options).unwrap_or_else(|e| panic!("{e}"));
        let answers = model.texts(&[&first.prompt, &manifest.eval.texts[3].prompt]).unwrap_or_else(|e| panic!("{e}"));
        let Says::Text { text, tokens } = &answers[0].says else { panic!("{answers:?}") };
        let words = first.after.split(' ').count();
        assert_eq!((text, *tokens, answers[0].to_string()), (&first.after, words, first.after.clone()));
        assert_eq!(answers[1].to_string(), manifest.eval.texts[3].after);
        // A stop string may begin in one token and end in another.
        let (one, other) = first.after.split_once(' ').expect("two words");
        let across = format!("{} {}", &one[one.len() - 1..], &other[..1]);
        let stopped = Options { stop_strings: vec![across], ..options.clone() };
        let mut model = Predictor::open(&out, &stopped).unwrap_or_else(|e| panic!("{e}"));
        let cut = model.texts(&[&first.prompt]).unwrap_or_else(|e| panic!("{e}"))[0].to_string();
        assert_eq!(cut, one[..one.len() - 1]);
        let stopped = Options { stop_strings: vec![" ".into()], max_new_tokens: Some(3), ..options };
        let mut model = Predictor::open(&out, &stopped).unwrap_or_else(|e| panic!("{e}"));
        let begin = model.texts(&[&first.prompt]).unwrap_or_else(|e| panic!("{e}"))[0].to_string();
        assert_eq!(Some(begin.as_str()), first.after.split(' ').next());
    }
}

#[test]
fn beam_search_and_the_best_model_by_a_metric_of_texts() {
    let folder = folder();
    let sets = [
        "task.causal_lm.generate={ num_beams: 3, max_new_tokens: 4, stop_strings: [\" w41\"] }",
        "train.checkpoint={ every: 30 steps, best: rougeL }",
        "train.evaluate={ every: 30 steps }",
        "metrics={ rougeL: { not_worse_than: before } }",
        "runtime.source=embedded",
    ];
    let manifest = trained(folder.path(), "cached/llama/model.onnx", &sets).unwrap_or_else(|e| panic!("{e}")).manifest;
    assert!(
        manifest.gates.is_empty() && manifest.eval.after.get("rougeL").is_some_and(|x| x > 0.8),
        "{:?}",
        manifest.eval
    );
    assert!(manifest.eval.texts.iter().all(|text| !text.after.contains("w41")), "{:?}", manifest.eval.texts);
}

#[test]
fn a_gate_on_a_text_is_missed() {
    let folder = folder();
    let outcome =
        trained(folder.path(), "cached/llama/model.onnx", &["train.steps=1"]).unwrap_or_else(|e| panic!("{e}"));
    assert!(
        outcome.gates.len() == 1 && outcome.gates[0].contains("is below metrics.rougeL.min 0.5"),
        "{:?}",
        outcome.gates
    );
}

#[test]
fn texts_that_nothing_ends_and_prompts_that_leave_no_room_are_told_of() {
    let folder = folder();
    fs::remove_file(folder.path().join("tokenizer_config.json")).expect("removes");
    let sets = [
        "task.causal_lm={ append_eos: false, generate: { max_new_tokens: 63 } }",
        "train.steps=1",
        "metrics={ bleu: {} }",
    ];
    let manifest = trained(folder.path(), "cached/llama/model.onnx", &sets).unwrap_or_else(|e| panic!("{e}")).manifest;
    let notes = manifest.notes.join("; ");
    assert!(notes.contains("nothing ends a text before its 63 tokens"), "{notes}");
    let sets = ["task.causal_lm.generate.max_new_tokens=70", "train.steps=1", "metrics={ bleu: {} }"];
    let model = "exports/gpt2-torchscript/model.onnx";
    fs::write(folder.path().join("tokenizer_config.json"), json!({ "eos_token": "w96" }).to_string()).expect("writes");
    let manifest = trained(folder.path(), model, &sets).unwrap_or_else(|e| panic!("{e}")).manifest;
    let notes = manifest.notes.join("; ");
    assert!(
        notes.contains("6 of 6 prompts leave room for fewer than 70 tokens: the model takes rows of 64"),
        "{notes}"
    );
    assert!(!notes.contains("nothing ends a text"), "{notes}");
}

#[test]
fn a_prompt_has_the_room_that_the_model_has_and_is_cut_before_where_it_has_none() {
    let folder = folder();
    trained(folder.path(), "exports/gpt2-torchscript/model.onnx", &["train.steps=1", "metrics={ bleu: {} }"])
        .unwrap_or_else(|e| panic!("{e}"));
    let out = folder.path().join("out").display().to_string();
    let options =
        Options { runtime: ONNXRUNTIME.to_string().try_into().expect("a source"), writes: true, ..Options::default() };
    let words =
        |range: std::ops::Range<usize>| range.map(|i| format!("w{}", 1 + i * i % 89)).collect::<Vec<_>>().join(" ");
    // 64 positions, and 6 tokens behind a prompt of which the last need not be fed; the training had 16.
    let mut model = Predictor::open(&out, &options).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((model.served().max_length, model.max_length()), (16, 59));
    let answers = model.texts(&[words(0..70), words(11..70), words(0..40)]).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(answers.iter().map(|answer| answer.cut).collect::<Vec<_>>(), [11, 0, 0]);
    assert_eq!(answers[0].says, answers[1].says, "the end of a prompt is what is gone on from");
    // Of a prompt at least half of what the model takes stays.
    let long = Options { max_new_tokens: Some(60), ..options };
    assert_eq!(Predictor::open(&out, &long).unwrap_or_else(|e| panic!("{e}")).max_length(), 32);
}

#[test]
fn examples_that_nobody_answers_are_told_of_and_ask_nothing() {
    let folder = folder();
    let turn = |role: &str, content: &str| json!({ "role": role, "content": content });
    let talk =
        |answer: &str| format!("{}\n", json!({ "messages": [turn("user", "w61 w2"), turn("assistant", answer)] }));
    fs::write(folder.path().join("eval.jsonl"), [talk("w12"), talk("")].concat()).expect("writes");
    let template = "{% for m in messages %}{{ m.content }} {% endfor %}";
    let config = json!({ "eos_token": "w96", "chat_template": template });
    fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).expect("writes");
    let eval = format!("data.eval={{ jsonl: {}/eval.jsonl, messages: messages }}", folder.path().display());
    let sets = [eval.as_str(), "train.steps=1", "metrics={ exact_match: {} }", "task={ causal_lm: { loss_on: all } }"];
    let manifest = trained(folder.path(), "cached/llama/model.onnx", &sets).unwrap_or_else(|e| panic!("{e}")).manifest;
    let warnings = manifest.data.warnings.join("; ");
    assert!(
        warnings.contains("1 of 2 held-out examples have no answer that a text could be compared with"),
        "{warnings}"
    );
    assert_eq!(manifest.eval.texts.len(), 1);
}

#[test]
fn texts_without_prompts_and_settings_without_metrics_are_refused_with_their_place() {
    let folder = folder();
    let fails = |sets: &[&str]| loaded(folder.path(), "cached/llama/model.onnx", sets).expect_err("refused");
    let here = folder.path().display();
    let blocks = format!("data.eval={{ txt: {here}/text.txt, block: 8 }}");
    let said = fails(&[&blocks]);
    assert!(
        said.contains("`bleu` compares what the model writes behind a prompt")
            && said.contains("data.eval has no prompts"),
        "{said}"
    );
    assert!(said.contains("p.yaml:13:12") && said.contains("name the columns prompt and completion"), "{said}");
    let part = format!("data.train={{ txt: {here}/text.txt, block: 8 }}");
    let said = fails(&[&part, "data.eval={ split: 0.1 }", "metrics={ rouge1: {} }"]);
    assert!(said.contains("data.train has no prompts"), "{said}");
    let said = fails(&["metrics={ perplexity: {} }"]);
    assert!(said.contains("`generate`") && said.contains("no such metric"), "{said}");
    let said = fails(&["task.causal_lm.generate={ max_new_tokens: 0, num_beams: 3, beams: 2 }"]);
    assert!(said.contains("num_beams") && said.contains("unknown key `beams`"), "{said}");
    let said = fails(&[
        "task={ classify: { labels: [a, b] } }",
        "data.train={ jsonl: t.jsonl, text: a, label: b }",
        "data.eval={ jsonl: t.jsonl, text: a, label: b }",
        "metrics={ bleu: {} }",
    ]);
    assert!(said.contains("the task is not evaluated by `bleu`"), "{said}");
    let said = fails(&["metrics={ rouge-l: {} }"]);
    assert!(said.contains("lorac says this as rougeL"), "{said}");
}
