//! Runs as processes: who shares a folder, what signals do, and readers who have gone.
#![cfg(unix)]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use support::small;

/// The engine of the pipeline.
const ORT: &str = "pypi:onnxruntime==1.31.1";

const LORAC: &str = env!("CARGO_BIN_EXE_lorac");

/// `lorac run pipeline.yaml --out out` in the folder.
fn command(folder: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(LORAC);
    command.args(["run", "pipeline.yaml", "--out", "out"]).args(more).current_dir(folder);
    command
}

fn run(folder: &Path, more: &[&str]) -> Output {
    command(folder, more).output().expect("runs")
}

/// A training without end, once its log has begun.
fn begun(folder: &Path, source: &str, log: &str) -> Child {
    let source = format!("runtime.source={source}");
    let mut command = command(folder, &["--set", "train.steps=100000000", "--set", &source, "--quiet"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("starts");
    let (log, limit) = (folder.join(log), Instant::now() + Duration::from_secs(300));
    while fs::metadata(&log).map_or(0, |m| m.len()) < 1000 {
        assert!(child.try_wait().expect("waits").is_none() && Instant::now() < limit, "no training began");
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([name, &child.id().to_string()]).status().expect("kill");
    assert!(status.success());
}

/// How a process ends, and what it has said.
fn end(mut child: Child) -> (Option<i32>, String) {
    let mut text = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut text).expect("reads");
    (child.wait().expect("ends").code(), text)
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn left(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).expect("lists").flatten().map(|e| e.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

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

#[test]
fn another_process_is_refused_and_a_killed_one_leaves_nothing() {
    let folder = small();
    let out = folder.path().join("out");
    let first = begun(folder.path(), ORT, "out/metrics.jsonl");
    let refused = run(folder.path(), &[]);
    assert_eq!(refused.status.code(), Some(3));
    let text = stderr(&refused);
    let holder = format!("process {} on ", first.id());
    assert!(text.contains("output::locked") && text.contains(&holder) && text.contains("--quiet"), "{text}");
    signal(&first, "-KILL");
    // What is left of it when it is killed while it writes.
    fs::create_dir(out.join(".lorac-a1b2c3.tmp")).expect("makes");
    fs::File::create(out.join(".lorac-a1b2c3.tmp/.lorac-stage")).expect("makes");
    fs::File::create(out.join(".lorac-a1b2c3.tmp/model.onnx")).expect("makes").write_all(b"half").expect("writes");
    let next = run(folder.path(), &["--quiet"]);
    assert_eq!(next.status.code(), Some(0), "{}", stderr(&next));
    assert_eq!(left(&out), LEFT);
    drop(end(first));
}

#[test]
fn an_interrupted_run_ends_with_130_and_leaves_the_earlier_result() {
    let folder = small();
    let out = folder.path().join("out");
    assert_eq!(run(folder.path(), &["--quiet"]).status.code(), Some(0));
    let sums = || {
        LEFT.iter()
            .filter(|name| name.contains('.'))
            .map(|name| fs::read(out.join(name)).expect("reads"))
            .collect::<Vec<_>>()
    };
    let before = sums();
    let child = begun(folder.path(), ORT, "out/unfinished/metrics.jsonl");
    signal(&child, "-INT");
    let (code, text) = end(child);
    assert_eq!(code, Some(130), "{text}");
    assert!(text.contains("out/unfinished/checkpoints/step-"), "{text}");
    let command = "continue with: lorac run pipeline.yaml --set train.steps=100000000 --set runtime.source=";
    assert!(text.contains(command) && text.contains(" --out out --resume\n"), "{text}");
    assert_eq!(
        (left(&out), sums()),
        ([&LEFT[..], &["unfinished"]].concat().iter().map(|s| s.to_string()).collect(), before)
    );
}

/// As `timeout -s INT` sends it: to the process, and once more to its group.
#[test]
fn an_interrupt_that_comes_many_times_at_once_is_one() {
    for source in [ORT, "embedded"] {
        let folder = small();
        let child = begun(folder.path(), source, "out/metrics.jsonl");
        let id = child.id().to_string();
        assert!(Command::new("kill").arg("-INT").args([id.as_str(); 4000]).status().expect("kill").success());
        let (code, text) = end(child);
        assert_eq!(code, Some(130), "{text}");
        assert!(text.contains("out/checkpoints/step-"), "{text}");
    }
}

/// An engine whose library is taken down while it computes has errors that are nobody's.
#[test]
fn an_interrupt_that_ends_a_command_at_once_is_all_that_is_heard_of() {
    let folder = small();
    assert_eq!(run(folder.path(), &["--quiet"]).status.code(), Some(0));
    for _ in 0..6 {
        let mut command = Command::new(LORAC);
        let args = ["verify", "out/model.onnx", "out/model.onnx", "--samples", "100000"];
        command.args(args).current_dir(folder.path()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("starts");
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(child.try_wait().expect("waits"), None, "it computes for longer");
        signal(&child, "-INT");
        assert_eq!(end(child), (Some(130), String::new()));
    }
}

/// Of `lorac ... 2>&1 | head`.
#[test]
fn a_reader_who_has_gone_ends_no_command() {
    let folder = small();
    let deaf = |command: &mut Command| {
        let (out_reader, out) = std::io::pipe().expect("a pipe");
        let (err_reader, err) = std::io::pipe().expect("a pipe");
        drop((out_reader, err_reader));
        command.stdout(out).stderr(err).status().expect("runs").code()
    };
    assert_eq!(deaf(&mut command(folder.path(), &[])), Some(0));
    assert_eq!(left(&folder.path().join("out")), LEFT);
    assert_eq!(deaf(&mut command(folder.path(), &["--set", "train.epoch=1"])), Some(2));
    assert_eq!(deaf(command(folder.path(), &[]).env("LORAC_CACHE", "/dev/null/no")), Some(3));
    let model = folder.path().join("out/model.onnx");
    let model = model.to_str().expect("UTF-8");
    for args in [&["inspect", model][..], &["inspect", model, "--text"], &["schema"], &["doctor"], &["explain", "gate"]]
    {
        assert_eq!(deaf(Command::new(LORAC).args(args)), Some(0), "{args:?}");
    }
    assert_eq!(deaf(Command::new(LORAC).args(["explain", "nothing"])), Some(2));
    assert_eq!(deaf(Command::new(LORAC).args(["inspect", "no/such.onnx", "--format", "json"])), Some(2));
    assert_eq!(deaf(Command::new(LORAC).arg("--help")), Some(0));
}

/// Runs a script with a small disk at `out`; none where the system lets nobody mount one.
fn on_a_small_disk(folder: &Path, size: &str, script: &str) -> Option<Output> {
    let out: PathBuf = folder.join("out");
    fs::create_dir(&out).expect("makes");
    let mount = format!("mount -t tmpfs -o size={size} tmpfs out || exit 99\n{script}");
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", &mount]).current_dir(folder).env("LORAC", LORAC);
    let output = command.output().ok()?;
    let refused = !output.status.success() && stderr(&output).starts_with("unshare");
    if refused || output.status.code() == Some(99) {
        eprintln!("skipped: this user mounts no file system");
        return None;
    }
    Some(output)
}

#[test]
fn a_log_that_fills_the_disk_does_not_end_the_training() {
    let folder = small();
    let script = "\"$LORAC\" run pipeline.yaml --out out --quiet --set train.steps=4000; code=$?
        cat out/manifest.json; exit $code";
    let Some(output) = on_a_small_disk(folder.path(), "600k", script) else { return };
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert_eq!(text.matches("metrics.jsonl: No space left").count(), 1, "{text}");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let manifest = &printed[printed.find('{').expect("a manifest")..];
    let manifest: serde_json::Value = serde_json::from_str(manifest).expect("JSON");
    let notes = manifest["notes"].as_array().expect("notes");
    assert!(notes.iter().any(|n| n.as_str().is_some_and(|n| n.contains("the log ends here"))), "{notes:?}");
    assert_eq!(manifest["train"]["steps"], 4000);
}

/// And goes on from the next one that there is room for.
#[test]
fn a_checkpoint_that_fills_the_disk_leaves_those_before_it_whole() {
    let folder = small();
    let script = "
        \"$LORAC\" run pipeline.yaml --out out --quiet --set train.steps=100000000 \\
            --set 'train.checkpoint={every: 100 steps, keep: 2}' 2> said.txt & run=$!
        until [ -f out/checkpoints/step-200.safetensors ]; do kill -0 $run || exit 97; sleep 0.02; done
        dd if=/dev/zero of=out/filler bs=1k 2> /dev/null
        until grep -q 'without this checkpoint' said.txt; do kill -0 $run || exit 98; sleep 0.02; done
        mkdir full after; cp -r out/checkpoints full; rm out/filler
        until [ $(grep -c 'without this checkpoint' said.txt) = \"$before\" ]; do
            before=$(grep -c 'without this checkpoint' said.txt); sleep 1
        done
        kill -INT $run; wait $run; code=$?
        cp -r out/checkpoints after; exit $code";
    let Some(output) = on_a_small_disk(folder.path(), "2m", script) else { return };
    let said = fs::read_to_string(folder.path().join("said.txt")).expect("what was said");
    assert_eq!(output.status.code(), Some(130), "{said} {}", stderr(&output));
    assert!(said.contains("step-") && said.contains("No space left on device"), "{said}");
    for at in ["full/checkpoints", "after/checkpoints"] {
        let names = left(&folder.path().join(at));
        assert!(names.len() >= 2 && names.iter().all(|name| name.starts_with("step-")), "{at}: {names:?}");
        for name in names {
            let file = folder.path().join(at).join(&name);
            let checkpoint = lorac::train::Checkpoint::load(&file).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(name, format!("step-{}.safetensors", checkpoint.step));
        }
    }
}

#[test]
fn a_disk_that_is_too_small_is_found_before_the_training() {
    for (size, says) in [("60k", "No space left"), ("200k", "has no room for")] {
        let folder = small();
        let script = "\"$LORAC\" run pipeline.yaml --out out; code=$?; ls -A out; exit $code";
        let Some(output) = on_a_small_disk(folder.path(), size, script) else { return };
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(3), "{text}");
        assert!(text.contains(says) && !text.contains("trained   "), "{text}");
        assert!(!text.contains(".lorac-"), "a name that the user does not know: {text}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "files are left");
    }
}

/// And not that of the temporary file which was to take its place.
#[test]
fn a_full_disk_is_told_of_with_the_file_that_was_asked_for() {
    let folder = small();
    let script = "LORAC_CACHE=out \"$LORAC\" inspect model
        \"$LORAC\" run pipeline.yaml --out made --emit out/emit --quiet";
    let Some(output) = on_a_small_disk(folder.path(), "60k", script) else { return };
    let text = stderr(&output);
    let named = text.lines().filter(|line| line.ends_with("No space left on device (os error 28)"));
    assert_eq!(named.clone().count(), 2, "{text}");
    assert!(named.clone().any(|line| line.contains("/model.onnx: ")), "{text}");
    assert!(named.clone().any(|line| line.contains(": out/emit/") && line.contains(".txt: ")), "{text}");
    assert!([".lorac-", ".tmp-", " at path "].iter().all(|temporary| !text.contains(temporary)), "{text}");
}

/// `ulimit -f`, in blocks of half a KiB or of one.
#[test]
fn a_limit_on_the_size_of_files_is_an_error_like_a_full_disk() {
    let folder = small();
    let script = "ulimit -f 20; exec \"$LORAC\" run pipeline.yaml --out out --quiet";
    let output = Command::new("sh").args(["-c", script]).current_dir(folder.path()).env("LORAC", LORAC).output();
    let output = output.expect("runs");
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("File too large") && text.contains("nothing is trained"), "{text}");
    assert!(text.contains("out/model.onnx") && !text.contains(".lorac-"), "{text}");
    assert!(left(&folder.path().join("out")).is_empty(), "files are left");
}

#[test]
fn a_link_in_the_default_place_is_not_followed() {
    let folder = small();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("victim")).expect("makes");
    std::os::unix::fs::symlink(at("victim"), at("lorac-out")).expect("links");
    let output = Command::new(LORAC).args(["run", "pipeline.yaml"]).current_dir(folder.path()).output().expect("runs");
    let says = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{says}");
    assert!(says.contains("lorac-out is in the way: this is a link"), "{says}");
    assert_eq!(fs::read_dir(at("victim")).expect("lists").count(), 0);
}
