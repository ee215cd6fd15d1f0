//! Trainings on a larger scale, and how they go on.

use lorac::error::Class;
use lorac::run::ResumeFrom;
use lorac::train::Checkpoint;
use lorac_tests::border::{Border, Ears, border};
use std::fmt::Write;
use std::fs;

/// Trains in one piece, and in two: the deployed model has the same bytes. Returns the lines of the first.
#[track_caller]
fn goes_on_to_the_same_bits(border: &Border, settings: &[&str], step: u64) -> String {
    let ears = Ears::default();
    border.go("whole", settings, None, &ears).unwrap_or_else(|e| panic!("{settings:?}: {e}"));
    let until = Ears::until(step);
    let error = border.go("parts", settings, None, &until).expect_err("stopped");
    assert_eq!(error.class(), Class::Interrupted, "{error}");
    border.go("parts", settings, Some(&ResumeFrom::Newest), &Ears::default()).unwrap_or_else(|e| panic!("{e}"));
    let [whole, parts] = ["whole", "parts"].map(|out| border.path().join(out).join("model.onnx"));
    assert!(fs::read(whole).expect("a model") == fs::read(parts).expect("a model"), "{settings:?}");
    ears.text()
}

/// A file of as many rows as the table has, and more.
fn jsonl(border: &Border, times: usize) {
    let table = fs::read_to_string(border.path().join("train.csv")).expect("a table");
    let mut text = String::new();
    for i in 0..times {
        for line in table.lines().skip(1) {
            let (words, label) = line.rsplit_once(',').expect("two columns");
            writeln!(text, "{{\"text\": \"{words} w{}\", \"label\": \"{label}\"}}", i % 80).expect("writes");
        }
    }
    fs::write(border.path().join("train.jsonl"), text).expect("writes");
}

const STREAM: &str = "data.train={ jsonl: train.jsonl, text: text, label: label, stream: { buffer: 50 } }";

#[test]
fn a_stream_is_trained_and_goes_on_to_the_same_bits() {
    let border = border("bert");
    jsonl(&border, 2);
    // Of epochs, which are counted, and of steps over the end of the file.
    let said = goes_on_to_the_same_bits(&border, &[STREAM, "train.steps=null", "train.epochs=2", "train.batch=16"], 9);
    assert!(said.contains("data.train is a stream, shuffled in a buffer of 50 examples"), "{said}");
    for out in ["whole", "parts"] {
        fs::remove_dir_all(border.path().join(out)).expect("removes");
    }
    goes_on_to_the_same_bits(&border, &[STREAM, "train.steps=40", "train.batch=16", "train.by_length=false"], 33);
}

#[test]
fn a_stream_that_nobody_has_counted_goes_on_in_its_second_epoch() {
    let border = border("bert");
    jsonl(&border, 36);
    // 2,304 rows are 72 batches.
    let said = goes_on_to_the_same_bits(&border, &[STREAM, "train.steps=80", "train.batch=32"], 76);
    assert!(!said.contains("are counted") && said.contains("is of its first 2048\n"), "{said}");
    assert!(said.contains("stream    2304 examples of 2304 rows that were read\n"), "{said}");
}

#[test]
fn what_a_stream_cannot_do_is_said_at_its_key() {
    let border = border("bert");
    jsonl(&border, 1);
    let cases = [
        (vec![STREAM, "data.eval={ split: 0.1 }"], "no part of a stream can be held out"),
        (
            vec![
                "data.train=[{ jsonl: train.jsonl, text: text, label: label, stream: true }, { csv: train.csv, text: text, label: label }]",
            ],
            "a stream is the only source",
        ),
        (vec![STREAM, "data.train.weight=2"], "a weight is one among several sources"),
        (vec![STREAM, "data.train.stream.buffer=0"], "`buffer` is 0"),
        (
            vec![STREAM, "data.eval={ jsonl: train.jsonl, text: text, label: label, stream: true }"],
            "held-out examples are in memory",
        ),
        (vec![STREAM, "task.classify.class_weights=balanced"], "those of a stream are not counted"),
    ];
    for (settings, says) in cases {
        let said = border.fails(&settings);
        assert!(said.contains(says) && said.contains("--set"), "{settings:?}: {said}");
    }
    let rows = fs::read_to_string(border.path().join("train.jsonl")).expect("rows");
    fs::write(border.path().join("train.jsonl"), format!("{rows}{{\"text\": \"w1\", \"label\": \"neither\"}}\n"))
        .expect("writes");
    let said = border.fails(&[STREAM, "train.steps=null", "train.epochs=1"]);
    assert!(said.contains("unknown label `neither`"), "the last row is wrong, and known before the training: {said}");
}

#[test]
fn a_running_mean_is_what_is_deployed_and_goes_on_to_the_same_bits() {
    let border = border("bert");
    let mean =
        ["train.ema={ decay: 0.8, warmup: false }", "train.steps=12", "train.checkpoint={ every: 1 steps, keep: 100 }"];
    goes_on_to_the_same_bits(&border, &mean, 5);
    let folder = border.path().join("whole/checkpoints");
    let theta = |name: &str, slot: &str| -> Vec<f32> {
        let checkpoint = Checkpoint::load(&folder.join(name)).expect("a checkpoint");
        let of = |(name, _): &&(String, lorac::ir::Tensor)| name.starts_with(slot);
        checkpoint.tensors.iter().filter(of).flat_map(|(_, t)| t.to_vec::<f32>().expect("f32")).collect()
    };
    let mut mean = theta("step-1.safetensors", "average/");
    // The checkpoint behind the last step holds what is deployed in the place of theta.
    for step in 2..=11 {
        let now = theta(&format!("step-{step}.safetensors"), "theta/");
        mean.iter_mut().zip(&now).for_each(|(mean, now)| *mean += (now - *mean) * 0.2);
    }
    let (last, deployed) = (theta("step-11.safetensors", "theta/"), theta("trained.safetensors", "theta/"));
    assert_eq!(deployed, theta("step-12.safetensors", "average/"));
    let kept = theta("step-11.safetensors", "average/");
    let apart = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(apart(&mean, &kept) < 1e-6 && apart(&last, &kept) > 1e-4, "{}", apart(&mean, &kept));
}

#[test]
fn within_a_limit_less_is_computed_at_once_and_the_same_learnt() {
    let border = border("bert");
    let whole = border.succeeds(&["train.batch=32", "train.steps=6"]).manifest;
    let tight = Ears::default();
    let settings = ["train.batch=32", "train.steps=6", "train.memory=0.5MiB"];
    let sliced = border.go("tight", &settings, None, &tight).unwrap_or_else(|e| panic!("{e}")).manifest;
    let said = tight.text();
    assert!(said.contains("slices    the 32 examples of a step are computed in slices"), "{said}");
    assert!((whole.train.loss_last - sliced.train.loss_last).abs() < 1e-4, "{:?} {:?}", whole.train, sliced.train);
    let none = border.fails(&["train.memory=0.05MiB"]);
    let (_, size) = none
        .split_once("error[pipeline::memory]: one row of 16 tokens takes about ")
        .unwrap_or_else(|| panic!("{none}"));
    let kib: f64 = size.split_once(" KiB").and_then(|(kib, _)| kib.parse().ok()).unwrap_or_else(|| panic!("{none}"));
    assert!((51.0..=512.0).contains(&kib), "{none}");
}

#[test]
fn a_limit_holds_for_what_comes_late_in_a_stream() {
    let border = border("bert");
    jsonl(&border, 40);
    let none = border.fails(&[STREAM, "train.memory=0.05MiB"]);
    assert!(none.contains("error[pipeline::memory]: one row of 32 tokens takes about "), "{none}");
    assert!(none.contains("lower data.max_length, or choose"), "{none}");
    let ears = Ears::default();
    let settings = [STREAM, "train.batch=32", "train.steps=2", "train.memory=0.8MiB"];
    border.go("tight", &settings, None, &ears).unwrap_or_else(|e| panic!("{e}"));
    let said = ears.text();
    let rows =
        said.split_once("within 0.8 MiB, ").and_then(|(_, rows)| rows.split_once(" rows of 32 tokens are computed"));
    let rows: usize = rows.and_then(|(rows, _)| rows.parse().ok()).unwrap_or_else(|| panic!("{said}"));
    let most = format!("computed in slices of at most {} tokens", rows * 32);
    assert!(rows < 32 && said.contains(&most), "{said}");
}

#[test]
fn a_limit_of_images_is_one_of_rows() {
    let border = border("images");
    let none = border.fails(&["train.memory=0.001MiB"]);
    let one = none.split_once("error[pipeline::memory]: one row takes about ").and_then(|(_, n)| n.split_once(" KiB"));
    let one: f64 = one.and_then(|(kib, _)| kib.parse().ok()).unwrap_or_else(|| panic!("{none}"));
    assert!(!none.contains("max_length"), "{none}");
    let ears = Ears::default();
    // What one row takes, and some KiB more, which are too few for a whole batch.
    let settings = ["train.steps=2".to_string(), format!("train.memory={}MiB", (one + 2.0) / 1024.0)];
    border.go("tight", &settings.each_ref().map(String::as_str), None, &ears).unwrap_or_else(|e| panic!("{e}"));
    let said = ears.text();
    let rows = said.split_once(" rows are computed at once").and_then(|(before, _)| before.rsplit_once(' '));
    let rows: usize = rows.and_then(|(_, rows)| rows.parse().ok()).unwrap_or_else(|| panic!("{said}"));
    assert!(rows < 8 && said.contains(&format!("in slices of at most {rows} rows\n")), "{said}");
}
