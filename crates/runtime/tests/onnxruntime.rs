//! Loading ONNX Runtime, and choosing where it runs.

mod support;

use lorac_ir::{DType, Tensor};
use lorac_runtime::{
    Candidate, Device, DeviceChoice, Engine, Found, ONNX_RUNTIME, Options, RuntimeError, Search, Source, StateSlot,
    TRACT, discover, open, open_first, open_onnxruntime, take_log,
};
use std::io::Write;
use std::path::Path;
use support::{D, Model, descent, floats, library, text};
use tract_onnx::pb::{AttributeProto, attribute_proto};

fn options(device: DeviceChoice) -> Options {
    Options { device, threads: Some(2), ..Options::default() }
}

#[test]
fn auto_falls_back_to_the_cpu_and_says_why() {
    let engine = open_onnxruntime(&library(), &options(DeviceChoice::Auto)).expect("opens");
    // The package without CUDA never runs on a GPU, whatever the machine.
    assert_eq!((engine.device(), engine.dialect()), (Device::Cpu, ONNX_RUNTIME));
    assert!(engine.reason().contains("build without CUDA"), "{}", engine.reason());
    let error = open_onnxruntime(&library(), &options(DeviceChoice::Cuda)).expect_err("no CUDA in this package");
    let text = error.to_string();
    assert!(matches!(error, RuntimeError::NoGpu { .. }) && text.contains("onnxruntime-gpu"), "{text}");
}

/// Says so past the test harness, which keeps what a test that passes prints.
fn skip(why: &str) {
    writeln!(std::io::stderr(), "skipped: {why}").expect("standard error");
}

/// Runs where `ORT_DYLIB_PATH` names a build with CUDA and there is a GPU. A process holds one library, so the work is
/// done by a copy of this test that loads that one first.
#[test]
fn a_gpu_keeps_the_state_between_steps() {
    const CHILD: &str = "LORAC_TEST_GPU_CHILD";
    let named = std::env::var_os("ORT_DYLIB_PATH").filter(|p| !p.is_empty());
    let Some(named) = named else { return skip("ORT_DYLIB_PATH names no build with CUDA") };
    if std::env::var_os(CHILD).is_none() {
        let this = std::env::current_exe().expect("a test knows itself");
        let name = "a_gpu_keeps_the_state_between_steps";
        let status = std::process::Command::new(this).args(["--exact", name]).env(CHILD, "1").status().expect("starts");
        assert!(status.success());
        return;
    }
    let folders = std::env::var_os("LORAC_CUDA_LIBRARIES").unwrap_or_default();
    let cuda_libraries = std::env::split_paths(&folders).collect();
    let engine = match open_onnxruntime(Path::new(&named), &Options { cuda_libraries, ..options(DeviceChoice::Cuda) }) {
        Err(RuntimeError::NoGpu { why, .. }) => return skip(&why),
        engine => engine.expect("opens"),
    };
    let state =
        vec![StateSlot { input: "theta".into(), output: "theta.next".into(), init: Tensor::vector(&[1.0f32; 4]) }];
    let mut program = engine.compile(Source { model: descent(4).bytes(), weights: vec![], state }).expect("compiles");
    let (x, lr) = (Tensor::vector(&[1.0f32; 4]), Tensor::scalar(0.25f32));
    for step in 1..=8 {
        let norm = program.run(&[("x", &x), ("lr", &lr)], &["norm"]).expect("runs");
        let want = 1.0 - step as f32 * 0.25;
        assert_eq!(floats(&norm[0]), [4.0 * want * want], "step {step}");
        assert_eq!(floats(&program.state("theta").expect("is a slot")), [want; 4], "step {step}");
    }
    program.set_state("theta", &Tensor::vector(&[5.0f32; 4])).expect("fits");
    assert_eq!(floats(&program.state("theta").expect("is a slot")), [5.0; 4]);
}

#[test]
fn what_the_library_says_is_kept_for_the_asker() {
    let engine = open_onnxruntime(&library(), &options(DeviceChoice::Cpu)).expect("opens");
    let model = support::Model::default()
        .input("x", lorac_ir::DType::F32, &[support::D::S("N")])
        .constant("at", &Tensor::vector(&[9i64]))
        .node("Gather", "x at", "y", &[])
        .output("y", lorac_ir::DType::F32, &[support::D::N(1)]);
    let source = Source { model: model.bytes(), weights: vec![], state: vec![] };
    let mut program = engine.compile(source).expect("compiles");
    let error = program.run(&[("x", &Tensor::vector(&[1.0f32]))], &["y"]).expect_err("out of range");
    match &error {
        RuntimeError::Run { node, .. } => assert_eq!(node.as_deref(), Some("Gather_y"), "{error}"),
        other => panic!("{other}"),
    }
    assert!(take_log().iter().any(|line| line.contains("Gather_y")), "nothing was logged");
}

#[test]
fn discovery_lists_the_cache_and_ends_with_the_embedded_engine() {
    let cache = library().ancestors().nth(4).expect("deep in the cache").to_path_buf();
    let found = discover(&Search { caches: vec![cache], ..Search::default() });
    assert!(found.iter().any(|c| c.found == Found::Cache && c.engine == Engine::OnnxRuntime(library())), "{found:?}");
    let last = found.last().expect("not empty");
    assert_eq!(*last, Candidate { engine: Engine::Embedded, found: Found::Embedded });
    let error = open(last, &options(DeviceChoice::Cuda)).expect_err("tract has no GPU");
    assert!(matches!(error, RuntimeError::WrongDevice { device: DeviceChoice::Cuda, .. }), "{error}");
}

#[test]
fn the_first_that_works_is_taken_and_the_refused_are_named() {
    let none = Candidate { engine: Engine::OnnxRuntime("/no/such/libonnxruntime.so".into()), found: Found::System };
    let embedded = Candidate { engine: Engine::Embedded, found: Found::Embedded };
    let opened = open_first(&[none.clone(), embedded.clone()], &Options::default()).expect("the second works");
    assert_eq!((opened.backend.device(), opened.backend.dialect()), (Device::Cpu, TRACT));
    assert_eq!(opened.candidate, embedded);
    assert!(matches!(opened.refused.as_slice(), [(_, RuntimeError::NotALibrary { .. })]), "{:?}", opened.refused);
    let error = open_first(&[none], &Options::default()).expect_err("nothing works");
    assert!(error.to_string().contains("/no/such/libonnxruntime.so"), "{error}");
}

/// Positions of a vision transformer are made fewer so: its own rewrite would have channels last, which cubic is not computed of.
#[test]
fn a_cubic_resize_between_transpositions_is_computed() {
    let perm = |perm: &[i64]| AttributeProto {
        name: "perm".into(),
        ints: perm.to_vec(),
        r#type: attribute_proto::AttributeType::Ints as i32,
        ..Default::default()
    };
    let model = Model::default()
        .input("x", DType::F32, &[D::N(1), D::N(5), D::N(5), D::N(3)])
        .constant("sizes", &Tensor::vector(&[1i64, 3, 2, 2]))
        .node("Transpose", "x", "t", &[perm(&[0, 3, 1, 2])])
        .node("Resize", "t - - sizes", "r", &[text("mode", "cubic")])
        .node("Transpose", "r", "y", &[perm(&[0, 2, 3, 1])])
        .output("y", DType::F32, &[D::N(1), D::N(2), D::N(2), D::N(3)]);
    let engine = open_onnxruntime(&library(), &options(DeviceChoice::Cpu)).expect("opens");
    let mut program =
        engine.compile(Source { model: model.bytes(), weights: vec![], state: vec![] }).expect("compiles");
    // Every channel is the number of its row: those of the result lie in the middle of halves.
    let x: Vec<f32> = (0..75).map(|i| (i / 15) as f32).collect();
    let x = Tensor::from_slice(&[1, 5, 5, 3], &x).expect("fits");
    let y = floats(&program.run(&[("x", &x)], &["y"]).expect("runs")[0]);
    assert!(y[..6].iter().all(|y| (y - 0.75).abs() < 0.1) && y[6..].iter().all(|y| (y - 3.25).abs() < 0.1), "{y:?}");
}
