//! What ends a training.

use lorac_data::DataError;
use lorac_ir::TensorError;
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
    /// The loss or its gradient is no number any more.
    #[error(
        "step {step}: the loss is {loss} and the norm of its gradient {norm}: {} are in {}. \
         Lower train.optimizer.adamw.lr, or look at the batch",
        kept(*.good),
        .checkpoint.display()
    )]
    Diverged {
        /// The step, from 1.
        step: u64,
        /// Its loss.
        loss: f64,
        /// Global norm of its gradient.
        norm: f64,
        /// Whether any parameters gave a loss that is a number.
        good: bool,
        /// Where the last of these are; where there are none, those that the training began with.
        checkpoint: PathBuf,
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
    if good { "the last good parameters, which gave a loss," } else { "no parameters gave a loss: the first ones" }
}

impl TrainError {
    pub(crate) fn file(path: &std::path::Path, why: impl ToString) -> TrainError {
        TrainError::File { path: path.to_path_buf(), why: why.to_string() }
    }
}
