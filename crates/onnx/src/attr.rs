//! Attributes: `AttributeProto` to and from [`Attr`].

use crate::proto::attribute_proto::AttributeType;
use crate::proto::{AttributeProto, GraphProto, TensorProto};
use crate::tensor::{code, read_tensor};
use crate::{OnnxError, TensorFault};
use bytes::Bytes;
use lorac_ir::{Attr, Body, DType, Tensor};
use prost::Message;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

/// Reads an attribute. Whatever is neither a number, text, nor a tensor of numbers stays encoded; graphs are read by the
/// reader of the graph around them.
///
/// # Errors
/// A tensor that cannot be read.
pub fn read_attr(proto: &AttributeProto) -> Result<Attr, TensorFault> {
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(Arc::<str>::from);
    if proto.ref_attr_name.as_ref().is_some_and(|r| !r.is_empty()) {
        return Ok(opaque(proto));
    }
    Ok(match kind(proto) {
        AttributeType::Float => Attr::Float(proto.f()),
        AttributeType::Int => Attr::Int(proto.i()),
        AttributeType::String => text(proto.s()).map_or_else(|| opaque(proto), Attr::Str),
        AttributeType::Floats => Attr::Floats(proto.floats.clone()),
        AttributeType::Ints => Attr::Ints(proto.ints.clone()),
        AttributeType::Strings => {
            let strings: Option<Vec<_>> = proto.strings.iter().map(|s| text(s)).collect();
            strings.map_or_else(|| opaque(proto), Attr::Strs)
        }
        AttributeType::Tensor => match &proto.t {
            Some(t) => match read_tensor(t)? {
                t if matches!(t.dtype(), DType::Str | DType::Opaque) => opaque(proto),
                t => Attr::Tensor(t),
            },
            None => opaque(proto),
        },
        _ => opaque(proto),
    })
}

/// The declared type; files older than IR version 2 declare none.
fn kind(a: &AttributeProto) -> AttributeType {
    match a.r#type() {
        AttributeType::Undefined if a.f.is_some() => AttributeType::Float,
        AttributeType::Undefined if a.i.is_some() => AttributeType::Int,
        AttributeType::Undefined if a.s.is_some() => AttributeType::String,
        AttributeType::Undefined if a.t.is_some() => AttributeType::Tensor,
        AttributeType::Undefined if !a.floats.is_empty() => AttributeType::Floats,
        AttributeType::Undefined if !a.ints.is_empty() => AttributeType::Ints,
        AttributeType::Undefined if !a.strings.is_empty() => AttributeType::Strings,
        declared => declared,
    }
}

fn opaque(proto: &AttributeProto) -> Attr {
    Attr::Opaque(Bytes::from(proto.encode_to_vec()))
}

/// Names that a subgraph, or one inside it, reads without defining them. The decoder bounds the depth.
pub(crate) fn captures(graph: &GraphProto) -> BTreeSet<String> {
    let inputs = graph.input.iter().map(|v| v.name());
    let weights = graph.initializer.iter().map(|t| t.name());
    let sparse = graph.sparse_initializer.iter().filter_map(|t| t.values.as_ref()).map(|t| t.name());
    let results = graph.node.iter().flat_map(|n| n.output.iter().map(String::as_str));
    let own: HashSet<&str> = inputs.chain(weights).chain(sparse).chain(results).collect();

    let mut free = BTreeSet::new();
    for node in &graph.node {
        free.extend(node.input.iter().cloned());
        let inner = node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs));
        inner.for_each(|g| free.extend(captures(g)));
    }
    free.extend(graph.output.iter().map(|v| v.name().to_string()));
    free.retain(|name| !name.is_empty() && !own.contains(name.as_str()));
    free
}

/// The attribute as a file has it; `node` is for the error, `graph` writes a graph inside the node.
pub(crate) fn write_attr(
    node: &str,
    name: &str,
    attr: &Attr,
    graph: impl FnOnce(&Body) -> Result<GraphProto, OnnxError>,
) -> Result<AttributeProto, OnnxError> {
    let mut out = AttributeProto::default();
    let kind = match attr {
        Attr::Graph(body) => {
            out.g = Some(graph(body)?);
            AttributeType::Graph
        }
        Attr::Ref(outer) => {
            return Err(OnnxError::UnboundAttr {
                node: node.to_string(),
                attr: name.to_string(),
                outer: outer.to_string(),
            });
        }
        Attr::Opaque(encoded) => {
            let mut proto = AttributeProto::decode(encoded.clone()).map_err(|source| OnnxError::BadAttr {
                node: node.to_string(),
                attr: name.to_string(),
                source,
            })?;
            proto.name = Some(name.to_string());
            return Ok(proto);
        }
        Attr::Int(x) => {
            out.i = Some(*x);
            AttributeType::Int
        }
        Attr::Float(x) => {
            out.f = Some(*x);
            AttributeType::Float
        }
        Attr::Str(s) => {
            out.s = Some(s.as_bytes().to_vec());
            AttributeType::String
        }
        Attr::Ints(v) => {
            out.ints.clone_from(v);
            AttributeType::Ints
        }
        Attr::Floats(v) => {
            out.floats.clone_from(v);
            AttributeType::Floats
        }
        Attr::Strs(v) => {
            out.strings = v.iter().map(|s| s.as_bytes().to_vec()).collect();
            AttributeType::Strings
        }
        Attr::Tensor(t) => {
            let mut proto = tensor_head(&format!("{node}.{name}"), t)?;
            proto.name = None;
            proto.raw_data = Some(t.bytes().clone());
            out.t = Some(proto);
            AttributeType::Tensor
        }
    };
    out.name = Some(name.to_string());
    out.r#type = Some(kind as i32);
    Ok(out)
}

/// Everything of a tensor's message but its data.
pub(crate) fn tensor_head(name: &str, tensor: &Tensor) -> Result<TensorProto, OnnxError> {
    let dtype = tensor.dtype();
    let data_type = code(dtype).filter(|_| dtype != DType::Str);
    let data_type = data_type.ok_or_else(|| OnnxError::OpaqueTensor { weight: name.to_string(), dtype })?;
    Ok(TensorProto {
        dims: tensor.dims().iter().map(|d| *d as i64).collect(),
        data_type: Some(data_type),
        name: Some(name.to_string()),
        ..TensorProto::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{NodeProto, ValueInfoProto};

    #[test]
    fn attributes_round_trip() {
        let tensor = Tensor::vector(&[1i64, 2]);
        for attr in [
            Attr::Int(-3),
            Attr::Float(0.5),
            Attr::Str("NOTSET".into()),
            Attr::Ints(vec![]),
            Attr::Floats(vec![1.0]),
            Attr::Strs(vec!["a".into(), "".into()]),
            Attr::Tensor(tensor),
        ] {
            let proto = write_attr("n", "a", &attr, |_| unreachable!("no graph")).expect("encodes");
            assert_eq!(read_attr(&proto), Ok(attr));
        }
    }

    #[test]
    fn captures_see_through_nested_graphs() {
        let value = |n: &str| ValueInfoProto { name: Some(n.into()), ..Default::default() };
        let node = |i: &[&str], o: &str, g: Option<GraphProto>| NodeProto {
            input: i.iter().map(|s| s.to_string()).collect(),
            output: vec![o.into()],
            attribute: g.map(|g| AttributeProto { g: Some(g), ..Default::default() }).into_iter().collect(),
            ..Default::default()
        };
        let inner = GraphProto { node: vec![node(&["a", "deep", ""], "i", None)], ..Default::default() };
        let outer = GraphProto {
            input: vec![value("a")],
            node: vec![node(&["a", "outer"], "b", Some(inner))],
            output: vec![value("b"), value("passed")],
            ..Default::default()
        };
        assert_eq!(captures(&outer).iter().map(|s| &**s).collect::<Vec<_>>(), ["deep", "outer", "passed"]);
    }
}
