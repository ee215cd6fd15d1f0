//! Where models and engines come from: caches that are shared, damaged or empty, and files that change.

use lorac::engine::DEFAULT;
use lorac::pipeline::Loaded;
use lorac::progress::Silent;
use lorac::run::{RunOptions, run};
use lorac::source::{Resolved, Resolver};
use lorac_tests::border::border;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::sync::atomic::AtomicBool;

fn resolver(folder: &Path) -> Resolver {
    let mut resolver = Resolver::new(Some(folder.join("cache")), folder).expect("a resolver");
    resolver.offline = true;
    resolver
}

fn model(resolver: &Resolver) -> Resolved {
    resolver.resolve(&"model".parse().expect("a source"), None).expect("a folder of weights")
}

fn built(resolver: &Resolver) -> PathBuf {
    lorac::base::open(&model(resolver), resolver).unwrap_or_else(|e| panic!("{e}")).path
}

#[test]
fn a_damaged_model_in_the_cache_is_built_again() {
    let border = border("bert");
    let resolver = resolver(border.path());
    let file = built(&resolver);
    let right = fs::read(&file).expect("reads");
    let whole: fn(&[u8]) -> Vec<u8> = |bytes| {
        let mut bytes = bytes.to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        bytes
    };
    let cut: fn(&[u8]) -> Vec<u8> = |bytes| bytes[..bytes.len() / 2].to_vec();
    for damage in [whole, cut, |_| Vec::new()] {
        let time = fs::metadata(&file).and_then(|meta| meta.modified()).expect("a time");
        fs::write(&file, damage(&right)).expect("writes");
        // Even where the time is that of before.
        fs::File::options().write(true).open(&file).and_then(|f| f.set_modified(time)).expect("sets the time");
        assert_eq!(built(&resolver), file);
        assert!(fs::read(&file).expect("reads") == right, "the damage is still there");
    }
}

#[test]
fn many_that_begin_with_an_empty_cache_all_get_the_model() {
    let border = border("bert");
    let start = Barrier::new(6);
    let all: Vec<PathBuf> = std::thread::scope(|scope| {
        let one = || {
            let resolver = resolver(border.path());
            start.wait();
            built(&resolver)
        };
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(one)).collect();
        threads.into_iter().map(|thread| thread.join().expect("a model")).collect()
    });
    assert!(all.iter().all(|path| *path == all[0]));
}

#[test]
fn a_model_that_changed_since_it_was_hashed_is_not_used() {
    let border = border("bert");
    let resolver = resolver(border.path());
    let found = model(&resolver);
    let weights = border.path().join("model/model.safetensors");
    let mut bytes = fs::read(&weights).expect("reads");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&weights, bytes).expect("writes");
    let error = lorac::base::open(&found, &resolver).map(drop).expect_err("other weights");
    assert_eq!(error.code(), "source::changed", "{error}");
}

#[test]
fn a_run_without_its_engine_says_so_and_the_manifest_does() {
    let border = border("bert");
    let settings = ["runtime.source=auto".to_string()];
    let loaded = Loaded::load(&border.path().join("pipeline.yaml"), &settings).expect("a pipeline");
    let options = RunOptions { out: border.out(), command: "test".into(), progress: &Silent, emit: None };
    let outcome = run(&loaded, &resolver(border.path()), &options, &AtomicBool::new(false)).expect("runs");
    let runtime = &outcome.manifest.runtime;
    assert!(runtime.engine.starts_with("tract"), "{runtime:?}");
    assert!(runtime.reason.starts_with(&format!("{DEFAULT}, which `auto` means, cannot be used")), "{runtime:?}");
}
