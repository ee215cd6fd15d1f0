//! What can be wrong with a file, a graph to be written, or a place to write to.

use lorac_ir::{DType, TensorError, ValueId, Violation};
use std::io;
use std::path::PathBuf;

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
    #[error("{path} was changed after it was loaded")]
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
    #[error("'{weight}' has {dtype} elements, which only its own file holds: it cannot be written again")]
    OpaqueTensor {
        /// The weight or attribute.
        weight: String,
        /// Its element type.
        dtype: DType,
    },
    /// An attribute that is not what the graph says it is.
    #[error("attribute '{attr}' of {node} cannot be written: {source}")]
    BadAttr {
        /// The node.
        node: String,
        /// The attribute.
        attr: String,
        /// What the protobuf decoder says.
        source: prost::DecodeError,
    },
    /// An attribute that refers to one of the function around it, outside of any function.
    #[error("attribute '{attr}' of {node} refers to '{outer}' of a function: inline the function first")]
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
    #[error("'{weight}' is edited twice")]
    EditedTwice {
        /// The weight.
        weight: String,
    },
    /// New bytes of another length.
    #[error("'{weight}' has {want} bytes, its replacement {got}")]
    Length {
        /// The weight.
        weight: String,
        /// Its length.
        want: usize,
        /// Length of the replacement.
        got: usize,
    },
    /// The new bytes of a weight cannot be made.
    #[error("cannot replace '{weight}': {source}")]
    Edit {
        /// The weight.
        weight: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Two weights lie on the same bytes of the file, and only one is to change.
    #[error("'{weight}' shares its bytes with '{other}': changing one would change both")]
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

fn list<T: std::fmt::Display>(items: &[T]) -> String {
    items.iter().map(|p| format!("\n  {p}")).collect()
}

/// One thing wrong with a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Two values of one name.
    #[error("'{0}' is defined twice")]
    DuplicateValue(String),
    /// A node, or a subgraph in it, reads a name that nothing defines.
    #[error("node '{node}' reads '{value}', which nothing defines")]
    Undefined {
        /// The reading node.
        node: String,
        /// The name.
        value: String,
    },
    /// A graph output that nothing defines.
    #[error("nothing computes the output '{0}'")]
    UncomputedOutput(String),
    /// A node that waits for its own result.
    #[error("node '{0}' depends on itself")]
    Cycle(String),
    /// A node without an operator.
    #[error("node '{0}' names no operator")]
    NoOperator(String),
    /// A graph input or initializer without a name.
    #[error("{what} {index} has no name")]
    Unnamed {
        /// `input` or `initializer`.
        what: &'static str,
        /// Its position.
        index: usize,
    },
    /// A declared dimension below -1 (-1 is read as unknown).
    #[error("'{value}' has a dimension of {dim}")]
    NegativeDim {
        /// The value.
        value: String,
        /// The dimension.
        dim: i64,
    },
    /// Two functions of one name.
    #[error("the function {0} is defined twice")]
    DuplicateFunction(String),
    /// Something wrong inside a function.
    #[error("function {function}: {problem}")]
    Function {
        /// The function.
        function: String,
        /// What is wrong.
        problem: Box<Problem>,
    },
    /// A tensor that cannot be read.
    #[error("tensor '{tensor}': {fault}")]
    Tensor {
        /// The weight, or node and attribute.
        tensor: String,
        /// What is wrong.
        fault: TensorFault,
    },
    /// Two versions of one operator set.
    #[error("versions {a} and {b} of operator set '{domain}' are both imported")]
    OpsetConflict {
        /// The domain; empty for the standard.
        domain: String,
        /// One version.
        a: i64,
        /// The other one.
        b: i64,
    },
}

/// What is wrong with a tensor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TensorFault {
    /// No element type.
    #[error("it has no element type")]
    Untyped,
    /// A dimension below zero.
    #[error("it has a dimension of {0}")]
    NegativeDim(i64),
    /// A part of a larger tensor, which no tool writes.
    #[error("it is a segment of another tensor")]
    Segmented,
    /// The data does not fill the shape, or the shape no address space.
    #[error(transparent)]
    Size(#[from] TensorError),
    /// The data lies in another file, where it cannot be read.
    #[error(transparent)]
    External(#[from] ExternalFault),
}

/// What is wrong with a reference to external data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExternalFault {
    /// No file is named.
    #[error("its external data names no file")]
    NoLocation,
    /// A model that is not a file has no directory to look into.
    #[error("its data lies in '{0}', but the model is not read from a file")]
    NoDirectory(String),
    /// An absolute path, or one with `..`.
    #[error("external data at '{0}': the path must be relative, without '..'")]
    NotRelative(String),
    /// A link leads out of the model's directory.
    #[error("external data at '{0}': a link leads out of the model's folder")]
    Outside(String),
    /// The file cannot be opened.
    #[error("external data at '{location}': {why}")]
    Unreadable {
        /// The file, as the model names it.
        location: String,
        /// What the system says.
        why: String,
    },
    /// A folder, device or pipe.
    #[error("external data at '{0}': not a regular file")]
    NotRegular(String),
    /// A file with other names, which may lie outside the directory.
    #[error("external data at '{location}': the file has {links} hard links")]
    HardLinked {
        /// The file, as the model names it.
        location: String,
        /// Number of its names.
        links: u64,
    },
    /// The model's own file.
    #[error("external data at '{0}': this is the model itself")]
    IsTheModel(String),
    /// An offset or length that is not a decimal number.
    #[error("external data: {key} is '{text}', not a number of bytes")]
    BadNumber {
        /// `offset` or `length`.
        key: String,
        /// What it says.
        text: String,
    },
    /// A declared length that is not the tensor's.
    #[error("external data: {got} bytes are declared, the shape needs {want}")]
    Length {
        /// Bytes that the shape needs.
        want: u64,
        /// Bytes declared.
        got: u64,
    },
    /// Bytes beyond the end of the file.
    #[error("external data at '{location}': {length} bytes at {offset} are beyond the file's {file}")]
    OutOfRange {
        /// The file, as the model names it.
        location: String,
        /// First byte.
        offset: u64,
        /// Number of bytes.
        length: u64,
        /// Size of the file.
        file: u64,
    },
}
