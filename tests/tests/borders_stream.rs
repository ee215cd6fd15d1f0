//! Streams: what is counted of them, and files that are not what they were.

use lorac::error::{Class, Error};
use lorac::output::{StreamCard, Truncated};
use lorac::pipeline::Loaded;
use lorac::progress::Progress;
use lorac::run::{Outcome, ResumeFrom, RunOptions, run};
use lorac::source::Resolver;
use lorac_tests::border::{Border, Ears, border};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Rows of four words, none of which is held out.
fn rows(from: usize, count: usize, end: &str) -> String {
    let mut text = String::new();
    for i in from..from + count {
        let (word, label) = if i.is_multiple_of(2) { ("great", "positive") } else { ("bad", "negative") };
        let (a, b, c) = (i % 80, i / 80 % 80, i * 7 % 80);
        writeln!(text, "{{\"text\": \"w{a} w{b} w{c} {word}{end}\", \"label\": \"{label}\", \"keep\": 1}}")
            .expect("writes");
    }
    text
}

/// Beside right rows three that are wrong, five that are held out, seven that are cut and a hundred that the filter drops.
fn odd_rows(border: &Border) -> String {
    let mut text = rows(0, 3, "").replace("positive", "neither").replace("negative", "neither");
    let eval = fs::read_to_string(border.path().join("eval.csv")).expect("a table");
    for line in eval.lines().skip(1).take(5) {
        let (words, label) = line.rsplit_once(',').expect("two columns");
        writeln!(text, "{{\"text\": \"{words}\", \"label\": \"{label}\", \"keep\": 1}}").expect("writes");
    }
    text + &rows(3, 7, &" w1".repeat(40)) + &rows(10, 100, "").replace("\"keep\": 1", "\"keep\": 0")
}

fn write(border: &Border, text: &str) -> PathBuf {
    let file = border.path().join("train.jsonl");
    fs::write(&file, text).expect("writes");
    file
}

const STREAM: &str =
    "data.train={ jsonl: train.jsonl, text: text, label: label, filter: keep == 1, stream: { buffer: 50 } }";

fn card(border: &Border, settings: &[&str]) -> StreamCard {
    let settings = [&[STREAM, "data.on_error=skip", "data.max_errors=9"], settings].concat();
    let outcome = border.succeeds(&settings);
    let report = fs::read_to_string(border.out().join("report.html")).expect("a report");
    let stream = outcome.manifest.data.train.stream.expect("a stream");
    assert!(report.contains(&format!("Of the stream: {}.", stream.describe())), "{report}");
    stream
}

#[test]
fn what_became_of_the_rows_is_counted_as_they_are_read() {
    let border = border("bert");
    write(&border, &(odd_rows(&border) + &rows(200, 6000, "") + &odd_rows(&border)));
    let cut = |texts, each| Truncated { texts, tokens: texts * each, at_least: false };
    let all = card(&border, &["train.steps=null", "train.epochs=1", "train.batch=64"]);
    let each = all.truncated.tokens / 14;
    let want = StreamCard {
        read: 6230,
        whole: true,
        filtered: 200,
        skipped: 6,
        held_out: 10,
        examples: 6014,
        encoded: 6014,
        truncated: cut(14, each),
        errors: all.errors.clone(),
        ..StreamCard::default()
    };
    assert_eq!((&all, all.errors.len()), (&want, 6));
    assert!(each > 10 && all.errors[0].contains("row 1 has the unknown label `neither`"), "{all:?}");

    // Of a training that ends before the file does, what was read so far.
    let some = card(&border, &["train.steps=2"]);
    let want = StreamCard {
        read: some.read,
        whole: false,
        filtered: 100,
        skipped: 3,
        held_out: 5,
        examples: some.read - 108,
        encoded: some.read - 108,
        truncated: cut(7, each),
        errors: some.errors.clone(),
        ..StreamCard::default()
    };
    assert_eq!(some, want);
    assert!((2048 + 108..4000).contains(&some.read), "{some:?}");

    // Where nothing is held out, rows are counted without tokens, and those that are learnt become some.
    let bare = card(&border, &["data.eval=null", "train.steps=2", "train.checkpoint=1 epoch"]);
    assert_eq!((bare.whole, bare.read, bare.held_out, bare.examples, bare.skipped), (true, 6230, 0, 6024, 6));
    assert_eq!((bare.encoded, bare.truncated), (some.encoded + 5, cut(7, each)));
}

/// Does something to a file when a line is said or a step is done.
#[derive(Debug)]
struct Meddler<'a> {
    when: &'a str,
    file: &'a Path,
    text: &'a str,
    training: AtomicBool,
}

impl Meddler<'_> {
    fn meddle(&self, what: &str) {
        if what.starts_with(self.when) {
            fs::write(self.file, self.text).expect("writes");
        }
    }
}

impl Progress for Meddler<'_> {
    fn line(&self, text: &str) {
        self.meddle(text);
    }

    fn begin(&self, what: &str, _len: u64) {
        self.training.store(what == "training", Ordering::Relaxed);
    }

    fn at(&self, position: u64, _message: &str) {
        if self.training.load(Ordering::Relaxed) {
            self.meddle(&format!("step {position} "));
        }
    }

    fn end(&self) {}
}

#[test]
fn a_file_that_changes_while_it_is_read_is_named() {
    let border = border("bert");
    let text = rows(0, 6000, "");
    let other = text.replacen("w9 ", "w8 ", 1);
    let short = &text[..text.len() - 7];
    let file = write(&border, &text);
    let meddled = |when: &str, text: &str, settings: &[&str]| -> Result<Outcome, Error> {
        let settings: Vec<String> = [&[STREAM], settings].concat().iter().map(|s| s.to_string()).collect();
        let loaded = Loaded::load(&border.path().join("pipeline.yaml"), &settings).expect("loads");
        let resolver = Resolver::new(None, border.path()).expect("a resolver");
        let progress = &Meddler { when, file: &file, text, training: AtomicBool::default() };
        let options = RunOptions { out: border.out(), command: "test".into(), progress, emit: None };
        run(&loaded, &resolver, &options, &AtomicBool::new(false))
    };
    let long = ["train.steps=300", "train.batch=16"];
    let counted = ["train.steps=2", "train.checkpoint=1 epoch"];
    for (when, now, settings) in [
        ("step 2 ", other.as_str(), &long),
        ("step 2 ", short, &long),
        ("before ", other.as_str(), &counted),
        ("stream    the examples", other.as_str(), &counted),
    ] {
        fs::write(&file, &text).expect("writes");
        let error = meddled(when, now, settings).expect_err("changed");
        assert_eq!((error.code(), error.class()), ("source::changed", Class::Failed), "{when}: {error}");
        assert!(error.to_string().contains("train.jsonl"), "{error}");
    }
    // What was written again with the same bytes has not changed.
    fs::write(&file, &text).expect("writes");
    meddled("step 2 ", &text, &long).unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn a_file_that_changed_between_a_run_and_its_resume_is_another_training() {
    let border = border("bert");
    let file = write(&border, &rows(0, 300, ""));
    let settings = [STREAM, "train.steps=9", "train.checkpoint=2 steps"];
    border.go("out", &settings, None, &Ears::until(5)).expect_err("stopped");
    let text = fs::read_to_string(&file).expect("rows");
    fs::write(&file, text.replacen("w9 ", "w8 ", 1)).expect("writes");
    let error = border.go("out", &settings, Some(&ResumeFrom::Newest), &Ears::default()).expect_err("another");
    assert_eq!(error.code(), "resume::differs");
    assert!(error.to_string().contains("`data.train.jsonl` is sha256:"), "{error}");
}

#[test]
fn an_optional_column_that_no_row_has_is_named_before_the_training() {
    let border = border("target_tied");
    fs::write(border.path().join("tokenizer_config.json"), "{\"eos_token\": \"[SEP]\"}").expect("writes");
    let row = |more: &str| format!("{{\"instruction\": \"w1 w2\", \"output\": \"w3 w4\"{more}}}\n");
    write(&border, &(row("").repeat(2600) + &row(", \"context\": \"w5\"")));
    let with = |input: &str, more: &[&str]| {
        let columns = format!("instruction: instruction, output: output, input: {input}");
        let stream = format!("data.train={{ jsonl: train.jsonl, {columns}, stream: {{ buffer: 9 }} }}");
        let settings = [&[stream.as_str(), "data.eval=null", "data.max_length=128"], more].concat();
        border.run(&settings).map_err(|e| (e.code(), e.to_string()))
    };
    let counted = ["train.steps=2", "train.checkpoint=1 epoch"];
    for settings in [&["train.steps=2"][..], &counted] {
        let (code, said) = with("contxt", settings).expect_err("no such column");
        assert_eq!(code, "data::missing_field");
        assert!(said.contains("has no field `contxt`"), "{said}");
    }
    // One that comes later is found where all rows are read before.
    with("context", &counted).unwrap_or_else(|(_, said)| panic!("{said}"));
    let (_, said) = with("context", &["train.steps=2"]).expect_err("not among the first");
    assert!(said.contains("has no field `context`"), "{said}");
}
