//! Writes a graph into memory, for a runtime.

use crate::OnnxError;
use crate::body::{UsedNames, body, inner_facts};
use crate::layout::{MESSAGE_LIMIT, envelope, layout};
use crate::proto::FunctionProto;
use lorac_ir::{Graph, Tensor};
use std::collections::BTreeMap;

/// How a graph is encoded.
#[derive(Debug, Clone)]
pub struct EncodeOptions {
    /// Weights of more bytes are left out and referred to.
    pub inline_limit: usize,
    /// The file that references to weights name. Offsets in it are those of [`Encoded::external`] laid out one after
    /// the other, each at a multiple of 4096.
    pub location: String,
    /// Version of the file format.
    pub ir_version: i64,
    /// Functions that nodes of the graph call.
    pub functions: Vec<FunctionProto>,
    /// Whether the facts of inner values are written too. ONNX Runtime fuses more where it knows them, which changes
    /// the last bits of results.
    pub value_info: bool,
}

impl Default for EncodeOptions {
    fn default() -> EncodeOptions {
        EncodeOptions {
            inline_limit: 1024,
            location: "weights.bin".to_string(),
            ir_version: 10,
            functions: Vec::new(),
            value_info: false,
        }
    }
}

/// A model in memory.
#[derive(Debug, Clone)]
pub struct Encoded {
    /// The `ModelProto`.
    pub bytes: Vec<u8>,
    /// Weights that `bytes` only refers to, by name.
    pub external: Vec<(String, Tensor)>,
    /// Names of the graph's outputs, in their order. One that the graph lists twice, or that is an input or a weight,
    /// has a name of its own here.
    pub outputs: Vec<String>,
}

/// Encodes a graph as a `ModelProto`.
///
/// # Errors
/// A graph that is not well formed, a weight whose elements it does not carry, or more than 2 GiB.
pub fn encode(graph: &Graph, opts: &EncodeOptions) -> Result<Encoded, OnnxError> {
    let mut body = body(graph, UsedNames::default())?;
    if opts.value_info {
        body.proto.value_info = inner_facts(graph);
    }
    let head = envelope(graph, opts.ir_version, &opts.functions, &BTreeMap::new());
    let layout = layout(&head, &body, graph, opts.inline_limit, &opts.location)?;
    if layout.len() > MESSAGE_LIMIT {
        return Err(OnnxError::TooLarge { bytes: layout.len() });
    }
    Ok(Encoded {
        bytes: layout.pieces.concat(),
        external: layout.external.into_iter().map(|(name, tensor, _)| (name, tensor)).collect(),
        outputs: body.outputs,
    })
}
