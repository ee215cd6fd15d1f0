//! Writes single tensors of a model anew and leaves every other byte of it as it is.

use crate::field_number::*;
use crate::proto::attribute_proto::AttributeType;
use crate::wire::{Field, Malformed, fields, put_bytes, put_header, put_integer, put_varint};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

/// Bytes that take the place of a range of the file: `head`, then those of an edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Splice {
    pub(crate) range: Range<usize>,
    pub(crate) head: Bytes,
    pub(crate) tail: Option<Tail>,
}

/// The bytes of an edit, which are made when they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tail {
    /// Position in the list of edits.
    pub(crate) edit: usize,
    pub(crate) len: usize,
}

impl Splice {
    pub(crate) fn len(&self) -> usize {
        self.head.len() + self.tail.map_or(0, |t| t.len)
    }
}

/// A tensor to be written anew.
pub(crate) struct NewTensor {
    pub(crate) tail: Tail,
    /// The ONNX type code and the shape, for a `Constant` that has neither.
    pub(crate) data_type: i32,
    pub(crate) dims: Vec<usize>,
}

/// The tensors found, by name, with where their bytes lie inside the splice of that number.
type Found = Vec<(String, usize, Range<usize>)>;

/// Finds the initializers and `Constant` nodes called as `edits` says, and gives the splices, sorted, that make them
/// raw data and correct the lengths of the messages around them.
///
/// # Errors
/// A malformed field.
pub(crate) fn reencode(file: &Bytes, edits: &HashMap<String, NewTensor>) -> Result<(Vec<Splice>, Found), Malformed> {
    let mut walk = Walk { edits, splices: Vec::new(), around: BTreeMap::new(), found: Vec::new() };
    for field in fields(file) {
        let graph = field?;
        if graph.number != MODEL_GRAPH {
            continue;
        }
        for field in graph.fields() {
            let field = field?;
            match field.number {
                GRAPH_NODE => walk.node(&graph, &field)?,
                GRAPH_INITIALIZER => walk.initializer(&graph, &field)?,
                _ => {}
            }
        }
    }
    let Walk { mut splices, around, mut found, .. } = walk;
    // Inner messages begin behind outer ones: from the back, every length sees all changes inside its message.
    for (_, message) in around.into_iter().rev() {
        let inside = |s: &&Splice| message.payload.start <= s.range.start && s.range.end <= message.payload.end;
        let (gone, come) =
            splices.iter().filter(inside).fold((0, 0), |(gone, come), s| (gone + s.range.len(), come + s.len()));
        let mut length = Vec::new();
        put_varint(&mut length, (message.payload.len() - gone + come) as u64);
        splices.push(Splice { range: message.length, head: length.into(), tail: None });
    }
    let mut order: Vec<usize> = (0..splices.len()).collect();
    order.sort_by_key(|i| splices[*i].range.start);
    for (_, splice, _) in &mut found {
        *splice = order.iter().position(|i| i == splice).unwrap_or(0);
    }
    Ok((order.into_iter().map(|i| splices[i].clone()).collect(), found))
}

struct Walk<'a> {
    edits: &'a HashMap<String, NewTensor>,
    splices: Vec<Splice>,
    /// Messages whose length changes, by where they begin.
    around: BTreeMap<usize, Field<'a>>,
    found: Found,
}

impl<'a> Walk<'a> {
    fn initializer(&mut self, graph: &Field<'a>, tensor: &Field<'a>) -> Result<(), Malformed> {
        let name = tensor.find_text(TENSOR_NAME)?;
        let Some(edit) = self.edits.get(&name) else { return Ok(()) };
        let new = rewrite(tensor, edit)?;
        self.replace(name, new, edit, &[graph, tensor]);
        Ok(())
    }

    fn node(&mut self, graph: &Field<'a>, node: &Field<'a>) -> Result<(), Malformed> {
        if node.find_text(NODE_OP_TYPE)? != "Constant" {
            return Ok(());
        }
        let name = node.find_text(NODE_OUTPUT)?;
        let Some(edit) = self.edits.get(&name) else { return Ok(()) };
        for field in node.fields() {
            let attr = field?;
            if attr.number != NODE_ATTRIBUTE {
                continue;
            }
            match attr.find(ATTRIBUTE_TENSOR)? {
                Some(tensor) => {
                    let new = rewrite(&tensor, edit)?;
                    self.replace(name.clone(), new, edit, &[graph, node, &attr, &tensor]);
                }
                None => self.replace(name.clone(), attribute(edit), edit, &[graph, node, &attr]),
            }
        }
        Ok(())
    }

    /// Replaces the content of the last of `messages` by `head` and the tensor's bytes.
    fn replace(&mut self, name: String, head: Vec<u8>, edit: &NewTensor, messages: &[&Field<'a>]) {
        for message in messages {
            self.around.insert(message.payload.start, (*message).clone());
        }
        if let Some(last) = messages.last() {
            self.found.push((name, self.splices.len(), head.len()..head.len() + edit.tail.len));
            self.splices.push(Splice { range: last.payload.clone(), head: head.into(), tail: Some(edit.tail) });
        }
    }
}

/// The tensor's own fields, unknown ones included, with raw data instead of any other; its bytes follow.
fn rewrite(tensor: &Field, edit: &NewTensor) -> Result<Vec<u8>, Malformed> {
    let mut new = Vec::new();
    tensor.put_without(&mut new, &TENSOR_ELEMENTS)?;
    put_header(&mut new, TENSOR_RAW_DATA, edit.tail.len as u64);
    Ok(new)
}

/// `value_float` and the like become `value`; the tensor's bytes follow.
fn attribute(edit: &NewTensor) -> Vec<u8> {
    let mut tensor = Vec::new();
    for dim in &edit.dims {
        put_integer(&mut tensor, TENSOR_DIMS, *dim as u64);
    }
    put_integer(&mut tensor, TENSOR_DATA_TYPE, edit.data_type as u64);
    put_header(&mut tensor, TENSOR_RAW_DATA, edit.tail.len as u64);

    let mut attr = Vec::new();
    put_bytes(&mut attr, ATTRIBUTE_NAME, b"value");
    put_integer(&mut attr, ATTRIBUTE_TYPE, AttributeType::Tensor as u64);
    put_header(&mut attr, ATTRIBUTE_TENSOR, (tensor.len() + edit.tail.len) as u64);
    attr.extend(tensor);
    attr
}
