//! What a serialized model declares: inputs, outputs, and initializers with the files they refer to.

use crate::Port;
use crate::wire::{Wire, fields};
use lorac_ir::{DType, Dim, Fact};
use std::collections::HashSet;

/// An initializer of the main graph.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Initializer {
    pub(crate) name: String,
    pub(crate) fact: Fact,
    /// The file of external data, where the data is external.
    pub(crate) location: Option<String>,
}

/// The interface of a model's main graph.
#[derive(Clone, Debug, Default)]
pub(crate) struct Manifest {
    /// Inputs that are no initializers.
    pub(crate) inputs: Vec<Port>,
    pub(crate) outputs: Vec<Port>,
    pub(crate) initializers: Vec<Initializer>,
}

// Field numbers of onnx.proto3.
pub(crate) const MODEL_GRAPH: u64 = 7;
pub(crate) const GRAPH_INITIALIZER: u64 = 5;
const GRAPH_INPUT: u64 = 11;
const GRAPH_OUTPUT: u64 = 12;
pub(crate) const TENSOR_NAME: u64 = 8;
const EXTERNAL: i64 = 1;

/// Reads a `ModelProto`; `None` where the bytes are no such message or hold no graph.
pub(crate) fn read_manifest(model: &[u8]) -> Option<Manifest> {
    let mut manifest = Manifest::default();
    let mut graphs = 0;
    // Several graph fields are one graph: protobuf merges repeated occurrences of a message.
    for field in fields(model) {
        let (MODEL_GRAPH, graph) = field? else { continue };
        graphs += 1;
        for field in graph.fields() {
            match field? {
                (GRAPH_INITIALIZER, tensor) => manifest.initializers.push(initializer(tensor)?),
                (GRAPH_INPUT, value) => manifest.inputs.push(port(value)?),
                (GRAPH_OUTPUT, value) => manifest.outputs.push(port(value)?),
                _ => {}
            }
        }
    }
    let initialized: HashSet<&str> = manifest.initializers.iter().map(|i| i.name.as_str()).collect();
    manifest.inputs.retain(|p| !initialized.contains(p.name.as_str()));
    (graphs > 0).then_some(manifest)
}

fn initializer(tensor: Wire) -> Option<Initializer> {
    let (mut name, mut dtype, mut dims) = (String::new(), DType::Opaque, Vec::new());
    let (mut file, mut external) = (None, false);
    for field in tensor.fields() {
        match field? {
            (1, d) => dims.extend(d.numbers()?),
            (2, t) => dtype = dtype_of(t.number()),
            (TENSOR_NAME, n) => name = n.text(),
            (13, entry) => {
                let (mut key, mut value) = (String::new(), String::new());
                for field in entry.fields() {
                    match field? {
                        (1, k) => key = k.text(),
                        (2, v) => value = v.text(),
                        _ => {}
                    }
                }
                if key == "location" {
                    file = Some(value);
                }
            }
            (14, l) => external = l.number() == EXTERNAL,
            _ => {}
        }
    }
    let location = if external { Some(file.unwrap_or_default()) } else { None };
    Some(Initializer { name, fact: Fact::new(dtype, dims), location })
}

fn port(value: Wire) -> Option<Port> {
    let (mut name, mut fact) = (String::new(), Fact::unranked(DType::Opaque));
    for field in value.fields() {
        match field? {
            (1, n) => name = n.text(),
            (2, t) => {
                for field in t.fields() {
                    if let (1, tensor) = field? {
                        fact = tensor_type(tensor)?;
                    }
                }
            }
            _ => {}
        }
    }
    Some(Port { name, fact })
}

fn tensor_type(tensor: Wire) -> Option<Fact> {
    let mut fact = Fact::unranked(DType::Opaque);
    for field in tensor.fields() {
        match field? {
            (1, t) => fact.dtype = dtype_of(t.number()),
            (2, shape) => {
                let mut dims = Vec::new();
                for field in shape.fields() {
                    if let (1, d) = field? {
                        dims.push(dim(d)?);
                    }
                }
                fact.shape = Some(dims);
            }
            _ => {}
        }
    }
    Some(fact)
}

fn dim(d: Wire) -> Option<Dim> {
    let mut dim = Dim::Unknown;
    for field in d.fields() {
        dim = match field? {
            (1, n) if n.number() >= 0 => Dim::Known(n.number()),
            (2, name) if !name.text().is_empty() => Dim::named(&name.text()),
            _ => dim,
        };
    }
    Some(dim)
}

/// The element type that ONNX numbers `code`.
pub(crate) fn dtype_of(code: i64) -> DType {
    match code {
        1 => DType::F32,
        2 => DType::U8,
        3 => DType::I8,
        4 => DType::U16,
        5 => DType::I16,
        6 => DType::I32,
        7 => DType::I64,
        8 => DType::Str,
        9 => DType::Bool,
        10 => DType::F16,
        11 => DType::F64,
        12 => DType::U32,
        13 => DType::U64,
        16 => DType::BF16,
        _ => DType::Opaque,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(number: u8, content: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, content.len() as u8], content].concat()
    }

    #[test]
    fn two_graph_fields_are_one_graph() {
        let value = |name: &str| message(1, name.as_bytes());
        let first = message(7, &message(11, &value("x")));
        let tensor = [message(8, b"w"), message(13, &[message(1, b"location"), message(2, b"w.bin")].concat())];
        let tensor = [tensor.concat(), vec![8, 3, 16, 1, 14 << 3, 1]].concat();
        let second = message(7, &[message(5, &tensor), message(11, &value("w")), message(12, &value("y"))].concat());
        let manifest = read_manifest(&[first, second].concat()).expect("a model");
        assert_eq!(manifest.inputs.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["x"]);
        assert_eq!(manifest.outputs.len(), 1);
        let want =
            Initializer { name: "w".into(), fact: Fact::new(DType::F32, [3i64]), location: Some("w.bin".into()) };
        assert_eq!(manifest.initializers, [want]);
    }

    #[test]
    fn garbage_is_no_model() {
        assert!(read_manifest(b"").is_none());
        assert!(read_manifest(b"not a model at all").is_none());
        assert!(read_manifest(&[0x3a, 0x05, 1]).is_none());
    }
}
