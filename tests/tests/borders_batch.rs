//! `train.batch: auto`: as many examples as fit.

use lorac::run::ResumeFrom;
use lorac_tests::border::{Border, Ears, border};
use std::fs;

const LIMIT: &str = "train.memory=0.9MiB";

fn model(border: &Border, out: &str) -> Vec<u8> {
    fs::read(border.path().join(out).join("model.onnx")).expect("a model")
}

/// The number before some words.
#[track_caller]
fn number(said: &str, words: &str) -> usize {
    let before = said.split_once(words).and_then(|(before, _)| before.rsplit([' ', '\n']).next());
    before.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{words}: {said}"))
}

/// How many of a batch of so many are computed at once within the limit.
fn at_once(border: &Border, batch: usize) -> usize {
    let ears = Ears::default();
    let settings = [format!("train.batch={batch}"), format!("train.slice={batch}"), LIMIT.into()];
    border.go("other", &settings.each_ref().map(String::as_str), None, &ears).unwrap_or_else(|e| panic!("{e}"));
    number(&ears.text(), " rows of 16 tokens are computed at once")
}

#[test]
fn a_batch_is_the_largest_that_fits_and_learns_what_one_of_that_number_does() {
    let border = border("bert");
    let ears = Ears::default();
    let found = border.go("auto", &["train.batch=auto", LIMIT], None, &ears).unwrap_or_else(|e| panic!("{e}")).manifest;
    let said = ears.text();
    let batch =
        number(&said, " examples, the largest power of two of rows of 16 tokens that fits into train.memory, 0.9 MiB");
    assert!(batch.is_power_of_two() && (2..64).contains(&batch), "{said}");
    assert_eq!(found.train.batch, batch);
    assert!(found.notes.iter().any(|note| note.starts_with(&format!("train.batch is auto: {batch} examples"))));
    assert_eq!(found.pipeline.resolved["train"]["batch"], "auto");
    assert_eq!(at_once(&border, batch), batch);
    assert!(at_once(&border, 2 * batch) < 2 * batch);
    let set = format!("train.batch={batch}");
    border.go("set", &[&set, LIMIT], None, &Ears::default()).unwrap_or_else(|e| panic!("{e}"));
    assert!(model(&border, "auto") == model(&border, "set"));

    let none = border.fails(&["train.batch=auto", "train.memory=0.05MiB"]);
    assert!(none.contains("error[pipeline::memory]: one row of 16 tokens takes about "), "{none}");
}

#[test]
fn a_batch_that_is_accumulated_or_computed_as_one_is_chosen_too() {
    let border = border("bert");
    let embed = [
        "task={ embed: {} }",
        "data.train={ csv: train.csv, text: text, text_pair: label }",
        "data.eval={ csv: eval.csv, text: text, text_pair: label }",
        "train.memory=1MiB",
    ];
    for (name, more) in [("twice", &["train.accumulate=2", LIMIT][..]), ("embed", &embed)] {
        let [auto, set] = ["auto", "set"].map(|how| format!("{name}-{how}"));
        let ears = Ears::default();
        border.go(&auto, &[&["train.batch=auto"], more].concat(), None, &ears).unwrap_or_else(|e| panic!("{e}"));
        let batch = number(&ears.text(), " examples, the largest power of two of rows");
        assert!(batch.is_power_of_two() && (2..64).contains(&batch), "{name}: {}", ears.text());
        let given = format!("train.batch={batch}");
        border.go(&set, &[&[given.as_str()], more].concat(), None, &Ears::default()).unwrap_or_else(|e| panic!("{e}"));
        assert!(model(&border, &auto) == model(&border, &set), "{name}");
    }
    let none = border.fails(&[&embed[..], &["train.batch=auto", "train.memory=0.1MiB"]].concat());
    assert!(none.contains("2 rows of 16 tokens, which are computed at once, take about "), "{none}");
}

#[test]
fn without_a_limit_a_batch_is_the_most_of_those_that_there_are() {
    let border = border("bert");
    let there = border.succeeds(&["train.batch=auto", "train.steps=2"]).manifest;
    assert_eq!((there.train.batch, there.data.train.examples), (64, 64));
    let few = border.succeeds(&["train.batch=auto", "train.steps=2", "data.train.take=40"]).manifest;
    let table = fs::read_to_string(border.path().join("train.csv")).expect("a table");
    let some: String = table.split_inclusive('\n').take(41).collect();
    fs::write(border.path().join("some.csv"), some).expect("writes");
    let stream = "data.train={ csv: some.csv, text: text, label: label, stream: true }";
    let streamed = border.succeeds(&["train.batch=auto", "train.steps=2", stream]).manifest;
    assert_eq!(streamed.train.batch, 32);
    let note = "train.batch is auto: 32 examples, the largest power of two of those that there are";
    assert!(few.train.batch == 32 && few.notes.iter().any(|said| said == note), "{:?}", few.notes);
}

#[test]
fn a_training_that_goes_on_has_the_number_that_it_began_with() {
    let border = border("bert");
    border.go("whole", &["train.batch=8"], None, &Ears::default()).unwrap_or_else(|e| panic!("{e}"));
    border.go("parts", &["train.batch=8"], None, &Ears::until(3)).expect_err("stopped");
    let ears = Ears::default();
    let newest = Some(&ResumeFrom::Newest);
    let found = border.go("parts", &["train.batch=auto"], newest, &ears).unwrap_or_else(|e| panic!("{e}")).manifest;
    assert!(ears.text().contains("train.batch is auto: 8 examples, as in the checkpoint\n"), "{}", ears.text());
    assert!(found.train.batch == 8 && model(&border, "whole") == model(&border, "parts"));

    border.go("auto", &["train.batch=auto", LIMIT], None, &Ears::default()).unwrap_or_else(|e| panic!("{e}"));
    border.go("again", &["train.batch=auto", LIMIT], None, &Ears::until(3)).expect_err("stopped");
    border.go("again", &["train.batch=auto", LIMIT], newest, &Ears::default()).unwrap_or_else(|e| panic!("{e}"));
    assert!(model(&border, "auto") == model(&border, "again"));
}
