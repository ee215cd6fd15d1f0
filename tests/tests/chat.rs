//! Conversations and completions become the tokens and labels that transformers and TRL make of them, by templates of Qwen,
//! SmolLM2, Llama 3 and 3.1, Mistral, Gemma, Qwen2.5 with tools, Qwen3 and one that marks what is generated: tests/data/truth/chat.

use lorac::data::encode::{Dialogue, Encode, Form};
use lorac::data::format::{Format, JsonLines, Written};
use lorac::data::{ChatSettings, DataError, Example, IGNORE, LABELS, Row, Tokenizer};
use lorac_tests::data;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;

fn folder() -> PathBuf {
    data("truth").join("chat")
}

fn dialogue(form: Form, case: &Value) -> Dialogue {
    Dialogue { tools: case.get("tools").map(|_| "tools".into()), ..Dialogue::of(form) }
}

fn row(fields: &Value) -> Row {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), fields.to_string()).expect("writes");
    let mut rows = JsonLines.open(file.path(), &Written::default()).expect("opens").rows;
    rows.next().expect("a row").expect("reads")
}

fn encoded(dialogue: &Dialogue, row: Row, tokenizer: &Tokenizer) -> Result<Example, String> {
    let mut made = dialogue.encode(&[row], Some(tokenizer)).map_err(|e: DataError| e.to_string())?;
    match made.refused.pop() {
        Some((_, error)) => Err(error.to_string()),
        None => Ok(made.examples.remove(0)),
    }
}

fn numbers(case: &Value, key: &str) -> Vec<i64> {
    case[key].as_array().into_iter().flatten().filter_map(Value::as_i64).collect()
}

/// The labels that a mask means: nothing predicts the first token.
fn labels(ids: &[i64], mask: &[i64]) -> Vec<i64> {
    ids.iter().zip(mask).enumerate().map(|(at, (id, m))| if *m == 1 && at > 0 { *id } else { IGNORE }).collect()
}

#[test]
fn tokens_and_labels_are_those_of_transformers_and_trl() {
    let text = std::fs::read_to_string(folder().join("cases.jsonl")).expect("cases");
    let plain = Tokenizer::from_file(&folder().join("tokenizer.json"), 4096).expect("a tokenizer");
    let bos = Tokenizer::from_file(&folder().join("tokenizer_bos.json"), 4096).expect("a tokenizer");
    let eos = |token: &str| BTreeMap::from([("eos_token".to_string(), token.to_string())]);
    let mut chat = plain.clone();
    let (mut same, mut refused, mut wrong) = (0, 0, Vec::new());
    for case in text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")) {
        let name = case["template"].as_str().unwrap_or("completion");
        if let Some(text) = case.get("text") {
            let named = |(name, text): (&String, &Value)| json!({ "name": name, "template": text });
            let templates = text.as_object().map(|all| all.iter().map(named).collect::<Vec<Value>>());
            let config = json!({ "chat_template": templates.map_or(text.clone(), Value::Array) });
            let tokens = serde_json::from_value(case["tokens"].clone()).expect("tokens");
            let of_config = ChatSettings::of_config(config.as_object().expect("an object"));
            chat = plain.clone().with_chat(ChatSettings { tokens, ..of_config });
            continue;
        }
        let (form, tokenizer) = match case.get("messages") {
            Some(_) => (Form::Messages("messages".into()), chat.clone()),
            None if case.get("conversations").is_some() => (Form::Messages("conversations".into()), chat.clone()),
            None => {
                let form = Form::Completion { prompt: "prompt".into(), completion: "completion".into() };
                let tokenizer = if case["bos"] == true { &bos } else { &plain };
                (form, tokenizer.clone().with_chat(ChatSettings { tokens: eos("<|eos|>"), ..ChatSettings::default() }))
            }
        };
        let got = encoded(&dialogue(form, &case), row(&case), &tokenizer);
        let (ids, mask) = (numbers(&case, "ids"), numbers(&case, "mask"));
        match (&got, case["raised"].as_str(), case["unstable"] == true) {
            (Err(why), Some(raised), _) => {
                refused += 1;
                // An attribute that is not there is told otherwise.
                if !why.contains(raised) && !raised.contains("has no attribute") {
                    wrong.push(format!("{name}: {why} instead of {raised}: {case}"));
                }
            }
            (Err(why), None, true) if why.contains("is not prefix-stable") => refused += 1,
            (Ok(example), None, unstable) if unstable && case.get("prompt").is_some() => {
                // The last space of the prompt and the first letters of its completion are one token, which TRL does not learn.
                let want = &ids;
                let learnt = example.tokens(LABELS).expect("labels").iter().filter(|id| **id != IGNORE).count();
                if example.tokens("input_ids") != Some(want) || learnt < 2 {
                    wrong.push(format!("{name}: {example:?} instead of {case}"));
                }
            }
            (Ok(example), None, false) => {
                same += 1;
                let want = labels(&ids, &mask);
                if example.tokens("input_ids") != Some(&ids) || example.tokens(LABELS) != Some(&want) {
                    wrong.push(format!("{name}: {example:?} instead of {case}"));
                }
            }
            _ => wrong.push(format!("{name}: {got:?} instead of {case}")),
        }
    }
    assert!(wrong.is_empty(), "{} cases differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(same >= 68 && refused >= 12, "{same} cases, and {refused} refused");
}
