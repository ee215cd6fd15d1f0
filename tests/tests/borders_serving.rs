//! The output folder serves as it is: its files, what `predict` and `eval` make of it, a second run from it.

use lorac::data::TextEncoding;
use lorac::error::Error;
use lorac::evaluate::{Evaluated, evaluate};
use lorac::output::{Manifest, Status};
use lorac::pipeline::{Loaded, RuntimeSource};
use lorac::predict::{Answer, Options, Predictor, Says, texts};
use lorac::progress::Silent;
use lorac::run::{Outcome, RunOptions, run};
use lorac::source::Resolver;
use lorac::train::Prediction;
use lorac_tests::ONNXRUNTIME;
use lorac_tests::border::{Border, border};
use lorac_tests::serve::in_python;
use onnx_protobuf::{Message, ModelProto};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// The snippet that a model card has.
#[path = "../../crates/lorac/src/deploy/serving/snippet.rs"]
#[allow(dead_code, missing_docs, unreachable_pub)]
mod snippet;

fn options() -> Options {
    Options { runtime: RuntimeSource::try_from(ONNXRUNTIME.to_string()).expect("a source"), ..Options::default() }
}

fn open(model: &Path) -> Result<Predictor, Error> {
    Predictor::open(&model.display().to_string(), &options())
}

fn json_of(file: &Path) -> Value {
    let text = fs::read(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    serde_json::from_slice(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

/// Runs a pipeline written anew in the folder of a border.
fn run_text(border: &Border, text: &str, out: &str) -> Result<Outcome, Error> {
    let loaded = Loaded::parse(text, &border.path().join("again.yaml"), &[]).map_err(Box::new)?;
    let options = RunOptions { out: border.path().join(out), command: "test".into(), progress: &Silent, emit: None };
    run(&loaded, &Resolver::new(None, border.path())?, &options, &AtomicBool::new(false))
}

fn scores(border: &Border, model: &Path, settings: &[&str]) -> Result<Evaluated, Error> {
    let settings: Vec<String> = settings.iter().map(ToString::to_string).collect();
    let loaded = Loaded::load(&border.path().join("pipeline.yaml"), &settings).map_err(Box::new)?;
    let resolver = Resolver::new(None, border.path())?;
    evaluate(&model.display().to_string(), &loaded, &resolver, &resolver, &Silent, &AtomicBool::new(false))
}

fn label(answer: &Answer) -> (String, f64) {
    match &answer.says {
        Says::Label { label, probability, .. } => (label.clone(), *probability),
        other => panic!("{other:?}"),
    }
}

#[test]
fn config_tokenizer_and_card_say_what_was_trained() {
    let border = border("bert");
    fs::write(border.path().join("model/LICENSE"), "theirs").expect("writes");
    fs::write(border.path().join("model/special_tokens_map.json"), r#"{"unk_token":"[UNK]"}"#).expect("writes");
    let manifest = border.succeeds(&["data.max_length=20", "data.truncate=left"]).manifest;
    let config = json_of(&border.out().join("config.json"));
    let own = json_of(&border.path().join("model/config.json"));
    for (key, value) in own.as_object().expect("an object") {
        let changed = ["architectures", "problem_type", "id2label", "label2id", "pad_token_id"].contains(&key.as_str());
        assert!(changed || config[key] == *value, "{key}");
    }
    assert_eq!(config["architectures"], json!(["BertForSequenceClassification"]));
    assert_eq!(config["id2label"], json!({ "0": "negative", "1": "positive" }));
    assert_eq!(config["label2id"], json!({ "negative": 0, "positive": 1 }));
    assert_eq!((&config["num_labels"], &config["problem_type"]), (&json!(2), &json!("single_label_classification")));
    let served = manifest.served.clone().expect("what serves it");
    assert_eq!(config["pad_token_id"], served.pad_id);
    assert_eq!(config["lorac"], serde_json::to_value(&served).expect("JSON"));
    assert_eq!((served.predicts, served.max_length, served.output.as_str()), (Prediction::Classes, 20, "logits"));
    assert_eq!(served.base.expect("a base").sha256, manifest.inputs[0].sha256);

    let tokenizer = json_of(&border.out().join("tokenizer_config.json"));
    assert_eq!((&tokenizer["model_max_length"], &tokenizer["truncation_side"]), (&json!(20), &json!("left")));
    let same =
        |name: &str| fs::read(border.path().join("model").join(name)).ok() == fs::read(border.out().join(name)).ok();
    assert!(same("tokenizer.json") && same("special_tokens_map.json"));
    assert!(!border.out().join("LICENSE").exists(), "what belongs to neither tokenizer nor configuration stays");

    let card = fs::read_to_string(border.out().join("README.md")).expect("a card");
    let accuracy = manifest.eval.after.get("accuracy").expect("a score");
    for says in [
        "---\nlibrary_name: onnx\npipeline_tag: text-classification\n",
        "| 1 | `positive` |",
        &format!("| {accuracy:.4} |"),
        &manifest.inputs[0].sha256,
        "max_length=20",
        &format!("```rust\n{}```", include_str!("../../crates/lorac/src/deploy/serving/snippet.rs")),
    ] {
        assert!(card.contains(says), "{says}: {card}");
    }
    for name in ["README.md", "config.json", "tokenizer.json", "tokenizer_config.json"] {
        assert!(manifest.artifacts.iter().any(|a| a.path == name && a.kind == "serving"), "{name}");
    }
}

#[test]
fn a_folder_answers_as_its_evaluation_does_in_the_order_of_the_texts() {
    let border = border("bert");
    let manifest = border.succeeds(&["train.steps=20"]).manifest;
    let mut model = open(&border.out()).expect("opens");
    let table = texts(&border.path().join("eval.csv"), &[], TextEncoding::default(), model.served()).expect("a table");
    let rows = table.rows.collect::<Result<Vec<_>, Error>>().expect("rows");
    let answers = model.rows(&rows, &table.columns).expect("answers");
    assert_eq!(answers.len(), rows.len());
    let labels: Vec<String> = rows.iter().map(|row| row.text("label").unwrap_or_default().to_string()).collect();
    assert!(labels.iter().all(String::is_empty), "only what is needed is read");
    let right = fs::read_to_string(border.path().join("eval.csv")).expect("a table");
    let right = right.lines().skip(1).zip(&answers).filter(|(line, answer)| line.ends_with(&label(answer).0)).count();
    let accuracy = manifest.eval.after.get("accuracy").expect("a score");
    assert_eq!(right as f64 / answers.len() as f64, accuracy);
    // One by one, they are what they are among others.
    for (row, answer) in rows.iter().zip(&answers).take(5) {
        let alone = model.texts(&[row.text("text").expect("a text")]).expect("an answer").remove(0);
        assert_eq!(label(&alone).0, label(answer).0);
        assert!((label(&alone).1 - label(answer).1).abs() < 1e-5);
    }
    assert_eq!(label(&answers[0]).0, snippet_says(&border.out(), &rows[0]));
}

/// What the snippet in Rust prints of a text.
fn snippet_says(folder: &Path, row: &lorac::data::Row) -> String {
    let text = row.text("text").expect("a text");
    let lines = snippet::predict(&folder.display().to_string(), &[text]).expect("the snippet runs");
    lines[0].split('\t').next().unwrap_or_default().to_string()
}

#[test]
fn a_model_is_found_by_its_file_its_manifest_or_a_tokenizer_that_is_named() {
    let border = border("bert");
    border.succeeds(&[]);
    let text = ["good plot and a fine cast"];
    let says = |model: Result<Predictor, Error>| label(&model.and_then(|mut m| m.texts(&text)).expect("answers")[0]);
    let want = says(open(&border.out()));
    assert_eq!(says(open(&border.out().join("model.onnx"))), want);
    fs::remove_file(border.out().join("config.json")).expect("is there");
    assert_eq!(says(open(&border.out())), want, "by the manifest");
    let elsewhere = border.path().join("elsewhere");
    fs::create_dir(&elsewhere).expect("a folder");
    fs::copy(border.out().join("model.onnx"), elsewhere.join("m.onnx")).expect("copies");
    let alone = open(&elsewhere.join("m.onnx")).err().expect("no tokenizer").to_string();
    assert!(alone.contains("--tokenizer"), "{alone}");
    let named = Options {
        tokenizer: Some(border.out().join("tokenizer.json").display().to_string().parse().expect("a path")),
        ..options()
    };
    let model = Predictor::open(&elsewhere.join("m.onnx").display().to_string(), &named);
    let (label, probability) = says(model);
    // Nothing says the labels here.
    assert_eq!((label.starts_with("LABEL_"), probability), (true, want.1));
}

#[test]
fn what_cannot_be_asked_is_named() {
    let border = border("bert");
    let outcome = border.run(&["metrics={accuracy: {min: 1.01}}"]).expect("runs");
    assert_eq!(outcome.manifest.status, Status::Rejected);
    let rejected = open(&border.out()).err().expect("rejected");
    assert_eq!(rejected.code(), "served::rejected");
    let text = rejected.to_string();
    assert!(text.contains("accuracy") && text.contains("model.rejected.onnx"), "{text}");
    let mut asked = open(&border.out().join("model.rejected.onnx")).expect("by its own name");
    assert_eq!(asked.served().labels, ["negative", "positive"]);
    assert_eq!(asked.texts(&["good"]).expect("answers").len(), 1);

    border.succeeds(&[]);
    let config = border.out().join("config.json");
    let edited = |edit: &dyn Fn(&mut Value)| {
        let mut value = json_of(&config);
        edit(&mut value);
        fs::write(&config, value.to_string()).expect("writes");
        let error = open(&border.out()).err().expect("refused");
        (error.code(), error.to_string())
    };
    let (code, text) = edited(&|c| c["lorac"]["labels"] = json!(["a", "b", "c"]));
    assert!(code == "served::output" && text.contains("2 numbers") && text.contains("3 labels"), "{text}");
    let (code, text) = edited(&|c| c["lorac"]["output"] = json!("scores"));
    assert!(code == "served::output" && text.contains("`scores`") && text.contains("`logits`"), "{text}");
    let (code, text) = edited(&|c| c["lorac"]["predicts"] = json!("fates"));
    assert!(code == "served::section" && text.contains("config.json"), "{text}");
    fs::remove_file(border.out().join("model.onnx")).expect("is there");
    assert_eq!(open(&border.out()).err().expect("no model").code(), "served::no_model");
    assert!(open(border.path()).err().expect("no model").to_string().contains("holds neither"));
    let hidden = open(&border.path().join("model")).err().expect("hidden states");
    assert_eq!(hidden.code(), "served::unknown");
}

#[test]
fn eval_has_the_scores_of_the_run_and_its_gates() {
    for (settings, case) in
        [(&[][..], "bert"), (&["task={classify: {labels: [negative, positive], pool: cls}}"], "bert")]
    {
        let border = border(case);
        let after = border.succeeds(settings).manifest.eval.after;
        let found = scores(&border, &border.out(), settings).expect("scores");
        assert_eq!(found.scores.count, after.count);
        for score in &after.scores {
            let got = found.scores.get(&score.name).expect("the same metrics");
            assert!((got - score.value).abs() < 1e-6, "{}: {got} and {}", score.name, score.value);
        }
        assert!(found.gates.is_empty() && found.by_class.is_some());
        let gate = ["metrics={accuracy: {min: 0.99}, loss: {not_worse_than: before}}"];
        let missed = scores(&border, &border.out().join("model.onnx"), &[settings, &gate].concat()).expect("scores");
        assert_eq!(missed.gates.iter().map(|g| g.name.as_str()).collect::<Vec<_>>(), ["metrics.accuracy.min"]);
        assert!(missed.notes.iter().any(|note| note.contains("not_worse_than")), "{:?}", missed.notes);
    }
}

#[test]
fn eval_of_another_split_task_or_nothing_held_out() {
    let border = border("bert");
    border.succeeds(&["data.eval={split: 0.25}"]);
    let manifest = Manifest::read(&border.out()).expect("a manifest");
    let found = scores(&border, &border.out(), &["data.eval={split: 0.25}"]).expect("scores");
    let loss = |s: &lorac::train::Scores| s.get("loss").expect("a loss");
    assert!((loss(&found.scores) - loss(&manifest.eval.after)).abs() < 1e-6);
    let fails = |settings: &[&str]| scores(&border, &border.out(), settings).expect_err("refused").to_string();
    assert!(fails(&["data.eval=null"]).contains("data.eval"));
    let other =
        fails(&["task=causal_lm", "data.train={csv: train.csv, text: text}", "data.eval={csv: eval.csv, text: text}"]);
    assert!(other.contains("`classify`") && other.contains("`causal_lm`"), "{other}");
    let three = fails(&["task={classify: [a, b, c]}"]);
    assert!(three.contains("has 2 outputs, and the task 3"), "{three}");
}

#[test]
fn a_second_run_starts_from_the_first_with_its_labels() {
    let border = border("bert");
    border.succeeds(&["train.steps=5"]);
    for source in ["out/model.onnx", "out"] {
        let text = format!(
            "name: again\nmodel: {source}\ntask: classify\nadapt: [lora: {{ targets: [\"role:query\"] }}]\n\
             data: {{ train: {{ csv: train.csv, text: text, label: label }}, eval: {{ csv: eval.csv, text: text, label: label }}, max_length: 32 }}\n\
             train: {{ steps: 5, batch: 8 }}\nruntime: {{ source: \"{ONNXRUNTIME}\" }}\n"
        );
        let first = Manifest::read(&border.out()).expect("a manifest");
        let second = run_text(&border, &text, "second").unwrap_or_else(|e| panic!("{source}: {e}")).manifest;
        assert_eq!(second.verify.nodes_of_head, 0, "nothing is put on it");
        assert_eq!(second.served.as_ref().expect("served").labels, ["negative", "positive"]);
        let (before, after) = (second.eval.before.get("loss"), first.eval.after.get("loss"));
        assert!((before.expect("a loss") - after.expect("a loss")).abs() < 1e-6, "it begins where the first has ended");
        assert_eq!(open(&border.path().join("second")).expect("opens").served().labels, ["negative", "positive"]);
    }
}

#[test]
fn labels_and_provenance_stand_in_the_file_where_that_is_asked_for() {
    let border = border("bert");
    let plain = border.succeeds(&[]).manifest;
    let without = fs::read(border.out().join("model.onnx")).expect("a model");
    assert!(plain.verify.metadata.is_empty());
    let manifest = border.succeeds(&["deploy.metadata=true"]).manifest;
    let file = border.out().join("model.onnx");
    let with = fs::read(&file).expect("a model");
    assert_eq!(&with[..without.len()], &without[..], "the rest is what it is without");
    let keys = ["lorac.inputs", "lorac.labels", "lorac.served", "lorac.task", "lorac.version"];
    assert_eq!(manifest.verify.metadata, keys);
    assert_eq!((manifest.verify.changed_bytes_outside_targets, manifest.verify.passed), (0, true));
    // Another reader has them, and the model that it had.
    let read = |bytes: &[u8]| ModelProto::parse_from_bytes(bytes).expect("another reader reads it");
    let (before, mut after) = (read(&without), read(&with));
    let value = |key: &str| after.metadata_props.iter().find(|e| e.key == key).map(|e| e.value.clone()).expect("a key");
    assert_eq!(
        (value("lorac.labels").as_str(), value("lorac.task").as_str()),
        (r#"["negative","positive"]"#, "classify")
    );
    assert!(value("lorac.inputs").contains(&manifest.inputs[0].sha256));
    after.metadata_props.clear();
    assert_eq!(before, after);

    // The file alone says what it predicts, also of a model that was trained again.
    let again = format!(
        "name: again\nmodel: out/model.onnx\ntask: classify\nadapt: [lora: {{ targets: [\"role:query\"] }}]\n\
         data: {{ train: {{ csv: train.csv, text: text, label: label }}, max_length: 16 }}\n\
         train: {{ steps: 2, batch: 8 }}\nruntime: {{ source: \"{ONNXRUNTIME}\" }}\ndeploy: {{ metadata: true, formats: [onnx] }}\n"
    );
    let second = run_text(&border, &again, "second").unwrap_or_else(|e| panic!("{e}")).manifest;
    assert!(second.verify.metadata.iter().all(|key| key.starts_with("lorac.2.")), "{:?}", second.verify.metadata);
    let alone = border.path().join("alone");
    fs::create_dir(&alone).expect("a folder");
    for (from, name) in [("second/model.onnx", "m.onnx"), ("out/tokenizer.json", "tokenizer.json")] {
        fs::copy(border.path().join(from), alone.join(name)).expect("copies");
    }
    let mut model = open(&alone.join("m.onnx")).expect("opens");
    assert_eq!((model.served().max_length, model.served().labels.len()), (16, 2));
    assert!(["negative", "positive"].contains(&label(&model.texts(&["good"]).expect("answers")[0]).0.as_str()));
}

#[test]
fn several_labels_numbers_and_pairs_are_answered_as_they_were_trained() {
    let border = border("bert");
    let multi = ["task={multi_label: [negative, positive]}", "train.steps=12"];
    let after = border.succeeds(&multi).manifest.eval.after;
    let found = scores(&border, &border.out(), &multi).expect("scores");
    assert!((found.scores.get("loss").expect("a loss") - after.get("loss").expect("a loss")).abs() < 1e-6);
    let answers = open(&border.out()).and_then(|mut m| m.texts(&["good", "dull"])).expect("answers");
    for answer in &answers {
        let Says::Labels { labels, probabilities } = &answer.says else { panic!("{answer:?}") };
        assert_eq!(probabilities.len(), 2);
        assert_eq!(labels.len(), probabilities.iter().filter(|one| one.probability > 0.5).count());
    }
    let config = json_of(&border.out().join("config.json"));
    assert_eq!(config["problem_type"], "multi_label_classification");

    let balanced = ["task={classify: {labels: [negative, positive], class_weights: balanced}}"];
    let after = border.succeeds(&balanced).manifest.eval.after;
    let found = scores(&border, &border.out(), &balanced).expect("scores");
    assert!((found.scores.get("loss").expect("a loss") - after.get("loss").expect("a loss")).abs() < 1e-6);

    let pair = ["data.train.text_pair=label", "data.eval.text_pair=label"];
    let manifest = border.succeeds(&pair).manifest;
    let mut model = open(&border.out()).expect("opens");
    let table = texts(&border.path().join("eval.csv"), &[], TextEncoding::default(), model.served()).expect("a table");
    assert_eq!(table.columns, ["text", "label"]);
    let rows = table.rows.collect::<Result<Vec<_>, Error>>().expect("rows");
    let answers = model.rows(&rows, &table.columns).expect("answers");
    let right = rows.iter().zip(&answers).filter(|(row, a)| row.text("label").is_ok_and(|l| l == label(a).0)).count();
    assert_eq!(right as f64 / rows.len() as f64, manifest.eval.after.get("accuracy").expect("a score"));
    assert_eq!(model.pairs(&[("good", "positive")]).expect("answers").len(), 1);
    let one = model.texts(&["good"]).expect_err("one text of two").to_string();
    assert!(one.contains("pairs of texts"), "{one}");
}

/// Sentences whose words tell their tags.
const SENTENCES: &str = "the\tO\ngood\tB-x\nfilm\tI-x\n\nit\tO\nis\tO\nbad\tB-x\n\n";

#[test]
fn words_get_the_tags_that_the_evaluation_counts() {
    let border = border("bert");
    for name in ["train.conll", "eval.conll"] {
        fs::write(border.path().join(name), SENTENCES.repeat(if name.starts_with('t') { 40 } else { 3 }))
            .expect("writes");
    }
    // What is held out is not trained on.
    let train = fs::read_to_string(border.path().join("train.conll")).expect("reads") + "a\tO\nfilm\tI-x\n\n";
    let train = train.replace("the\tO", "a\tO").replace("it\tO", "and\tO");
    fs::write(border.path().join("train.conll"), train).expect("writes");
    // What kind of sequence classifier it was is no longer true.
    let own = border.path().join("model/config.json");
    let mut config = json_of(&own);
    config["problem_type"] = json!("single_label_classification");
    fs::write(&own, config.to_string()).expect("writes");
    let settings = ["task={tag: [O, B-x, I-x]}", "data.train=train.conll", "data.eval=eval.conll", "train.steps=60"];
    let manifest = border.succeeds(&settings).manifest;
    let found = scores(&border, &border.out(), &settings).expect("scores");
    for score in &manifest.eval.after.scores {
        let got = found.scores.get(&score.name).expect("the same metrics");
        assert!((got - score.value).abs() < 1e-6, "{}: {got} and {}", score.name, score.value);
    }
    let mut model = open(&border.out()).expect("opens");
    let table =
        texts(&border.path().join("eval.conll"), &[], TextEncoding::default(), model.served()).expect("a table");
    let rows = table.rows.collect::<Result<Vec<_>, Error>>().expect("rows");
    let answers = model.rows(&rows, &table.columns).expect("answers");
    let tags = answers.iter().flat_map(|answer| match &answer.says {
        Says::Tags { words, .. } => words.clone(),
        other => panic!("{other:?}"),
    });
    let right = SENTENCES.repeat(3);
    let right: Vec<&str> = right.lines().filter_map(|line| line.split_once('\t')).map(|(_, tag)| tag).collect();
    let same = tags.zip(&right).filter(|(found, right)| found.tag == **right).count();
    let accuracy = manifest.eval.after.get("accuracy").expect("a score");
    assert!((same as f64 / right.len() as f64 - accuracy).abs() < 1e-9, "{same} of {} and {accuracy}", right.len());
    let alone = model.texts(&["the good film"]).expect("answers").remove(0);
    assert_eq!(alone, answers[0]);
    let config = json_of(&border.out().join("config.json"));
    assert_eq!(config["architectures"], json!(["BertForTokenClassification"]));
    assert_eq!(config.get("problem_type"), None);
}

#[test]
fn a_language_model_says_how_well_it_would_have_told_a_text() {
    let border = border("genai");
    let manifest = border.succeeds(&[]).manifest;
    let served = manifest.served.expect("served");
    assert_eq!(served.predicts, Prediction::Tokens);
    let mut model = open(&border.out()).expect("opens");
    let answers = model.texts(&["a good film and a fine plot", "good"]).expect("answers");
    let Says::Perplexity { perplexity: Some(x), tokens } = answers[0].says else { panic!("{answers:?}") };
    assert!(x.is_finite() && x > 1.0 && tokens > 2, "{answers:?}");
}

#[test]
fn long_texts_are_cut_as_they_were_in_the_training() {
    let border = border("bert");
    let words = ["good", "film", "is", "the", "and", "it", "is", "bad", "the", "film"];
    for side in ["left", "right"] {
        border.succeeds(&["data.max_length=8", &format!("data.truncate={side}"), "train.steps=6"]);
        let mut model = open(&border.out()).expect("opens");
        // Two of the places are for special tokens.
        let texts = [&words[..], &words[4..], &words[..6]].map(|words| words.join(" "));
        let answers = model.texts(&texts).expect("answers");
        assert_eq!(answers.iter().map(|answer| answer.cut).collect::<Vec<_>>(), [4, 0, 0]);
        let [whole, end, begin] = [0, 1, 2].map(|at| label(&answers[at]).1);
        let (kept, lost) = if side == "left" { (end, begin) } else { (begin, end) };
        assert!((whole - kept).abs() < 1e-6 && (whole - lost).abs() > 1e-6, "{side}: {answers:?}");
    }
}

#[test]
fn a_model_of_one_length_is_fed_it() {
    let border = border("static");
    border.succeeds(&["train.steps=2"]);
    let mut model = open(&border.out()).expect("opens");
    let long = "good ".repeat(90);
    let answers = model.texts(&["good", long.trim()]).expect("answers");
    assert_eq!((answers[0].cut, answers[1].cut), (0, 90 - (32 - 2)), "{answers:?}");
}

#[test]
fn a_model_without_a_configuration_gets_one_of_what_is_known() {
    let border = border("halves");
    let manifest = border.succeeds(&[]).manifest;
    assert!(!border.path().join("config.json").exists());
    let config = json_of(&border.out().join("config.json"));
    assert_eq!(
        config["id2label"].as_object().map(|map| map.len()),
        Some(manifest.served.expect("served").labels.len())
    );
    assert!(config["vocab_size"].as_u64().is_some_and(|rows| rows > 0), "{config}");
    open(&border.out()).expect("opens").texts(&["good"]).expect("answers");
    // What a second run reads of it.
    let kind = lorac::base::model_kind(&border.out().join("model.onnx")).expect("a configuration");
    assert_eq!(kind.labels, ["negative", "positive"]);
}

/// transformers, onnxruntime and, where it is there, optimum load the folder; the snippet of the card says what `predict`
/// says. It needs a Python with transformers and onnxruntime: `LORAC_PEFT_PYTHON`.
#[test]
fn transformers_loads_the_folder_and_the_snippet_of_the_card_runs() {
    let border = border("bert");
    let mut rows = Vec::new();
    let regress = ["task=regress", "data.train.label=score", "data.eval.label=score"];
    let several = ["task={multi_label: [negative, positive]}"];
    for (name, settings) in [("classify", &[][..]), ("regress", &regress[..]), ("multi_label", &several[..])] {
        for table in ["train.csv", "eval.csv"] {
            let path = border.path().join(table);
            let text = fs::read_to_string(&path).expect("a table");
            if !text.starts_with("text,label,score") {
                let scored = text.lines().map(|line| match line.ends_with("label") {
                    true => format!("{line},score\n"),
                    false => format!("{line},{}\n", if line.ends_with("negative") { -0.5 } else { 1.25 }),
                });
                fs::write(&path, scored.collect::<String>()).expect("writes");
            }
        }
        border.succeeds(&[settings, &["deploy.metadata=true"]].concat());
        let out = border.path().join(name);
        fs::rename(border.out(), &out).expect("moves");
        let said = open(&out).and_then(|mut m| m.texts(&["a fine film", "a dull one"])).expect("answers");
        rows.push(json!({ "name": name, "folder": out, "predict": said }));
    }
    let language = lorac_tests::border::border("genai");
    let tags = lorac_tests::border::border("bert");
    fs::write(tags.path().join("train.conll"), SENTENCES.repeat(20)).expect("writes");
    let tag = ["task={tag: [O, B-x, I-x]}", "data.train=train.conll", "data.eval=null", "deploy.metadata=true"];
    for (name, border, settings) in [("causal_lm", &language, &["deploy.metadata=true"][..]), ("tag", &tags, &tag)] {
        border.run(settings).unwrap_or_else(|e| panic!("{name}: {e}"));
        let said = open(&border.out()).and_then(|mut m| m.texts(&["a fine film", "a dull one"])).expect("answers");
        rows.push(json!({ "name": name, "folder": border.out(), "predict": said }));
    }
    in_python(rows);
}
