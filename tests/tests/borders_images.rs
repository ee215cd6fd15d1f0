//! Images are made alike wherever a model is fed them, and batches have as many rows as a model takes.

use lorac::data::Preprocess;
use lorac::error::{Class, Error};
use lorac::evaluate::evaluate;
use lorac::onnx::proto::type_proto::Value as Type;
use lorac::onnx::proto::{ModelProto, tensor_shape_proto::dimension::Value as Size};
use lorac::output::Manifest;
use lorac::pipeline::Loaded;
use lorac::progress::Silent;
use lorac::run::{ResumeError, ResumeFrom, RunOptions, resume};
use lorac::source::Resolver;
use lorac_tests::border::{Border, Ears, border};
use lorac_tests::data;
use prost::Message;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

const CONFIG: &str = "preprocessor_config.json";

/// The images of tests/data/borders with a configuration of what is done to them.
fn configured(config: &Value) -> Border {
    let images = border("images");
    fs::write(images.path().join(CONFIG), config.to_string()).expect("writes");
    images
}

fn preprocess(manifest: &Manifest) -> Preprocess {
    manifest.served.as_ref().and_then(|served| served.images.clone()).expect("what is done to images")
}

/// The loss of a model on the held-out images of the border, by `lorac eval`.
fn scored(images: &Border, model: &str, settings: &[&str]) -> f64 {
    heard(images, model, settings).0
}

/// The same with the notes.
fn heard(images: &Border, model: &str, settings: &[&str]) -> (f64, String) {
    let settings: Vec<String> = settings.iter().map(ToString::to_string).collect();
    let loaded = Loaded::load(&images.path().join("pipeline.yaml"), &settings).unwrap_or_else(|e| panic!("{e}"));
    let resolver = Resolver::new(None, images.path()).expect("a cache");
    let scored = evaluate(model, &loaded, &resolver, &resolver, &Silent, &AtomicBool::new(false));
    let scored = scored.unwrap_or_else(|e| panic!("{e}"));
    (scored.scores.get("loss").expect("a loss"), scored.notes.join("\n"))
}

#[test]
fn what_is_done_to_images_goes_with_the_model() {
    let flipped = json!({ "image_processor_type": "MobileViTImageProcessor", "size": { "shortest_edge": 20 },
        "crop_size": { "height": 16, "width": 16 }, "resample": 3 });
    let clip = json!({ "image_processor_type": "CLIPImageProcessor", "size": { "shortest_edge": 18 }, "crop_size": 16,
        "image_std": [0.5, 0.25, 1.0] });
    for (config, flips) in [(flipped, true), (clip, false)] {
        let images = configured(&config);
        let first = images.succeeds(&[]).manifest;
        let made = preprocess(&first);
        assert_eq!((made.flip, made.crop), (flips, Some([16, 16])));
        fs::rename(images.out(), images.path().join("first")).expect("renames");
        let after = first.eval.after.get("loss").expect("a loss");
        // Neither what the base says nor what the pipeline says by now is what it was trained on.
        fs::write(images.path().join(CONFIG), "{}").expect("writes");
        for settings in [&[][..], &["data.images.mean=0.25"]] {
            let loss = scored(&images, "first/model.onnx", settings);
            assert!((loss - after).abs() < 1e-5, "{settings:?}: {loss}, {after} after the training");
        }
        let [red, green, blue] = [0, 1, 2].map(|at| *made.std.get(at).unwrap_or(&made.std[0]));
        let mean = made.mean[0];
        for (settings, differs) in [
            (vec!["data.images.mean=7".to_string()], Some("`mean`")),
            (vec![format!("data.images.std=[{red}, {green}, {blue}]"), "data.images.crop=16".into()], None),
            (vec!["data.images.crop=15".into(), format!("data.images.mean={mean}")], Some("`crop`")),
        ] {
            let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
            let (_, said) = heard(&images, "first/model.onnx", &settings);
            let note = differs.map(|key| format!("not as data.images says, which differs in {key}"));
            let noted = said.contains("as the model was trained on them");
            assert!(noted == note.is_some() && note.is_none_or(|note| said.contains(&note)), "{settings:?}: {said}");
        }
        let again = images.succeeds(&["model.source=first/model.onnx", "train.steps=1"]).manifest;
        assert_eq!(preprocess(&again), made);
        let before = again.eval.before.get("loss").expect("a loss");
        assert!((before - after).abs() < 1e-5, "{before}, {after} after the first training");
        fs::remove_file(images.path().join("first").join(CONFIG)).expect("removes");
        let loss = scored(&images, "first/model.onnx", &[]);
        assert!((loss - after).abs() < 1e-5, "config.json says it as well: {loss}, {after}");
    }
}

#[test]
fn a_configuration_is_followed_or_refused_by_the_key() {
    let all = "data.images={size: 16, resample: bilinear, rescale: 0.00392156862745098, mean: 0.5, std: 0.5}";
    let vit = |key: &str, value: Value| {
        let mut config = json!({ "image_processor_type": "ViTImageProcessor", "size": 16 });
        config[key] = value;
        config.to_string()
    };
    for (config, says) in [
        ("{ \"size\": 16".to_string(), "EOF while parsing"),
        ("[]".into(), "invalid type: sequence"),
        (vit("do_pad", json!(true)), "`do_pad`: it is true, which is not followed"),
        (vit("crop_pct", json!(0.9)), "`crop_pct`: it is 0.9, which is not followed"),
        (vit("do_normalize", json!("no")), "`do_normalize`: it is \"no\""),
        (vit("image_processor_type", json!("LevitImageProcessor")), "what a LevitImageProcessor does is not followed"),
        (vit("image_processor_type", json!("OursImageProcessor")), "a OursImageProcessor is not known"),
    ] {
        let images = border("images");
        fs::write(images.path().join(CONFIG), &config).expect("writes");
        let said = images.fails(&["train.steps=1"]);
        let place = format!("error[pipeline::images]: {CONFIG} beside the model: ");
        assert!(said.contains(&place) && said.contains(says), "{config}: {said}");
        images.succeeds(&["train.steps=1", all]);
    }
}

#[test]
fn blue_comes_first_where_the_configuration_says_so_whatever_else_is_said() {
    let all = "data.images={size: 16, resample: bilinear, rescale: 0.00392156862745098, mean: 0.5, std: 0.5}";
    for (config, note) in [
        (json!({ "do_flip_channel_order": true, "size": 16 }), None),
        (json!({ "image_processor_type": "OursImageProcessor", "do_flip_channel_order": true }), Some("is not known")),
        (json!({ "image_processor_type": "MobileViTImageProcessor" }), Some("leaves open `resample`")),
    ] {
        let images = configured(&config);
        let ears = Ears::default();
        let manifest =
            images.go("out", &["train.steps=1", all], None, &ears).unwrap_or_else(|e| panic!("{e}")).manifest;
        let (made, said) = (preprocess(&manifest), ears.text());
        assert_eq!((made.flip, made.dims(), made.mean), (true, Some([16, 16]), vec![0.5]), "{config}");
        let noted = said.contains("images are made as data.images says, the first channel blue");
        assert!(noted == note.is_some() && note.is_none_or(|note| said.contains(note)), "{config}: {said}");
    }
    let said = configured(&json!({ "do_flip_channel_order": "no" })).fails(&["train.steps=1", all]);
    assert!(said.contains("`do_flip_channel_order`: it is \"no\""), "{said}");
}

#[test]
fn a_checkpoint_of_other_images_is_refused() {
    let config = |mean: f64| json!({ "size": 16, "image_mean": mean, "image_std": 0.5 });
    let images = configured(&config(0.5));
    let settings = ["train.checkpoint={every: 4 steps}", "train.steps=6"].map(String::from);
    let loaded = Loaded::load(&images.path().join("pipeline.yaml"), &settings).expect("a pipeline");
    let resolver = Resolver::new(None, images.path()).expect("a cache");
    images.succeeds(&settings.each_ref().map(String::as_str));
    fs::write(images.path().join(CONFIG), config(0.25).to_string()).expect("writes");
    let options = RunOptions { out: images.out(), command: "test".into(), progress: &Silent, emit: None };
    let stop = AtomicBool::new(false);
    let error = resume(&loaded, &resolver, &options, &ResumeFrom::Newest, &stop).map(drop).expect_err("refused");
    assert_eq!((error.code(), error.class()), ("resume::differs", Class::Usage));
    let Error::Resume(ResumeError::Differs { differing, .. }) = error else { panic!("{error}") };
    assert!(differing.iter().any(|d| d.key == "data.images.mean"), "{differing:?}");
}

#[test]
fn no_class_vanishes_without_a_word() {
    let images = border("images");
    #[cfg(unix)]
    {
        fs::rename(images.path().join("train/down"), images.path().join("elsewhere")).expect("renames");
        std::os::unix::fs::symlink(images.path().join("elsewhere"), images.path().join("train/down")).expect("links");
        assert_eq!(images.succeeds(&["train.steps=1"]).manifest.data.train.examples, 20);
    }
    fs::create_dir(images.path().join("train/none")).expect("a folder");
    let said = images.fails(&[]);
    assert!(said.contains("train/none` has no .png or .jpg file"), "{said}");
}

/// Gives the inputs of a model so many rows and no others.
fn fix_rows(file: &Path, rows: i64) {
    let mut model = ModelProto::decode(&fs::read(file).expect("a model")[..]).expect("decodes");
    for input in &mut model.graph.as_mut().expect("a graph").input {
        let Some(Type::TensorType(tensor)) = input.r#type.as_mut().and_then(|t| t.value.as_mut()) else { continue };
        let first = tensor.shape.as_mut().and_then(|shape| shape.dim.first_mut()).expect("rows");
        first.value = Some(Size::DimValue(rows));
    }
    fs::write(file, model.encode_to_vec()).expect("writes");
}

#[test]
fn a_loss_of_a_whole_batch_is_computed_of_as_many_rows_as_the_model_takes() {
    let custom = border("custom");
    fix_rows(&custom.path().join("model.onnx"), 7);
    // 42 rows to learn from, and 13 that are held out.
    let manifest = custom.succeeds(&["train.batch=7", "data.eval={split: 7}", "train.steps=10"]).manifest;
    assert!(manifest.eval.after.get("loss") < manifest.eval.before.get("loss"), "{:?}", manifest.eval);
    let held = custom.fails(&["train.batch=7"]);
    assert!(held.contains("takes batches of 7 rows and no others: the last of the 13 examples make"), "{held}");
    let batch = custom.fails(&["train.batch=8", "data.eval={split: 7}"]);
    assert!(batch.contains("takes 7 examples at once and no others, and a step has 8"), "{batch}");
}

#[test]
fn pairs_of_texts_are_half_as_many_as_the_rows_that_a_model_takes() {
    let folder = border("bert");
    let base = data("peft_artifacts/bert-dynamo-base");
    for entry in fs::read_dir(&base).expect("a model").flatten() {
        fs::copy(entry.path(), folder.path().join(entry.file_name())).expect("copies");
    }
    fix_rows(&folder.path().join("model.onnx"), 16);
    let split = |csv: &str| format!("{{ csv: {csv}.csv, text: text, text_pair: label }}");
    let pipeline = |task: &str, batch: usize| {
        format!(
            "name: pairs\nmodel: {{ source: model.onnx }}\ntask: {{ embed: {task} }}\n\
             adapt: {{ lora: {{ targets: [\"role:query\", \"role:value\"], rank: 2 }} }}\n\
             data: {{ train: {}, eval: {}, max_length: 24 }}\n\
             train: {{ steps: 4, batch: {batch}, optimizer: {{ adamw: {{ lr: 0.01 }} }} }}\n\
             runtime: {{ source: \"{}\" }}\n",
            split("train"),
            split("eval"),
            lorac_tests::ONNXRUNTIME
        )
    };
    let write = |text: String| fs::write(folder.path().join("pipeline.yaml"), text).expect("writes");
    write(pipeline("{}", 8));
    let fixed = folder.succeeds(&[]).manifest;
    write(pipeline("{}", 16));
    let said = folder.fails(&[]);
    assert!(said.contains("takes 8 examples at once and no others, and a step has 16"), "{said}");
    fix_rows(&folder.path().join("model.onnx"), 15);
    let said = folder.fails(&[]);
    assert!(
        said.contains("batches of 15 rows and no others: an example has 2 texts, of which no batch has 15"),
        "{said}"
    );
    // The same numbers as those of a model that takes any.
    fs::copy(base.join("model.onnx"), folder.path().join("model.onnx")).expect("copies");
    write(pipeline("{}", 8));
    let any = folder.succeeds(&["train.eval_batch=8"]).manifest;
    let of = |manifest: &Manifest| [&manifest.eval.before, &manifest.eval.after].map(|s| s.get("mrr").expect("a rank"));
    assert!(of(&fixed).iter().zip(of(&any)).all(|(a, b)| (a - b).abs() < 1e-6), "{:?} {:?}", fixed.eval, any.eval);
    assert!((fixed.train.loss_last - any.train.loss_last).abs() < 1e-5);
}
