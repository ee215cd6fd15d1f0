//! `task: causal_lm` on prompts with completions and on conversations, from a pipeline to a trained model; and models that it is
//! not for.

use lorac::error::Error;
use lorac::pipeline::Loaded;
use lorac::progress::Silent;
use lorac::run::{Outcome, RunOptions, run};
use lorac::train::Count;
use lorac_tests::border::border;
use lorac_tests::words::words;
use lorac_tests::{ONNXRUNTIME, data, resolver};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use tempfile::TempDir;

/// Words of the tiny decoder's vocabulary; the last one ends a text.
const WORDS: usize = 97;

/// A tokenizer of words, a chat template, and rows of training and evaluation data in JSON lines.
fn folder(rows: &[Value], held: &[Value]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let template = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}\
                    {{ ' w90 ' if m.role == 'user' else ' w91 ' }}{{ m.content }} w92{% endfor %}\
                    {% if add_generation_prompt %} w91 {% endif %}";
    let config = json!({ "eos_token": "w96", "chat_template": template });
    let lines = |rows: &[Value]| rows.iter().map(|row| format!("{row}\n")).collect::<String>();
    for (name, text) in [
        ("tokenizer.json", words(WORDS).to_string()),
        ("tokenizer_config.json", config.to_string()),
        ("train.jsonl", lines(rows)),
        ("eval.jsonl", lines(held)),
    ] {
        fs::write(folder.path().join(name), text).expect("writes");
    }
    folder
}

fn train(folder: &Path, task: &str, columns: &str, sets: &[&str]) -> Result<Outcome, Error> {
    let model = data("exports").join("llama-dynamo").join("model.onnx");
    let (model, here) = (model.display(), folder.display());
    let text = format!(
        "name: tiny
model: {{ source: {model} }}
tokenizer: {{ source: {here} }}
task: {{ {task} }}
data:
  train: {{ jsonl: {here}/train.jsonl, {columns} }}
  eval: {{ jsonl: {here}/eval.jsonl, {columns} }}
  max_length: 16
adapt:
  - lora: {{ targets: [\"role:query\", \"role:value\", \"role:head\"], rank: 8, alpha: 32 }}
train: {{ epochs: 10, batch: 8, optimizer: {{ adamw: {{ lr: 1e-2 }} }} }}
runtime: {{ source: {ONNXRUNTIME} }}
deploy: {{ verify: {{ samples: 4 }} }}
"
    );
    let sets: Vec<String> = sets.iter().map(|s| s.to_string()).collect();
    let loaded = Loaded::parse(&text, &folder.join("p.yaml"), &sets).map_err(Box::new)?;
    let out = tempfile::tempdir().expect("a folder");
    let options = RunOptions { out: out.path().into(), command: "test".into(), progress: &Silent, emit: None };
    run(&loaded, &resolver(), &options, &AtomicBool::new(false))
}

fn fails(folder: &Path, task: &str, columns: &str, sets: &[&str]) -> (String, String) {
    match train(folder, task, columns, sets) {
        Ok(outcome) => panic!("succeeded: {:?}", outcome.manifest.eval.after),
        Err(error) => (error.code().to_string(), error.to_string()),
    }
}

/// Prompts of a word that says nothing and one that says what is answered, with the two words of the answer.
fn pairs(from: usize, to: usize) -> Vec<(String, String)> {
    let pair = |i: usize| (format!("w{} w{}", 50 + i % 37, i % 8), format!(" w{} w40", i % 8 * 3 + 10));
    (from..to).map(pair).collect()
}

#[test]
fn completions_are_learnt_and_the_end_with_them() {
    let row = |(prompt, completion): &(String, String)| json!({ "q": prompt, "a": completion });
    let mut rows: Vec<Value> = pairs(0, 160).iter().map(row).collect();
    // Of two of them nothing is left to learn at 16 tokens.
    let long = vec!["w1"; 16].join(" ");
    rows.extend([json!({ "q": long, "a": " w2" }), json!({ "q": format!("{long} w3"), "a": " w2" })]);
    let held: Vec<Value> = pairs(160, 170).iter().map(row).collect();
    let folder = folder(&rows, &held);
    let outcome =
        train(folder.path(), "causal_lm: {}", "prompt: q, completion: a", &[]).unwrap_or_else(|e| panic!("{e}"));
    let m = outcome.manifest;
    assert_eq!(m.eval.before.count, Count::Tokens(10 * 3), "two words and the end of each completion");
    let loss = |s: &lorac::train::Scores| s.get("loss").expect("a loss");
    assert!(loss(&m.eval.after) < loss(&m.eval.before) / 1.5, "{:?}", m.eval);
    assert_eq!((m.data.train.unlearned, m.data.train.truncated.texts), (2, 0));
    assert!(m.data.warnings.iter().any(|w| w.contains("data.train: 2 examples are dropped")), "{:?}", m.data.warnings);

    let sets = ["train.steps=1", "task.causal_lm.append_eos=false"];
    let count = |sets: &[&str]| {
        let done = train(folder.path(), "causal_lm: {}", "prompt: \"{q} w9\", completion: a", sets);
        done.unwrap_or_else(|e| panic!("{e}")).manifest.eval.before.count
    };
    assert_eq!(count(&sets), Count::Tokens(10 * 2));
    assert_eq!(count(&["train.steps=1", "task.causal_lm.loss_on=all"]), Count::Tokens(10 * 5), "all but the first");
}

#[test]
fn of_conversations_the_assistant_s_turns_are_learnt() {
    let turn = |role: &str, content: &str| json!({ "role": role, "content": content });
    let row = |(asked, answer): &(String, String)| json!({ "messages": [turn("user", asked), turn("assistant", answer), turn("user", "w1"), turn("assistant", "w2")] });
    let rows: Vec<Value> = pairs(0, 40).iter().map(row).collect();
    let held: Vec<Value> = pairs(40, 48).iter().map(row).collect();
    let folder = folder(&rows, &held);
    let done = train(folder.path(), "causal_lm: {}", "messages: messages", &["train.epochs=2"])
        .unwrap_or_else(|e| panic!("{e}"));
    let m = done.manifest;
    assert_eq!(m.eval.before.count, Count::Tokens(8 * (3 + 2)), "what is answered, and its end");
    let inputs: Vec<&str> = m.inputs.iter().map(|i| i.role.as_str()).collect();
    assert!(inputs.contains(&"tokenizer"), "{inputs:?}");

    // A template of one's own, which needs no other file.
    fs::remove_file(folder.path().join("tokenizer_config.json")).expect("removes");
    let template = "task.causal_lm.chat_template='{% for m in messages %}{{ m.content }} {% endfor %}'";
    let done = train(folder.path(), "causal_lm: {}", "messages: messages", &["train.steps=1", template]);
    assert_eq!(done.unwrap_or_else(|e| panic!("{e}")).manifest.eval.before.count, Count::Tokens(8 * (2 + 1)));
    let (code, text) = fails(folder.path(), "causal_lm: {}", "messages: messages", &[]);
    assert_eq!((code.as_str(), text.contains("tokenizer_config.json")), ("data::no_chat_template", true), "{text}");
    let (code, _) = fails(folder.path(), "causal_lm: { append_eos: true }", "messages: messages", &[template]);
    assert_eq!(code, "data::no_end_of_text");
}

#[test]
fn conversations_are_the_same_however_they_are_written() {
    let tools = json!([{ "name": "w70" }]);
    let turn = |keys: [&str; 2], speaker: &str, said: &str| json!({ keys[0]: speaker, keys[1]: said });
    let template = "{% for t in tools or [] %}{{ t.name }} {% endfor %}{% for m in messages %}{{ ' w90 ' if m.role == 'user' else ' w93 ' if \
                    m.role == 'system' else ' w91 ' }}{{ m.content }} w92{% endfor %}{% if add_generation_prompt %} w91 {% endif %}";
    let train_on = |keys: [&str; 2], names: [&str; 3], columns: &str, system: bool, tools: Value| {
        let row = |(asked, answer): &(String, String)| {
            let mut turns = vec![turn(keys, names[0], asked), turn(keys, names[1], answer)];
            if !system {
                turns.insert(0, turn(keys, names[2], "w80"));
            }
            json!({ "chat": turns, "tools": tools, "said": "w80" })
        };
        let rows: Vec<Value> = pairs(0, 40).iter().map(row).collect();
        let held: Vec<Value> = pairs(40, 48).iter().map(row).collect();
        let folder = folder(&rows, &held);
        let config = json!({ "eos_token": "w96", "chat_template": template });
        fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).expect("writes");
        let done = train(folder.path(), "causal_lm: {}", &format!("messages: chat, {columns}"), &["train.steps=4"]);
        let manifest = done.unwrap_or_else(|e| panic!("{columns}: {e}")).manifest;
        (manifest.eval.after, manifest.data.train.lengths.total)
    };
    let openai = (["role", "content"], ["user", "assistant", "system"]);
    let want = train_on(openai.0, openai.1, "tools: tools", false, tools.clone());
    assert_eq!(want.1, 40 * (1 + 3 + 4 + 4), "the tool is there");
    let sharegpt =
        train_on(["from", "value"], ["human", "gpt", "system"], "tools: tools", false, json!(tools.to_string()));
    assert_eq!(sharegpt, want);
    let system = train_on(["from", "value"], ["human", "gpt", ""], "tools: tools, system: said", true, tools.clone());
    assert_eq!(system, want);
    let columns =
        "tools: tools, message_keys: { role: who, content: text }, roles: { user: [customer, agent], assistant: bot }";
    assert_eq!(train_on(["who", "text"], ["customer", "bot", "system"], columns, false, tools.clone()), want);
    assert_ne!(train_on(openai.0, openai.1, "tools: tools", false, Value::Null), want);
}

#[test]
fn rows_that_are_no_conversations_are_refused_with_their_place_or_left_out() {
    let fine = json!({ "m": [{ "role": "user", "content": "w1" }, { "role": "assistant", "content": "w2 w3" }] });
    let system = json!({ "m": [{ "role": "system", "content": "w1" }, { "role": "assistant", "content": "w2" }] });
    for (bad, says) in [
        (json!({ "m": [{ "content": "w1" }] }), "row 2: message 1 of `m` has no role"),
        (json!({ "m": "w1" }), "expected `m` to be a list of messages, found a string"),
        (json!({ "m": {} }), "expected `m` to be a list of messages, found an object"),
        (json!({ "m": [{ "from": "bot", "value": "w1" }] }), "row 2: message 1 of `m` is from `bot`, who is not known"),
        (system, "the chat template refuses the conversation, line 1: System role not supported"),
    ] {
        let folder = folder(
            &[fine.clone(), bad, json!({ "m": [{ "role": "user", "content": "w5" }] })],
            std::slice::from_ref(&fine),
        );
        let (_, text) = fails(folder.path(), "causal_lm: {}", "messages: m", &[]);
        assert!(text.contains(says), "{text}");
        let other = json!({ "m": [{ "role": "user", "content": "w7" }, { "role": "assistant", "content": "w2 w3" }] });
        fs::write(folder.path().join("eval.jsonl"), other.to_string()).expect("writes");
        let sets = ["train.steps=1", "data.on_error=skip"];
        let done =
            train(folder.path(), "causal_lm: {}", "messages: m", &sets).unwrap_or_else(|e| panic!("{says}: {e}"));
        let card = &done.manifest.data.train;
        assert_eq!((card.skipped, card.unlearned, card.examples), (1, 1, 1), "{says}");
        assert!(card.errors[0].contains(says), "{:?}", card.errors);
    }
}

#[test]
fn columns_that_do_not_go_together_are_found_in_the_pipeline() {
    let folder = folder(&[], &[]);
    for (task, columns, says) in [
        ("causal_lm: {}", "prompt: q", "`prompt` needs `completion` beside it"),
        ("causal_lm: {}", "instruction: q", "`instruction` needs `output` beside it"),
        (
            "causal_lm: {}",
            "messages: m, prompt: q, completion: a",
            "`prompt` and `messages`: a split has one or the other",
        ),
        ("causal_lm: {}", "text: t, messages: m", "`text` and `messages`: a split has one or the other"),
        ("causal_lm: { loss_on: completion }", "text: t", "a text has no completion"),
        ("causal_lm: { chat_template: chat.jinja }", "messages: m", "is not a template"),
        ("classify: [a, b]", "messages: m", "`task: classify` does not read it"),
        ("causal_lm: {}", "text: t, tools: u", "`tools` needs conversations beside it"),
        (
            "causal_lm: {}",
            "messages: m, roles: { user: [a], assistant: [a] }",
            "`a` is a name of `assistant` and of `user`",
        ),
        ("causal_lm: {}", "conversations: m", "lorac says this as messages: conversations"),
        ("causal_lm: {}", "prompt: \"{q\", completion: a", "this `{` is never closed"),
    ] {
        let (_, text) = fails(folder.path(), task, columns, &[]);
        assert!(text.contains(says), "{columns}: {text}");
    }
}

#[test]
fn an_encoder_is_refused_before_it_is_trained() {
    let border = border("bert");
    let csv = |words: &str| format!("text\n{words}\n");
    let set =
        ["task=causal_lm", "data.train={ csv: train.csv, text: text }", "data.eval={ csv: eval.csv, text: text }"];
    fs::write(border.path().join("train.csv"), csv("good bad café")).expect("writes");
    fs::write(border.path().join("eval.csv"), csv("great awful film plot")).expect("writes");
    let wide = border.fails(&set);
    assert!(
        wide.contains("pipeline::vocabulary") && wide.contains("`last_hidden_state` has 32 numbers for every token"),
        "{wide}"
    );

    // Tokens below the width of the hidden states: they might be scores.
    fs::write(border.path().join("train.csv"), csv("good bad film plot actor scene story music")).expect("writes");
    let seen = border.fails(&set);
    assert!(seen.contains("pipeline::not_causal") && seen.contains("sees what follows it too"), "{seen}");
}
