//! What tests of the whole workspace share: engines, cached sources, and numbers that lorac did not compute.
//!
//! # Tiers
//!
//! | tier | what is in it | what it needs |
//! |---|---|---|
//! | unit | `cargo test --workspace --lib`: what stands beside the code. Trainings run on a faked program (`lorac-train`'s `testing`), hubs on a server of the test's own | nothing: no network, no engine, no Python; seconds |
//! | offline | `cargo test` of `lorac-ops`, `lorac-passes`, `lorac-onnx`, `lorac-models`, `lorac-data`; here `cases`, `architecture`, `cuda`, `independent_reader`, `methods`, `roles` | nothing but more time |
//! | engines | [`engines`], [`onnxruntime`], and the tests of `lorac-runtime`: what an engine computes, against f64, PyTorch, PEFT and the other engine | the embedded engine, which is compiled in, and [`ONNXRUNTIME`], [`OLDEST`] and [`NEWEST`] |
//! | packages | [`package`], [`model`], the pipelines and the tests of `lorac-cli`: models and data that people ship | their packages |
//! | Python | `peft_artifacts`: adapters in PEFT's and transformers' own classes | a Python with them, `LORAC_PEFT_PYTHON`, which `tests/peft/venv.sh` makes |
//! | browser | `report` | a Chromium on the path, or where `LORAC_BROWSER` says |
//! | readers | [`readers`]: what other readers of `.onnx` files see in what lorac writes | node with npm's onnx-proto (`NODE_PATH`), a Python (`LORAC_PYTHON`) with netron, onnx and tensorboard |
//!
//! Packages, those of ONNX Runtime as well, come out of lorac's cache, and get into it through `python3 -m pip` and the index
//! that pip is set up with; with `LORAC_OFFLINE=1` nothing is downloaded. The tests of `lorac-source` and of the command's
//! `doctor` need that pip, and no index. A test that lacks an engine or a package fails and names it: `this test needs ..`.
//! Without a browser, a reader or that Python its test is skipped, and says so: `skipped: needs ..`.

pub mod answers;
pub mod border;
pub mod browser;
pub mod equivalence;
pub mod golden;
pub mod objective;
pub mod peft;
pub mod readers;
pub mod serve;
pub mod table;
pub mod update;
pub mod variants;
pub mod words;

use lorac::engine::EngineChoice;
use lorac::ir::Tensor;
use lorac::onnx::Model;
use lorac::ops::Array;
use lorac::runtime::{Backend, Options};
use lorac::source::{Resolved, Resolver, Source};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensorError, SafeTensors};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The runtime that tests pin.
pub const ONNXRUNTIME: &str = "pypi:onnxruntime==1.31.1";

/// The oldest ONNX Runtime that runs what lorac writes.
pub const OLDEST: &str = "pypi:onnxruntime==1.20.1";

/// The newest that was tried.
pub const NEWEST: &str = "pypi:onnxruntime==1.32.0";

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A folder of tests/data.
pub fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(name)
}

/// lorac's own resolver with its usual cache, silent.
pub fn resolver() -> Resolver {
    Resolver::new(None, root()).unwrap_or_else(|e| panic!("no cache: {e}"))
}

/// The pinned ONNX Runtime and the embedded engine.
#[track_caller]
pub fn engines() -> Vec<Box<dyn Backend>> {
    vec![onnxruntime(ONNXRUNTIME), open("the embedded engine", &EngineChoice::Embedded)]
}

/// An ONNX Runtime. A process can have one: a test of another is a file of its own.
#[track_caller]
pub fn onnxruntime(source: &str) -> Box<dyn Backend> {
    open(source, &EngineChoice::Source(&parsed(source), None))
}

#[track_caller]
fn open(what: &str, from: &EngineChoice) -> Box<dyn Backend> {
    let engine = lorac::engine::open(from, &Options::default(), &resolver());
    engine.unwrap_or_else(|e| panic!("this test needs {what}: {e}")).backend
}

/// A file or folder of a package, from the cache or the package index.
#[track_caller]
pub fn package(source: &str) -> Resolved {
    resolver().resolve(&parsed(source), None).unwrap_or_else(|e| panic!("this test needs {source}: {e}"))
}

/// A model of a package.
#[track_caller]
pub fn model(source: &str) -> Model {
    lorac::base::open(&package(source), &resolver()).unwrap_or_else(|e| panic!("{source}: {e}"))
}

#[track_caller]
fn parsed(source: &str) -> Source {
    source.parse().unwrap_or_else(|e| panic!("{source}: {e}"))
}

/// Says why a test is skipped, past the test harness, which keeps what a test that passes prints.
pub fn skipped(needs: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: needs {needs}");
}

/// A tensor of a safetensors file.
#[derive(Clone, Debug)]
pub struct Truth {
    /// Whether its elements are integers.
    pub integers: bool,
    /// Its elements as f64.
    pub array: Array,
}

impl Truth {
    /// As an i64 or f32 tensor.
    pub fn tensor(&self) -> Tensor {
        let dtype = if self.integers { lorac::ir::DType::I64 } else { lorac::ir::DType::F32 };
        lorac::ops::tensor(dtype, &self.array).unwrap_or_else(|| panic!("not a tensor"))
    }
}

/// Every tensor of a safetensors file.
pub fn truth(path: &Path) -> BTreeMap<String, Truth> {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let read = || -> Result<BTreeMap<String, Truth>, SafeTensorError> {
        let file = SafeTensors::deserialize(&bytes)?;
        file.names().into_iter().map(|n| Ok((n.to_string(), one(&file.tensor(n)?)))).collect()
    };
    read().unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn one(view: &TensorView) -> Truth {
    use lorac::ir::Element;
    let data: Vec<f64> = match view.dtype() {
        Dtype::F64 => view.data().chunks_exact(8).map(f64::read).collect(),
        Dtype::F32 => view.data().chunks_exact(4).map(|c| f64::from(f32::read(c))).collect(),
        Dtype::I64 => view.data().chunks_exact(8).map(|c| i64::read(c) as f64).collect(),
        other => panic!("{other:?} in a truth file"),
    };
    let array = Array::from_shape_vec(view.shape().to_vec(), data).unwrap_or_else(|e| panic!("{e}"));
    Truth { integers: view.dtype() == Dtype::I64, array }
}

/// The largest difference of two elements; infinite where shapes differ or one of the two is NaN.
pub fn largest_difference(got: &Array, want: &Array) -> f64 {
    if got.shape() != want.shape() {
        return f64::INFINITY;
    }
    got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, |m, e| if e.is_nan() { f64::INFINITY } else { m.max(e) })
}

/// Norm of the difference over the norm; the norm itself where the truth is zero.
pub fn relative_error(got: &Array, want: &Array) -> f64 {
    let norm = |a: &Array| a.iter().map(|x| x * x).sum::<f64>().sqrt();
    if got.shape() != want.shape() {
        return f64::INFINITY;
    }
    let scale = norm(want);
    norm(&(got - want)) / if scale < 1e-9 { 1.0 } else { scale }
}
