//! Runs that are stopped and go on: to the same bits, on every engine, wherever the result goes.

use lorac::error::{Class, Error};
use lorac::output::Manifest;
use lorac::run::{Outcome, ResumeError, ResumeFrom};
use lorac::train::Checkpoint;
use lorac_tests::border::{Border, Ears, border};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const ENGINES: [&str; 2] = ["runtime.source=pypi:onnxruntime==1.31.1", "runtime.source=embedded"];

/// Stops a run behind a step.
#[track_caller]
fn stopped(border: &Border, out: &str, settings: &[&str], from: Option<&ResumeFrom>, step: u64) -> String {
    let error = border.go(out, settings, from, &Ears::until(step)).expect_err("stopped");
    assert_eq!(error.class(), Class::Interrupted, "{error}");
    error.to_string()
}

#[track_caller]
fn goes_on(border: &Border, out: &str, settings: &[&str], from: &ResumeFrom) -> (Outcome, String) {
    let ears = Ears::default();
    let outcome = border.go(out, settings, Some(from), &ears).unwrap_or_else(|e| panic!("{e}"));
    (outcome, ears.text())
}

/// What a run has learnt: the bytes of every file that holds it.
fn learnt(out: &Path) -> BTreeMap<String, Vec<u8>> {
    let names = ["adapter/adapter_model.safetensors", "adapter/head.safetensors", "model.onnx"];
    names.iter().map(|name| (name.to_string(), fs::read(out.join(name)).expect(name))).collect()
}

/// The lines of a log, without what only a clock knows.
fn logged(out: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(out.join("metrics.jsonl")).expect("a log");
    let line = |line: &str| {
        let mut value: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let clock = ["time", "seconds", "seconds_left", "tokens_per_second", "memory_bytes"];
        value.as_object_mut().expect("a map").retain(|key, _| !clock.contains(&key.as_str()));
        value
    };
    text.lines().map(line).collect()
}

/// A training of three epochs of eight steps, with dropout.
fn settings(engine: &'static str) -> Vec<&'static str> {
    vec!["train.steps=24", "adapt.0.lora.dropout=0.1", "adapt.0.lora.targets=[role:query]", engine]
}

#[test]
fn three_runs_have_the_same_bits() {
    for engine in ENGINES {
        let border = border("bert");
        let settings = [settings(engine), vec!["train.steps=12"]].concat();
        let mut all = Vec::new();
        for out in ["a", "b", "c"] {
            border.go(out, &settings, None, &Ears::default()).unwrap_or_else(|e| panic!("{e}"));
            all.push((learnt(&border.path().join(out)), logged(&border.path().join(out))));
        }
        assert!(all.iter().all(|one| *one == all[0]), "{engine}");
    }
}

/// In mid-epoch, twice, and into another folder from a checkpoint on the way.
#[test]
fn a_run_that_was_stopped_goes_on_to_the_same_bits() {
    for engine in ENGINES {
        let border = border("bert");
        let settings = [settings(engine), vec!["train.checkpoint={every: 3 steps, keep: 2}"]].concat();
        let at = |out: &str| border.path().join(out);
        let whole = border.go("whole", &settings, None, &Ears::default()).unwrap_or_else(|e| panic!("{e}"));
        let text = stopped(&border, "out", &settings, None, 5);
        assert!(text.contains("out/checkpoints/step-5.safetensors; continue with: lorac run "), "{text}");
        assert!(
            text.ends_with("--resume") && text.contains("--set 'train.checkpoint={every: 3 steps, keep: 2}'"),
            "{text}"
        );
        stopped(&border, "out", &settings, Some(&ResumeFrom::Newest), 13);
        let left: Vec<String> = fs::read_dir(at("out/checkpoints"))
            .expect("lists")
            .flatten()
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .collect();
        assert_eq!(left.len(), 3, "{left:?}");
        let other = ResumeFrom::Path(at("out/checkpoints/step-12.safetensors"));
        let (elsewhere, _) = goes_on(&border, "elsewhere", &settings, &other);
        let (resumed, said) = goes_on(&border, "out", &settings, &ResumeFrom::Newest);
        assert!(said.contains("continued behind step 13 from "), "{said}");
        for (outcome, out) in [(&resumed, "out"), (&elsewhere, "elsewhere")] {
            assert!(learnt(&at(out)) == learnt(&at("whole")), "{engine} {out}");
            assert_eq!(logged(&at(out)), logged(&at("whole")), "{engine} {out}");
            let (a, b) = (&outcome.manifest.train, &whole.manifest.train);
            assert_eq!((a.steps, a.loss_first, a.loss_last, a.tokens), (b.steps, b.loss_first, b.loss_last, b.tokens));
            assert_eq!(outcome.manifest.eval, whole.manifest.eval);
        }
        assert!(resumed.manifest.notes.iter().any(|note| note.contains("continued behind step 13")));
        let kept = ["step-21", "step-24", "trained"].map(|n| at("out/checkpoints").join(format!("{n}.safetensors")));
        assert!(
            kept.iter().all(|file| file.is_file()) && fs::read_dir(at("out/checkpoints")).expect("lists").count() == 3
        );
    }
}

/// Batches of which the gradients are added up, slices, evaluations of which one is interrupted, the best parameters: of a
/// training that gets worse again.
#[test]
fn accumulation_slices_and_evaluations_go_on_to_the_same_bits() {
    for engine in ENGINES {
        let border = border("bert");
        let more = [
            "train.batch=5",
            "train.accumulate=3",
            "train.slice=2",
            "train.evaluate=2 steps",
            "train.checkpoint={ every: 3 steps, best: loss }",
            "train.optimizer.adamw.lr=0.2",
            "train.steps=10",
        ];
        let settings = [settings(engine), more.to_vec()].concat();
        let at = |out: &str| border.path().join(out);
        let whole = border.go("whole", &settings, None, &Ears::default()).unwrap_or_else(|e| panic!("{e}"));
        stopped(&border, "out", &settings, None, 4);
        stopped(&border, "out", &settings, Some(&ResumeFrom::Newest), 7);
        let (resumed, _) = goes_on(&border, "out", &settings, &ResumeFrom::Newest);
        assert!(learnt(&at("out")) == learnt(&at("whole")), "{engine}");
        assert_eq!(logged(&at("out")), logged(&at("whole")), "{engine}");
        let deployed = resumed.manifest.train.deployed_step;
        assert_eq!(deployed, whole.manifest.train.deployed_step);
        assert!(deployed.is_some_and(|step| step < 8), "{engine}: {deployed:?}");
        // What is deployed again is the best as well.
        let other = [&settings[..], &["deploy.formats=[onnx]"]].concat();
        let (again, said) = goes_on(&border, "out", &other, &ResumeFrom::Newest);
        assert_eq!((again.manifest.train.deployed_step, said.contains("trained   before")), (deployed, true), "{said}");
    }
}

/// Whatever an optimizer keeps, and where the evaluations end the training.
#[test]
fn every_kind_of_training_goes_on_to_the_same_bits() {
    let all: [&[&str]; 4] = [
        &[
            "train.optimizer={sgd: {lr: 0.05, momentum: 0.9}}",
            "train.schedule={cosine: {restarts: 2}}",
            "train.lora_plus=8",
        ],
        &["train.optimizer=lion", "adapt=[{full: {targets: [\"role:query\"]}}]", "train.by_length=false"],
        &["train.evaluate=2 steps", "train.stop={metric: accuracy, patience: 2, min_delta: 0.5}"],
        &[
            "train.optimizer={adafactor: {lr: 0.05, beta1: 0.9}}",
            "train.ema={decay: 0.9}",
            "train.evaluate=2 steps",
            "train.checkpoint={every: 2 steps, best: loss}",
        ],
    ];
    for more in all {
        let border = border("bert");
        let settings = [&["train.steps=24", "deploy.formats=[onnx]", ENGINES[0]], more].concat();
        let at = |out: &str| border.path().join(out);
        let whole = border.go("whole", &settings, None, &Ears::default()).unwrap_or_else(|e| panic!("{more:?}: {e}"));
        stopped(&border, "out", &settings, None, 3);
        let (resumed, _) = goes_on(&border, "out", &settings, &ResumeFrom::Newest);
        assert_eq!(resumed.manifest.train.steps, whole.manifest.train.steps, "{more:?}");
        let bytes = |out: &str| fs::read(at(out).join("model.onnx")).expect("a model");
        assert!(bytes("out") == bytes("whole"), "{more:?}");
        let params =
            |out: &str| Checkpoint::load(&at(out).join("checkpoints/trained.safetensors")).expect("params").tensors;
        assert!(params("out") == params("whole"), "{more:?}");
        assert_eq!(logged(&at("out")), logged(&at("whole")), "{more:?}");
        assert_eq!(resumed.manifest.eval, whole.manifest.eval, "{more:?}");
    }
}

#[test]
fn a_run_beside_an_earlier_result_goes_on_where_it_was_stopped() {
    let border = border("bert");
    let settings = settings(ENGINES[0]);
    border.go("out", &["train.seed=9", ENGINES[0]], None, &Ears::default()).unwrap_or_else(|e| panic!("{e}"));
    border.go("whole", &settings, None, &Ears::default()).unwrap_or_else(|e| panic!("{e}"));
    stopped(&border, "out", &settings, None, 7);
    assert!(border.path().join("out/unfinished/checkpoints/step-7.safetensors").is_file());
    goes_on(&border, "out", &settings, &ResumeFrom::Newest);
    assert_eq!(learnt(&border.path().join("out")), learnt(&border.path().join("whole")));
    assert_eq!(logged(&border.path().join("out")), logged(&border.path().join("whole")));
    assert!(!border.path().join("out/unfinished").exists());
}

#[test]
fn what_was_trained_is_deployed_again_and_what_is_finished_stays() {
    let border = border("bert");
    let settings = settings(ENGINES[0]);
    let first = border.go("out", &settings, None, &Ears::default()).unwrap_or_else(|e| panic!("{e}"));
    let out = border.path().join("out");
    let (before, log) = (learnt(&out), logged(&out));
    let (same, said) = goes_on(&border, "out", &settings, &ResumeFrom::Newest);
    assert!(said.contains("the run is finished") && same.manifest == first.manifest, "{said}");

    let other = [&settings[..], &["deploy.formats=[onnx]", "metrics.accuracy.min=0.0"]].concat();
    let (outcome, said) = goes_on(&border, "out", &other, &ResumeFrom::Newest);
    assert!(said.contains("trained   before, 24 steps") && !said.contains("tokens/s"), "{said}");
    assert!(!out.join("adapter").exists());
    assert_eq!(fs::read(out.join("model.onnx")).expect("a model"), before["model.onnx"]);
    assert_eq!((outcome.manifest.train.clone(), logged(&out)), (first.manifest.train.clone(), log));
    goes_on(&border, "out", &settings, &ResumeFrom::Newest);
    assert_eq!(learnt(&out), before);

    // A file that has changed is written again.
    fs::write(out.join("model.onnx"), "other").expect("writes");
    let (_, said) = goes_on(&border, "out", &settings, &ResumeFrom::Newest);
    assert!(said.contains("trained   before"), "{said}");
    assert_eq!(learnt(&out), before);
}

#[test]
fn a_checkpoint_of_another_training_is_refused_with_what_differs() {
    let border = border("bert");
    let usual = settings(ENGINES[0]);
    stopped(&border, "out", &usual, None, 5);
    let refused = |more: &[&'static str]| {
        let error = border.go("out", &[&usual[..], more].concat(), Some(&ResumeFrom::Newest), &Ears::default());
        let error = error.expect_err("refused");
        assert_eq!((error.code(), error.class()), ("resume::differs", Class::Usage));
        let Error::Resume(ResumeError::Differs { differing, .. }) = error else { panic!("{error}") };
        differing.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(refused(&["train.steps=25"]), ["`train.steps` is 24 there and 25 here"]);
    assert_eq!(
        refused(&["train.seed=1", "adapt.0.lora.rank=2"]),
        ["`adapt.0.lora.rank` is 4 there and 2 here", "`train.seed` is 0 there and 1 here"]
    );
    let table = border.path().join("train.csv");
    let text = fs::read_to_string(&table).expect("reads");
    fs::write(&table, format!("{text}one more,positive\n")).expect("writes");
    let [data] = &refused(&[])[..] else { panic!("the data differs") };
    assert!(data.starts_with("`data.train.csv` is sha256:"), "{data}");
    fs::write(&table, &text).expect("writes");
    let tokenizer = border.path().join("model/tokenizer.json");
    let json = fs::read(&tokenizer).expect("reads");
    fs::write(&tokenizer, [&json[..], b"\n"].concat()).expect("writes");
    let differing = refused(&[]);
    assert!(differing.iter().any(|d| d.starts_with("`tokenizer` is sha256:")), "{differing:?}");
    fs::write(&tokenizer, &json).expect("writes");
    // Nothing is lost by it, and files may lie elsewhere.
    fs::rename(&table, border.path().join("moved.csv")).expect("renames");
    goes_on(&border, "out", &[&usual[..], &["data.train.csv=moved.csv"]].concat(), &ResumeFrom::Newest);
}

#[test]
fn what_no_training_can_go_on_from_is_named() {
    let border = border("bert");
    let usual = settings(ENGINES[0]);
    let fails = |from: &ResumeFrom| border.go("out", &usual, Some(from), &Ears::default()).expect_err("refused");
    assert_eq!(fails(&ResumeFrom::Newest).code(), "resume::nothing");
    let file = |name: &str| ResumeFrom::Path(border.path().join(name));
    for name in ["nothing.safetensors", "train.csv", "pipeline.yaml"] {
        let error = fails(&file(name));
        assert_eq!((error.code(), error.class()), ("resume::file", Class::Usage), "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
    assert_eq!(fails(&file("model")).code(), "resume::nothing");
}

/// A checkpoint whose bytes are damaged is passed over, and an older one taken.
#[test]
fn the_newest_checkpoint_that_can_be_read_is_taken() {
    let border = border("bert");
    let usual = [settings(ENGINES[0]), vec!["train.checkpoint=4 steps"]].concat();
    border.go("whole", &usual, None, &Ears::default()).unwrap_or_else(|e| panic!("{e}"));
    stopped(&border, "out", &usual, None, 13);
    let newest = border.path().join("out/checkpoints/step-13.safetensors");
    let bytes = fs::read(&newest).expect("reads");
    fs::write(&newest, &bytes[..bytes.len() - 5]).expect("writes");
    let (_, said) = goes_on(&border, "out", &usual, &ResumeFrom::Newest);
    assert!(said.contains("step-13.safetensors: ") && said.contains("this checkpoint is passed over"), "{said}");
    assert!(said.contains("continued behind step 12"), "{said}");
    assert_eq!(learnt(&border.path().join("out")), learnt(&border.path().join("whole")));
}

#[test]
fn another_engine_is_told_of() {
    let border = border("bert");
    stopped(&border, "out", &settings(ENGINES[0]), None, 5);
    let threads = [settings(ENGINES[0]), vec!["runtime.threads=3"]].concat();
    let other = settings(ENGINES[1]);
    for settings in [threads, other] {
        let ears = Ears::until(6);
        _ = border.go("other", &settings, Some(&ResumeFrom::Path(border.path().join("out"))), &ears);
        let said = ears.text();
        assert!(said.contains("warning   the checkpoint was computed by onnxruntime 1.31.1 on cpu with "), "{said}");
    }
}

/// A file describes itself: params by name in their shapes, and what its training depends on.
#[test]
fn a_checkpoint_says_what_it_holds() {
    let border = border("bert");
    stopped(&border, "out", &settings(ENGINES[0]), None, 5);
    let path: PathBuf = border.path().join("out/checkpoints/step-5.safetensors");
    let checkpoint = Checkpoint::load(&path).expect("a checkpoint");
    let shapes: BTreeMap<&str, &[usize]> = checkpoint.tensors.iter().map(|(n, t)| (n.as_str(), t.dims())).collect();
    let a: Vec<&&str> =
        shapes.keys().filter(|name| name.ends_with("query.weight.lora_A") || name.ends_with(".lora_A")).collect();
    assert!(
        a.iter().any(|n| n.starts_with("theta/"))
            && a.iter().any(|n| n.starts_with("m/"))
            && a.iter().any(|n| n.starts_with("v/")),
        "{shapes:?}"
    );
    assert!(a.iter().all(|name| shapes[**name].len() == 2 && shapes[**name][0] == 4), "{shapes:?}");
    assert_eq!((checkpoint.step, checkpoint.history.losses.len()), (5, 5));
    for (key, says) in [
        ("training", "train.seed"),
        ("training", "sha256:"),
        ("engine", "onnxruntime 1.31.1"),
        ("steps", "24"),
        ("steps_per_epoch", "8"),
    ] {
        assert!(checkpoint.about[key].contains(says), "{key}: {:?}", checkpoint.about);
    }
    assert!(Manifest::read(&border.path().join("out")).is_err());
}
