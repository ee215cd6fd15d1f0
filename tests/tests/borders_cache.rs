//! Caches that somebody else can write to: what a pin and a list of files hold against them.
#![cfg(unix)]

use lorac::engine::{self, EngineChoice};
use lorac::source::{Resolver, Source};
use lorac_tests::border::{Border, border};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const TOY: &str = "pypi:toy==1.0";

fn resolver(folder: &Path) -> Resolver {
    let mut resolver = Resolver::new(Some(folder.join("cache")), folder).expect("a resolver");
    resolver.offline = true;
    resolver
}

fn toy() -> Source {
    TOY.parse().expect("a source")
}

fn files(folder: &Path) -> PathBuf {
    folder.join("cache/pypi/toy/1.0/files")
}

/// The sum of the only file in a folder that is written with `bytes`.
fn sum(bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().expect("temp");
    let file = folder.path().join("file");
    fs::write(&file, bytes).expect("writes");
    resolver(folder.path()).resolve(&Source::Path(file), None).expect("a file").sha256
}

/// Writes an index with the times that the files have, and these sums.
fn forge(folder: &Path, sums: &[(&str, String)]) {
    let entry = |(name, sha256): &(&str, String)| {
        let meta = fs::metadata(files(folder).join(name)).expect("a file");
        let nanoseconds = |seconds: i64, rest: i64| seconds * 1_000_000_000 + rest;
        let entry = serde_json::json!({
            "size": meta.len(),
            "modified_ns": nanoseconds(meta.mtime(), meta.mtime_nsec()),
            "changed_ns": nanoseconds(meta.ctime(), meta.ctime_nsec()),
            "sha256": sha256,
        });
        (name.to_string(), entry)
    };
    let all: serde_json::Map<_, _> = sums.iter().map(entry).collect();
    let index = serde_json::json!({ "archive": null, "folders": [""], "files": all });
    fs::write(files(folder).with_file_name("index.json"), index.to_string()).expect("writes");
}

/// The border's model as a package in a cache.
fn cached_model() -> (Border, Vec<(&'static str, String)>) {
    let border = border("bert");
    fs::create_dir_all(files(border.path())).expect("a folder");
    let names = ["config.json", "model.safetensors", "tokenizer.json"];
    let sums = names.map(|name| {
        let bytes = fs::read(border.path().join("model").join(name)).expect("reads");
        fs::write(files(border.path()).join(name), &bytes).expect("writes");
        (name, sum(&bytes))
    });
    forge(border.path(), &sums);
    (border, sums.to_vec())
}

#[test]
fn a_pin_does_not_believe_the_index() {
    let (border, sums) = cached_model();
    let resolver = resolver(border.path());
    let pin = resolver.resolve(&toy(), None).expect("cached").sha256;
    assert!(resolver.resolve(&toy(), Some(&pin)).is_ok());

    let weights = files(border.path()).join("model.safetensors");
    let mut poisoned = fs::read(&weights).expect("reads");
    *poisoned.last_mut().expect("bytes") ^= 1;
    fs::write(&weights, &poisoned).expect("writes");
    forge(border.path(), &sums);
    assert_eq!(resolver.resolve(&toy(), None).expect("trusted").sha256, pin);
    let code = |expected: Option<&str>| match expected {
        Some(_) => resolver.resolve(&toy(), expected).expect_err("poisoned").code(),
        None => resolver.resolve_for_pin(&toy(), &pin).expect_err("poisoned").code(),
    };
    // Nothing to heal it from.
    assert_eq!((code(Some(&pin)), code(None)), ("source::not_cached", "source::not_cached"));
    let mut honest = sums.clone();
    honest[1].1 = sum(&poisoned);
    forge(border.path(), &honest);
    assert_eq!(code(Some(&pin)), "source::sha256");
}

#[test]
fn what_is_built_of_a_pinned_model_does_not_come_from_the_cache() {
    let (border, _) = cached_model();
    let resolver = resolver(border.path());
    let cache = border.path().join("cache");
    let plain = resolver.resolve(&toy(), None).expect("cached");
    let open = |found| lorac::base::open(found, &resolver).unwrap_or_else(|e| panic!("{e}"));
    let kept = open(&plain);
    assert!(kept.path.starts_with(&cache) && !plain.is_pinned());

    let pinned = resolver.resolve(&toy(), Some(&plain.sha256)).expect("pinned");
    let own = open(&pinned);
    assert!(pinned.is_pinned() && !own.path.starts_with(&cache), "{}", own.path.display());
    assert_eq!(own.file, kept.file);
    let path = own.path.clone();
    assert!(path.exists() && own.check_unchanged().is_ok());
    drop(own);
    assert!(!path.exists(), "left behind");
}

#[test]
fn only_listed_libraries_are_loaded() {
    let folder = tempfile::tempdir().expect("temp");
    let capi = files(folder.path());
    fs::create_dir_all(&capi).expect("a folder");
    let (right, other) = ("libonnxruntime.so.1.31.1", "libonnxruntime.so.99.0");
    for name in [right, other] {
        fs::write(capi.join(name), "no library").expect("writes");
    }
    forge(folder.path(), &[(right, sum(b"no library"))]);
    let resolver = resolver(folder.path());
    let pin = resolver.resolve(&toy(), None).expect("cached").sha256;
    let opened = |pin| match engine::open(&EngineChoice::Source(&toy(), pin), &Default::default(), &resolver) {
        Ok(_) => panic!("no library was opened"),
        Err(error) => (error.code(), error.to_string()),
    };
    let (code, text) = opened(None);
    assert!(code == "runtime::not_a_library" && text.contains(right) && !text.contains(other), "{text}");
    // What the right one needs may lie there too.
    let (code, text) = opened(Some(&pin));
    assert!(code == "source::unlisted" && text.contains(other), "{text}");
    fs::remove_file(capi.join(other)).expect("removes");
    assert_eq!(opened(Some(&pin)).0, "runtime::not_a_library");
}

#[test]
fn what_lies_beside_a_model_in_the_cache_is_not_of_it() {
    let (border, sums) = cached_model();
    let resolver = resolver(border.path());
    let unlisted = files(border.path()).join("model.safetensors.index.json");
    fs::write(&unlisted, "{}").expect("writes");
    let found = resolver.resolve(&toy(), None).expect("cached");
    let error = lorac::base::open(&found, &resolver).map(drop).expect_err("a list of shards");
    assert_eq!(error.code(), "source::unlisted", "{error}");
    fs::remove_file(unlisted).expect("removes");

    forge(border.path(), &sums[..2]);
    let found = resolver.resolve(&toy(), None).expect("cached");
    assert!(lorac::base::tokenizer(&found, &resolver).is_err());
    forge(border.path(), &sums[1..]);
    let found = resolver.resolve(&toy(), None).expect("cached");
    assert_eq!(lorac::base::kind_of(&found), None);
    assert!(lorac::base::open(&found, &resolver).is_err());
}

#[test]
fn a_pinned_run_ends_well() {
    let (border, _) = cached_model();
    let resolver = resolver(border.path());
    let pin = resolver.resolve(&"model".parse().expect("a source"), None).expect("a folder").sha256;
    let pinned = border.succeeds(&["runtime.source=embedded", &format!("model.sha256={pin}")]).manifest;
    assert!(pinned.inputs.iter().any(|input| input.sha256 == pin));
}
