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
    let of_biases = border("bert").fails(&["adapt=[bias]", "train.lora_plus=16"]);
    assert!(of_biases.contains("`lora_plus` matches no low-rank branch"), "{of_biases}");
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

/// Evaluations in the log of a run, with their steps and losses.
fn evaluations(border: &lorac_tests::border::Border) -> Vec<(String, u64, f64)> {
    let log = std::fs::read_to_string(border.out().join("metrics.jsonl")).expect("a log");
    let lines = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    let evals = lines.filter(|line| line["kind"] == "eval");
    let read = |line: serde_json::Value| {
        let of = |key: &str| line[key].as_str().expect("a word").to_string();
        (of("eval"), line["step"].as_u64().expect("a step"), line["loss"].as_f64().expect("a loss"))
    };
    evals.map(read).collect()
}

const TOO_FAST: &str = "train.optimizer={ adamw: { lr: 0.3 } }";

#[test]
fn evaluations_on_the_way_are_behind_their_steps() {
    let border = border("bert");
    border.succeeds(&["train.evaluate={ every: 2 steps }", "train.steps=5"]);
    let found: Vec<(String, u64)> = evaluations(&border).into_iter().map(|(what, step, _)| (what, step)).collect();
    let want = [("before", 0), ("train", 2), ("train", 4), ("train", 5), ("after", 5)];
    assert_eq!(found, want.map(|(what, step)| (what.to_string(), step)));
}

#[test]
fn the_best_parameters_are_deployed_and_not_the_last() {
    let border = border("bert");
    let best = "train.checkpoint={ every: 1 steps, keep: 1, best: loss }";
    let outcome = border.succeeds(&[TOO_FAST, best, "train.evaluate=1 steps", "train.steps=8"]);
    let found = evaluations(&border);
    let on_the_way: Vec<_> = found.iter().filter(|e| e.0 == "train").collect();
    let best = on_the_way.iter().min_by(|a, b| a.2.total_cmp(&b.2)).expect("evaluations");
    assert_eq!((on_the_way.len(), outcome.manifest.train.deployed_step), (8, Some(best.1)));
    assert_eq!(outcome.manifest.eval.after.get("loss"), Some(best.2), "what is deployed was the best");
    let is_kept = |step: u64| border.out().join(format!("checkpoints/step-{step}.safetensors")).is_file();
    let kept: Vec<u64> = (0..=8).filter(|step| is_kept(*step)).collect();
    assert_eq!(kept, [best.1, 8], "the best and the newest");
    assert!(best.2 < 0.99 * on_the_way[7].2, "the last is worse: {found:?}");
}

#[test]
fn a_training_that_gets_no_better_ends_early() {
    let border = border("bert");
    let stop = "train.stop={ metric: loss, patience: 2, min_delta: 0.01 }";
    let outcome = border.succeeds(&[TOO_FAST, stop, "train.evaluate=1 steps", "train.steps=30"]);
    let steps = outcome.manifest.train.steps;
    let losses: Vec<f64> = evaluations(&border).iter().filter(|e| e.0 == "train").map(|e| e.2).collect();
    assert!((3..30).contains(&steps) && losses.len() as u64 == steps, "{steps}: {losses:?}");
    let (before, last) = losses.split_at(losses.len() - 2);
    let best = before.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(last.iter().all(|loss| *loss > best - 0.01), "{losses:?}");
    assert_eq!(outcome.manifest.train.deployed_step, None);
}

#[test]
fn what_needs_evaluations_says_so() {
    refuses("train.evaluate=10 min", "which must not depend on the clock");
    refuses("train.stop={ metric: acuracy }", "unknown metric `acuracy`");
    refuses("train.stop={ metric: perplexity }", "the task is not evaluated by `perplexity`");
    refuses("train.stop={ patience: 0 }", "`patience` is 0");
    let without = ["data={ train: { csv: train.csv, text: text, label: label } }", "train.stop={ patience: 2 }"];
    let said = border("bert").fails(&without);
    assert!(said.contains("`stop` needs held-out examples"), "{said}");
}
