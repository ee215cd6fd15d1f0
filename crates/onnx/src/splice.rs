//! Writes single tensors of a model anew and leaves every other byte of it as it is.

use crate::proto::attribute_proto::AttributeType;
use crate::wire::{Field, fields, put_header, put_varint};
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
/// The offset of a malformed field.
pub(crate) fn reencode(file: &Bytes, edits: &HashMap<String, NewTensor>) -> Result<(Vec<Splice>, Found), usize> {
    let mut walk = Walk { file, edits, splices: Vec::new(), around: BTreeMap::new(), found: Vec::new() };
    for field in fields(file, 0..file.len()) {
        let graph = field?;
        if graph.number != 7 {
            continue;
        }
        for field in fields(file, graph.payload.clone()) {
            let field = field?;
            match field.number {
                1 => walk.node(&graph, &field)?,
                5 => walk.initializer(&graph, &field)?,
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
    file: &'a Bytes,
    edits: &'a HashMap<String, NewTensor>,
    splices: Vec<Splice>,
    /// Messages whose length changes, by where they begin.
    around: BTreeMap<usize, Field>,
    found: Found,
}

impl Walk<'_> {
    fn initializer(&mut self, graph: &Field, tensor: &Field) -> Result<(), usize> {
        let name = text(self.file, tensor, 8)?;
        let Some(edit) = self.edits.get(&name) else { return Ok(()) };
        let new = rewrite(self.file, tensor, edit)?;
        self.replace(name, new, edit, &[graph, tensor]);
        Ok(())
    }

    fn node(&mut self, graph: &Field, node: &Field) -> Result<(), usize> {
        if text(self.file, node, 4)? != "Constant" {
            return Ok(());
        }
        let name = text(self.file, node, 2)?;
        let Some(edit) = self.edits.get(&name) else { return Ok(()) };
        for field in fields(self.file, node.payload.clone()) {
            let attr = field?;
            if attr.number != 5 {
                continue;
            }
            match find(self.file, &attr, 5)? {
                Some(tensor) => {
                    let new = rewrite(self.file, &tensor, edit)?;
                    self.replace(name.clone(), new, edit, &[graph, node, &attr, &tensor]);
                }
                None => self.replace(name.clone(), attribute(edit), edit, &[graph, node, &attr]),
            }
        }
        Ok(())
    }

    /// Replaces the content of the last of `messages` by `head` and the tensor's bytes.
    fn replace(&mut self, name: String, head: Vec<u8>, edit: &NewTensor, messages: &[&Field]) {
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
fn rewrite(file: &[u8], tensor: &Field, edit: &NewTensor) -> Result<Vec<u8>, usize> {
    const DATA: [u32; 9] = [4, 5, 6, 7, 9, 10, 11, 13, 14];
    let mut new = Vec::new();
    for field in fields(file, tensor.payload.clone()) {
        let field = field?;
        if !DATA.contains(&field.number) {
            new.extend_from_slice(&file[field.whole]);
        }
    }
    put_header(&mut new, 9, edit.tail.len as u64);
    Ok(new)
}

/// `value_float` and the like become `value`; the tensor's bytes follow.
fn attribute(edit: &NewTensor) -> Vec<u8> {
    let mut tensor = Vec::new();
    for dim in &edit.dims {
        put_varint(&mut tensor, 1 << 3);
        put_varint(&mut tensor, *dim as u64);
    }
    put_varint(&mut tensor, 2 << 3);
    put_varint(&mut tensor, edit.data_type as u64);
    put_header(&mut tensor, 9, edit.tail.len as u64);

    let mut attr = Vec::new();
    put_header(&mut attr, 1, 5);
    attr.extend_from_slice(b"value");
    put_varint(&mut attr, 20 << 3);
    put_varint(&mut attr, AttributeType::Tensor as u64);
    put_header(&mut attr, 5, (tensor.len() + edit.tail.len) as u64);
    attr.extend(tensor);
    attr
}

/// The last field of that number, as protobuf wants it.
pub(crate) fn find(file: &[u8], message: &Field, number: u32) -> Result<Option<Field>, usize> {
    let mut last = None;
    for field in fields(file, message.payload.clone()) {
        let field = field?;
        if field.number == number {
            last = Some(field);
        }
    }
    Ok(last)
}

/// The text of that field; empty where there is none.
pub(crate) fn text(file: &[u8], message: &Field, number: u32) -> Result<String, usize> {
    let field = find(file, message, number)?;
    Ok(field.map(|f| String::from_utf8_lossy(&file[f.payload]).into_owned()).unwrap_or_default())
}
