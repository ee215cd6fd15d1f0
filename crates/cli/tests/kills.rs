//! Runs that are killed at random instants and go on, and entries of the cache whose writing is killed: `LORAC_KILLS` of
//! each, `LORAC_KILL_SEED` for the same ones again.
#![cfg(unix)]

mod support;

use lorac::output::{Manifest, sha256_file};
use lorac::source::{Resolver, Source};
use lorac::train::Checkpoint;
use std::collections::{BTreeMap, BTreeSet};
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
    /// So long after it has begun to write what is to take its place.
    Writing(Duration),
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

/// Kills a process then; `writes` says whether it has begun to write. `None` where it has ended before.
fn kill(child: &mut Child, writes: impl Fn() -> bool, at: Instants) -> Option<()> {
    let begun = Instant::now();
    let wait = match at {
        Instants::After(wait) => wait,
        Instants::Writing(wait) => {
            while !writes() {
                if child.try_wait().expect("waits").is_some() {
                    return None;
                }
                assert!(begun.elapsed() < Duration::from_secs(300), "nothing is written");
            }
            wait
        }
    };
    let now = Instant::now();
    while now.elapsed() < wait {
        std::thread::sleep(wait.saturating_sub(now.elapsed()).min(Duration::from_millis(1)));
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

/// How many kills there are to be, and what they are drawn from.
fn asked() -> (usize, u64, Random) {
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |t| t.as_micros() as u64);
    let seed = number("LORAC_KILL_SEED", clock);
    eprintln!("LORAC_KILL_SEED={seed}");
    (number("LORAC_KILLS", USUAL as u64) as usize, seed, Random(seed))
}

#[test]
fn killed_runs_go_on_to_the_same_bits() {
    let (kills, seed, mut random) = asked();
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
                0 => Instants::Writing(random.part_of(Duration::from_millis(4))),
                _ => Instants::After(random.part_of(span.mul_f64(1.05))),
            };
            let context = format!("LORAC_KILL_SEED={seed}: trial {trial}, kill {done}: {more:?}, {instant:?}");
            let mut child = command(folder.path(), &name, more).spawn().expect("starts");
            if kill(&mut child, || is_committing(&out), instant).is_none() {
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

/// Every index of a cache can be read, and every file that one lists is what it says.
#[track_caller]
fn is_sound_cache(cache: &Path, context: &str) {
    for index in all_files(cache).into_iter().filter(|path| path.file_name().is_some_and(|n| n == "index.json")) {
        let text = fs::read_to_string(&index).unwrap_or_else(|e| panic!("{context}: {e}"));
        let read: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{context}: {text}: {e}"));
        for (name, entry) in read["files"].as_object().into_iter().flatten() {
            let file = index.with_file_name("files").join(name);
            let (sum, size) = sha256_file(&file).unwrap_or_else(|e| panic!("{context}: {e}"));
            assert_eq!(
                (sum.as_str().into(), size.into()),
                (entry["sha256"].clone(), entry["size"].clone()),
                "{context}"
            );
        }
    }
}

/// Kills a command that writes into a cache, again and again, in one cache or in a new one. `finds` says whether the cache
/// has what the command puts there, and fails where that is another; then the command is left to end.
fn killed_at_the_cache(folder: &Path, arguments: &[&str], finds: impl Fn(&Path, &str) -> bool) {
    let (kills, seed, mut random) = asked();
    let started = |cache: &Path| {
        let mut command = Command::new(LORAC);
        command.args(arguments).current_dir(folder).env("LORAC_CACHE", cache).env("LORAC_OFFLINE", "1");
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("starts")
    };
    let begun = Instant::now();
    let whole = started(&folder.join("whole")).wait_with_output().expect("ends");
    let span = begun.elapsed();
    assert!(whole.status.success(), "{}", text(&whole));
    assert!(finds(&folder.join("whole"), "whole"));

    let (mut done, mut trial, mut there) = (0, 0, 0);
    while done < kills {
        trial += 1;
        let cache = folder.join(format!("cache{trial}"));
        for _ in 0..=random.below(3) {
            let before = all_files(&cache);
            let instant = match random.below(4) {
                0 => Instants::After(random.part_of(span.mul_f64(1.05))),
                1 => Instants::Writing(random.part_of(Duration::from_millis(2))),
                _ => Instants::Writing(random.part_of(span)),
            };
            let context = format!("LORAC_KILL_SEED={seed}: trial {trial}, kill {done}: {instant:?}");
            let mut child = started(&cache);
            if kill(&mut child, || all_files(&cache) != before, instant).is_none() {
                break;
            }
            done += 1;
            is_sound_cache(&cache, &context);
            there += usize::from(finds(&cache, &context));
        }
        let context = format!("LORAC_KILL_SEED={seed}: trial {trial}, kill {done}");
        let end = started(&cache).wait_with_output().expect("ends");
        assert!(end.status.success(), "{context}: {}", text(&end));
        is_sound_cache(&cache, &context);
        assert!(finds(&cache, &context), "{context}");
        let names = |cache: &Path| -> BTreeSet<PathBuf> {
            all_files(cache).iter().filter_map(|path| Some(path.strip_prefix(cache).ok()?.to_path_buf())).collect()
        };
        assert_eq!(names(&cache), names(&folder.join("whole")), "{context}: nothing is left behind");
        fs::remove_dir_all(&cache).expect("removes");
    }
    eprintln!("{done} kills in {trial} caches, {there} of which had it already");
}

fn offline(cache: &Path) -> Resolver {
    let mut resolver = Resolver::new(Some(cache.to_path_buf()), cache).expect("a resolver");
    resolver.offline = true;
    resolver
}

#[test]
fn a_file_whose_adding_is_killed_is_in_the_cache_as_a_whole_or_not_at_all() {
    let folder = tempfile::tempdir().expect("temp");
    let file = folder.path().join("rows.csv");
    let mut random = Random(1);
    let bytes: Vec<u8> = (0..1 << 18).flat_map(|_| random.next().to_le_bytes()).collect();
    fs::write(&file, &bytes).expect("writes");
    let (sum, _) = sha256_file(&file).expect("reads");
    let source: Source = "https://no.such.host/rows.csv".parse().expect("a source");
    killed_at_the_cache(folder.path(), &["cache", "add", "rows.csv"], |cache, context| {
        match offline(cache).resolve(&source, Some(&sum)) {
            Ok(found) => {
                assert!(fs::read(&found.path).is_ok_and(|read| read == bytes), "{context}: another file");
                true
            }
            Err(error) => {
                assert_eq!(error.code(), "source::not_cached", "{context}: {error}");
                false
            }
        }
    });
}

#[test]
fn a_model_whose_building_is_killed_is_in_the_cache_as_a_whole_or_not_at_all() {
    let folder = small();
    let model: Source = folder.path().join("model").display().to_string().parse().expect("a source");
    let want = {
        let cache = tempfile::tempdir().expect("temp");
        let resolver = offline(cache.path());
        let found = resolver.resolve(&model, None).expect("a folder");
        fs::read(&lorac::base::open(&found, &resolver).expect("builds").path).expect("reads")
    };
    killed_at_the_cache(folder.path(), &["inspect", "model"], |cache, context| {
        // Where it counts as built, it is taken: nothing is built, and the place is not locked.
        let built = all_files(cache).into_iter().find(|path| path.file_name().is_some_and(|n| n == "index.json"));
        let Some(index) = built else { return false };
        let before = fs::metadata(&index).and_then(|meta| meta.modified()).expect("a time");
        let resolver = offline(cache);
        let found = resolver.resolve(&model, None).expect("a folder");
        let kept = lorac::base::open(&found, &resolver).unwrap_or_else(|e| panic!("{context}: {e}"));
        assert!(kept.path.starts_with(cache) && fs::read(&kept.path).is_ok_and(|read| read == want), "{context}");
        assert_eq!(
            fs::metadata(&index).and_then(|meta| meta.modified()).expect("a time"),
            before,
            "{context}: built again"
        );
        true
    });
}
