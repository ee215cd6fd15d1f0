//! Python packages, downloaded by the user's own pip: its mirrors, proxies and certificates apply, and no host is
//! named here.
//!
//! Nothing of a package is run: pip is asked for wheels alone, since it runs the code of a source archive to learn what
//! is in it. Python itself runs isolated and in an empty folder, so that no file of the folder that lorac runs in is taken
//! for a module.

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::archive::{self, Found};
use super::program;
use super::progress::{Work, bytes_below};
use super::stop::Owned;
use super::store::Locked;
use super::{Resolver, SourceError};

/// Pythons whose wheels are asked for when the user's own has none. Only data and libraries are taken from them, so
/// that no such Python is here does not matter.
const OTHER_PYTHONS: [&str; 3] = ["3.12", "3.11", "3.13"];

/// How Python is started, the first that finds pip: isolated from `PYTHON..` variables and from packages of the user
/// alone; with those packages, among which some have their pip.
const MODES: [&str; 2] = ["-I", "-E"];

/// Bytes of pip's words that are kept.
const SAID: u64 = 4 << 20;

/// Variables of pip and of its libraries that name files, perhaps relative to the folder that lorac runs in.
const FILES: [&str; 9] = [
    "PIP_FIND_LINKS",
    "PIP_CERT",
    "PIP_CLIENT_CERT",
    "PIP_CONFIG_FILE",
    "PIP_CONSTRAINT",
    "PIP_CACHE_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "SSL_CERT_FILE",
];

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
    let wheel = locked.archive().filter(|file| is_wheel(file));
    let (archive, downloaded) = match wheel {
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

/// What the first pip says of itself.
pub(super) fn version(resolver: &Resolver) -> Option<String> {
    let folder = tempfile::tempdir().ok()?;
    resolver.python_programs().iter().find_map(|python| {
        MODES.iter().find_map(|mode| {
            let mut command = Command::new(python);
            command.args([mode, "-m", "pip", "--version"]).current_dir(folder.path()).stdin(Stdio::null());
            let output = command.output().ok().filter(|output| output.status.success())?;
            Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        })
    })
}

/// Runs pip until one way of asking delivers: a wheel for this Python, a wheel for another.
fn download(resolver: &Resolver, spec: &str, requirement: &str, folder: &Path) -> Result<PathBuf, SourceError> {
    let mut ways: Vec<Vec<String>> = vec![Vec::new()];
    ways.extend(OTHER_PYTHONS.iter().map(|version| other_python(version)));

    let mut missing = Vec::new();
    for name in &resolver.pythons {
        let Some(python) = program::find(name) else {
            missing.push(format!("{}: not found in the absolute folders of PATH", name.display()));
            continue;
        };
        let mut failure = None;
        'modes: for mode in MODES {
            let mut commands = Vec::new();
            for way in &ways {
                let target = folder.join("target");
                let mut args: Vec<String> =
                    [mode, "-m", "pip", "download", "--no-deps", "--no-input"].map(String::from).into();
                args.extend(["--progress-bar", "off", "--only-binary=:all:"].map(String::from));
                args.extend(way.iter().cloned());
                let shown = format!("{} {} {requirement}", name.display(), args.join(" "));
                args.extend(["--dest".into(), target.display().to_string(), requirement.into()]);
                let run = match run(resolver, spec, &python, &args, folder)? {
                    Ok(run) => run,
                    Err(e) => {
                        missing.push(format!("{}: {e}", python.display()));
                        break 'modes;
                    }
                };
                if run.success {
                    return downloaded_file(spec, &target);
                }
                if run.stderr.contains("No module named pip") || run.stderr.contains("Python was not found") {
                    missing.push(format!("{} {mode}: {}", python.display(), run.stderr.trim()));
                    continue 'modes;
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
                    break 'modes;
                }
            }
            break;
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

/// What a run came to; inside, a Python that cannot be started.
type Started = std::io::Result<Run>;

fn run(resolver: &Resolver, spec: &str, python: &Path, args: &[String], folder: &Path) -> Result<Started, SourceError> {
    let mut command = match command(resolver, python, args, folder) {
        Ok(command) => command,
        Err(e) => return Ok(Err(e)),
    };
    let mut owned = match Owned::spawn(&mut command) {
        Ok(owned) => owned,
        Err(e) => return Ok(Err(e)),
    };
    let stderr = owned.child.stderr.take();
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stderr) = stderr {
            // What was read before an error is still worth showing; a pipe that nobody empties would stop pip.
            let _ = (&mut stderr).take(SAID).read_to_end(&mut bytes);
            let _ = std::io::copy(&mut stderr, &mut std::io::sink());
        }
        String::from_utf8_lossy(&bytes).into_owned()
    });
    let work = Work::begin(resolver.progress(), &format!("pip is downloading {spec}"));
    let success = loop {
        resolver.stop.check(&format!("the download of {spec}"))?;
        match owned.success() {
            Ok(Some(success)) => break success,
            Ok(None) => {}
            Err(e) => return Ok(Err(e)),
        }
        std::thread::sleep(Duration::from_millis(50));
        if work.is_heard() {
            work.at(bytes_below(folder), None);
        }
    };
    drop(work);
    Ok(Ok(Run { success, stderr: reader.join().unwrap_or_default() }))
}

fn command(resolver: &Resolver, python: &Path, args: &[String], folder: &Path) -> std::io::Result<Command> {
    // pip downloads into its temporary folder first: with that one here, the bytes are seen as they come in, and
    // nothing is left elsewhere by a kill.
    let (work, empty) = (folder.join("work"), folder.join("empty"));
    std::fs::create_dir_all(&work)?;
    std::fs::create_dir_all(&empty)?;
    let mut command = Command::new(python);
    command.args(args).current_dir(&empty).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    for name in ["TMPDIR", "TEMP", "TMP"] {
        command.env(name, &work);
    }
    let here = std::env::current_dir()?;
    for name in FILES {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, absolute(value, &here));
        }
    }
    command.env("PIP_DISABLE_PIP_VERSION_CHECK", "1");
    command.envs(resolver.pip_env.iter().map(|(name, value)| (name, value)));
    Ok(command)
}

/// The value with each of its words that names something in the folder `here` made absolute: Python runs in another.
/// Addresses are left alone, whatever that folder holds under their names.
fn absolute(value: OsString, here: &Path) -> OsString {
    let Some(text) = value.to_str() else { return value };
    let word = |word: &str| match here.join(word) {
        path if !is_address(word) && Path::new(word).is_relative() && path.exists() => path.display().to_string(),
        _ => word.to_owned(),
    };
    if here.join(text).exists() && !text.split_whitespace().any(is_address) {
        return word(text).into();
    }
    text.split(' ').map(word).collect::<Vec<_>>().join(" ").into()
}

/// Whether a word begins as an address does: `https://`, `file:`, `git+ssh:`. A single letter is a drive.
fn is_address(word: &str) -> bool {
    let scheme = |name: &str| {
        name.len() > 1
            && name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    };
    word.contains("://") || word.split_once(':').is_some_and(|(name, _)| scheme(name))
}

/// The wheel that pip left, and nothing else.
fn downloaded_file(spec: &str, target: &Path) -> Result<PathBuf, SourceError> {
    let entries = std::fs::read_dir(target).map_err(SourceError::io("read", target))?;
    let files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    let regular = |path: &Path| path.symlink_metadata().is_ok_and(|meta| meta.is_file());
    match files.as_slice() {
        [file] if is_wheel(file) && regular(file) => Ok(file.clone()),
        others => {
            let names = others.iter().map(|path| path.display().to_string()).collect();
            let hint = "pip was asked for one wheel and left something else; lorac unpacks nothing but wheels";
            Err(SourceError::Pip { spec: spec.to_owned(), commands: Vec::new(), stderr: names, hint: hint.to_owned() })
        }
    }
}

fn is_wheel(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "whl")
}

/// What pip's failure means, and whether asking in another way is pointless.
fn diagnose(stderr: &str, requirement: &str) -> (String, bool) {
    let offline = ["Retry(total=0", "NewConnectionError", "NameResolutionError", "ProxyError", "SSLError"];
    if offline.iter().any(|word| stderr.contains(word)) {
        let why = "the package index cannot be reached; check the network and pip's settings (`python3 -m pip config list`: index-url, proxy, cert)";
        (why.to_owned(), true)
    } else if stderr.contains("No matching distribution") {
        let why = format!(
            "the package index has no wheel of `{requirement}` for this machine: check name and version. A package that is published as source alone is not taken, since pip would run its code: download and unpack it yourself, and give the path"
        );
        (why, false)
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
    fn addresses_are_no_paths_and_relative_paths_become_absolute() {
        let here = tempfile::tempdir().unwrap();
        let here = here.path();
        let to = |value: &str| absolute(value.into(), here).into_string().unwrap();
        std::fs::create_dir(here.join("wheels")).unwrap();
        let wheels = here.join("wheels").display().to_string();
        assert_eq!(to("wheels none"), format!("{wheels} none"));
        if cfg!(unix) {
            for scheme in ["http:", "HTTPS:", "file:", "git+ssh:", "wheels http:"] {
                // What the address is as a path.
                std::fs::create_dir_all(here.join(scheme).join("127.0.0.1:1/wheels")).unwrap();
                for address in [format!("{scheme}//127.0.0.1:1/wheels"), format!("{scheme}/127.0.0.1:1/wheels")] {
                    assert_eq!(to(&address), address.replace("wheels http", &format!("{wheels} http")));
                }
            }
        }
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
