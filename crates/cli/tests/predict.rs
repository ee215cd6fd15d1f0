//! `lorac predict` and `lorac eval` as processes.
#![cfg(unix)]

use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

const ORT: &str = "pypi:onnxruntime==1.31.1";

/// A small run in a folder of its own: `out` beside `pipeline.yaml` and its tables.
fn finished(more: &[&str]) -> TempDir {
    finished_of("bert", more)
}

/// The same of another case.
fn finished_of(case: &str, more: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().expect("temp");
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/borders");
    for name in ["common", case] {
        copy(&data.join(name), folder.path());
    }
    let run = lorac(folder.path(), &[&["run", "pipeline.yaml", "--out", "out", "--quiet"], more].concat(), "");
    assert!(run.status.code().is_some_and(|code| code < 2), "{}", err(&run));
    folder
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("makes");
    for entry in fs::read_dir(from).expect("lists").flatten() {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        match from.is_dir() {
            true => copy(&from, &to),
            false => drop(fs::copy(&from, &to).expect("copies")),
        }
    }
}

fn lorac(folder: &Path, args: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lorac"));
    command.args(args).current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("starts");
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("writes");
    child.wait_with_output().expect("ends")
}

fn predict(folder: &Path, args: &[&str], input: &str) -> Output {
    lorac(folder, &[&["predict", "out", "--runtime", ORT], args].concat(), input)
}

fn out(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", err(output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn texts_come_from_arguments_files_and_standard_input() {
    let folder = finished(&[]);
    let at = folder.path();
    let given = out(&predict(at, &["--text", "good", "--text", "a dull film"], ""));
    assert_eq!(given.lines().count(), 2);
    let known = |line: &str| {
        line.split_once('\t').is_some_and(|(l, p)| ["negative", "positive"].contains(&l) && p.starts_with("0."))
    };
    assert!(given.lines().all(known), "{given}");
    assert_eq!(out(&predict(at, &["-"], "good\na dull film\n")), given);
    fs::write(at.join("lines.txt"), "good\na dull film\n").expect("writes");
    assert_eq!(out(&predict(at, &["lines.txt"], "")), given);
    fs::write(at.join("t.csv"), "id,said\n1,good\n2,a dull film\n").expect("writes");
    assert_eq!(out(&predict(at, &["t.csv", "--column", "said"], "")), given);

    let json = out(&predict(at, &["eval.csv", "--format", "json", "--quiet"], ""));
    let lines: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect();
    assert_eq!(lines.len(), 24);
    let sum = |line: &Value| {
        line["probabilities"].as_array().into_iter().flatten().filter_map(|p| p["probability"].as_f64()).sum::<f64>()
    };
    assert!(lines.iter().all(|line| (sum(line) - 1.0).abs() < 1e-6 && line["label"].is_string()));

    for (args, says) in [
        (&["t.csv"][..], "`text`"),
        (&["t.csv", "--column", "sad"], "said"),
        (&["t.xyz"], "names no format"),
        (&["-", "--column", "said"], "no columns"),
        (&["--text", "a", "--pair", "b"], "one text"),
        (&["--text", "a", "--text", "b", "--pair", "c"], "one for each"),
        (&["--text", "a", "--batch", "0"], "--batch"),
        (&["--text", "a", "--tokenizer", "no.json"], "no.json"),
        (&["--text", "a", "--num-beams", "2", "--stop", "x"], "writes no texts: `--num-beams`, `--stop` is for"),
        (&["--text", "a", "--max-new-tokens", "2"], "`classify` writes no texts: `--max-new-tokens`"),
        (&["--text", "a", "--perplexity"], "`classify` writes no texts: `--perplexity`"),
    ] {
        let wrong = predict(at, args, "");
        assert!(wrong.status.code() == Some(2) && err(&wrong).contains(says), "{args:?}: {}", err(&wrong));
    }
}

#[test]
fn an_image_or_a_folder_of_them_is_answered_file_by_file() {
    let folder = finished_of("images", &["--set", "train.steps=3"]);
    let at = folder.path();
    let one = out(&predict(at, &["eval/down/1.jpg"], ""));
    let cells: Vec<&str> = one.trim_end().split('\t').collect();
    assert!(cells.len() == 3 && ["across", "down"].contains(&cells[0]) && cells[2] == "eval/down/1.jpg", "{one}");
    let all = out(&predict(at, &["eval", "--batch", "3"], ""));
    assert_eq!(all.lines().count(), 8);
    assert!(all.lines().any(|line| line == one.trim_end()), "{all}");
    let files: Vec<&str> = all.lines().filter_map(|line| line.rsplit('\t').next()).collect();
    assert!(files.is_sorted() && files[0] == "eval/across/0.png", "{files:?}");
    let json: Value =
        serde_json::from_str(out(&predict(at, &["eval/down", "--format", "json"], "")).lines().next().expect("a line"))
            .expect("an object a line");
    assert_eq!(
        (json["file"].as_str(), json["probabilities"].as_array().map(Vec::len)),
        (Some("eval/down/0.png"), Some(2))
    );
    fs::write(at.join("no.png"), "no image").expect("writes");
    for (args, says) in [
        (&["--text", "a"][..], "the model reads images, and is given texts"),
        (&["-"], "is given lines of standard input"),
        (&["eval", "--column", "a"], "is given `--column`"),
        (&["eval", "--tokenizer", "t.json"], "is given a tokenizer"),
        (&["eval", "--num-beams", "2"], "`--num-beams`"),
        (&["no.png"], "no.png: row 1"),
        (&["lost.png"], "lost.png"),
        (&["model.onnx"], "model.onnx"),
    ] {
        let wrong = predict(at, args, "");
        assert!(wrong.status.code() == Some(2) && err(&wrong).contains(says), "{args:?}: {}", err(&wrong));
    }
}

#[test]
fn a_reader_who_has_gone_ends_it_quietly() {
    let folder = finished(&[]);
    let many = "a good film\n".repeat(6000);
    fs::write(folder.path().join("many.txt"), many).expect("writes");
    let mut command = Command::new(env!("CARGO_BIN_EXE_lorac"));
    command.args(["predict", "out", "--runtime", ORT, "many.txt"]).current_dir(folder.path());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    drop(child.stdout.take());
    let mut text = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut text).expect("reads");
    assert_eq!((child.wait().expect("ends").code(), text.as_str()), (Some(0), ""));
}

#[test]
fn eval_prints_the_scores_of_the_run_and_ends_by_its_gates() {
    let folder = finished(&[]);
    let manifest: Value =
        serde_json::from_slice(&fs::read(folder.path().join("out/manifest.json")).expect("reads")).expect("JSON");
    let eval = |more: &[&str]| {
        lorac(folder.path(), &[&["eval", "out", "--pipeline", "pipeline.yaml", "--quiet"], more].concat(), "")
    };
    let found: Value = serde_json::from_str(&out(&eval(&["--format", "json"]))).expect("JSON");
    for name in ["accuracy", "f1", "loss"] {
        let (got, want) = (found["scores"][name].as_f64(), manifest["eval"]["after"][name].as_f64());
        assert!((got.expect("a score") - want.expect("a score")).abs() < 1e-6, "{name}: {got:?} and {want:?}");
    }
    assert_eq!(found["scores"]["examples"], 24);
    assert!(out(&eval(&[])).contains("on 24 examples"));
    let missed = eval(&["--set", "metrics={accuracy: {min: 1.01}}"]);
    assert_eq!(missed.status.code(), Some(1));
    assert!(err(&missed).contains("metrics.accuracy.min"), "{}", err(&missed));
}

#[test]
fn the_model_of_a_rejected_run_is_not_asked_by_accident() {
    let folder = finished(&["--set", "metrics={accuracy: {min: 1.01}}"]);
    let wrong = predict(folder.path(), &["--text", "good"], "");
    assert_eq!(wrong.status.code(), Some(2));
    assert!(err(&wrong).contains("served::rejected") && err(&wrong).contains("model.rejected.onnx"), "{}", err(&wrong));
}
