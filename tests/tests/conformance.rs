//! Reference evaluation and inference against the ONNX backend node tests: one small model per operator and attribute,
//! with inputs and outputs that lorac did not compute. Every test of the package is run or has its reason here.

use lorac::ir::{DType, Graph, Tensor};
use lorac::onnx::proto::{ModelProto, TensorProto};
use lorac::ops::{Array, array, evaluate, infer};
use lorac_tests::package;
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const TESTS: &str = "pypi:onnx==1.17.0/onnx/backend/test/data/node";

/// Largest difference, relative to the value and absolute: what ONNX's own runner allows for the first, f32 sums for the
/// second.
const TOLERANCE: (f64, f64) = (1e-3, 1e-5);

/// Tests that evaluation in f64 does not answer, by the beginning of their names, and why.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("test_affine_grid_2d_align_corners_expanded", CONTROL),
    ("test_affine_grid_2d_expanded", CONTROL),
    ("test_affine_grid_3d_align_corners_expanded", CONTROL),
    ("test_affine_grid_3d_expanded", CONTROL),
    ("test_range_float_type_positive_delta_expanded", CONTROL),
    ("test_range_int32_type_negative_delta_expanded", CONTROL),
    ("test_if", CONTROL),
    ("test_loop11", CONTROL),
    ("test_scan", CONTROL),
    ("test_bernoulli", RANDOM),
    ("test_training_dropout", RANDOM),
    ("test_image_decoder", "encoded images are not decoded"),
    ("test_scatter_with", REMOVED),
    ("test_upsample", REMOVED),
    ("test_cast_FLOAT_to_BFLOAT16", CUT),
    ("test_castlike_FLOAT_to_BFLOAT16", CUT),
    ("test_qlinearmatmul_2D_int8", OVERFLOWN),
    ("test_qlinearmatmul_3D_int8", OVERFLOWN),
    (
        "test_averagepool_3d_dilations_large_count_include_pad_is_1_ceil_mode_is_True",
        "the file counts cells that hang over the padding; ONNX Runtime and PyTorch do not",
    ),
];

const CONTROL: &str = "the bodies of control flow are not evaluated";
const RANDOM: &str = "random numbers have no reference";
const REMOVED: &str = "the operator is not in opset 13 any more";
const CUT: &str = "the package's bf16 numbers are cut off, not rounded to the nearest";
const OVERFLOWN: &str = "the package's numbers ran over in i8; ONNX Runtime saturates too";

/// The oldest opset that is loaded.
const OLDEST: i64 = 13;

enum Verdict {
    Passed,
    /// The test is about something that is not a tensor of numbers.
    NoNumbers(&'static str),
    Failed(String),
}

fn run(folder: &Path) -> Verdict {
    let bytes = std::fs::read(folder.join("model.onnx")).expect("a model");
    let mut proto = ModelProto::decode(bytes.as_slice()).expect("a model");
    if let Some(why) = no_numbers(&proto) {
        return Verdict::NoNumbers(why);
    }
    // A test has the version in which its operator changed last, which may be older than what can be loaded.
    for import in &mut proto.opset_import {
        let standard = matches!(import.domain(), "" | "ai.onnx");
        import.version = import.version.map(|v| if standard { v.max(OLDEST) } else { v });
    }
    let mut graph = match lorac::onnx::decode(proto.encode_to_vec().into()) {
        Ok(model) => model.graph,
        Err(e) => return Verdict::Failed(e.to_string()),
    };
    if let Err(e) = infer(&mut graph) {
        return Verdict::Failed(format!("inference: {e}"));
    }
    match data_sets(folder).iter().try_for_each(|set| compare(&graph, set)) {
        Ok(()) => Verdict::Passed,
        Err(why) => Verdict::Failed(why),
    }
}

/// Why a model computes with something else than tensors of numbers, if it does.
fn no_numbers(model: &ModelProto) -> Option<&'static str> {
    use lorac::onnx::proto::type_proto::Value;
    let graph = model.graph.as_ref()?;
    if model.opset_import.iter().any(|o| o.domain().starts_with("ai.onnx.")) {
        return Some("operators of other domains");
    }
    let kinds = graph.input.iter().chain(&graph.output).map(|v| v.r#type.as_ref().and_then(|t| t.value.as_ref()));
    kinds.flatten().find_map(|kind| match kind {
        Value::TensorType(t) => match t.elem_type() {
            8 => Some("strings"),
            14 | 15 => Some("complex numbers"),
            17.. => Some("floats of 8 bits or integers of 4"),
            _ => None,
        },
        Value::SequenceType(_) => Some("sequences"),
        Value::OptionalType(_) => Some("optionals"),
        Value::MapType(_) => Some("maps"),
        Value::OpaqueType(_) => Some("opaque types"),
        Value::SparseTensorType(_) => Some("sparse tensors"),
    })
}

fn data_sets(folder: &Path) -> Vec<PathBuf> {
    let sets = std::fs::read_dir(folder).expect("a folder").flatten().map(|e| e.path());
    let mut sets: Vec<PathBuf> = sets.filter(|p| p.is_dir()).collect();
    sets.sort();
    sets
}

/// The tensor in a file. The package has the bits of bf16 as u16.
fn read(path: &Path, dtype: DType) -> Result<Tensor, String> {
    let bytes = std::fs::read(path).map_err(|e| e.to_string())?;
    let proto = TensorProto::decode(bytes.as_slice()).map_err(|e| e.to_string())?;
    let tensor = lorac::onnx::read_tensor(&proto).map_err(|e| e.to_string())?;
    match (dtype, tensor.dtype()) {
        (DType::BF16, DType::U16) => {
            Tensor::new(dtype, tensor.dims().to_vec(), tensor.bytes().clone()).map_err(|e| e.to_string())
        }
        _ => Ok(tensor),
    }
}

fn compare(graph: &Graph, set: &Path) -> Result<(), String> {
    let mut inputs: Vec<(String, Array)> = Vec::new();
    for (i, id) in graph.inputs().iter().enumerate() {
        let tensor = read(&set.join(format!("input_{i}.pb")), graph.fact(*id).dtype)?;
        inputs.push((graph.name_of(*id), array(&tensor).ok_or("an input that is not an array")?));
    }
    let inputs: Vec<(&str, Array)> = inputs.iter().map(|(n, a)| (n.as_str(), a.clone())).collect();
    let got = evaluate(graph, &inputs).map_err(|e| e.to_string())?;
    for (i, (id, got)) in graph.outputs().iter().zip(&got).enumerate() {
        let fact = graph.fact(*id);
        let want = read(&set.join(format!("output_{i}.pb")), fact.dtype)?;
        if fact.dtype != want.dtype() {
            return Err(format!("output {i} is inferred as {fact}, the file has {}", want.fact()));
        }
        let dims =
            fact.known_dims().is_none_or(|d| d == want.dims()) && fact.rank().is_none_or(|r| r == want.dims().len());
        if !dims {
            return Err(format!("output {i} is inferred as {fact}, the file has {}", want.fact()));
        }
        let want = array(&want).ok_or("an output that is not an array")?;
        if got.shape() != want.shape() {
            return Err(format!("output {i} has shape {:?}, expected {:?}", got.shape(), want.shape()));
        }
        let near = |a: f64, b: f64| {
            a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= TOLERANCE.0 * b.abs() + TOLERANCE.1
        };
        if let Some((a, b)) = got.iter().zip(&want).find(|(a, b)| !near(**a, **b)) {
            return Err(format!("output {i} has {a} where the file has {b}"));
        }
    }
    Ok(())
}

fn exception(name: &str) -> Option<&'static (&'static str, &'static str)> {
    EXCEPTIONS.iter().find(|(start, _)| name.starts_with(start))
}

#[test]
fn every_node_test_of_the_standard() {
    let folder = package(TESTS).path;
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .expect("a folder")
        .map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    let (mut passed, mut other, mut wrong) = (0, BTreeMap::<&str, usize>::new(), Vec::new());
    let mut used = BTreeSet::new();
    for name in &names {
        match (run(&folder.join(name)), exception(name)) {
            (Verdict::Passed, _) => passed += 1,
            (Verdict::NoNumbers(what), _) => *other.entry(what).or_default() += 1,
            (Verdict::Failed(why), None) => wrong.push(format!("{name}: {why}")),
            (Verdict::Failed(_), Some(exception)) => _ = used.insert(exception),
        }
    }
    println!("{passed} passed of {}; not numbers: {other:?}; {} wrong", names.len(), wrong.len());
    assert!(wrong.is_empty(), "{} wrong, {passed} right:\n{}", wrong.len(), wrong.join("\n"));
    let stale: Vec<_> = EXCEPTIONS.iter().filter(|e| !used.contains(e)).collect();
    assert!(stale.is_empty(), "nothing needs {stale:?}");
    assert!(passed >= 1100, "only {passed}");
}
