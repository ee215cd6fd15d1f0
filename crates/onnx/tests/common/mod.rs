//! Models made by hand, and the real exports.
// Every test binary uses its own part of this file.
#![allow(dead_code, unreachable_pub)]

use lorac_onnx::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto, tensor_shape_proto as shape, type_proto,
};
use prost::Message;
use std::path::{Path, PathBuf};

pub const EXPORTS: [&str; 7] = [
    "bert-dynamo",
    "bert-dynamo23",
    "bert-torchscript",
    "distilbert-dynamo",
    "distilbert-torchscript",
    "roberta-dynamo",
    "roberta-torchscript",
];

pub fn export(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/exports").join(name).join("model.onnx")
}

pub fn value(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim = |d: &i64| shape::Dimension { value: Some(shape::dimension::Value::DimValue(*d)), denotation: None };
    let shape = Some(TensorShapeProto { dim: dims.iter().map(dim).collect() });
    let tensor = type_proto::Tensor { elem_type: Some(1), shape };
    let value = Some(type_proto::Value::TensorType(tensor));
    ValueInfoProto {
        name: Some(name.into()),
        r#type: Some(TypeProto { value, denotation: None }),
        ..Default::default()
    }
}

pub fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    NodeProto {
        op_type: Some(op.into()),
        name: Some(format!("{op}_{}", outputs.first().unwrap_or(&""))),
        input: inputs.iter().map(|s| s.to_string()).collect(),
        output: outputs.iter().map(|s| s.to_string()).collect(),
        ..Default::default()
    }
}

pub fn constant(output: &str, attr: AttributeProto) -> NodeProto {
    NodeProto { attribute: vec![attr], ..node("Constant", &[], &[output]) }
}

pub fn raw(name: &str, dims: &[i64], data: &[f32]) -> TensorProto {
    let bytes: Vec<u8> = data.iter().flat_map(|x| x.to_le_bytes()).collect();
    TensorProto { raw_data: Some(bytes.into()), ..untyped(name, 1, dims) }
}

pub fn untyped(name: &str, data_type: i32, dims: &[i64]) -> TensorProto {
    TensorProto { name: Some(name.into()), data_type: Some(data_type), dims: dims.to_vec(), ..Default::default() }
}

pub fn external(name: &str, dims: &[i64], entries: &[(&str, &str)]) -> TensorProto {
    let entry = |(k, v): &(&str, &str)| StringStringEntryProto { key: Some(k.to_string()), value: Some(v.to_string()) };
    let external_data = entries.iter().map(entry).collect();
    TensorProto { data_location: Some(1), external_data, ..untyped(name, 1, dims) }
}

pub fn model(graph: GraphProto) -> ModelProto {
    let opset_import = vec![OperatorSetIdProto { domain: Some("".into()), version: Some(17) }];
    ModelProto { ir_version: Some(8), opset_import, graph: Some(graph), ..Default::default() }
}

/// `y = Add(x, w)` with the given weights and further nodes.
pub fn graph(weights: Vec<TensorProto>, mut nodes: Vec<NodeProto>) -> GraphProto {
    nodes.push(node("Add", &["x", "w"], &["y"]));
    GraphProto {
        name: Some("g".into()),
        input: vec![value("x", &[2])],
        output: vec![value("y", &[2])],
        initializer: weights,
        node: nodes,
        ..Default::default()
    }
}

pub fn write(folder: &Path, graph: GraphProto) -> PathBuf {
    let path = folder.join("model.onnx");
    std::fs::write(&path, model(graph).encode_to_vec()).expect("written");
    path
}

pub fn bytes_of(data: &[f32]) -> bytes::Bytes {
    data.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>().into()
}
