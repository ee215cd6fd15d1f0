//! What is told of a training while it goes on.

use lorac::error::{Class, Error};
use lorac::output::{Manifest, Status};
use lorac::pipeline::Loaded;
use lorac::progress::Progress;
use lorac::run::{Outcome, ResumeFrom, RunOptions, resume, run};
use lorac::source::Resolver;
use lorac_tests::border::{Border, border};
use lorac_tests::{readers, root, skipped};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}

/// Hears warnings.
#[derive(Debug, Default)]
struct Warned(Mutex<Vec<String>>);

impl Progress for Warned {
    fn line(&self, _: &str) {}
    fn warning(&self, text: &str) {
        self.0.lock().expect("nobody panics with it").push(text.into());
    }
    fn begin(&self, _: &str, _: u64) {}
    fn at(&self, _: u64, _: &str) {}
    fn end(&self) {}
}

/// Runs a border, and returns its warnings about what is told of the training.
fn warned(border: &Border, settings: &[&str]) -> (Result<Outcome, Error>, Vec<String>) {
    let settings: Vec<String> = settings.iter().map(|s| s.to_string()).collect();
    let loaded = Loaded::load(&border.path().join("pipeline.yaml"), &settings).unwrap_or_else(|e| panic!("{e}"));
    let resolver = Resolver::new(None, border.path()).unwrap_or_else(|e| panic!("{e}"));
    let heard = Warned::default();
    let options = RunOptions { out: border.out(), command: "test".into(), progress: &heard, emit: None };
    let outcome = run(&loaded, &resolver, &options, &AtomicBool::new(false));
    let said = heard.0.into_inner().expect("nobody panics with it");
    (outcome, said.into_iter().filter(|text| text.starts_with("log.")).collect())
}

/// A setting of `log` that gives the lines to a shell.
fn shell(script: &str) -> String {
    format!("log.command=[/bin/sh, -c, '{script}']")
}

#[test]
fn every_line_says_what_it_tells_of() {
    let border = border("bert");
    border.succeeds(&[]);
    let lines = lines(&border.out().join("metrics.jsonl"));
    let kinds: Vec<&str> = lines.iter().map(|line| line["kind"].as_str().expect("a kind")).collect();
    assert_eq!(kinds, ["eval", "step", "step", "step", "step", "step", "step", "eval"]);
    let evals: Vec<_> = lines.iter().filter(|l| l["kind"] == "eval").map(|l| (&l["eval"], &l["step"])).collect();
    assert_eq!(evals, [(&"before".into(), &0.into()), (&"after".into(), &6.into())]);
    for step in lines.iter().filter(|line| line["kind"] == "step") {
        let fields = ["time", "step", "epoch", "loss", "lr", "grad_norm", "tokens", "seconds", "tokens_per_second"];
        assert!(fields.iter().all(|key| step[key].is_number()) && step["seconds_left"].is_number(), "{step}");
        assert!(step["tokens_per_second"].as_f64() > Some(0.0), "{step}");
        assert!(!cfg!(target_os = "linux") || step["memory_bytes"].as_u64() > Some(1 << 20), "{step}");
    }
    assert_eq!(lines[6]["seconds_left"], 0.0, "behind the last step");
}

#[test]
fn a_command_hears_of_the_run_and_gets_the_lines_of_the_log() {
    let border = border("bert");
    let got = border.path().join("got.jsonl");
    let (outcome, said) = warned(&border, &[&shell(&format!("cat > {}", got.display()))]);
    outcome.unwrap_or_else(|e| panic!("{e}"));
    let got = lines(&got);
    assert_eq!((said, &got[1..]), (Vec::new(), &lines(&border.out().join("metrics.jsonl"))[..]));
    assert_eq!((&got[0]["kind"], &got[0]["name"], &got[0]["steps"]), (&"run".into(), &"bert".into(), &6.into()));
    assert_eq!(got[0]["pipeline"]["train"]["batch"], 8);
}

#[test]
fn a_command_that_dies_or_fails_ends_no_training() {
    for (script, what) in [("exit 7", "exit 7` "), ("cat > /dev/null; exit 7", "has ended (exit status: 7)")] {
        let border = border("bert");
        let (outcome, said) = warned(&border, &[&shell(script)]);
        assert_eq!(outcome.unwrap_or_else(|e| panic!("{e}")).manifest.status, Status::Passed);
        assert!(said.len() == 1 && said[0].contains(what), "{said:?}");
    }
}

#[test]
fn a_command_that_cannot_be_started_is_refused_before_anything_is_read() {
    let border = border("bert");
    let error = border.run(&["log.command=[no-such-program, x]"]).expect_err("there is none");
    assert_eq!((error.class(), error.code()), (Class::Usage, "pipeline::command"));
    assert!(error.to_string().contains("`no-such-program` cannot be started"), "{error}");
}

/// The event file of a run, by its manifest.
fn events(border: &Border) -> PathBuf {
    let manifest = Manifest::read(&border.out()).expect("a manifest");
    let files: Vec<&str> =
        manifest.artifacts.iter().filter(|a| a.kind == "tensorboard").map(|a| a.path.as_str()).collect();
    let [file] = files.as_slice() else { panic!("{files:?}") };
    border.out().join(file)
}

#[test]
fn an_event_file_is_of_one_run() {
    let border = border("bert");
    border.succeeds(&["log.tensorboard=true"]);
    let first = events(&border);
    assert!(first.is_file());
    border.succeeds(&["log.tensorboard=true", "train.seed=3"]);
    let second = events(&border);
    let names: Vec<_> = std::fs::read_dir(border.out().join("tensorboard")).expect("lists").flatten().collect();
    assert!(names.len() == 1 && names[0].path() == second && (first == second || !first.exists()), "{names:?}");
    assert!(!border.out().join("unfinished").exists());
    border.succeeds(&[]);
    assert!(!border.out().join("tensorboard").exists());
}

/// What TensorBoard itself reads of a run; none where this machine does not have it.
fn scalars(border: &Border) -> Option<Value> {
    const SCRIPT: &str = "import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
read = EventAccumulator(sys.argv[1], size_guidance={'scalars': 0}).Reload()
print(json.dumps({tag: [[e.wall_time, e.step, e.value] for e in read.Scalars(tag)] for tag in read.Tags()['scalars']}))";
    let is_there = readers::python_of("import tensorboard", Path::new("")).is_some_and(|o| o.status.success());
    if !is_there {
        skipped("a Python (`LORAC_PYTHON`, else python3) with tensorboard");
        return None;
    }
    let output = readers::python_of(SCRIPT, &border.out().join("tensorboard"))?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).expect("JSON"))
}

#[test]
fn tensorboard_reads_the_event_file() {
    let border = border("bert");
    border.succeeds(&["log.tensorboard=true"]);
    let Some(read) = scalars(&border) else { return };
    let lines = lines(&border.out().join("metrics.jsonl"));
    for (tag, kind, key) in [
        ("train/loss", "step", "loss"),
        ("train/lr", "step", "lr"),
        ("train/grad_norm", "step", "grad_norm"),
        ("train/tokens_per_second", "step", "tokens_per_second"),
        ("eval/accuracy", "eval", "accuracy"),
        ("eval/loss", "eval", "loss"),
    ] {
        let single = |x: &Value| f64::from(x.as_f64().expect("a number") as f32);
        let rows = lines.iter().filter(|line| line["kind"] == kind);
        let want: Vec<Value> =
            rows.map(|line| serde_json::json!([line["time"], line["step"], single(&line[key])])).collect();
        assert_eq!(read[tag], Value::from(want), "{tag}");
    }
}

/// Stops a run behind its third step.
#[derive(Debug, Default)]
struct Stops {
    stop: AtomicBool,
    training: AtomicBool,
}

impl Progress for Stops {
    fn line(&self, _: &str) {}
    fn begin(&self, what: &str, _: u64) {
        self.training.store(what == "training", Ordering::Relaxed);
    }
    fn at(&self, position: u64, _: &str) {
        self.stop.store(position == 3 && self.training.load(Ordering::Relaxed), Ordering::Relaxed);
    }
    fn end(&self) {}
}

#[test]
fn a_training_that_goes_on_tells_the_command_of_what_is_new_and_the_files_of_all() {
    let border = border("bert");
    let got = border.path().join("got.jsonl");
    let sets = [shell(&format!("cat > {}", got.display())), "log.tensorboard=true".into()];
    let loaded = Loaded::load(&border.path().join("pipeline.yaml"), &sets).unwrap_or_else(|e| panic!("{e}"));
    let resolver = Resolver::new(None, border.path()).unwrap_or_else(|e| panic!("{e}"));
    let stops = Stops::default();
    let options = RunOptions { out: border.out(), command: "test".into(), progress: &stops, emit: None };
    run(&loaded, &resolver, &options, &stops.stop).expect_err("stopped");
    let steps = |lines: &[Value]| lines.iter().filter_map(|line| line["step"].as_u64()).collect::<Vec<_>>();
    assert_eq!(steps(&lines(&got)), [0, 0, 1, 2, 3], "of the run, before, and three steps");
    resume(&loaded, &resolver, &options, &ResumeFrom::Newest, &AtomicBool::new(false))
        .unwrap_or_else(|e| panic!("{e}"));
    let heard = lines(&got);
    assert_eq!((&heard[0]["kind"], steps(&heard)), (&"run".into(), vec![3, 4, 5, 6, 6]));
    let logged = lines(&border.out().join("metrics.jsonl"));
    assert_eq!(steps(&logged), [0, 1, 2, 3, 4, 5, 6, 6]);
    let mut paced = logged.iter().filter(|line| line["kind"] == "step");
    assert!(paced.all(|line| line["tokens_per_second"].is_number()), "the pace goes on as well: {logged:?}");
    let names = std::fs::read_dir(border.out().join("tensorboard")).expect("lists").flatten();
    assert_eq!(names.map(|entry| entry.path()).collect::<Vec<_>>(), [events(&border)]);
    let written = std::fs::read(events(&border)).expect("reads");
    let losses = written.windows(b"train/loss".len()).filter(|bytes| bytes == b"train/loss").count();
    assert_eq!(losses, 6, "one for every step of both processes");
    if let Some(read) = scalars(&border) {
        let at: Vec<u64> =
            read["train/loss"].as_array().expect("scalars").iter().filter_map(|s| s[1].as_u64()).collect();
        assert_eq!(at, [1, 2, 3, 4, 5, 6]);
    }
}

/// The scripts of docs/logs.md, with modules in place of those of Weights & Biases and MLflow that write down their calls.
#[test]
fn the_scripts_of_the_documentation_tell_of_every_line() {
    const MODULE: &str = "import json
def call(name):
    return lambda *args, **more: print(json.dumps([name, args, more], allow_nan=False), file=open('calls', 'a'))
init, log, finish = call('init'), call('log'), call('finish')
start_run, log_dict, log_metrics, end_run = call('start'), call('dict'), call('log'), call('end')
";
    if readers::python_of("", Path::new("")).is_none() {
        return skipped("a Python (`LORAC_PYTHON`, else python3)");
    }
    let text = std::fs::read_to_string(root().join("docs/logs.md")).expect("docs/logs.md");
    let scripts: Vec<&str> = text.split("```python\n").skip(1).filter_map(|part| part.split("```").next()).collect();
    let border = border("bert");
    for (module, script) in ["wandb", "mlflow"].into_iter().zip(&scripts) {
        let at = |name: &str| border.path().join(name);
        std::fs::write(at(&format!("{module}.py")), MODULE).expect("writes");
        std::fs::write(at("script.py"), script).expect("writes");
        _ = std::fs::remove_file(at("calls"));
        let python = std::env::var("LORAC_PYTHON").unwrap_or("python3".into());
        let (outcome, said) =
            warned(&border, &[&shell(&format!("cd {} && {python} script.py", border.path().display()))]);
        outcome.unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(said, Vec::<String>::new());
        let logged: Vec<Value> = lines(&at("calls")).into_iter().filter(|call| call[0] == "log").collect();
        let steps: Vec<u64> = logged.iter().filter_map(|call| call[2]["step"].as_u64()).collect();
        assert_eq!(steps, [0, 1, 2, 3, 4, 5, 6, 6], "{module}");
        let last = &logged[7][1][0];
        assert!(
            last["eval/accuracy"].is_number() && last["eval/time"].is_null() && last["eval/eval"].is_null(),
            "{last}"
        );
    }
    assert_eq!(scripts.len(), 2);
}
