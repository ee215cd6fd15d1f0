//! What a run leaves in its folder, and who shares that folder.

use lorac::error::{Class, Error};
use lorac::output::{Manifest, Status, sha256_file};
use lorac::pipeline::Loaded;
use lorac::progress::Progress;
use lorac::run::{Outcome, RunOptions, run};
use lorac::source::Resolver;
use lorac_tests::border::{Border, border};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn a_run_succeeds() {
    let border = border("bert");
    let manifest = border.succeeds(&[]).manifest;
    assert_eq!((manifest.status, manifest.gates), (Status::Passed, Vec::new()));
    assert_eq!(top(&border.out()), LEFT);
}

/// What a run that has succeeded leaves.
const LEFT: [&str; 10] = [
    "README.md",
    "adapter",
    "checkpoints",
    "config.json",
    "manifest.json",
    "metrics.jsonl",
    "model.onnx",
    "report.html",
    "tokenizer.json",
    "tokenizer_config.json",
];

/// What is directly in a folder.
fn top(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("lists").flatten();
    let mut names: Vec<String> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Files below a folder with their sums.
fn sums(folder: &Path) -> BTreeMap<String, String> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![folder.to_path_buf()]);
    while let Some(at) = folders.pop() {
        for entry in fs::read_dir(&at).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                folders.push(entry.path());
            } else {
                let name = entry.path().strip_prefix(folder).expect("below").display().to_string();
                found.insert(name, sha256_file(&entry.path()).map_or(String::new(), |sum| sum.0));
            }
        }
    }
    found
}

fn names(folder: &Path) -> Vec<String> {
    sums(folder).into_keys().collect()
}

/// Does something when the work called `what` has come to `position`, and collects lines.
struct At<'a> {
    what: &'static str,
    position: u64,
    act: Box<dyn Fn() + Sync + 'a>,
    begun: Mutex<String>,
    lines: Mutex<Vec<String>>,
}

impl<'a> At<'a> {
    fn new(what: &'static str, position: u64, act: impl Fn() + Sync + 'a) -> At<'a> {
        At { what, position, act: Box::new(act), begun: Mutex::default(), lines: Mutex::default() }
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("nobody panics with it").clone()
    }
}

impl std::fmt::Debug for At<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.what, self.position)
    }
}

impl Progress for At<'_> {
    fn line(&self, text: &str) {
        self.lines.lock().expect("nobody panics with it").push(text.into());
        if self.position == 0 && text.starts_with(self.what) {
            (self.act)();
        }
    }

    fn begin(&self, what: &str, _len: u64) {
        *self.begun.lock().expect("nobody panics with it") = what.into();
    }

    fn at(&self, position: u64, _message: &str) {
        if position == self.position && *self.begun.lock().expect("nobody panics with it") == self.what {
            (self.act)();
        }
    }

    fn end(&self) {}
}

/// Runs the pipeline of a border with someone who listens.
fn run_with(border: &Border, settings: &[&str], progress: &dyn Progress, stop: &AtomicBool) -> Result<Outcome, Error> {
    let settings: Vec<String> = settings.iter().map(|s| s.to_string()).collect();
    let loaded = Loaded::load(&border.path().join("pipeline.yaml"), &settings).map_err(Box::new)?;
    let resolver = Resolver::new(None, border.path())?;
    let options = RunOptions { out: border.out(), command: "lorac run first.yaml".into(), progress, emit: None };
    run(&loaded, &resolver, &options, stop)
}

#[test]
fn a_tolerance_that_the_deployed_form_misses_is_found_before_the_training() {
    let border = border("bert");
    let error = border.run(&["deploy.verify.max_abs_diff=0"]).expect_err("no two programs agree in every bit");
    assert_eq!(error.class(), Class::Gate);
    assert!(error.to_string().contains("verification failed") && error.to_string().contains("nothing is trained"));
    assert_eq!(names(&border.out()), Vec::<String>::new());
}

#[test]
fn a_second_run_into_the_folder_is_refused_at_once() {
    let border = border("bert");
    let refused = Mutex::new(None);
    let listens = At::new("training", 3, || {
        *refused.lock().expect("nobody panics with it") = Some(border.run(&["train.seed=2"]).expect_err("refused"));
    });
    run_with(&border, &[], &listens, &AtomicBool::new(false)).unwrap_or_else(|e| panic!("{e}"));
    let error = refused.lock().expect("nobody panics with it").take().expect("the training came to step 3");
    assert_eq!((error.code(), error.class()), ("output::locked", Class::Failed));
    let (text, pid) = (error.to_string(), std::process::id());
    assert!(text.contains(&format!("process {pid} on ")) && text.contains("`lorac run first.yaml`"), "{text}");
    assert_eq!(top(&border.out()), LEFT);
    let log = fs::read_to_string(border.out().join("metrics.jsonl")).expect("a log");
    assert!(log.lines().all(|l| serde_json::from_str::<serde_json::Value>(l).is_ok()) && log.lines().count() == 8);
}

#[test]
fn a_folder_holds_the_files_of_one_run() {
    let border = border("bert");
    border.succeeds(&["train.checkpoint=2 steps"]);
    let checkpoints = [2, 4, 6].map(|n| format!("checkpoints/step-{n}.safetensors"));
    assert!(checkpoints.iter().all(|name| border.out().join(name).is_file()));
    fs::write(border.out().join("notes.txt"), "mine").expect("writes");
    fs::write(border.out().join("adapter/notes.txt"), "mine").expect("writes");
    border.succeeds(&["train.seed=5", "deploy.formats=[onnx]", "train.checkpoint=3 steps"]);
    let left = [
        "adapter/notes.txt",
        "checkpoints/step-3.safetensors",
        "checkpoints/step-6.safetensors",
        "checkpoints/trained.safetensors",
        "manifest.json",
        "metrics.jsonl",
        "model.onnx",
        "notes.txt",
        "report.html",
    ];
    assert_eq!(names(&border.out()), left);
    border.succeeds(&[]);
    assert_eq!(top(&border.out().join("checkpoints")), ["trained.safetensors"]);
    assert!(border.out().join("notes.txt").exists());
}

#[test]
fn a_rejected_result_has_names_that_nobody_deploys_by_accident() {
    let border = border("bert");
    border.succeeds(&[]);
    let outcome = border.run(&["metrics={accuracy: {min: 0.99}}"]).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(outcome.gates.len(), 1);
    let manifest = Manifest::read(&border.out()).expect("a manifest");
    assert_eq!((&manifest, manifest.status), (&outcome.manifest, Status::Rejected));
    let [gate] = manifest.gates.as_slice() else { panic!("{:?}", manifest.gates) };
    let accuracy = manifest.eval.after.get("accuracy").expect("a score");
    assert_eq!((gate.name.as_str(), gate.expected, gate.got), ("metrics.accuracy.min", Some(0.99), accuracy));
    let left = [
        "README.rejected.md",
        "adapter.rejected",
        "checkpoints",
        "config.rejected.json",
        "manifest.json",
        "metrics.jsonl",
        "model.rejected.onnx",
        "report.html",
        "tokenizer.rejected.json",
        "tokenizer_config.rejected.json",
    ];
    assert_eq!(top(&border.out()), left);
    for artifact in &manifest.artifacts {
        let (sum, size) = sha256_file(&border.out().join(&artifact.path)).expect("an artifact");
        assert_eq!((&sum, size), (&artifact.sha256, artifact.size), "{}", artifact.path);
    }
    let report = fs::read_to_string(border.out().join("report.html")).expect("a report");
    assert!(report.contains("Gate missed: accuracy") && report.contains("rejected"), "{report}");
    border.succeeds(&[]);
    assert_eq!(top(&border.out()), LEFT);
}

/// A run that ends badly behind the training, or in it, leaves the result of the run before it.
#[test]
fn a_run_that_is_stopped_leaves_the_earlier_result() {
    for (what, position) in [("training", 3), ("after", 24), ("after ", 0), ("verified", 0)] {
        let border = border("bert");
        border.succeeds(&[]);
        let before = sums(&border.out());
        let stop = AtomicBool::new(false);
        let stops = At::new(what, position, || stop.store(true, Ordering::Relaxed));
        let error = run_with(&border, &["train.seed=7"], &stops, &stop).expect_err("stopped");
        assert_eq!(error.class(), Class::Interrupted, "{what}: {error}");
        let step = if what == "training" { 3 } else { 6 };
        let checkpoint = format!("unfinished/checkpoints/step-{step}.safetensors");
        assert!(error.to_string().contains(&checkpoint), "{what}: {error}");
        let (unfinished, left): (BTreeMap<_, _>, BTreeMap<_, _>) =
            sums(&border.out()).into_iter().partition(|(name, _)| name.starts_with("unfinished/"));
        assert_eq!(left, before, "{what}");
        assert_eq!(unfinished.into_keys().collect::<Vec<_>>(), [checkpoint, "unfinished/metrics.jsonl".into()]);
        border.succeeds(&[]);
        assert_eq!(top(&border.out()), LEFT, "{what}");
    }
}

#[test]
fn what_cannot_be_written_behind_the_training_leaves_the_earlier_result_and_the_parameters() {
    let border = border("bert");
    border.succeeds(&[]);
    let before = sums(&border.out());
    let blocked = border.out().join("model.onnx");
    let blocks = At::new("verified", 0, || {
        fs::rename(&blocked, border.path().join("moved")).expect("renames");
        fs::create_dir(&blocked).expect("makes");
    });
    let error = run_with(&border, &["train.seed=7"], &blocks, &AtomicBool::new(false)).expect_err("in the way");
    assert!(matches!(&error, Error::Trained { .. }) && error.code() == "output::in_the_way", "{error}");
    assert!(error.to_string().contains("step-6.safetensors"), "{error}");
    fs::remove_dir(&blocked).expect("nothing was put into it");
    fs::rename(border.path().join("moved"), &blocked).expect("renames");
    let mut left = sums(&border.out());
    left.retain(|name, _| !name.starts_with("unfinished/"));
    assert_eq!(left, before);
}

#[test]
fn what_is_in_the_way_is_found_before_the_training() {
    type Put = fn(&Border);
    let place: [(&str, Put); 5] = [
        ("model.onnx", |b| fs::create_dir_all(b.out().join("model.onnx")).expect("makes")),
        ("model.rejected.onnx", |b| fs::create_dir_all(b.out().join("model.rejected.onnx")).expect("makes")),
        ("report.html", |b| fs::write(b.out().join("report.html"), "mine").expect("writes")),
        ("adapter", |b| symlink(b.path(), b.out().join("adapter")).expect("links")),
        ("adapter", |b| fs::write(b.out().join("adapter"), "mine").expect("writes")),
    ];
    for (name, put) in place {
        let border = border("bert");
        fs::create_dir(border.out()).expect("makes");
        put(&border);
        let before = names(border.path());
        let error = border.run(&[]).expect_err(name);
        assert_eq!((error.code(), error.class()), ("output::in_the_way", Class::Usage), "{name}: {error}");
        assert!(error.to_string().contains(&format!("out/{name} is in the way")), "{error}");
        assert_eq!(names(border.path()), before, "{name}");
    }
}

#[test]
fn a_hard_link_to_the_base_is_found_before_the_training() {
    let border = border("ir13");
    let (base, out) = (border.path().join("model/model.onnx"), border.out().join("model.onnx"));
    fs::create_dir(border.out()).expect("makes");
    fs::hard_link(&base, &out).expect("links");
    let sum = sha256_file(&base).expect("reads");
    let text = border.fails(&["runtime.source=pypi:onnxruntime==1.31.1"]);
    assert!(text.contains("out/model.onnx"), "{text}");
    assert_eq!((sha256_file(&base).expect("reads"), names(&border.out())), (sum, vec!["model.onnx".to_string()]));
}

#[test]
fn links_in_the_folder_are_replaced_and_not_followed() {
    let border = border("bert");
    fs::create_dir(border.out()).expect("makes");
    let victim = border.path().join("victim");
    fs::write(&victim, "mine").expect("writes");
    for name in ["model.onnx", "metrics.jsonl", "report.html", "manifest.json"] {
        symlink(&victim, border.out().join(name)).expect("links");
    }
    border.succeeds(&[]);
    assert_eq!(fs::read_to_string(&victim).expect("reads"), "mine");
    for name in names(&border.out()) {
        assert!(border.out().join(&name).symlink_metadata().expect("is there").is_file(), "{name}");
    }
}

#[test]
fn files_have_the_rights_that_the_umask_grants() {
    let border = border("bert");
    border.succeeds(&["train.checkpoint=6 steps"]);
    fs::write(border.path().join("plain"), "").expect("writes");
    fs::create_dir(border.path().join("folder")).expect("makes");
    let mode = |path: &Path| path.symlink_metadata().expect("is there").permissions().mode();
    for name in names(&border.out()) {
        assert_eq!(mode(&border.out().join(&name)), mode(&border.path().join("plain")), "{name}");
    }
    assert_eq!(mode(&border.out().join("adapter")), mode(&border.path().join("folder")));
    assert_eq!(border.out().join("model.onnx").metadata().expect("is there").nlink(), 1);
}

#[test]
fn steps_alone_decide_and_labels_are_counted() {
    let border = border("bert");
    let listens = At::new("", 1, || ());
    let settings = ["train.steps=20", "train.epochs=1"];
    let outcome = run_with(&border, &settings, &listens, &AtomicBool::new(false)).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(outcome.manifest.train.steps, 20);
    let train = fs::read_to_string(border.path().join("train.csv")).expect("reads");
    let count = |label: &str| train.lines().filter(|l| l.ends_with(label)).count();
    let labels = format!("{} `negative`, {} `positive`", count(",negative"), count(",positive"));
    let lines = listens.lines();
    assert!(lines.iter().any(|l| l.starts_with("data ") && l.contains(&labels)), "no `{labels}` in {lines:?}");
}
