//! The snippets of model cards feed what their models take, whatever that is; and models of images are asked as they were trained.

use lorac::pipeline::RuntimeSource;
use lorac::predict::{Options, Predictor, Says};
use lorac_tests::ONNXRUNTIME;
use lorac_tests::border::border;
use lorac_tests::serve::{in_python, python_snippet, unfed};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// The snippet that the card of a model of images has.
#[path = "../../crates/lorac/src/deploy/serving/snippet_images.rs"]
#[allow(dead_code, missing_docs, unreachable_pub)]
mod snippet;

fn open(model: &Path) -> Predictor {
    let runtime = RuntimeSource::try_from(ONNXRUNTIME.to_string()).expect("a source");
    let opened = Predictor::open(&model.display().to_string(), &Options { runtime, ..Options::default() });
    opened.unwrap_or_else(|e| panic!("{}: {e}", model.display()))
}

#[test]
fn every_input_of_a_model_is_fed() {
    let mut rows = Vec::new();
    let named = "data.inputs={ input_ids: \"input_ids:0\", attention_mask: \"attention_mask:0\" }";
    let kinds = ["bert", "genai", "merged", "static", "halves", "input_names"].map(|name| (name, border(name)));
    for (name, case) in &kinds {
        let more = if *name == "input_names" { named } else { "metrics={}" };
        case.run(&["train.steps=1", "deploy.metadata=true", more]).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(unfed(&case.out()), [] as [String; 0], "{}", python_snippet(&case.out()));
        let code = python_snippet(&case.out());
        let texts =
            code.split_once(" = [\"a fine film\"] * ").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
        let texts = texts.map_or(vec!["a fine film", "a dull one"], |rows| vec!["a fine film"; rows]);
        let said = open(&case.out()).texts(&texts).unwrap_or_else(|e| panic!("{e}"));
        // Models of ONNX Runtime's own builders have operators that ONNX does not know.
        rows.push(json!({ "name": "causal_lm", "folder": case.out(), "predict": said, "texts": texts }));
    }
    let pairs = border("bert");
    let split = |csv: &str| format!("data.{csv}={{ csv: {csv}.csv, text: text, text_pair: label }}");
    let settings = ["task={ embed: {} }".to_string(), split("train"), split("eval"), "train.steps=1".into()];
    pairs.run(&settings.each_ref().map(String::as_str)).unwrap_or_else(|e| panic!("embed: {e}"));
    assert_eq!(unfed(&pairs.out()), [] as [String; 0]);
    rows.push(json!({ "name": "embed", "folder": pairs.out(), "predict": [] }));
    in_python(rows);
}

#[test]
fn images_are_answered_as_the_evaluation_counts_them_and_the_snippets_say_the_same() {
    let processors = [
        json!({ "size": 16, "resample": 2, "image_mean": 0.5, "image_std": 0.5 }),
        json!({ "image_processor_type": "MobileViTImageProcessor", "size": { "shortest_edge": 20 },
            "crop_size": { "height": 16, "width": 16 }, "resample": 3 }),
        json!({ "image_processor_type": "CLIPImageProcessor", "size": { "shortest_edge": 12 }, "crop_size": 16,
            "image_std": [0.5, 0.25, 1.0] }),
    ];
    let mut rows = Vec::new();
    let cases = processors.map(|processor| {
        let case = border("images");
        fs::write(case.path().join("preprocessor_config.json"), processor.to_string()).expect("writes");
        case
    });
    for case in &cases {
        let manifest = case.succeeds(&["deploy.metadata=true"]).manifest;
        let mut model = open(&case.out());
        let files: Vec<PathBuf> = ["across", "down"]
            .iter()
            .flat_map(|class| (0..4).map(move |i| format!("eval/{class}/{i}.{}", if i == 1 { "jpg" } else { "png" })))
            .map(|name| case.path().join(name))
            .collect();
        let answers = model.images(&files).unwrap_or_else(|e| panic!("{e}"));
        let right = files.iter().zip(&answers).filter(|(file, answer)| {
            let Says::Label { label, .. } = &answer.says else { panic!("{answer:?}") };
            assert_eq!(answer.file.as_deref(), file.to_str());
            file.parent().is_some_and(|class| class.ends_with(label))
        });
        let accuracy = manifest.eval.after.get("accuracy").expect("a score");
        assert_eq!(right.count() as f64 / files.len() as f64, accuracy);
        let wrong = model.texts(&["a"]).expect_err("it reads images").to_string();
        assert!(wrong.contains("reads images, and is given texts"), "{wrong}");

        assert_eq!(unfed(&case.out()), [] as [String; 0]);
        let card = fs::read_to_string(case.out().join("README.md")).expect("a card");
        let rust = include_str!("../../crates/lorac/src/deploy/serving/snippet_images.rs");
        for says in ["pipeline_tag: image-classification", "Images are made 16 x 16 pixels.", "| 1 | `down` |", rust] {
            assert!(card.contains(says), "{says}: {card}");
        }
        assert!(manifest.artifacts.iter().any(|one| one.path == "README.md"), "{:?}", manifest.artifacts);
        // Decoders of JPEG round differently.
        for photo in [0, 6] {
            fs::copy(&files[photo], case.out().join("photo.png")).expect("copies");
            let mut said: Vec<Value> = vec![serde_json::to_value(&answers[photo]).expect("JSON")];
            said[0]["file"] = "photo.png".into();
            let folder = case.path().join(format!("of_{photo}"));
            fs::create_dir(&folder).expect("a folder");
            for entry in fs::read_dir(case.out()).expect("lists").flatten().filter(|entry| entry.path().is_file()) {
                fs::copy(entry.path(), folder.join(entry.file_name())).expect("copies");
            }
            rows.push(json!({ "name": "images", "folder": folder, "predict": said, "texts": ["photo.png"] }));
        }
        let lines = snippet::predict(&case.out().display().to_string(), &[&files[0].display().to_string()]);
        assert_eq!(lines.unwrap_or_else(|e| panic!("{e}")), [answers[0].to_string()]);
    }
    in_python(rows);
}

#[test]
fn a_model_of_images_without_what_is_done_to_them_is_not_asked() {
    let case = border("images");
    case.succeeds(&["train.steps=1"]);
    let config = case.out().join("config.json");
    let mut value: Value = serde_json::from_slice(&fs::read(&config).expect("reads")).expect("JSON");
    value["lorac"]["images"] = Value::Null;
    fs::write(&config, value.to_string()).expect("writes");
    let error = Predictor::open(&case.out().display().to_string(), &Options::default()).map(drop).expect_err("refused");
    assert_eq!(error.code(), "served::no_preprocessing");
    // As another tool leaves it.
    fs::write(&config, r#"{ "model_type": "vit" }"#).expect("writes");
    fs::remove_file(case.out().join("manifest.json")).expect("removes");
    let error = Predictor::open(&case.out().join("model.onnx").display().to_string(), &Options::default());
    assert_eq!(error.map(drop).expect_err("refused").code(), "served::no_preprocessing");
}
