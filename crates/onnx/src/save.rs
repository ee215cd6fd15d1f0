//! Writes a graph as a file.

use crate::OnnxError;
use crate::body::{UsedNames, body, inner_facts};
use crate::layout::{Layout, MESSAGE_LIMIT, envelope, layout};
use crate::output::Output;
use crate::proto::FunctionProto;
use lorac_ir::Graph;
use std::collections::BTreeMap;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

/// How a graph is saved.
#[derive(Debug, Clone)]
pub struct SaveOptions {
    /// Models of more bytes keep their weights in `<file name>.data` beside them; 0 asks for that in any case.
    pub external_threshold: u64,
    /// Version of the file format.
    pub ir_version: i64,
    /// Functions that nodes of the graph call.
    pub functions: Vec<FunctionProto>,
    /// The model's key-value pairs.
    pub metadata: BTreeMap<String, String>,
}

impl Default for SaveOptions {
    fn default() -> SaveOptions {
        let (functions, metadata) = (Vec::new(), BTreeMap::new());
        SaveOptions { external_threshold: MESSAGE_LIMIT, ir_version: 10, functions, metadata }
    }
}

/// Smaller weights stay in the file even when the others leave it.
const SMALL: usize = 1024;

/// Writes `graph` to `path`, without gathering the weights in memory. The file appears whole or not at all; with
/// external weights, each of the two files does, the weights first.
///
/// # Errors
/// As [`crate::encode`], and files that cannot be written.
pub fn save(graph: &Graph, path: impl AsRef<Path>, opts: &SaveOptions) -> Result<(), OnnxError> {
    let path = path.as_ref();
    let mut body = body(graph, UsedNames::default())?;
    body.proto.value_info = inner_facts(graph);
    let head = envelope(graph, opts.ir_version, &opts.functions, &opts.metadata);

    let mut output = Output::default();
    let mut laid_out = layout(&head, &body, graph, usize::MAX, "")?;
    if laid_out.len() > opts.external_threshold.min(MESSAGE_LIMIT) {
        let name = path.file_name().and_then(|n| n.to_str());
        let name = name.ok_or_else(|| OnnxError::BadName { path: path.to_path_buf() })?;
        let data = format!("{name}.data");
        laid_out = layout(&head, &body, graph, SMALL, &data)?;
        if laid_out.len() > MESSAGE_LIMIT {
            return Err(OnnxError::TooLarge { bytes: laid_out.len() });
        }
        if !laid_out.external.is_empty() {
            write_data(&mut output, &path.with_file_name(data), &laid_out)?;
        }
    }
    output.write(path, |file| laid_out.pieces.iter().try_for_each(|piece| file.write_all(piece)))?;
    output.commit()
}

fn write_data(output: &mut Output, path: &Path, layout: &Layout) -> Result<(), OnnxError> {
    output.write(path, |file| {
        for (_, tensor, offset) in &layout.external {
            file.seek(SeekFrom::Start(*offset))?;
            file.write_all(tensor.bytes())?;
        }
        Ok(())
    })
}
