//! What sources may do to the machine that the command runs on.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

fn lorac(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lorac"));
    command.current_dir(folder).env("LORAC_CACHE", folder.join("cache")).env_remove("LORAC_OFFLINE");
    command
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A program that a test has written.
fn program(file: &Path, script: &str) {
    fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
    fs::write(file, format!("#!/bin/sh\n{script}\n")).expect("writes");
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).expect("modes");
}

#[test]
fn a_bad_source_is_a_mistake_of_use() {
    let dir = tempfile::tempdir().expect("temp");
    let pipe = dir.path().join("model");
    fs::create_dir(&pipe).expect("a folder");
    let made = Command::new("mkfifo").arg(pipe.join("model.safetensors")).status().expect("mkfifo");
    assert!(made.success());
    for (source, code) in [
        ("pypi:numpy", "source::syntax"),
        ("s3://bucket/model.onnx", "source::syntax"),
        ("nothing.onnx", "source::not_found"),
        ("/dev/zero", "source::not_regular"),
        ("model", "source::not_regular"),
        ("model/model.safetensors", "source::not_regular"),
    ] {
        let output = lorac(dir.path()).args(["inspect", source]).output().expect("runs");
        assert_eq!(output.status.code(), Some(2), "{source}: {}", stderr(&output));
        assert!(stderr(&output).contains(&format!("error[{code}]")), "{source}: {}", stderr(&output));
    }
}

#[test]
fn doctor_runs_nothing_of_the_folder_that_it_is_called_in() {
    let dir = tempfile::tempdir().expect("temp");
    let ran = dir.path().join("ran");
    let python = format!("open({ran:?}, 'w').close()\n");
    for file in ["pip/__init__.py", "pip/__main__.py", "onnxruntime/__init__.py", "sitecustomize.py", "importlib.py"] {
        let file = dir.path().join(file);
        fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
        fs::write(file, &python).expect("writes");
    }
    let capi = dir.path().join("onnxruntime/capi");
    fs::create_dir_all(&capi).expect("a folder");
    fs::write(capi.join("libonnxruntime.so.9.9.9"), "no library").expect("writes");
    fs::copy(capi.join("libonnxruntime.so.9.9.9"), dir.path().join("libonnxruntime.so")).expect("copies");
    ["python3", "python"]
        .iter()
        .for_each(|name| program(&dir.path().join(name), &format!("touch '{}'", ran.display())));
    let path = format!(".::{}", std::env::var("PATH").expect("PATH"));
    let output = lorac(dir.path())
        .arg("doctor")
        .envs([("PATH", path.as_str()), ("PYTHONPATH", ".:"), ("LD_LIBRARY_PATH", ".::onnxruntime/capi")])
        .output()
        .expect("runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(!ran.exists(), "{text}");
    assert!(!text.contains("9.9.9") && !text.contains("./libonnxruntime"), "{text}");
}

/// The state of a process; empty where it is gone.
fn alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.trim().starts_with('Z'))
}

fn waited(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn an_interrupt_ends_pip_and_what_it_started() {
    let dir = tempfile::tempdir().expect("temp");
    let (tools, pid) = (dir.path().join("tools"), dir.path().join("pid"));
    let script = format!("sleep 600 &\necho $! > '{0}.new'\nmv '{0}.new' '{0}'\nwait", pid.display());
    program(&tools.join("python3"), &script);
    let pipeline = "name: p\nmodel: { source: pypi:toy==1.0/toy }\ntask: { classify: { labels: [a, b] } }\n\
                    data: { train: { csv: t.csv, text: t, label: l }, eval: { csv: t.csv, text: t, label: l } }\n\
                    adapt: [ { lora: { targets: [\"role:query\"] } } ]\n\
                    train: { epochs: 1, batch: 1, optimizer: { adamw: { lr: 1e-3 } } }\n";
    fs::write(dir.path().join("p.yaml"), pipeline).expect("writes");
    for args in [&["inspect", "pypi:toy==1.0/toy"][..], &["run", "p.yaml"][..]] {
        let mut child = lorac(dir.path());
        child.args(args).env("PATH", format!("{}:/usr/bin:/bin", tools.display())).stderr(Stdio::piped());
        let child = child.spawn().expect("starts");
        waited("pip is not started", || pid.exists());
        let sleeping = fs::read_to_string(&pid).expect("reads").trim().to_string();
        fs::remove_file(&pid).expect("removes");
        let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill");
        assert!(sent.success());
        let output = child.wait_with_output().expect("ends");
        assert_eq!(output.status.code(), Some(130), "{args:?}: {}", stderr(&output));
        waited("what pip started outlives it", || !alive(&sleeping));
    }
}

#[test]
fn nothing_in_the_cache_is_for_its_owner_alone_or_for_everyone_to_write() {
    let dir = tempfile::tempdir().expect("temp");
    let umask = |mask: &str| {
        let cache: PathBuf = dir.path().join(mask);
        let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/borders/bert/model");
        let script = format!("umask {mask}; exec {} inspect {model}", env!("CARGO_BIN_EXE_lorac"));
        let output = Command::new("/bin/sh").args(["-c", &script]).env("LORAC_CACHE", &cache).output().expect("runs");
        assert!(output.status.success(), "{}", stderr(&output));
        let mut modes = Vec::new();
        walk(&cache, &mut modes);
        modes.sort();
        modes.dedup();
        modes
    };
    assert_eq!(umask("022"), [0o040_755, 0o100_644]);
    assert_eq!(umask("077"), [0o040_700, 0o100_600]);
}

fn walk(path: &Path, modes: &mut Vec<u32>) {
    let meta = fs::symlink_metadata(path).expect("is there");
    modes.push(meta.permissions().mode());
    if meta.is_dir() {
        fs::read_dir(path).expect("lists").flatten().for_each(|entry| walk(&entry.path(), modes));
    }
}
