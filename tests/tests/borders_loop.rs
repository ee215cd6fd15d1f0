//! What a pipeline says of the loop: what cannot be followed is refused at its place.

use lorac_tests::border::border;

/// Refuses a setting, with the words `says`.
#[track_caller]
fn refuses(setting: &str, says: &str) {
    let said = border("bert").fails(&[setting]);
    assert!(said.contains(says), "{setting}: {said}");
}

#[test]
fn rates_and_warm_ups_that_cannot_be_meant_are_refused() {
    refuses("train.optimizer={ adamw: { lr: 3 } }", "`lr` is 3: expected a number above 0 and at most 1");
    refuses("train.optimizer={ sgd: { momentum: 1 } }", "`momentum` is 1");
    refuses("train.schedule={ linear: { warmup: 1.5 } }", "`warmup` is 1.5: expected a part of all steps");
    refuses("train.schedule={ cosine: { warmup: 900 steps } }", "`warmup` is 900 steps, and the whole training has");
    refuses("train.schedule={ cosine: { warmup: soon } }", "`soon` is not a warm-up");
    refuses("train.schedule={ cosine: { min: 0.5 } }", "expected a rate from 0 to the highest");
    refuses("train.epochs=0", "`epochs` is 0");
    refuses("train.batch=0", "`batch` is 0");
    refuses("train.clip={ value: 0 }", "`value` is 0");
    refuses("train.clip={ size: 1 }", "unknown key `size`");
    refuses("train.lora_plus=0", "`lora_plus` is 0");
}

#[test]
fn groups_of_nothing_are_refused_with_what_is_near() {
    refuses("train.groups=[{ match: \"*.lora_C\", lr: 2x }]", "`*.lora_C` matches no trained parameter");
    refuses("train.groups=[{ match: role:gate, lr: 2x }]", "`role:gate` matches no trained parameter; nearest: role:");
    refuses("train.no_decay=[classifier.wieght]", "nearest: classifier.weight");
    refuses("train.groups=[{ match: \"*\" }]", "this one has neither");
    refuses("train.groups=[{ match: \"*\", lr: fast }]", "`fast` is not a rate");
}

/// First and last loss of a run with these settings.
fn losses(settings: &[&str]) -> [f64; 2] {
    let train = border("bert").succeeds(settings).manifest.train;
    [train.loss_first, train.loss_last]
}

#[track_caller]
fn near(got: [f64; 2], want: [f64; 2], relative: f64) {
    let near = |i: usize| (got[i] - want[i]).abs() <= relative * want[i].abs();
    assert!(near(0) && near(1), "{got:?} instead of {want:?}");
}

#[test]
fn accumulated_batches_and_slices_train_as_the_whole_batch_does() {
    // Adam divides small gradients by their own size: there rounding counts.
    let with =
        |more: &[&'static str]| losses(&[&["train.optimizer={ sgd: { lr: 0.1 } }", "train.steps=4"], more].concat());
    let whole = with(&["train.batch=24", "train.slice=24"]);
    near(with(&["train.batch=24", "train.slice=5"]), whole, 1e-6);
    near(with(&["train.batch=8", "train.accumulate=3"]), whole, 1e-6);
    near(with(&["train.batch=8", "train.accumulate=3", "train.slice=3"]), whole, 1e-6);
    assert_eq!(with(&["train.batch=24"]), whole, "so few tokens are one piece, bit for bit");
    near(with(&["train.batch=60"]), with(&["train.batch=60", "train.slice=60"]), 1e-6);
}

#[test]
fn nothing_is_no_slice_and_no_accumulation() {
    refuses("train.slice=0", "`slice` is 0: expected at least 1");
    refuses("train.accumulate=0", "`accumulate` is 0: expected at least 1");
    refuses("train.slice=some", "`some` is not a slice: expected auto or a number of rows");
}
