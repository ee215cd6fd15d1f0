//! Trainings that begin with what another has learnt: `train.init_from`.

use lorac::error::{Class, Error};
use lorac::output::{PeftAdapter, read_peft};
use lorac_tests::border::{Border, border};
use lorac_tests::data;
use std::fs;
use std::path::Path;

/// The adapter of a run.
fn adapter(folder: &Path) -> PeftAdapter {
    read_peft(folder).unwrap_or_else(|e| panic!("{e}"))
}

/// One step that changes nothing, from what is given.
const STANDS_STILL: [&str; 3] = [
    "train.steps=1",
    "train.optimizer={adamw: {lr: 1e-30, weight_decay: 0}}",
    "runtime.source=pypi:onnxruntime==1.31.1",
];

/// A run whose result is kept beside the folder of the next one.
fn first(border: &Border, settings: &[&str]) {
    border.succeeds(settings);
    fs::rename(border.out(), border.path().join("first")).expect("renames");
}

#[test]
fn a_training_begins_with_what_another_run_has_learnt() {
    let border = border("bert");
    first(&border, &["train.checkpoint=6 steps"]);
    let learnt = adapter(&border.path().join("first/adapter"));
    let after = lorac::output::Manifest::read(&border.path().join("first")).expect("a manifest").eval.after;
    let all = [
        "train.init_from=first",
        "train.init_from=first/adapter",
        "train.init_from=first/adapter/adapter_model.safetensors",
        "train.init_from=first/checkpoints/trained.safetensors",
        "train.init_from={source: first/checkpoints/step-6.safetensors}",
    ];
    for from in all {
        let outcome = border.succeeds(&[&STANDS_STILL[..], &[from]].concat());
        assert_eq!(outcome.manifest.eval.before, after, "{from}");
        assert_eq!(adapter(&border.out().join("adapter")), learnt, "{from}");
        assert!(outcome.manifest.inputs.iter().any(|i| i.role == "train.init_from" && i.sha256.len() == 64), "{from}");
    }
    // And it learns from there.
    let outcome = border.succeeds(&[all[0], "train.steps=3"]);
    assert_eq!((outcome.manifest.train.steps, &outcome.manifest.eval.before), (3, &after));
    assert_ne!(adapter(&border.out().join("adapter")).modules, learnt.modules);
}

/// Branches with other scales than the pipeline's compute the same.
#[test]
fn another_scale_is_taken_into_b() {
    let border = border("bert");
    first(&border, &[]);
    let learnt = adapter(&border.path().join("first/adapter"));
    border.succeeds(&[&STANDS_STILL[..], &["train.init_from=first/adapter", "adapt.0.lora.alpha=16"]].concat());
    let now = adapter(&border.out().join("adapter"));
    for (a, b) in learnt.modules.iter().zip(&now.modules) {
        assert_eq!((a.scale(), b.scale(), &a.a), (2.0, 4.0, &b.a));
        assert!(a.b.iter().zip(&b.b).all(|(x, y)| *x == y * 2.0));
    }
}

/// Slices of packed matrices, as lorac writes them for PEFT, which knows none.
#[test]
fn slices_are_found_in_the_module_that_holds_them_all() {
    let border = border("target_attention_packed");
    let settings =
        ["train.steps=4", "adapt=[{ lora: { targets: [\"role:query\", \"role:value\"], rank: 2, alpha: 4 } }]"];
    first(&border, &settings);
    let learnt = adapter(&border.path().join("first/adapter"));
    border.succeeds(&[&settings[1..], &STANDS_STILL, &["train.init_from=first/adapter"]].concat());
    assert_eq!(adapter(&border.out().join("adapter")), learnt);
    let text = border.fails(&[
        "train.init_from=first/adapter",
        "adapt=[{ lora: { targets: [\"role:query\"], rank: 4, alpha: 8 } }]",
    ]);
    assert!(text.contains("changes more of its matrix than is trained here"), "{text}");
}

/// Adapters that PEFT has written, on exports of the models that it trained.
#[test]
fn an_adapter_of_peft_is_found_by_its_modules() {
    let texts = ["data.train={csv: train.csv, text: text}", "data.eval={csv: eval.csv, text: text}"];
    for (case, task, adapt, data_of) in [
        (
            "bert-qv",
            "task={classify: {labels: [negative, positive, other]}}",
            "adapt=[{lora: {targets: [\"role:query\", \"role:value\"], rank: 4, alpha: 8}}, {full: {targets: [\"*classifier*\"]}}]",
            &[][..],
        ),
        ("gpt2-cattn", "task=causal_lm", "adapt=[{lora: {targets: [\"*c_attn*\"], rank: 4, alpha: 8}}]", &texts[..]),
    ] {
        let border = border("bert");
        copy(&data("peft").join(case), &border.path().join("peft"));
        let settings = [
            &STANDS_STILL[..],
            &[
                "model=peft/base.torchscript.onnx",
                "tokenizer=model/tokenizer.json",
                task,
                adapt,
                "train.init_from=peft/adapter_final",
            ],
            data_of,
        ]
        .concat();
        let outcome = border.run(&settings);
        outcome.unwrap_or_else(|e| panic!("{case}: {e}"));
        let (given, now) = (adapter(&border.path().join("peft/adapter_final")), adapter(&border.out().join("adapter")));
        assert_eq!((now.modules, now.saved), (given.modules, given.saved), "{case}");
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("makes");
    for entry in fs::read_dir(from).expect("lists").flatten() {
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => _ = fs::copy(entry.path(), to.join(entry.file_name())).expect("copies"),
        }
    }
}

#[test]
fn what_does_not_fit_is_named_before_the_training() {
    let border = border("bert");
    first(&border, &[]);
    let fails = |settings: &[&str]| {
        let error = border.run(settings).expect_err("refused");
        assert_eq!((error.code(), error.class()), ("pipeline::init_from", Class::Usage), "{error}");
        let Error::Pipeline(all) = error else { panic!("{error}") };
        assert!(!border.out().join("metrics.jsonl").exists());
        all.issues[0].message.clone()
    };
    for from in ["train.init_from=first/adapter", "train.init_from=first/checkpoints/trained.safetensors"] {
        let rank = fails(&[from, "adapt.0.lora.rank=2"]);
        assert!(
            rank.contains("has rank 4 there, and 2 here") || rank.contains("is [4, 32] there, and [2, 32] is trained"),
            "{rank}"
        );
        let more = fails(&[from, "adapt.0.lora.targets=[role:query, role:key, role:value]"]);
        assert!(more.contains("it has nothing for `") && more.contains("which is trained; nearest: "), "{more}");
        let fewer = fails(&[from, "adapt.0.lora.targets=[role:query]"]);
        assert!(fewer.contains("which is not trained here"), "{fewer}");
    }
    for (from, says) in [
        ("train.init_from=train.csv", "train.csv"),
        ("train.init_from=first/model.onnx", "model.onnx"),
        ("train.init_from=model", "it holds neither adapter_config.json nor checkpoints/trained.safetensors"),
    ] {
        assert!(fails(&[from]).contains(says), "{from}");
    }
    let error = border.run(&["train.init_from=nowhere"]).expect_err("not there");
    assert_eq!((error.class(), error.to_string().contains("nowhere")), (Class::Usage, true), "{error}");
}
