//! What a run leaves behind: manifest, metrics, report, adapter; every file whole or not at all.

mod atomic;
mod manifest;
mod peft;
#[cfg(feature = "report")]
mod report;

pub use atomic::{sha256, sha256_file, write_atomic};
pub use manifest::{
    Artifact, Evaluation, InputRecord, Manifest, MetricsEval, PipelineRecord, RuntimeRecord, TargetRecord, TrainRecord,
};
pub(crate) use manifest::{now, peak_memory};
pub use peft::{PeftAdapter, PeftModule, read_peft, write_peft, write_safetensors};
#[cfg(feature = "report")]
pub use report::report;

use std::path::{Path, PathBuf};

/// Why an output cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The system refused.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The content cannot be encoded or decoded.
    #[error("{}: {why}", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

impl OutputError {
    fn io(path: &Path) -> impl FnOnce(std::io::Error) -> OutputError + '_ {
        |source| OutputError::Io { path: path.to_path_buf(), source }
    }

    fn content(path: &Path, why: impl ToString) -> OutputError {
        OutputError::Content { path: path.to_path_buf(), why: why.to_string() }
    }
}
