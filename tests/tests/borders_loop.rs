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
