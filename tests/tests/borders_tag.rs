//! `task: tag`: words and their labels from files to a deployed model and an adapter of PEFT.

use lorac::onnx::load;
use lorac::output::read_peft;
use lorac::train::Count;
use lorac_tests::ONNXRUNTIME;
use lorac_tests::border::{Border, border};
use std::fmt::Write;
use std::fs;

/// Words that begin a span, those that may follow within it, and others.
const BEGINS: [&str; 4] = ["good", "great", "bad", "awful"];
const WITHIN: [&str; 4] = ["film", "movie", "plotted", "scene"];
const OTHER: [&str; 5] = ["the", "is", "and", "unscenic", "it"];

/// Sentences of words, each with its label: spans are `B-x` or `B-y` by the word that begins them, and `I-` of that kind.
fn sentences(count: usize, seed: usize) -> Vec<Vec<(&'static str, &'static str)>> {
    let mut state = seed;
    let mut draw = move |n: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) % n
    };
    let mut sentence = || {
        let mut words = Vec::new();
        while words.len() < 5 {
            words.push((OTHER[draw(5)], "O"));
            if draw(2) == 0 {
                let at = draw(4);
                words.push((BEGINS[at], if at < 2 { "B-x" } else { "B-y" }));
                words.push((WITHIN[at / 2 * 2 + draw(2)], if at < 2 { "I-x" } else { "I-y" }));
            }
        }
        words
    };
    (0..count).map(|_| sentence()).collect()
}

fn conll(sentences: &[Vec<(&str, &str)>]) -> String {
    let mut text = String::new();
    for (word, tag) in sentences.iter().flat_map(|s| s.iter().chain([&("", "")])) {
        _ = if word.is_empty() { writeln!(text) } else { writeln!(text, "{word}\t{tag}") };
    }
    text
}

fn jsonl(sentences: &[Vec<(&str, &str)>]) -> String {
    let line = |s: &Vec<(&str, &str)>| {
        let (tokens, tags): (Vec<&str>, Vec<&str>) = s.iter().copied().unzip();
        serde_json::json!({ "words": tokens, "kinds": tags }).to_string() + "\n"
    };
    sentences.iter().map(line).collect()
}

/// A BERT that learns tags from CoNLL text, and is held against JSON lines.
fn tagged() -> Border {
    let border = border("bert");
    let write = |name: &str, text: String| fs::write(border.path().join(name), text).expect("writes");
    write("train.conll", conll(&sentences(200, 1)));
    write("eval.jsonl", jsonl(&sentences(16, 2)));
    let pipeline = "
name: tag
model: model
task: { tag: { labels: [O, B-x, I-x, B-y, I-y] } }
data:
  train: train.conll
  eval: { jsonl: eval.jsonl, text: words, label: kinds }
  max_length: 24
adapt:
  - lora: { targets: all-linear, rank: 8, alpha: 16 }
train: { epochs: 20, batch: 8, optimizer: { adamw: { lr: 5e-3 } } }
runtime: { source: ONNXRUNTIME }
deploy: { formats: [onnx, peft], verify: { samples: 8 } }
";
    write("pipeline.yaml", pipeline.replace("ONNXRUNTIME", ONNXRUNTIME));
    border
}

#[test]
fn spans_are_learnt_and_the_head_is_that_of_the_class() {
    let border = tagged();
    let manifest = border.succeeds(&[]).manifest;
    let after = &manifest.eval.after;
    let held = sentences(16, 2).iter().map(Vec::len).sum::<usize>() as u64;
    assert_eq!(after.count, Count::Tokens(held), "a word has one label, whatever it is cut into");
    assert!(after.get("span_f1").expect("a score") > 0.85, "{after:?}");
    let model = load(border.out().join("model.onnx")).expect("loads").graph;
    let logits = model.find("logits").expect("an output");
    assert_eq!(model.fact(logits).to_string(), "f32[batch,sequence,5]");
    let adapter = read_peft(&border.out().join("adapter")).expect("an adapter");
    assert_eq!((adapter.task.as_str(), adapter.modules_to_save.clone()), ("TOKEN_CLS", vec!["classifier".to_string()]));
    let saved: Vec<(&str, &[usize])> = adapter.saved.iter().map(|(key, dims, _)| (key.as_str(), &dims[..])).collect();
    assert_eq!(saved, [("classifier.bias", &[5][..]), ("classifier.weight", &[5, 32])]);
    assert!(adapter.modules.iter().all(|m| m.name.starts_with("bert.encoder.layer.")), "{:?}", adapter.modules[0].name);
}

#[test]
fn every_piece_of_a_word_may_count() {
    let border = tagged();
    let manifest =
        border.succeeds(&["task.tag.label_pieces=all", "train.steps=2", "metrics={ accuracy: {} }"]).manifest;
    // `plotted` is plot ##t ##e ##d, `unscenic` nine letters.
    let pieces = |word: &str| match word {
        "plotted" => 4,
        "unscenic" => 8,
        _ => 1,
    };
    let all: u64 = sentences(16, 2).iter().flatten().map(|(word, _)| pieces(word)).sum();
    match manifest.eval.after.count {
        Count::Tokens(n) => assert!(n <= all && n > 140, "{n} of {all}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_model_s_own_token_head_is_trained_and_nothing_is_appended() {
    let border = tagged();
    border.succeeds(&["train.steps=2"]);
    let own = border.path().join("own");
    fs::create_dir(&own).expect("a folder");
    for (from, to) in [("out/model.onnx", "model.onnx"), ("model/tokenizer.json", "tokenizer.json")] {
        fs::copy(border.path().join(from), own.join(to)).unwrap_or_else(|e| panic!("{from}: {e}"));
    }
    let sets = ["model=own", "task.tag.head=existing", "train.steps=4", "adapt=[{ lora: { targets: all-linear } }]"];
    let manifest = border.succeeds(&sets).manifest;
    assert!(manifest.verify.passed, "{:?}", manifest.verify);
    let (before, after) = (load(own.join("model.onnx")), load(border.out().join("model.onnx")));
    let (before, after) = (before.expect("loads").graph, after.expect("loads").graph);
    assert_eq!((before.nodes().count(), before.outputs().len()), (after.nodes().count(), after.outputs().len()));

    let wrong = border.fails(&["model=own", "task.tag={ labels: [O, B-x, I-x, B-y, I-y, B-z], head: existing }"]);
    assert!(wrong.contains("`logits` f32[batch,sequence,5], does not have the 6 outputs of the task"), "{wrong}");
    let none = border.fails(&["task.tag.head=existing"]);
    assert!(none.contains("the model has no head for 5 labels of its own"), "{none}");
}

#[test]
fn rows_that_are_no_tagged_words_are_refused_with_their_place() {
    let border = tagged();
    for (line, says) in [
        ("{\"words\": [\"a\", \"b\"], \"kinds\": [\"O\"]}", "has 2 words in `words` and 1 labels in `kinds`"),
        ("{\"words\": [\"a\"], \"kinds\": [\"B-z\"]}", "has the unknown label `B-z`"),
        ("{\"words\": {\"a\": 1}, \"kinds\": [\"O\"]}", "`words` to be a list of strings, found an object"),
        ("{\"words\": [\"a\"]}", "has no field `kinds`"),
    ] {
        fs::write(border.path().join("eval.jsonl"), line).expect("writes");
        let wrong = border.fails(&[]);
        assert!(wrong.contains(says), "{wrong}");
    }
    fs::write(border.path().join("train.conll"), "good B-x\nfilm\n").expect("writes");
    let wrong = border.fails(&[]);
    assert!(wrong.contains("row 1 (line 2) has 1 cells"), "{wrong}");
    let wrong = border.fails(&["task.tag.labels=[O]"]);
    assert!(wrong.contains("at least two labels"), "{wrong}");
}
