//! A model as a sequence of byte runs, so that weights go from where they are straight to where they are written.

use crate::OnnxError;
use crate::attr::tensor_head;
use crate::body::Body;
use crate::field_number::{GRAPH_INITIALIZER, MODEL_GRAPH, TENSOR_RAW_DATA};
use crate::proto::tensor_proto::DataLocation;
use crate::proto::{FunctionProto, ModelProto, OperatorSetIdProto, StringStringEntryProto, TensorProto};
use crate::wire::{put_bytes, put_header};
use bytes::Bytes;
use lorac_ir::{Graph, Tensor};
use prost::Message;
use std::collections::BTreeMap;

/// The most bytes that one protobuf message may have.
pub(crate) const MESSAGE_LIMIT: u64 = i32::MAX as u64;
/// External data begins at multiples of this, so that it can be mapped by itself.
const ALIGN: u64 = 4096;

/// The bytes of a model in order; weights are shared, not copied.
pub(crate) struct Layout {
    pub(crate) pieces: Vec<Bytes>,
    /// Weights that lie elsewhere: name, tensor, offset in that file.
    pub(crate) external: Vec<(String, Tensor, u64)>,
}

impl Layout {
    pub(crate) fn len(&self) -> u64 {
        self.pieces.iter().map(|p| p.len() as u64).sum()
    }
}

/// The model around a graph.
pub(crate) fn envelope(
    graph: &Graph,
    ir_version: i64,
    functions: &[FunctionProto],
    metadata: &BTreeMap<String, String>,
) -> ModelProto {
    ModelProto {
        ir_version: Some(ir_version),
        producer_name: Some("lorac".to_string()),
        producer_version: Some(env!("CARGO_PKG_VERSION").to_string()),
        opset_import: graph.opsets.iter().map(|(d, v)| opset(d, *v)).collect(),
        functions: functions.to_vec(),
        metadata_props: metadata.iter().map(entry).collect(),
        ..ModelProto::default()
    }
}

/// A key-value pair.
pub(crate) fn entry((key, value): (&String, &String)) -> StringStringEntryProto {
    StringStringEntryProto { key: Some(key.clone()), value: Some(value.clone()) }
}

pub(crate) fn opset(domain: &str, version: i64) -> OperatorSetIdProto {
    OperatorSetIdProto { domain: Some(domain.to_string()), version: Some(version) }
}

/// Lays out `head`, then the graph of `body` with the weights of `graph`. Weights of more bytes than `inline_limit`
/// become references to the file `location`.
pub(crate) fn layout(
    head: &ModelProto,
    body: &Body,
    graph: &Graph,
    inline_limit: usize,
    location: &str,
) -> Result<Layout, OnnxError> {
    let Layout { pieces, external } = content(body, graph, inline_limit, location)?;
    let mut front = head.encode_to_vec();
    put_header(&mut front, MODEL_GRAPH, pieces.iter().map(|p| p.len() as u64).sum());
    let pieces = std::iter::once(Bytes::from(front)).chain(pieces).collect();
    Ok(Layout { pieces, external })
}

/// The content of the graph's message alone, as [`layout`] lays it out.
pub(crate) fn content(body: &Body, graph: &Graph, inline_limit: usize, location: &str) -> Result<Layout, OnnxError> {
    let mut runs = Runs { tail: body.proto.encode_to_vec(), ..Runs::default() };
    let mut external = Vec::new();
    let mut offset = 0u64;
    for (_, value, tensor) in graph.weights() {
        let mut proto = tensor_head(&value.name, tensor)?;
        let size = tensor.bytes().len();
        if size > inline_limit {
            refer(&mut proto, location, offset, size);
            external.push((value.name.to_string(), tensor.clone(), offset));
            offset = (offset + size as u64).next_multiple_of(ALIGN);
            runs.message(GRAPH_INITIALIZER, &proto.encode_to_vec());
        } else {
            let mut head = proto.encode_to_vec();
            put_header(&mut head, TENSOR_RAW_DATA, size as u64);
            put_header(&mut runs.tail, GRAPH_INITIALIZER, (head.len() + size) as u64);
            runs.tail.extend(head);
            runs.share(tensor.bytes());
        }
    }
    Ok(Layout { pieces: runs.finish(), external })
}

fn refer(proto: &mut TensorProto, location: &str, offset: u64, size: usize) {
    let entry = |k: &str, v: String| StringStringEntryProto { key: Some(k.to_string()), value: Some(v) };
    proto.data_location = Some(DataLocation::External as i32);
    proto.external_data = vec![
        entry("location", location.to_string()),
        entry("offset", offset.to_string()),
        entry("length", size.to_string()),
    ];
}

/// Byte runs under construction: small ones are gathered, large ones shared.
#[derive(Default)]
struct Runs {
    done: Vec<Bytes>,
    tail: Vec<u8>,
}

impl Runs {
    fn message(&mut self, number: u32, content: &[u8]) {
        put_bytes(&mut self.tail, number, content);
    }

    fn share(&mut self, bytes: &Bytes) {
        if bytes.len() < 4096 {
            self.tail.extend_from_slice(bytes);
        } else {
            self.done.push(std::mem::take(&mut self.tail).into());
            self.done.push(bytes.clone());
        }
    }

    fn finish(mut self) -> Vec<Bytes> {
        self.done.push(self.tail.into());
        self.done
    }
}
