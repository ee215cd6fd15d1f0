//! Tasks that read pairs of texts, arrays and images.

use lorac::data::{Resample, Size};
use lorac::error::Class;
use lorac::evaluate::evaluate;
use lorac::output::Manifest;
use lorac::pipeline::Loaded;
use lorac::predict::{Options, Predictor, Says};
use lorac::progress::Silent;
use lorac::run::{ResumeFrom, RunOptions, resume, run};
use lorac::source::Resolver;
use lorac::train::{Checkpoint, Prediction};
use lorac_tests::border::{Ears, border};
use lorac_tests::serve::{in_python, python_snippet, unfed};
use lorac_tests::{ONNXRUNTIME, data};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use tempfile::TempDir;

/// A tiny BERT without a head, and pairs of the halves of texts.
fn pairs() -> TempDir {
    let folder = tempfile::tempdir().expect("temp");
    for from in [data("peft_artifacts/bert-dynamo-base"), data("borders/common")] {
        for entry in fs::read_dir(&from).expect("a folder").flatten() {
            fs::copy(entry.path(), folder.path().join(entry.file_name())).expect("copies");
        }
    }
    for table in ["train", "eval"] {
        let text = fs::read_to_string(folder.path().join(format!("{table}.csv"))).expect("a table");
        let rows = text.lines().skip(1).enumerate().map(|(i, line)| {
            let (text, _) = line.rsplit_once(',').expect("two columns");
            let words: Vec<&str> = text.split_whitespace().collect();
            let (a, b) = words.split_at(words.len() / 2);
            let [a, b] = [a, b].map(|words| words.join(" "));
            format!("{a},{b} {a},w{},{}\n", i % 50, (i % 5) as f64 / 40.0)
        });
        let rows: String = rows.collect();
        fs::write(folder.path().join(format!("{table}.pairs.csv")), format!("a,b,c,score\n{rows}")).expect("writes");
    }
    folder
}

fn text(task: &str, split: &str, train: &str) -> String {
    format!(
        "name: pairs\nmodel: {{ source: model.onnx }}\ntask: {{ {task} }}\n\
         adapt: [{{ lora: {{ targets: [\"role:query\", \"role:value\"], rank: 2, alpha: 4 }} }}]\n\
         data: {{ train: {{ csv: train.pairs.csv, {split} }}, eval: {{ csv: eval.pairs.csv, {split} }}, max_length: 24 }}\n\
         train: {{ steps: 30, batch: 16, {train} optimizer: {{ adamw: {{ lr: 0.02 }} }} }}\n\
         deploy: {{ formats: [onnx, peft, serving] }}\nruntime: {{ source: \"{ONNXRUNTIME}\" }}\n"
    )
}

fn started(folder: &Path, text: &str) -> Result<Manifest, String> {
    let loaded = Loaded::parse(text, &folder.join("p.yaml"), &[]).map_err(|e| e.to_string())?;
    let resolver = Resolver::new(None, folder).expect("a cache");
    let options = RunOptions { out: folder.join("out"), command: "test".into(), progress: &Silent, emit: None };
    let outcome = run(&loaded, &resolver, &options, &AtomicBool::new(false)).map_err(|e| e.to_string())?;
    assert!(outcome.gates.is_empty() && outcome.manifest.verify.passed, "{:?}", outcome.gates);
    Ok(outcome.manifest)
}

#[test]
fn an_embedder_learns_pairs_and_its_vectors_are_those_of_the_file() {
    let folder = pairs();
    let manifest = started(folder.path(), &text("embed: {}", "text: a, text_pair: b", "")).expect("runs");
    let (before, after) = (&manifest.eval.before, &manifest.eval.after);
    let of = |scores: &lorac::train::Scores, name| scores.get(name).unwrap_or(f64::NAN);
    assert!(of(after, "loss") < of(before, "loss") && of(after, "mrr") > of(before, "mrr"), "{before:?} {after:?}");
    assert!(manifest.verify.nodes_of_head > 0);
    assert_eq!(manifest.trainable_parameters, 4 * 2 * (8 + 8));

    let out = folder.path().join("out");
    let mut model = Predictor::open(&out.display().to_string(), &Options::default()).expect("opens");
    let vector = |says: &Says| match says {
        Says::Embedding { embedding } => embedding.clone(),
        other => panic!("{other:?}"),
    };
    let answers = model.texts(&["w1 w2 good", "w1 w2 good", "bad w9"]).expect("answers");
    let vectors: Vec<Vec<f32>> = answers.iter().map(|answer| vector(&answer.says)).collect();
    assert_eq!((vectors[0].len(), &vectors[0]), (8, &vectors[1]));
    let length: f32 = vectors[2].iter().map(|x| x * x).sum();
    assert!((length - 1.0).abs() < 1e-5, "{length}");

    let resolver = Resolver::new(None, folder.path()).expect("a cache");
    let loaded = Loaded::parse(&text("embed: {}", "text: a, text_pair: b", ""), &folder.path().join("p.yaml"), &[]);
    let loaded = loaded.expect("a pipeline");
    let model = out.join("model.onnx").display().to_string();
    let scored = evaluate(&model, &loaded, &resolver, &resolver, &Silent, &AtomicBool::new(false)).expect("scores");
    assert!((of(&scored.scores, "mrr") - of(after, "mrr")).abs() < 1e-6, "{:?} {after:?}", scored.scores);
    let adapter = lorac::output::read_peft(&out.join("adapter")).expect("an adapter");
    assert_eq!(adapter.task, "FEATURE_EXTRACTION");
    let card = fs::read_to_string(out.join("README.md")).expect("a card");
    assert!(card.contains("sentence-similarity") && card.contains("scores @ scores.T"), "{card}");
}

#[test]
fn hard_negatives_and_scores_are_learnt_too() {
    for (task, split) in [
        ("embed: { pool: cls, symmetric: true, temperature: 0.1 }", "text: a, text_pair: b, negatives: c"),
        ("embed: { loss: cosine, normalize: false }", "text: a, text_pair: b, label: score"),
    ] {
        let folder = pairs();
        let manifest = started(folder.path(), &text(task, split, "")).unwrap_or_else(|e| panic!("{task}: {e}"));
        let loss = |scores: &lorac::train::Scores| scores.get("loss").unwrap_or(f64::NAN);
        assert!(loss(&manifest.eval.after) < loss(&manifest.eval.before), "{task}: {:?}", manifest.eval);
    }
}

/// Where the negative of a pair is its own second text, every text has twice as many to be told from, which are the same:
/// the loss is ln 2 more, from the first step to the last evaluation.
#[test]
fn a_text_is_told_from_its_hard_negatives() {
    let losses = |split: &str| {
        let folder = pairs();
        let manifest = started(folder.path(), &text("embed: {}", split, "")).unwrap_or_else(|e| panic!("{split}: {e}"));
        let of = |scores: &lorac::train::Scores| scores.get("loss").unwrap_or(f64::NAN);
        [manifest.train.loss_first, of(&manifest.eval.before), of(&manifest.eval.after)]
    };
    let (alone, same) = (losses("text: a, text_pair: b"), losses("text: a, text_pair: b, negatives: b"));
    assert!(alone.iter().zip(same).all(|(a, s)| (s - a - 2.0f64.ln()).abs() < 1e-4), "{alone:?} {same:?}");
}

#[test]
fn what_pairs_cannot_be_learnt_by_is_refused_with_its_place() {
    let folder = pairs();
    let wrong =
        |task: &str, split: &str, train: &str| started(folder.path(), &text(task, split, train)).expect_err("refused");
    let pair = "text: a, text_pair: b";
    for (task, split, train, says) in [
        ("embed: {}", "text: a", "", "reads pairs of texts that belong together: text_pair: COLUMN"),
        ("embed: {}", pair, "slice: 4,", "`slice`: a text is told from those of its whole batch"),
        ("embed: {}", pair, "accumulate: 2,", "`accumulate`: a text is told from those of its whole batch"),
        ("embed: { output: pooled }", pair, "", "the model has no output `pooled` (nearest: pooler_output)"),
        ("embed: { output: pooler_output, pool: cls }", pair, "", "`pool`: `output` names the vector itself"),
        ("embed: { loss: cosine }", pair, "", "`loss: cosine` needs the column of the pairs' scores"),
        ("embed: { loss: cosine, temperature: 1 }", pair, "", "`temperature` is for `loss: in_batch`"),
        ("embed: { temperature: 0 }", pair, "", "`temperature` is 0"),
        ("embed: {}", "text: a, text_pair: b, negatives: d", "", "no column `d`"),
        ("embed: {}", "text: a, text_pair: b, label: a", "", "expected a finite number in `a`"),
    ] {
        let found = wrong(task, split, train);
        assert!(found.contains(says), "{task} {split}: {found}");
    }
}

#[test]
fn a_loss_of_the_model_s_own_is_trained_on_arrays_on_both_engines() {
    let mut seen = Vec::new();
    for engine in [format!("runtime.source={ONNXRUNTIME}"), "runtime.source=embedded".to_string()] {
        let custom = border("custom");
        let manifest = custom.succeeds(&[&engine]).manifest;
        let of = |scores: &lorac::train::Scores| scores.get("loss").unwrap_or(f64::NAN);
        let (before, after) = (of(&manifest.eval.before), of(&manifest.eval.after));
        assert!(after < before, "{before} to {after}");
        assert_eq!((manifest.data.train.examples, manifest.verify.nodes_of_head), (42, 0));
        seen.push((manifest.train.loss_first, after));
    }
    assert!((seen[0].0 - seen[1].0).abs() < 1e-5 && (seen[0].1 - seen[1].1).abs() < 1e-3, "{seen:?}");
    // 13 held-out rows in batches of 5: none is filled up, which the model's own mean would count.
    let by = |batch: &str| {
        let custom = border("custom");
        custom.succeeds(&[&format!("train.eval_batch={batch}")]).manifest.eval.before.get("loss").expect("a loss")
    };
    assert!((by("5") - by("13")).abs() < 1e-6);
}

#[test]
fn arrays_of_other_names_are_told_and_what_does_not_fit_is_named() {
    let custom = border("custom");
    let renamed = ["data.train.npz=other.npz", "data.eval={split: 0.2}"];
    let more = ["task.custom.inputs={x: features, labels: wanted}"];
    custom.succeeds(&[&renamed[..], &more].concat());
    for (settings, says) in [
        (&["task.custom.loss=los"][..], "the model has no output `los` (nearest: loss)"),
        (&["task.custom.loss=y"], "a loss is one float number"),
        (&["task.custom.inputs={z: x}"], "the model has no input `z`"),
        (&["data.train.npz=other.npz", "data.eval=null"], "no column `labels`"),
        (
            &["task.custom.inputs={x: labels, labels: x}"],
            "data.train: example 1 has f32[] for the input `x`, which takes f32[batch,4]",
        ),
        (&["train.slice=4"], "`slice`: the model computes its loss of a whole batch"),
        (&["data.train.text=x"], "the model is fed arrays and images"),
        (
            &["data.train={csv: train.csv}"],
            "error[pipeline::split]: a csv file has texts: name the columns of numbers for the model's inputs",
        ),
        (&["task={causal_lm: {}}"], "the task `causal_lm` reads texts, and no arrays or images"),
        (
            &["task={classify: [a, b]}"],
            "error[pipeline::split]: a npz file has arrays: name those for the model's inputs",
        ),
    ] {
        let found = border("custom").fails(settings);
        assert!(found.contains(says), "{settings:?}: {found}");
    }
    let custom = border("custom");
    custom.succeeds(&["train.steps=2"]);
    let out = custom.out().display().to_string();
    let refused = Predictor::open(&out, &Options::default()).map(|_| ()).expect_err("no texts").to_string();
    assert!(refused.contains("reads arrays, and texts and images are answered"), "{refused}");
}

#[test]
fn images_in_folders_are_learnt_by_the_model_s_head_and_by_new_ones() {
    for settings in [
        &[][..],
        &["task.classify.head=linear"],
        &["task.classify.head=linear", "task.classify.pool=cls"],
        &["task.classify.hidden=logits"],
        &[
            "runtime.source=embedded",
            "data.images.size=[16, 16]",
            "data.images.resample=bicubic",
            "data.images.mean=[0.4, 0.5, 0.6]",
        ],
    ] {
        let images = border("images");
        let manifest = images.succeeds(&[settings, &["train.steps=30"]].concat()).manifest;
        let loss = |scores: &lorac::train::Scores| scores.get("loss").unwrap_or(f64::NAN);
        assert!(loss(&manifest.eval.after) < loss(&manifest.eval.before), "{settings:?}: {:?}", manifest.eval);
        assert_eq!(manifest.eval.after.get("accuracy"), Some(1.0), "{settings:?}: {:?}", manifest.eval);
        let names: Vec<(&str, usize)> =
            manifest.data.train.labels.iter().map(|l| (l.name.as_str(), l.examples)).collect();
        assert_eq!(names, [("across", 10), ("down", 10)]);
        let served = manifest.served.expect("known");
        let images_of = served.images.expect("what is done to images");
        let resample = if settings.len() > 2 { Resample::Bicubic } else { Resample::Bilinear };
        assert_eq!((images_of.size, images_of.resample), (Some(Size::Exact(16, 16)), resample));
    }
}

#[test]
fn images_that_do_not_decode_and_sizes_that_do_not_fit_are_named() {
    let images = border("images");
    fs::write(images.path().join("train/down/broken.png"), "no image").expect("writes");
    let png = fs::read(images.path().join("train/down/0.png")).expect("a file");
    fs::write(images.path().join("train/down/cut.png"), &png[..png.len() / 2]).expect("writes");
    let found = images.fails(&[]);
    assert!(found.contains("broken.png") && found.contains("neither a PNG nor a JPEG"), "{found}");
    let manifest = images.succeeds(&["data.on_error=skip"]).manifest;
    assert_eq!((manifest.data.train.skipped, manifest.data.train.examples), (2, 20));
    for (settings, says) in [
        (&["data.images.size=8"][..], "images are made 8 x 8 pixels, and the model takes"),
        (&["data.images.mean=[1, 2]"], "`mean` has 2 numbers"),
        (&["data.train.images=train.csv"], "a file, not a folder of images"),
        (&["data.train.images=no/such"], "no/such"),
        (&["task.classify.labels=[up, down]"], "unknown label `across`"),
        (&["data.train.images=eval/down"], "lies in no folder of a class"),
    ] {
        let found = border("images").fails(settings);
        assert!(found.to_lowercase().contains(&says.to_lowercase()), "{settings:?}: {found}");
    }
}

/// Stripes across and down by turns, as arrays of a safetensors file: `pixels`, `class` (0 and 1), `across` and `down` (a
/// label each), `score` (-0.5 and 1.5).
fn arrays_of(folder: &Path, count: usize, faint: f32) -> PathBuf {
    let (mut pixels, mut class, mut across, mut score) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for i in 0..count {
        let is_down = i % 2;
        for at in 0..3 * 16 * 16 {
            let stripe = [at / 16 % 16, at % 16][is_down] / (2 + i / 2 % 3) % 2;
            pixels.extend(((stripe as f32 * 2.0 - 1.0) * (1.0 - faint - i as f32 / 100.0)).to_le_bytes());
        }
        class.extend((is_down as i64).to_le_bytes());
        across.extend((1 - is_down as i64).to_le_bytes());
        score.extend((is_down as f32 * 2.0 - 0.5).to_le_bytes());
    }
    let view = |dtype, shape: &[usize], data| TensorView::new(dtype, shape.to_vec(), data).expect("a tensor");
    let all = [
        ("pixels", view(Dtype::F32, &[count, 3, 16, 16], &pixels)),
        ("class", view(Dtype::I64, &[count], &class)),
        ("across", view(Dtype::I64, &[count], &across)),
        ("down", view(Dtype::I64, &[count], &class)),
        ("score", view(Dtype::F32, &[count], &score)),
    ];
    let file = folder.join(format!("{count}.safetensors"));
    safetensors::serialize_to_file(all, None, &file).expect("writes");
    file
}

#[test]
fn arrays_are_classified_labelled_and_measured() {
    for (task, label, metric, reached) in [
        ("classify: { labels: [across, down]", "class, label_map: { \"0\": across, \"1\": down }", "accuracy", 1.0),
        ("multi_label: { labels: [across, down]", "[across, down]", "f1_micro", 1.0),
        ("regress: {", "score", "r2", 0.9),
    ] {
        let images = border("images");
        let of = |count: usize, faint: f32| {
            let file = arrays_of(images.path(), count, faint);
            format!("{{ safetensors: {}, arrays: {{ pixel_values: pixels }}, label: {label} }}", file.display())
        };
        let settings = [
            format!("task={{ {task}, head: linear }} }}").replace("{,", "{"),
            format!("data.train={}", of(40, 0.0)),
            format!("data.eval={}", of(12, 0.005)),
            "train.steps=60".into(),
        ];
        let manifest = images.succeeds(&settings.each_ref().map(String::as_str)).manifest;
        let held_out = manifest.data.eval.as_ref().map(|card| card.examples);
        assert_eq!((manifest.data.train.examples, held_out), (40, Some(12)), "{task}");
        let score = |scores: &lorac::train::Scores| scores.get(metric).unwrap_or(f64::NAN);
        let (before, after) = (score(&manifest.eval.before), score(&manifest.eval.after));
        assert!(before < 0.8 && after >= reached, "{task}: {:?}", manifest.eval);
    }
}

#[test]
fn images_are_measured_by_the_names_of_their_folders() {
    let images = border("images");
    for split in ["train", "eval"] {
        for (name, number) in [("across", "0.5"), ("down", "1.5")] {
            let folder = images.path().join(split);
            fs::rename(folder.join(name), folder.join(number)).expect("renames");
        }
    }
    let eval = images.succeeds(&["task={ regress: { head: linear } }", "train.steps=60"]).manifest.eval;
    let r2 = |scores: &lorac::train::Scores| scores.get("r2").unwrap_or(f64::NAN);
    assert!(r2(&eval.before) < 0.5 && r2(&eval.after) > 0.8, "{eval:?}");
}

/// The pipeline of a task over the texts of tests/data/borders/common.
fn of_texts(task: &str, model: &str) -> String {
    format!(
        "name: texts\nmodel: {{ source: {model} }}\ntask: {{ {task} }}\n\
         adapt: [{{ lora: {{ targets: [\"role:query\", \"role:value\"], rank: 2, alpha: 4 }} }}]\n\
         data: {{ train: {{ csv: train.csv, text: text }}, eval: {{ csv: eval.csv, text: text }}, max_length: 8 }}\n\
         train: {{ steps: 24, batch: 16, optimizer: {{ adamw: {{ lr: 0.02 }} }} }}\n\
         deploy: {{ formats: [onnx, serving] }}\nruntime: {{ source: \"{ONNXRUNTIME}\" }}\n"
    )
}

/// The tables and the tokenizer, and models of tests/data/truth/further.
fn texts() -> TempDir {
    let folder = tempfile::tempdir().expect("temp");
    for from in [data("truth/further"), data("borders/common")] {
        for entry in fs::read_dir(&from).expect("a folder").flatten() {
            fs::copy(entry.path(), folder.path().join(entry.file_name())).expect("copies");
        }
    }
    // Of 40 tokens, as the models have.
    let words: Vec<String> = (0..34).map(|i| format!("w{i}")).collect();
    let known = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good"].map(String::from).into_iter().chain(words);
    let vocabulary: serde_json::Map<String, serde_json::Value> =
        known.enumerate().map(|(id, word)| (word, id.into())).collect();
    let special = |id: u64, content: &str| {
        serde_json::json!({ "id": id, "content": content, "special": true,
        "single_word": false, "lstrip": false, "rstrip": false, "normalized": false })
    };
    let tokenizer = serde_json::json!({
        "model": { "type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]" },
        "pre_tokenizer": { "type": "Whitespace" },
        "added_tokens": [special(0, "[PAD]"), special(1, "[UNK]"), special(4, "[MASK]")],
    });
    fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).expect("writes");
    folder
}

#[test]
fn a_model_learns_what_its_teacher_says() {
    for task in [
        "distill: { teacher: teacher.onnx, temperature: 2 }",
        "distill: { teacher: teacher.onnx, on: hidden }",
        "distill: { teacher: { source: teacher.onnx }, on: embedding, pool: cls }",
    ] {
        let folder = texts();
        let manifest = started(folder.path(), &of_texts(task, "bert.onnx")).unwrap_or_else(|e| panic!("{task}: {e}"));
        let loss = |scores: &lorac::train::Scores| scores.get("loss").unwrap_or(f64::NAN);
        assert!(loss(&manifest.eval.after) < loss(&manifest.eval.before), "{task}: {:?}", manifest.eval);
        assert_eq!(manifest.verify.nodes_of_head, 0, "nothing of the teacher is deployed");
        assert!(manifest.inputs.iter().any(|input| input.role == "task.teacher"));
        let out = folder.path().join("out");
        assert_eq!(unfed(&out), [] as [String; 0], "the deployed model has no teacher: {}", python_snippet(&out));
        assert!(!python_snippet(&out).contains("teacher"), "{}", python_snippet(&out));
        let card = fs::read_to_string(out.join("README.md")).expect("a card");
        assert_eq!(card.contains("## Rust"), manifest.served.is_some_and(|served| served.predicts != Prediction::Loss));
        in_python(vec![json!({ "name": task, "folder": out, "predict": [] })]);
    }
    let folder = texts();
    let wrong = |task: &str| started(folder.path(), &of_texts(task, "bert.onnx")).expect_err(task);
    let other = wrong("distill: { teacher: masked.onnx }");
    assert!(other.contains("the model's `logits` is") && other.contains("the teacher's `logits`"), "{other}");
    let unknown = wrong("distill: { teacher: teacher.onnx, teacher_output: logit }");
    assert!(unknown.contains("the teacher has no output `logit` (nearest: logits)"), "{unknown}");
    let fed = wrong("distill: { teacher: custom.onnx, on: logits }");
    let alike = "error[pipeline::head]: the model's `logits` is f32[batch,3], and the teacher's `y` f32[batch,2]";
    assert!(fed.contains(alike), "{fed}");
    let none = wrong("distill: { teacher: masked.onnx, on: hidden }");
    let hidden = "`last_hidden_state` is f32[batch,sequence,8], and the teacher's `logits` f32[batch,sequence,40]";
    assert!(none.contains(hidden), "{none}");
    let idle = wrong("distill: { teacher: teacher.onnx, on: hidden, temperature: 2 }");
    assert!(idle.contains("`temperature` is for `on: logits`"), "{idle}");
}

#[test]
fn hidden_tokens_are_told_and_a_resumed_training_hides_the_same() {
    let folder = texts();
    let pipeline = of_texts("masked_lm: { share: 0.3 }", "masked.onnx");
    let whole = started(folder.path(), &pipeline).expect("runs");
    let of = |scores: &lorac::train::Scores| scores.get("perplexity").unwrap_or(f64::NAN);
    assert!(of(&whole.eval.after) < of(&whole.eval.before), "{:?}", whole.eval);
    let out = folder.path().join("out");
    assert_eq!(unfed(&out), [] as [String; 0]);
    in_python(vec![json!({ "name": "masked_lm", "folder": out, "predict": [] })]);
    // The checkpoint says how long the steps took, too.
    let learnt = || {
        let params = Checkpoint::load(&out.join("checkpoints/trained.safetensors")).expect("a checkpoint").tensors;
        (fs::read(out.join("model.onnx")).expect("a model"), params)
    };
    let of_whole = learnt();
    fs::remove_dir_all(&out).expect("removes");
    // Eight steps are an epoch: behind the eleventh the second one is under way.
    assert_eq!(whole.data.train.examples, 120);
    let loaded = Loaded::parse(&pipeline, &folder.path().join("p.yaml"), &[]).expect("a pipeline");
    let resolver = Resolver::new(None, folder.path()).expect("a cache");
    let stop = Ears::until(11);
    let options = RunOptions { out: out.clone(), command: "test".into(), progress: &stop, emit: None };
    let stopped = run(&loaded, &resolver, &options, &stop.stop).expect_err("stopped");
    assert_eq!(stopped.class(), Class::Interrupted, "{stopped}");
    let options = RunOptions { progress: &Silent, ..options };
    let resumed = resume(&loaded, &resolver, &options, &ResumeFrom::Newest, &AtomicBool::new(false));
    let resumed = resumed.unwrap_or_else(|e| panic!("{e}")).manifest;
    assert!(resumed.notes.iter().any(|note| note.contains("continued behind step 11")), "{:?}", resumed.notes);
    assert!(learnt() == of_whole, "a training that was resumed ends with other bytes");
    assert_eq!((resumed.train.loss_first, resumed.train.loss_last), (whole.train.loss_first, whole.train.loss_last));
    assert_eq!(resumed.eval, whole.eval);
    let out = folder.path().join("out").display().to_string();
    let refused = Predictor::open(&out, &Options::default()).map(|_| ()).expect_err("no answer").to_string();
    assert!(refused.contains("does the task `masked_lm`, which answers no text by itself"), "{refused}");
    let model = folder.path().join("out/model.onnx").display().to_string();
    let scored = evaluate(&model, &loaded, &resolver, &resolver, &Silent, &AtomicBool::new(false)).expect("scores");
    assert!((of(&scored.scores) - of(&whole.eval.after)).abs() < 1e-4, "{:?}", scored.scores);

    let tokenizer = fs::read_to_string(folder.path().join("tokenizer.json")).expect("a file");
    fs::write(folder.path().join("tokenizer.json"), tokenizer.replace("[MASK]", "[OTHER]")).expect("writes");
    let wrong = started(folder.path(), &pipeline).expect_err("no mask");
    assert!(wrong.contains("error[pipeline::mask]"), "{wrong}");
}
