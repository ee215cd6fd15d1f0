//! What lorac writes, read by onnx-protobuf: a reader that shares no line with lorac's own.

use lorac::ir::{DType, Tensor};
use lorac::onnx::{Edit, EncodeOptions, encode, load, patch};
use lorac_tests::data;
use onnx_protobuf::{Message, ModelProto, TensorProto};

/// The elements of a float tensor, however they are stored.
fn floats(tensor: &TensorProto) -> Vec<f32> {
    assert_eq!(tensor.data_type, 1, "{} is f32", tensor.name);
    match tensor.raw_data.is_empty() {
        true => tensor.float_data.clone(),
        false => tensor.raw_data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
    }
}

#[test]
fn a_patched_file_is_the_same_model_with_other_weights() {
    let base = load(data("opset12").join("model.onnx")).expect("loads");
    let (weight, _) = base.location("onnx::MatMul_347").expect("a matrix");
    let dims = base.graph.weight(weight).expect("a weight").dims().to_vec();
    let new: Vec<f32> = (0..dims.iter().product()).map(|i| i as f32 / 8.0).collect();
    let bytes = Tensor::from_slice(&dims, &new).expect("fits").bytes().clone();
    let folder = tempfile::tempdir().expect("temp");
    let out = folder.path().join("model.onnx");
    patch(&base, &[Edit::new(weight, bytes)], None, &out).expect("patches");

    let read = |path: &std::path::Path| {
        ModelProto::parse_from_bytes(&std::fs::read(path).expect("reads")).expect("another reader reads it")
    };
    let (before, mut after) = (read(&data("opset12").join("model.onnx")), read(&out));
    let changed = after.graph.mut_or_insert_default().initializer.iter_mut().find(|t| t.name == "onnx::MatMul_347");
    let changed = changed.expect("the matrix");
    assert_eq!(floats(changed), new);
    // With the old bytes in their place, nothing else is different.
    let old = before.graph.initializer.iter().find(|t| t.name == changed.name).expect("the matrix");
    assert_ne!(old, changed);
    *changed = old.clone();
    assert_eq!(before, after);
}

#[test]
fn an_encoded_graph_has_its_nodes_weights_and_types() {
    let base = load(data("opset12").join("model.onnx")).expect("loads");
    let options = EncodeOptions { inline_limit: usize::MAX, ..EncodeOptions::default() };
    let bytes = encode(&base.graph, &options).expect("encodes").bytes;
    let read = ModelProto::parse_from_bytes(&bytes).expect("another reader reads it");
    assert_eq!(read.opset_import.iter().find(|o| o.domain.is_empty()).map(|o| o.version), Some(12));

    let count = |op: &str| {
        (
            read.graph.node.iter().filter(|n| n.op_type == op).count(),
            base.graph.nodes().filter(|(_, n)| &*n.op.name == op).count(),
        )
    };
    for op in ["MatMul", "Gather", "Softmax", "Unsqueeze", "Add"] {
        let (got, want) = count(op);
        assert!(got == want && want > 0, "{op}: {got} of {want}");
    }
    let floats_of = |dtype| base.graph.weights().filter(move |(_, _, t)| t.dtype() == dtype);
    for (_, value, tensor) in floats_of(DType::F32) {
        let stored = read.graph.initializer.iter().find(|t| t.name == *value.name);
        let stored = stored.unwrap_or_else(|| panic!("no weight {}", value.name));
        let dims: Vec<i64> = tensor.dims().iter().map(|d| *d as i64).collect();
        assert_eq!((&stored.dims, floats(stored)), (&dims, tensor.to_vec::<f32>().expect("f32")), "{}", value.name);
    }
    let names = |values: &[onnx_protobuf::ValueInfoProto]| values.iter().map(|v| v.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&read.graph.input), ["input_ids", "attention_mask"]);
    assert_eq!(names(&read.graph.output), ["last_hidden_state"]);
}
