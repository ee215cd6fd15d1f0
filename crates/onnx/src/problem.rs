//! What can be wrong with a model that was read.

use lorac_ir::TensorError;

/// One thing wrong with a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Two values of one name.
    #[error("`{0}` is defined twice")]
    DuplicateValue(String),
    /// A node, or a subgraph in it, reads a name that nothing defines.
    #[error("node `{node}` reads `{value}`, which nothing defines")]
    Undefined {
        /// The reading node.
        node: String,
        /// The name.
        value: String,
    },
    /// A graph output that nothing defines.
    #[error("nothing computes the output `{0}`")]
    UncomputedOutput(String),
    /// A node that waits for its own result.
    #[error("node `{0}` depends on itself")]
    Cycle(String),
    /// A node without an operator.
    #[error("node `{0}` names no operator")]
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
    #[error("`{value}` has a dimension of {dim}")]
    NegativeDim {
        /// The value.
        value: String,
        /// The dimension.
        dim: i64,
    },
    /// Two functions of one name.
    #[error("the function {0} is defined twice")]
    DuplicateFunction(String),
    /// Metadata that is to be added under a key that the model has.
    #[error("the model has metadata `{0}` already")]
    DuplicateMetadata(String),
    /// Something wrong inside a function.
    #[error("function {function}: {problem}")]
    Function {
        /// The function.
        function: String,
        /// What is wrong.
        problem: Box<Problem>,
    },
    /// A tensor that cannot be read.
    #[error("tensor `{tensor}`: {fault}")]
    Tensor {
        /// The weight, or node and attribute.
        tensor: String,
        /// What is wrong.
        fault: TensorFault,
    },
    /// Two versions of one operator set.
    #[error("versions {a} and {b} of operator set `{domain}` are both imported")]
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
    #[error("its data lies in `{0}`, but the model is not read from a file")]
    NoDirectory(String),
    /// An absolute path, or one with `..`.
    #[error("external data at `{0}`: the path must be relative, without `..`")]
    NotRelative(String),
    /// A link leads out of the model's directory, and not into that where the model's own link leads.
    #[error("external data at `{0}`: a link leads out of the model's folder")]
    Outside(String),
    /// The file cannot be opened.
    #[error("external data at `{location}`: {why}")]
    Unreadable {
        /// The file, as the model names it.
        location: String,
        /// What the system says.
        why: String,
    },
    /// A folder, device or pipe.
    #[error("external data at `{0}`: not a regular file")]
    NotRegular(String),
    /// A file with other names, which may lie outside the directory.
    #[error("external data at `{location}`: the file has {links} hard links")]
    HardLinked {
        /// The file, as the model names it.
        location: String,
        /// Number of its names.
        links: u64,
    },
    /// The model's own file.
    #[error("external data at `{0}`: this is the model itself")]
    IsTheModel(String),
    /// An offset or length that is not a decimal number.
    #[error("external data: {key} is `{text}`, not a number of bytes")]
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
    #[error("external data at `{location}`: {length} bytes at {offset} are beyond the file's {file}")]
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
