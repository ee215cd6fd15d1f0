//! Whole resolutions without pip: paths, what is cached, and a hub on 127.0.0.1.

#[cfg(feature = "hub")]
mod https;
#[cfg(feature = "hub")]
mod hub;
#[cfg(feature = "hub")]
mod server;

use std::fs;
use std::path::Path;

use super::*;

struct Fixture {
    _dir: tempfile::TempDir,
    resolver: Resolver,
}

/// A resolver without a Python, whose hub is nowhere.
fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("pipeline");
    fs::create_dir_all(&base).unwrap();
    let mut resolver = Resolver::new(Some(dir.path().join("cache")), base).unwrap();
    resolver.offline = false;
    resolver.pythons.clear();
    resolver.hub = Hub { endpoint: Some("http://127.0.0.1:9".to_owned()), token: None };
    Fixture { _dir: dir, resolver }
}

fn get(resolver: &Resolver, source: &str) -> Result<Resolved, SourceError> {
    resolver.resolve(&source.parse()?, None)
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
        let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
        let [own, w, v] = ["model.onnx", ".w.bin", "sub/v.bin"].map(read);
        resolved.with_contents(&own, [(Path::new(".w.bin"), &w[..]), (Path::new("sub/v.bin"), &v[..])])
    };
    let first = all();
    assert!(first.check(Some(&first.sha256.to_uppercase())).is_ok());
    let alone = fixture.resolver.resolve(&model.display().to_string().parse().unwrap(), None).unwrap();
    assert_ne!(alone.sha256, first.sha256);
    assert_eq!(alone.clone().with_contents(b"m", []), alone);
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

    let store = Store::new(&fixture.resolver.cache, "hf/org/tiny/v1/model.onnx");
    let mut locked = store.lock(Task::default()).unwrap();
    locked.put("model.onnx", &mut "graph".as_bytes()).unwrap();
    locked.save().unwrap();
    drop(locked);
    assert!(get(&fixture.resolver, "hf:org/tiny@v1/model.onnx").unwrap().cached);
}
