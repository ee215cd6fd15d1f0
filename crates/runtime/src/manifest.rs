//! What a serialized model declares: inputs, outputs, and initializers with the files they refer to.

use crate::Port;
use lorac_ir::{DType, Dim, Fact};
use lorac_onnx::field_number::*;
use lorac_onnx::wire::{Field, Malformed, fields};
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
    /// Inputs that are not initializers.
    pub(crate) inputs: Vec<Port>,
    pub(crate) outputs: Vec<Port>,
    pub(crate) initializers: Vec<Initializer>,
    /// Whether a node is a cubic Resize.
    pub(crate) has_cubic_resize: bool,
}

/// `TensorProto.DataLocation.EXTERNAL`.
const EXTERNAL: i64 = 1;

/// Reads a `ModelProto`; `None` where the bytes are not such a message or hold no graph.
pub(crate) fn read_manifest(model: &[u8]) -> Option<Manifest> {
    let (mut manifest, graphs) = read(model).ok()?;
    let initialized: HashSet<&str> = manifest.initializers.iter().map(|i| i.name.as_str()).collect();
    manifest.inputs.retain(|p| !initialized.contains(p.name.as_str()));
    (graphs > 0).then_some(manifest)
}

/// Inputs with those that are initializers, and the number of graph fields.
fn read(model: &[u8]) -> Result<(Manifest, usize), Malformed> {
    let (mut manifest, mut graphs) = (Manifest::default(), 0);
    // Several graph fields are one graph: protobuf merges repeated occurrences of a message.
    for field in fields(model) {
        let graph = field?;
        if graph.number != MODEL_GRAPH {
            continue;
        }
        graphs += 1;
        for field in graph.fields() {
            let field = field?;
            match field.number {
                GRAPH_INITIALIZER => manifest.initializers.push(initializer(&field)?),
                GRAPH_INPUT => manifest.inputs.push(port(&field)?),
                GRAPH_OUTPUT => manifest.outputs.push(port(&field)?),
                GRAPH_NODE => manifest.has_cubic_resize |= is_cubic_resize(&field)?,
                _ => {}
            }
        }
    }
    Ok((manifest, graphs))
}

fn is_cubic_resize(node: &Field) -> Result<bool, Malformed> {
    if node.find(NODE_OP_TYPE)?.is_none_or(|op| op.bytes() != b"Resize") {
        return Ok(false);
    }
    for field in node.fields() {
        let field = field?;
        if field.number == NODE_ATTRIBUTE && field.find(ATTRIBUTE_STRING)?.is_some_and(|s| s.bytes() == b"cubic") {
            return Ok(true);
        }
    }
    Ok(false)
}

fn initializer(tensor: &Field) -> Result<Initializer, Malformed> {
    let (mut name, mut dtype, mut dims) = (String::new(), DType::Opaque, Vec::new());
    let (mut file, mut external) = (None, false);
    for field in tensor.fields() {
        let field = field?;
        match field.number {
            TENSOR_DIMS => dims.extend(field.integers()?),
            TENSOR_DATA_TYPE => dtype = DType::from_onnx_code(field.integer()),
            TENSOR_NAME => name = field.text(),
            // An entry of a key and a value.
            TENSOR_EXTERNAL_DATA if field.find_text(1)? == "location" => file = Some(field.find_text(2)?),
            TENSOR_DATA_LOCATION => external = field.integer() == EXTERNAL,
            _ => {}
        }
    }
    let location = if external { Some(file.unwrap_or_default()) } else { None };
    Ok(Initializer { name, fact: Fact::new(dtype, dims), location })
}

/// A `ValueInfoProto`, which has a name and a `TypeProto`; what is not a tensor is opaque.
fn port(value: &Field) -> Result<Port, Malformed> {
    let mut fact = Fact::unranked(DType::Opaque);
    if let Some(kind) = value.find(2)?
        && let Some(tensor) = kind.find(1)?
    {
        fact = tensor_type(&tensor)?;
    }
    Ok(Port { name: value.find_text(1)?, fact })
}

/// A `TypeProto.Tensor`: an element type and a shape, which is a list of dimensions.
fn tensor_type(tensor: &Field) -> Result<Fact, Malformed> {
    let dtype = DType::from_onnx_code(tensor.find(1)?.map_or(0, |t| t.integer()));
    let Some(shape) = tensor.find(2)? else { return Ok(Fact::unranked(dtype)) };
    let mut dims = Vec::new();
    for field in shape.fields() {
        let field = field?;
        if field.number == 1 {
            dims.push(dim(&field)?);
        }
    }
    Ok(Fact { dtype, shape: Some(dims) })
}

/// A `TensorShapeProto.Dimension`: a length or a name.
fn dim(dimension: &Field) -> Result<Dim, Malformed> {
    let mut dim = Dim::Unknown;
    for field in dimension.fields() {
        let field = field?;
        dim = match field.number {
            1 if field.integer() >= 0 => Dim::Known(field.integer()),
            2 if !field.text().is_empty() => Dim::named(&field.text()),
            _ => dim,
        };
    }
    Ok(dim)
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
    fn a_cubic_resize_is_seen() {
        let of = |op: &str, mode: &str| {
            let attribute = message(5, &[message(1, b"mode"), message(4, mode.as_bytes())].concat());
            let node = message(1, &[message(1, b"x"), message(4, op.as_bytes()), attribute].concat());
            read_manifest(&message(7, &node)).expect("a model").has_cubic_resize
        };
        assert_eq!((of("Resize", "cubic"), of("Resize", "linear"), of("Pad", "cubic")), (true, false, false));
    }

    #[test]
    fn garbage_is_no_model() {
        assert!(read_manifest(b"").is_none());
        assert!(read_manifest(b"not a model at all").is_none());
        assert!(read_manifest(&[0x3a, 0x05, 1]).is_none());
    }
}
