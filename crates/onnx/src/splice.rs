//! Writes single tensors of a model anew, inserts into its graph, and leaves every other byte of it as it is.

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

/// A message in the file: where its length is written, and its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    length: Range<usize>,
    payload: Range<usize>,
}

impl Message {
    fn of(field: &Field) -> Message {
        Message { length: field.length.clone(), payload: field.payload.clone() }
    }

    /// Its new length, if these splices, all of which lie inside, change it.
    fn resized(&self, splices: &[&Splice]) -> Option<Splice> {
        let (gone, come) = splices.iter().fold((0, 0), |(g, c), s| (g + s.range.len(), c + s.len()));
        let mut length = Vec::new();
        put_varint(&mut length, (self.payload.len() - gone + come) as u64);
        (gone != come).then(|| Splice { range: self.length.clone(), head: length.into(), tail: None })
    }
}

/// The graph's message. Where the file has it in several fields, it spans all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GraphPlace {
    message: Message,
    /// What lies between the contents of two fields of the graph: other fields, then a tag and a length.
    gaps: Vec<Range<usize>>,
    /// The other fields in the gaps.
    strangers: Vec<Range<usize>>,
}

impl GraphPlace {
    /// The place of the graph in a model's file; none in a file without a graph.
    ///
    /// # Errors
    /// A malformed field.
    pub(crate) fn of(file: &[u8]) -> Result<Option<GraphPlace>, Malformed> {
        let mut place: Option<GraphPlace> = None;
        for field in fields(file) {
            let field = field?;
            match &mut place {
                _ if field.number != MODEL_GRAPH => {}
                None => {
                    let message = Message::of(&field);
                    place = Some(GraphPlace { message, gaps: Vec::new(), strangers: Vec::new() });
                }
                Some(place) => {
                    let end = std::mem::replace(&mut place.message.payload.end, field.payload.end);
                    place.gaps.push(end..field.payload.start);
                    place.strangers.push(end..field.whole.start);
                }
            }
        }
        Ok(place)
    }
}

/// The splices, sorted, that make the graph one message with the fields inside it behind it, make the initializers and `Constant` nodes called as `edits`
/// says raw data, put `inserted` at the end of the graph, and correct the lengths of the messages around all of that.
///
/// # Errors
/// A malformed field.
pub(crate) fn splices(
    file: &Bytes,
    graph: &GraphPlace,
    edits: &HashMap<String, NewTensor>,
    inserted: &[Bytes],
) -> Result<(Vec<Splice>, Found), Malformed> {
    let mut walk = Walk { edits, splices: Vec::new(), around: BTreeMap::new(), found: Vec::new() };
    for field in fields(file).take_while(|_| !edits.is_empty()) {
        let graph = field?;
        for field in graph.fields().filter(|_| graph.number == MODEL_GRAPH) {
            walk.field(&field?)?;
        }
    }
    let (mut splices, mut found) = walk.finish();
    let verbatim = |range: Range<usize>, head: Bytes| Splice { range, head, tail: None };
    splices.extend(graph.gaps.iter().map(|gap| verbatim(gap.clone(), Bytes::new())));
    let end = graph.message.payload.end;
    splices.extend(inserted.iter().map(|piece| verbatim(end..end, piece.clone())));
    splices.extend(graph.message.resized(&splices.iter().collect::<Vec<_>>()));
    splices.extend(graph.strangers.iter().map(|stranger| verbatim(end..end, file.slice(stranger.clone()))));
    let mut order: Vec<usize> = (0..splices.len()).collect();
    order.sort_by_key(|i| splices[*i].range.start);
    for (_, splice, _) in &mut found {
        *splice = order.iter().position(|i| i == splice).unwrap_or(0);
    }
    Ok((order.into_iter().map(|i| splices[i].clone()).collect(), found))
}

/// What a field of the graph, an initializer or a `Constant` node, is written as when its tensor is written anew with
/// `bytes`; none where it is neither.
///
/// # Errors
/// A malformed field.
pub(crate) fn written_anew(
    field: &Field,
    name: &str,
    new: NewTensor,
    bytes: &[u8],
) -> Result<Option<Vec<u8>>, Malformed> {
    let edits = HashMap::from([(name.to_string(), new)]);
    let mut walk = Walk { edits: &edits, splices: Vec::new(), around: BTreeMap::new(), found: Vec::new() };
    walk.field(field)?;
    let (mut splices, found) = walk.finish();
    splices.sort_by_key(|s| s.range.start);
    let file = field.written();
    let (mut out, mut at) = (Vec::new(), 0);
    for splice in &splices {
        let range = splice.range.start - field.whole.start..splice.range.end - field.whole.start;
        out.extend_from_slice(&file[at..range.start]);
        out.extend_from_slice(&splice.head);
        out.extend_from_slice(if splice.tail.is_some() { bytes } else { &[] });
        at = range.end;
    }
    out.extend_from_slice(&file[at..]);
    Ok((!found.is_empty()).then_some(out))
}

struct Walk<'a> {
    edits: &'a HashMap<String, NewTensor>,
    splices: Vec<Splice>,
    /// Messages below the graph whose length changes, by where they begin.
    around: BTreeMap<usize, Message>,
    found: Found,
}

impl Walk<'_> {
    /// The splices, not sorted, and the tensors in them.
    fn finish(self) -> (Vec<Splice>, Found) {
        let Walk { mut splices, around, found, .. } = self;
        // Inner messages begin behind outer ones: from the back, every length sees all changes inside its message.
        for message in around.into_values().rev() {
            let inside = |s: &&Splice| message.payload.start <= s.range.start && s.range.end <= message.payload.end;
            let inside: Vec<&Splice> = splices.iter().filter(inside).collect();
            splices.extend(message.resized(&inside));
        }
        (splices, found)
    }

    fn field(&mut self, field: &Field) -> Result<(), Malformed> {
        match field.number {
            GRAPH_NODE => self.node(field),
            GRAPH_INITIALIZER => self.initializer(field),
            _ => Ok(()),
        }
    }
}

impl Walk<'_> {
    fn initializer(&mut self, tensor: &Field) -> Result<(), Malformed> {
        let name = tensor.find_text(TENSOR_NAME)?;
        let Some(edit) = self.edits.get(&name) else { return Ok(()) };
        let new = rewrite(tensor, edit)?;
        self.replace(name, new, edit, &[tensor]);
        Ok(())
    }

    fn node(&mut self, node: &Field) -> Result<(), Malformed> {
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
                    self.replace(name.clone(), new, edit, &[node, &attr, &tensor]);
                }
                None => self.replace(name.clone(), attribute(edit), edit, &[node, &attr]),
            }
        }
        Ok(())
    }

    /// Replaces the content of the last of `messages` by `head` and the tensor's bytes.
    fn replace(&mut self, name: String, head: Vec<u8>, edit: &NewTensor, messages: &[&Field]) {
        for message in messages {
            self.around.insert(message.payload.start, Message::of(message));
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
