//! Files that are not a library. One test, in a process of its own: what is refused depends on what the process
//! has loaded.

mod support;

use lorac_runtime::{Device, DeviceChoice, Options, RuntimeError, open_onnxruntime};
use std::path::Path;
use support::library;

fn refused(path: &Path) -> RuntimeError {
    let options = Options { device: DeviceChoice::Cpu, ..Options::default() };
    open_onnxruntime(path, &options).expect_err("must be refused")
}

#[test]
fn no_library_is_a_clean_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let garbage = folder.path().join("libonnxruntime.so");
    std::fs::write(&garbage, "not a library").expect("writes");
    let absent = Path::new("/no/such/libonnxruntime.so");
    for path in [absent, &garbage, folder.path()] {
        let error = refused(path);
        assert!(matches!(error, RuntimeError::NotALibrary { .. }), "{}: {error}", path.display());
    }

    let options = Options { device: DeviceChoice::Cpu, ..Options::default() };
    let engine = open_onnxruntime(&library(), &options).expect("opens all the same");
    assert_eq!((engine.name().as_str(), engine.device()), ("onnxruntime 1.31.1", Device::Cpu));
    open_onnxruntime(&library(), &options).expect("the same library opens again");

    // Now no other file is even tried.
    let copy = folder.path().join("libonnxruntime.so.9");
    std::fs::copy(library(), &copy).expect("copies");
    for path in [&copy, &garbage] {
        let error = refused(path);
        assert!(matches!(error, RuntimeError::AnotherLibrary { .. }), "{}: {error}", path.display());
    }
    for path in [absent, folder.path()] {
        let error = refused(path);
        assert!(matches!(error, RuntimeError::NotALibrary { .. }), "{}: {error}", path.display());
    }
}
