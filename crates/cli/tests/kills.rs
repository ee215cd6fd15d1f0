//! Runs that are killed at random instants and go on: `LORAC_KILLS` of them, `LORAC_KILL_SEED` for the same ones again.
#![cfg(unix)]

mod support;

use lorac::output::{Manifest, sha256_file};
use lorac::train::Checkpoint;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use support::{copy, small};

const LORAC: &str = env!("CARGO_BIN_EXE_lorac");

/// Kills where nobody asks for another number.
const USUAL: usize = 6;

/// A training of a few hundred steps, which says what it has come to behind every few of them.
const SETTINGS: [&str; 5] = [
    "train.steps=300",
    "train.checkpoint={every: 7 steps, keep: 2}",
    "adapt.0.lora.dropout=0.1",
    "name=killed",
    "train.seed=3",
];

fn command(folder: &Path, out: &str, more: &[&str]) -> Command {
    let mut command = Command::new(LORAC);
    command.args(["run", "pipeline.yaml", "--quiet", "--out", out]).current_dir(folder);
    SETTINGS.iter().for_each(|set| _ = command.args(["--set", set]));
    command.args(more).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Numbers that look random, the same for the same seed (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// Between nothing and that.
    fn part_of(&mut self, span: Duration) -> Duration {
        span.mul_f64(self.below(1 << 20) as f64 / f64::from(1 << 20))
    }
}

/// When a process is killed.
#[derive(Clone, Copy, Debug)]
enum Instants {
    /// So long after it began.
    After(Duration),
    /// So long after it has written the manifest that is to take its place with all other files.
    Committing(Duration),
}

/// Files below a folder, those in folders that are not finished left out.
fn files(folder: &Path) -> Vec<PathBuf> {
    let unfinished = |path: &PathBuf| path.iter().any(|part| part.to_string_lossy().starts_with(".lorac-"));
    all_files(folder).into_iter().filter(|path| !unfinished(path)).collect()
}

fn all_files(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_path_buf()]);
    while let Some(at) = folders.pop() {
        for entry in fs::read_dir(&at).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                _ => found.push(entry.path()),
            }
        }
    }
    found
}

/// A folder for files that are not finished, with the manifest that is to take its place.
fn is_committing(out: &Path) -> bool {
    let stages = fs::read_dir(out).into_iter().flatten().flatten().map(|e| e.path());
    let mut stages = stages.filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(".lorac-")));
    stages.any(|stage| stage.join("manifest.json").exists() || stage.join("earlier").exists())
}

/// Kills a process then. `None` where it has ended before.
fn kill(child: &mut Child, out: &Path, at: Instants) -> Option<()> {
    let begun = Instant::now();
    let wait = match at {
        Instants::After(wait) => wait,
        Instants::Committing(wait) => {
            while !is_committing(out) {
                if child.try_wait().expect("waits").is_some() {
                    return None;
                }
                assert!(begun.elapsed() < Duration::from_secs(300), "no manifest is written");
            }
            wait
        }
    };
    let now = Instant::now();
    while now.elapsed() < wait {
        std::thread::sleep((wait - now.elapsed()).min(Duration::from_millis(1)));
    }
    let ended = child.try_wait().expect("waits").is_some();
    _ = child.kill();
    child.wait().expect("ends");
    (!ended).then_some(())
}

/// Everything in the folder can be read, and nothing in it looks finished that is not.
#[track_caller]
fn is_sound(out: &Path, context: &str) {
    for file in files(out) {
        let name = file.strip_prefix(out).expect("below").display().to_string();
        let wrong = |e: &dyn std::fmt::Display| -> ! { panic!("{context}: {name}: {e}") };
        match file.file_name().and_then(|n| n.to_str()).unwrap_or_default() {
            n if n.starts_with("step-") || n == "trained.safetensors" => {
                Checkpoint::load(&file).unwrap_or_else(|e| wrong(&e));
            }
            "metrics.jsonl" => {
                let lines = fs::read_to_string(&file).unwrap_or_else(|e| wrong(&e));
                let whole = lines.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok());
                assert!(whole && (lines.is_empty() || lines.ends_with('\n')), "{context}: {name}");
            }
            "model.onnx" => _ = lorac::onnx::load(&file).unwrap_or_else(|e| wrong(&e)),
            _ => {}
        }
    }
    let manifest = out.join("manifest.json");
    if !manifest.exists() {
        let finished = out.join("model.onnx").exists();
        assert!(!finished || is_committing(out), "{context}: a model without a manifest: {:#?}", all_files(out));
        return;
    }
    for artifact in Manifest::read(out).unwrap_or_else(|e| panic!("{context}: {e}")).artifacts {
        let (sum, _) = sha256_file(&out.join(&artifact.path)).unwrap_or_else(|e| panic!("{context}: {e}"));
        assert_eq!(sum, artifact.sha256, "{context}: {}", artifact.path);
    }
}

/// What a run has learnt.
fn learnt(out: &Path) -> BTreeMap<&'static str, Vec<u8>> {
    let names = ["adapter/adapter_model.safetensors", "adapter/head.safetensors", "model.onnx"];
    names.into_iter().map(|name| (name, fs::read(out.join(name)).unwrap_or_default())).collect()
}

/// The steps of a log.
fn steps(out: &Path) -> Vec<u64> {
    let text = fs::read_to_string(out.join("metrics.jsonl")).expect("a log");
    let line = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("JSON");
    text.lines().map(line).filter(|l| l["eval"].is_null()).filter_map(|l| l["step"].as_u64()).collect()
}

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn killed_runs_go_on_to_the_same_bits() {
    let kills = number("LORAC_KILLS", USUAL as u64) as usize;
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |t| t.as_micros() as u64);
    let seed = number("LORAC_KILL_SEED", clock);
    eprintln!("LORAC_KILL_SEED={seed}");
    let mut random = Random(seed);
    let folder = small();
    let at = |name: &str| folder.path().join(name);

    let earlier = command(folder.path(), "earlier", &["--set", "train.steps=2"]).output().expect("runs");
    assert!(earlier.status.success(), "{}", text(&earlier));
    let begun = Instant::now();
    let whole = command(folder.path(), "whole", &[]).output().expect("runs");
    let span = begun.elapsed();
    assert!(whole.status.success(), "{}", text(&whole));
    let want = learnt(&at("whole"));

    let (mut done, mut trial, mut resumed) = (0, 0, 0);
    while done < kills {
        trial += 1;
        let name = format!("out{trial}");
        let out = at(&name);
        if trial % 3 == 0 {
            copy(&at("earlier"), &out);
        }
        let mut more: &[&str] = &[];
        // As often as this the run is killed, and then left to end.
        for _ in 0..=random.below(3) {
            let instant = match random.below(3) {
                0 => Instants::Committing(random.part_of(Duration::from_millis(4))),
                _ => Instants::After(random.part_of(span.mul_f64(1.05))),
            };
            let context = format!("LORAC_KILL_SEED={seed}: trial {trial}, kill {done}: {more:?}, {instant:?}");
            let mut child = command(folder.path(), &name, more).spawn().expect("starts");
            if kill(&mut child, &out, instant).is_none() {
                break;
            }
            done += 1;
            is_sound(&out, &context);
            more = &["--resume"];
        }
        let context = format!("LORAC_KILL_SEED={seed}: trial {trial}, kill {done}");
        let mut end = command(folder.path(), &name, &["--resume"]).output().expect("runs");
        match text(&end).contains("resume::nothing") {
            true => end = command(folder.path(), &name, &[]).output().expect("runs"),
            // Of another pipeline is what was there before.
            false if trial % 3 == 0 && text(&end).contains("resume::differs") => {
                end = command(folder.path(), &name, &[]).output().expect("runs");
            }
            false => resumed += 1,
        }
        assert!(end.status.success(), "{context}: {}", text(&end));
        is_sound(&out, &context);
        assert!(learnt(&out) == want, "{context}: other bits");
        assert_eq!(steps(&out), (1..=300).collect::<Vec<_>>(), "{context}");
        assert!(files(&out).len() == files(&at("whole")).len(), "{context}: {:?}", files(&out));
        fs::remove_dir_all(&out).expect("removes");
    }
    eprintln!("{done} kills in {trial} runs, {resumed} of which went on from a checkpoint or were finished");
}
