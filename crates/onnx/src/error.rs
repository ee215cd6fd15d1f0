//! What can be wrong with a file, a graph to be written, or a place to write to.

use crate::Problem;
use crate::map::NOT_REGULAR;
use lorac_ir::{DType, ValueId, Violation};
use std::io;
use std::path::{Path, PathBuf};

/// Why a model cannot be read, written or patched.
#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    /// The file cannot be opened or mapped.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A folder, a pipe or a device.
    #[error("cannot read {path}: it is not a regular file, but a folder, a pipe or a device")]
    NotRegular {
        /// The path.
        path: PathBuf,
    },
    /// The file has no bytes.
    #[error("{path} is empty")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The bytes are not a protobuf message, or a truncated one.
    #[error("{path} is not an ONNX model, or is truncated: {source}")]
    Garbage {
        /// The file.
        path: PathBuf,
        /// What the protobuf decoder says.
        source: prost::DecodeError,
    },
    /// Graphs inside nodes of graphs inside nodes, further than protobuf messages are followed.
    #[error("{path} nests graphs too deeply: graphs inside nodes are read to a depth of {limit}")]
    Nesting {
        /// The file.
        path: PathBuf,
        /// How deep graphs can be nested.
        limit: usize,
    },
    /// The bytes at an offset are not a protobuf field that lorac can step over.
    #[error("{path} has a malformed field at byte {at}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Offset of the field.
        at: usize,
    },
    /// A protobuf message without a graph.
    #[error("{path} holds no graph")]
    NoGraph {
        /// The file.
        path: PathBuf,
    },
    /// A version of the file format that lorac does not know.
    #[error("{path} has IR version {got}; versions {min} to {max} can be read")]
    IrVersion {
        /// The file.
        path: PathBuf,
        /// Its version; 0 where it declares none.
        got: i64,
        /// The oldest that can be read.
        min: i64,
        /// The newest that can be read.
        max: i64,
    },
    /// A version of the standard operator set that lorac does not know.
    #[error(
        "{path} uses opset {got} of the standard operators; opsets {min} to {max} can be read. \
         Convert it: onnx.save(onnx.version_converter.convert_version(onnx.load(path), {min}), path)"
    )]
    Opset {
        /// The file.
        path: PathBuf,
        /// Its version; 0 where it declares none.
        got: i64,
        /// The oldest that can be read.
        min: i64,
        /// The newest that can be read.
        max: i64,
    },
    /// The model breaks rules of ONNX; all of its problems.
    #[error("{path} is not a valid model:{}", list(problems))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Everything that was found.
        problems: Vec<Problem>,
    },
    /// A file cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The folder to write into does not exist.
    #[error("cannot write {path}: its folder does not exist")]
    NoFolder {
        /// The file to be written.
        path: PathBuf,
    },
    /// The file to be written would lie outside its folder, behind a link.
    #[error("cannot write {path}: it lies outside the folder of the model")]
    OutsideFolder {
        /// The file to be written.
        path: PathBuf,
    },
    /// Writing would destroy the model that is read.
    #[error("{path} is a file of the model itself: choose another place for the result")]
    Overwrites {
        /// The file.
        path: PathBuf,
    },
    /// The file is not the one that was loaded.
    #[error("{path} was changed after it was loaded: leave the model's files alone while lorac works with them")]
    ChangedOnDisk {
        /// The file.
        path: PathBuf,
    },
    /// One protobuf message holds at most 2 GiB.
    #[error("the model needs {bytes} bytes in one message; the limit is 2147483647")]
    TooLarge {
        /// Size of the message.
        bytes: u64,
    },
    /// Elements whose bytes the graph does not carry.
    #[error("`{weight}` has {dtype} elements, which only its own file holds: it cannot be written again")]
    OpaqueTensor {
        /// The weight or attribute.
        weight: String,
        /// Its element type.
        dtype: DType,
    },
    /// An attribute that is not what the graph says it is.
    #[error("attribute `{attr}` of {node} cannot be written: {source}")]
    BadAttr {
        /// The node.
        node: String,
        /// The attribute.
        attr: String,
        /// What the protobuf decoder says.
        source: prost::DecodeError,
    },
    /// An attribute that refers to one of the function around it, outside of any function.
    #[error("attribute `{attr}` of {node} refers to `{outer}` of a function: inline the function first")]
    UnboundAttr {
        /// The node.
        node: String,
        /// The attribute.
        attr: String,
        /// The attribute of the function.
        outer: String,
    },
    /// The graph to be written is not well formed.
    #[error("the graph is not well formed:{}", list(.0))]
    BadGraph(Vec<Violation>),
    /// Nodes to be written that wait for each other, subgraphs considered.
    #[error("{node} depends on itself")]
    Cycle {
        /// One of the nodes.
        node: String,
    },
    /// A file name that ONNX cannot hold.
    #[error("{path} is not a UTF-8 file name")]
    BadName {
        /// The path.
        path: PathBuf,
    },
    /// An edit of something that is not a weight of the file.
    #[error("{weight} is not a weight of {path}")]
    NotAWeight {
        /// The model.
        path: PathBuf,
        /// What was to be edited.
        weight: ValueId,
    },
    /// Two edits of one weight.
    #[error("`{weight}` is edited twice")]
    EditedTwice {
        /// The weight.
        weight: String,
    },
    /// New bytes of another length.
    #[error("`{weight}` has {want} bytes, its replacement {got}")]
    Length {
        /// The weight.
        weight: String,
        /// Its length.
        want: usize,
        /// Length of the replacement.
        got: usize,
    },
    /// The new bytes of a weight cannot be made.
    #[error("cannot replace `{weight}`: {source}")]
    Edit {
        /// The weight.
        weight: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Two weights lie on the same bytes of the file, and only one is to change.
    #[error("`{weight}` shares its bytes with `{other}`: changing one would change both")]
    SharedBytes {
        /// The weight to be changed.
        weight: String,
        /// The other one.
        other: String,
    },
    /// An appended graph that does not fit the model; all that was found.
    #[error("the appended nodes do not fit the model:{}", list(problems))]
    Appendix {
        /// Everything that was found.
        problems: Vec<Problem>,
    },
}

impl OnnxError {
    /// The stable code of the error, for messages and for those who look it up:
    ///
    /// | code | error |
    /// |---|---|
    /// | `onnx::read` | a file that cannot be read |
    /// | `onnx::not_regular` | a folder, a pipe or a device in place of a file |
    /// | `onnx::empty` | a file without bytes |
    /// | `onnx::garbage` | bytes that are not a protobuf message |
    /// | `onnx::malformed` | a field that cannot be stepped over |
    /// | `onnx::no_graph` | a model without a graph |
    /// | `onnx::ir_version` | an unknown version of the file format |
    /// | `onnx::opset` | an unknown version of the standard operators |
    /// | `onnx::invalid` | a model that breaks rules of ONNX |
    /// | `onnx::write` | a file that cannot be written |
    /// | `onnx::no_folder` | a folder that does not exist |
    /// | `onnx::outside_folder` | a place outside the folder of the model |
    /// | `onnx::overwrites` | a place that is a file of the model itself |
    /// | `onnx::changed_on_disk` | a file that changed after it was loaded |
    /// | `onnx::too_large` | more than 2 GiB in one message |
    /// | `onnx::opaque_tensor` | elements that only their own file holds |
    /// | `onnx::bad_attr` | an attribute that is not what the graph says |
    /// | `onnx::unbound_attr` | an attribute that refers to a function |
    /// | `onnx::bad_graph` | a graph that is not well formed |
    /// | `onnx::cycle` | nodes that wait for each other |
    /// | `onnx::bad_name` | a file name that is not UTF-8 |
    /// | `onnx::not_a_weight` | an edit of something that is not a weight |
    /// | `onnx::edited_twice` | two edits of one weight |
    /// | `onnx::length` | new bytes of another length |
    /// | `onnx::edit` | new bytes that cannot be made |
    /// | `onnx::shared_bytes` | bytes that another weight has too |
    /// | `onnx::appendix` | an appended graph that does not fit |
    pub fn code(&self) -> &'static str {
        match self {
            OnnxError::Read { .. } => "onnx::read",
            OnnxError::NotRegular { .. } => "onnx::not_regular",
            OnnxError::Empty { .. } => "onnx::empty",
            OnnxError::Garbage { .. } => "onnx::garbage",
            OnnxError::Nesting { .. } => "onnx::nesting",
            OnnxError::Malformed { .. } => "onnx::malformed",
            OnnxError::NoGraph { .. } => "onnx::no_graph",
            OnnxError::IrVersion { .. } => "onnx::ir_version",
            OnnxError::Opset { .. } => "onnx::opset",
            OnnxError::Invalid { .. } => "onnx::invalid",
            OnnxError::Write { .. } => "onnx::write",
            OnnxError::NoFolder { .. } => "onnx::no_folder",
            OnnxError::OutsideFolder { .. } => "onnx::outside_folder",
            OnnxError::Overwrites { .. } => "onnx::overwrites",
            OnnxError::ChangedOnDisk { .. } => "onnx::changed_on_disk",
            OnnxError::TooLarge { .. } => "onnx::too_large",
            OnnxError::OpaqueTensor { .. } => "onnx::opaque_tensor",
            OnnxError::BadAttr { .. } => "onnx::bad_attr",
            OnnxError::UnboundAttr { .. } => "onnx::unbound_attr",
            OnnxError::BadGraph(..) => "onnx::bad_graph",
            OnnxError::Cycle { .. } => "onnx::cycle",
            OnnxError::BadName { .. } => "onnx::bad_name",
            OnnxError::NotAWeight { .. } => "onnx::not_a_weight",
            OnnxError::EditedTwice { .. } => "onnx::edited_twice",
            OnnxError::Length { .. } => "onnx::length",
            OnnxError::Edit { .. } => "onnx::edit",
            OnnxError::SharedBytes { .. } => "onnx::shared_bytes",
            OnnxError::Appendix { .. } => "onnx::appendix",
        }
    }

    /// The file that it is about, for those who write one beside its place and let it take the place when it is whole.
    pub fn path_mut(&mut self) -> Option<&mut PathBuf> {
        match self {
            OnnxError::Read { path, .. }
            | OnnxError::NotRegular { path }
            | OnnxError::Empty { path }
            | OnnxError::Garbage { path, .. }
            | OnnxError::Nesting { path, .. }
            | OnnxError::Malformed { path, .. }
            | OnnxError::NoGraph { path }
            | OnnxError::IrVersion { path, .. }
            | OnnxError::Opset { path, .. }
            | OnnxError::Invalid { path, .. }
            | OnnxError::Write { path, .. }
            | OnnxError::NoFolder { path }
            | OnnxError::OutsideFolder { path }
            | OnnxError::Overwrites { path }
            | OnnxError::ChangedOnDisk { path }
            | OnnxError::BadName { path }
            | OnnxError::NotAWeight { path, .. } => Some(path),
            OnnxError::TooLarge { .. }
            | OnnxError::OpaqueTensor { .. }
            | OnnxError::BadAttr { .. }
            | OnnxError::UnboundAttr { .. }
            | OnnxError::BadGraph(..)
            | OnnxError::Cycle { .. }
            | OnnxError::EditedTwice { .. }
            | OnnxError::Length { .. }
            | OnnxError::Edit { .. }
            | OnnxError::SharedBytes { .. }
            | OnnxError::Appendix { .. } => None,
        }
    }
}

/// Why a file cannot be opened.
pub(crate) fn unreadable(path: &Path, source: io::Error) -> OnnxError {
    let path = path.to_path_buf();
    match source.kind() {
        NOT_REGULAR => OnnxError::NotRegular { path },
        _ => OnnxError::Read { path, source },
    }
}

fn list<T: std::fmt::Display>(items: &[T]) -> String {
    items.iter().map(|p| format!("\n  {p}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_stable() {
        let codes = [
            OnnxError::TooLarge { bytes: 1 << 31 }.code(),
            OnnxError::BadGraph(Vec::new()).code(),
            OnnxError::EditedTwice { weight: "w".into() }.code(),
        ];
        assert_eq!(codes, ["onnx::too_large", "onnx::bad_graph", "onnx::edited_twice"]);
    }
}
