//! What ends a training.

use crate::Kept;
use lorac_data::DataError;
use lorac_ir::TensorError;
use lorac_onnx::OnnxError;
use lorac_passes::LayoutError;
use lorac_runtime::RuntimeError;
use std::path::PathBuf;

/// Why a training ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The engine refused.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The data does not fit.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A tensor does not fit.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// The parameters do not fit their layout.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The graph cannot be encoded.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    /// A batch without a field that the model takes.
    #[error("the batch has no `{field}`, which the model takes")]
    NoField {
        /// The field.
        field: String,
    },
    /// Batches that say too little of what a branch begins with.
    #[error(
        "`{name}` begins with {rank} directions of what its matrix is fed, and none of the first batches has as many tokens that count"
    )]
    FewTokens {
        /// Name of the param.
        name: String,
        /// r.
        rank: usize,
    },
    /// Slices of a step for a program that takes a step in one piece, or none at all.
    #[error("a step in {slices} slices: the program takes one")]
    Slices {
        /// Slices given.
        slices: usize,
    },
    /// The loss or its gradient is NaN or infinite.
    #[error(
        "step {step}: the loss is {loss} and the norm of its gradient {norm}: {} {checkpoint}",
        kept(*.good)
    )]
    Diverged {
        /// The step, from 1.
        step: u64,
        /// Its loss.
        loss: f64,
        /// Global norm of its gradient.
        norm: f64,
        /// Whether any parameters gave a finite loss.
        good: bool,
        /// Where the last of these are; where there are none, those that the training began with.
        checkpoint: Kept,
    },
    /// A checkpoint of another training.
    #[error("state `{name}`: the checkpoint has {got} elements, the training {want}")]
    State {
        /// The name.
        name: String,
        /// Elements in the training; 0 where it has no such state.
        want: usize,
        /// Elements in the checkpoint; 0 where it has no such state.
        got: usize,
    },
    /// A checkpoint of another training.
    #[error("state `{name}`: its shape in the checkpoint is {got:?}, in the training {want:?}")]
    Shape {
        /// The name.
        name: String,
        /// The shape in the training.
        want: Vec<usize>,
        /// The shape in the checkpoint.
        got: Vec<usize>,
    },
    /// A file could not be written or read.
    #[error("{}: {why}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

fn kept(good: bool) -> &'static str {
    if good {
        "the last good parameters, which gave a finite loss,"
    } else {
        "no parameters gave a finite loss: the first ones"
    }
}

impl TrainError {
    /// Stable name of the fault.
    pub fn code(&self) -> &'static str {
        match self {
            TrainError::Runtime(e) => e.code(),
            TrainError::Data(e) => e.code(),
            TrainError::Onnx(e) => e.code(),
            TrainError::Tensor(_) => "train::tensor",
            TrainError::Layout(_) => "train::layout",
            TrainError::NoField { .. } => "train::no_field",
            TrainError::FewTokens { .. } => "train::few_tokens",
            TrainError::Slices { .. } => "train::slices",
            TrainError::Diverged { .. } => "train::diverged",
            TrainError::State { .. } => "train::state",
            TrainError::Shape { .. } => "train::shape",
            TrainError::File { .. } => "train::file",
        }
    }

    pub(crate) fn file(path: &std::path::Path, why: impl ToString) -> TrainError {
        TrainError::File { path: path.to_path_buf(), why: why.to_string() }
    }
}
