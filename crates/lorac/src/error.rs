//! Everything that can end a command, with its exit code.

use crate::output::OutputError;
use crate::pipeline::PipelineError;
use crate::source::SourceError;
use lorac_data::DataError;
use lorac_models::ModelError;
use lorac_onnx::OnnxError;
use lorac_passes::{FoldError, PassError};
use lorac_runtime::RuntimeError;
use lorac_train::TrainError;
use std::path::PathBuf;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error(transparent)]
    Pipeline(#[from] Box<PipelineError>),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Pass(#[from] PassError),
    #[error(transparent)]
    Infer(#[from] lorac_ops::InferError),
    #[error(transparent)]
    Fold(#[from] FoldError),
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error(transparent)]
    Train(#[from] TrainError),
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error(transparent)]
    Tensor(#[from] lorac_ir::TensorError),
    /// The command line does not make sense.
    #[error("{0}")]
    Usage(String),
    /// The result is not what was promised.
    #[error("{0}")]
    Gate(String),
    /// Ctrl-C: what is left of the run.
    #[error("interrupted: {0}")]
    Interrupted(String),
    /// The training is done, and what comes after it failed.
    #[error("{error}; the trained parameters are in {}", .checkpoint.display())]
    Trained {
        /// Where the training is kept.
        checkpoint: PathBuf,
        /// What failed.
        error: Box<Error>,
    },
}

impl Error {
    /// 1: a gate failed; 2: usage or configuration; 3: the run failed; 130: interrupted.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Gate(_) => 1,
            Error::Pipeline(_) | Error::Usage(_) | Error::Runtime(RuntimeError::NotBuiltIn) => 2,
            // Patches that do not fit and graphs that break are lorac's own defects.
            Error::Pass(PassError::Patch { .. } | PassError::Verify { .. }) => 3,
            Error::Pass(_) | Error::Infer(_) => 2,
            Error::Data(_) => 2,
            Error::Interrupted(_) => 130,
            Error::Trained { error, .. } => error.exit_code(),
            _ => 3,
        }
    }
}
