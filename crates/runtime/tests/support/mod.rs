//! Small ONNX models, and the library that the tests run on.

// Each test file is a crate of its own and uses a part of this.
#![allow(dead_code, unreachable_pub)]

use bytes::Bytes;
use lorac_ir::{DType, Tensor};
use lorac_runtime::{Backend, DeviceChoice, Options, embedded, open_onnxruntime, wheel_library};
use prost::Message;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use tract_onnx::pb;

const VERSION: &str = "1.31.1";

/// The ONNX Runtime library of the package that the tests pin, downloaded once into lorac's cache.
pub fn library() -> PathBuf {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY
        .get_or_init(|| fetch().unwrap_or_else(|why| panic!("this test needs onnxruntime=={VERSION}: {why}")))
        .clone()
}

fn fetch() -> Result<PathBuf, Box<dyn std::error::Error>> {
    let cache = std::env::var_os("LORAC_CACHE").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/lorac"));
    let package =
        cache.or_else(home).ok_or("neither LORAC_CACHE nor HOME is set")?.join("pypi/onnxruntime").join(VERSION);
    if let Some(library) = wheel_library(&package) {
        return Ok(library);
    }
    std::fs::create_dir_all(&package)?;
    let download = tempfile::tempdir_in(&package)?;
    let requirement = format!("onnxruntime=={VERSION}");
    let pip = ["-m", "pip", "download", "--quiet", "--no-deps", "--dest"];
    let done = Command::new("python3").args(pip).arg(download.path()).arg(requirement).status();
    let done = done.map_err(|e| format!("it is not in the cache, and python3 does not run: {e}"))?;
    let wheel =
        std::fs::read_dir(download.path())?.flatten().map(|e| e.path()).find(|p| p.extension() == Some("whl".as_ref()));
    let wheel =
        wheel.filter(|_| done.success()).ok_or("it is not in the cache, and python3 -m pip downloaded no wheel")?;
    let unpacked = download.path().join("files");
    zip::ZipArchive::new(std::fs::File::open(wheel)?)?.extract(&unpacked)?;
    // Another test process may have been faster: then its folder stays, and ours goes with the temporary one.
    let _ = std::fs::rename(&unpacked, package.join("files"));
    wheel_library(&package).ok_or_else(|| "the wheel holds no library".into())
}

/// Both engines, on the CPU.
pub fn engines() -> Vec<Box<dyn Backend>> {
    let options = Options { device: DeviceChoice::Cpu, threads: Some(2), ..Options::default() };
    vec![open_onnxruntime(&library(), &options).expect("the library loads"), embedded(&options)]
}

/// A dimension of a model's input or output.
pub enum D {
    N(i64),
    S(&'static str),
}

/// A model under construction.
#[derive(Default)]
pub struct Model {
    graph: pb::GraphProto,
}

pub fn code(dtype: DType) -> i32 {
    dtype.onnx_code().unwrap_or_else(|| panic!("ONNX has no {dtype}")) as i32
}

fn value(name: &str, dtype: DType, dims: Option<&[D]>) -> pb::ValueInfoProto {
    use pb::tensor_shape_proto::{Dimension, dimension::Value};
    let dim = |d: &D| {
        let value = match d {
            D::N(n) => Value::DimValue(*n),
            D::S(name) => Value::DimParam(name.to_string()),
        };
        Dimension { value: Some(value), ..Default::default() }
    };
    let shape = dims.map(|dims| pb::TensorShapeProto { dim: dims.iter().map(dim).collect() });
    let tensor = pb::type_proto::Tensor { elem_type: code(dtype), shape };
    let kind = pb::TypeProto { value: Some(pb::type_proto::Value::TensorType(tensor)), ..Default::default() };
    pb::ValueInfoProto { name: name.to_string(), r#type: Some(kind), ..Default::default() }
}

/// An attribute of a node.
pub fn int(name: &str, i: i64) -> pb::AttributeProto {
    let r#type = pb::attribute_proto::AttributeType::Int as i32;
    pb::AttributeProto { name: name.to_string(), i, r#type, ..Default::default() }
}

/// An attribute of a node.
pub fn text(name: &str, s: &str) -> pb::AttributeProto {
    let r#type = pb::attribute_proto::AttributeType::String as i32;
    pb::AttributeProto { name: name.to_string(), s: s.as_bytes().to_vec(), r#type, ..Default::default() }
}

impl Model {
    pub fn input(mut self, name: &str, dtype: DType, dims: &[D]) -> Model {
        self.graph.input.push(value(name, dtype, Some(dims)));
        self
    }

    pub fn output(mut self, name: &str, dtype: DType, dims: &[D]) -> Model {
        self.graph.output.push(value(name, dtype, Some(dims)));
        self
    }

    /// An output whose rank the model does not say.
    pub fn unranked_output(mut self, name: &str, dtype: DType) -> Model {
        self.graph.output.push(value(name, dtype, None));
        self
    }

    /// Outputs are separated by blanks, inputs too; `-` is an absent one.
    pub fn node(mut self, op: &str, inputs: &str, outputs: &str, attribute: &[pb::AttributeProto]) -> Model {
        let names = |text: &str| -> Vec<String> {
            text.split_whitespace().map(|n| n.trim_start_matches('-').to_string()).collect()
        };
        let output = names(outputs);
        self.graph.node.push(pb::NodeProto {
            name: format!("{op}_{}", output.first().map_or("", String::as_str)),
            op_type: op.to_string(),
            input: names(inputs),
            output,
            attribute: attribute.to_vec(),
            ..Default::default()
        });
        self
    }

    /// An initializer with its data in the model.
    pub fn constant(mut self, name: &str, tensor: &Tensor) -> Model {
        self.graph.initializer.push(pb::TensorProto {
            name: name.to_string(),
            data_type: code(tensor.dtype()),
            dims: tensor.dims().iter().map(|d| *d as i64).collect(),
            raw_data: tensor.bytes().to_vec(),
            ..Default::default()
        });
        self
    }

    /// An initializer with external data.
    pub fn weight(mut self, name: &str, dtype: DType, dims: &[i64], location: &str) -> Model {
        let entry = pb::StringStringEntryProto { key: "location".into(), value: location.into() };
        self.graph.initializer.push(pb::TensorProto {
            name: name.to_string(),
            data_type: code(dtype),
            dims: dims.to_vec(),
            data_location: Some(pb::tensor_proto::DataLocation::External as i32),
            external_data: vec![entry],
            ..Default::default()
        });
        self
    }

    pub fn bytes(mut self) -> Bytes {
        self.graph.name = "test".to_string();
        let opset = pb::OperatorSetIdProto { domain: String::new(), version: 20 };
        let model =
            pb::ModelProto { ir_version: 9, opset_import: vec![opset], graph: Some(self.graph), ..Default::default() };
        model.encode_to_vec().into()
    }
}

/// `theta.next = theta - lr * x`, `norm = sum(theta.next * theta.next)`.
pub fn descent(n: i64) -> Model {
    Model::default()
        .input("theta", DType::F32, &[D::N(n)])
        .input("x", DType::F32, &[D::N(n)])
        .input("lr", DType::F32, &[])
        .node("Mul", "x lr", "dx", &[])
        .node("Sub", "theta dx", "theta.next", &[])
        .node("Mul", "theta.next theta.next", "sq", &[])
        .node("ReduceSum", "sq", "norm", &[int("keepdims", 0)])
        .output("theta.next", DType::F32, &[D::N(n)])
        .output("norm", DType::F32, &[])
}

pub fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.to_vec().expect("f32")
}
