//! Why a folder or a file is not a model.

use lorac_ir::{Fact, PatchError};
use lorac_ops::InferError;
use safetensors::SafeTensorError;
use std::path::PathBuf;

/// Why a folder or a file is not a model.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The configuration is not a JSON object.
    #[error("{} is not a JSON object: {source}", file.display())]
    Json {
        /// The file.
        file: PathBuf,
        /// Where it stops being one.
        source: serde_json::Error,
    },
    /// No builder knows the model type.
    #[error("{}: model_type `{got}` is not known{}; known: {}", file.display(), hint(nearest), known.join(", "))]
    UnknownType {
        /// The configuration.
        file: PathBuf,
        /// Its model type.
        got: String,
        /// The known type with the nearest name, if one is near.
        nearest: Option<String>,
        /// All known types.
        known: Vec<String>,
    },
    /// Fields of the configuration are missing, have the wrong type or contradict each other.
    #[error("{}: {}", file.display(), list(faults))]
    Config {
        /// The configuration.
        file: PathBuf,
        /// All that is wrong.
        faults: Vec<Fault>,
    },
    /// The weight file is truncated or malformed.
    #[error("{} is not a safetensors file: {source}", file.display())]
    Safetensors {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: SafeTensorError,
    },
    /// The GGUF file is truncated or malformed, or of a kind that is not known.
    #[error("{} is not a GGUF file that can be read: {what}", file.display())]
    Gguf {
        /// The file.
        file: PathBuf,
        /// What is wrong with it, and where.
        what: String,
    },
    /// The GGUF file's tokenizer is malformed, or of a kind that is not known.
    #[error("{}: the tokenizer cannot be read: {what}", file.display())]
    Tokenizer {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Tensors are missing or do not have the shape that the configuration asks for.
    #[error("{}: {}", file.display(), tensors(missing, wrong))]
    Tensors {
        /// The weight file.
        file: PathBuf,
        /// Every tensor that it lacks.
        missing: Vec<String>,
        /// Every tensor that does not fit.
        wrong: Vec<ShapeMismatch>,
    },
    /// A node of the model contradicts its operands.
    #[error("the model's graph is inconsistent: {0}")]
    Node(#[from] InferError),
    /// Two values of the model have one name.
    #[error("the model's graph is inconsistent: {0}")]
    Graph(#[from] PatchError),
}

impl ModelError {
    /// A stable name of the fault, for programs and for looking it up: `model::...`, or that of the
    /// inference or the patch that failed.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Read { .. } => "model::unreadable",
            Self::Json { .. } => "model::json",
            Self::UnknownType { .. } => "model::unknown_type",
            Self::Config { .. } => "model::config",
            Self::Safetensors { .. } => "model::safetensors",
            Self::Gguf { .. } => "model::gguf",
            Self::Tokenizer { .. } => "model::tokenizer",
            Self::Tensors { .. } => "model::tensors",
            Self::Node(e) => e.code(),
            Self::Graph(e) => e.code(),
        }
    }
}

/// A field of the configuration that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {got}, expected {want}")]
pub struct Fault {
    /// Its name.
    pub field: String,
    /// What fits.
    pub want: String,
    /// Its value.
    pub got: String,
}

impl Fault {
    /// A stable name of the fault, for programs and for looking it up: `model::config`.
    pub fn code(&self) -> &'static str {
        "model::config"
    }
}

/// A tensor of the wrong shape or element type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{tensor} is {got}, expected {want}")]
pub struct ShapeMismatch {
    /// Its name.
    pub tensor: String,
    /// What fits.
    pub want: Fact,
    /// What the file has.
    pub got: Fact,
}

impl ShapeMismatch {
    /// A stable name of the fault, for programs and for looking it up: `model::tensors`.
    pub fn code(&self) -> &'static str {
        "model::tensors"
    }
}

fn hint(nearest: &Option<String>) -> String {
    nearest.as_ref().map_or_else(String::new, |name| format!(", nearest is `{name}`"))
}

fn list(items: &[impl ToString]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn tensors(missing: &[String], wrong: &[ShapeMismatch]) -> String {
    let absent = (!missing.is_empty()).then(|| format!("missing {}", missing.join(", ")));
    let mismatches = (!wrong.is_empty()).then(|| list(wrong));
    absent.into_iter().chain(mismatches).collect::<Vec<_>>().join("; ")
}
