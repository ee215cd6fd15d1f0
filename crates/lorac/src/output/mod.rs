//! What a run leaves behind: manifest, metrics, report, adapter; every file whole or not at all.

mod atomic;
mod card;
mod manifest;
mod peft;
#[cfg(feature = "report")]
mod report;
mod stream_card;

pub(crate) use atomic::hex;
pub(crate) use atomic::{TEMPORARY, temporary};
pub use atomic::{sha256, sha256_file, write_atomic};
pub use card::{DataCard, LabelCount, LabelsFrom, Lengths, PackedCard, SourceCard, SplitCard, Truncated, Unknown};
pub use manifest::{
    Artifact, Evaluation, InputRecord, Manifest, MetricsEval, MissedGate, PipelineRecord, RuntimeRecord, Status,
    TargetRecord, TrainRecord, WrittenTexts,
};
pub(crate) use manifest::{now, peak_memory};
pub use peft::{
    NamedValues, PeftAdapter, PeftLayer, PeftModule, PeftScale, PeftTokens, read_peft, read_safetensors, write_peft,
    write_safetensors,
};
#[cfg(feature = "report")]
pub use report::report;
pub use stream_card::StreamCard;

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
    /// Another run writes into the folder.
    #[error("the output folder {} is in use by {holder}: wait for it, or choose another folder with --out", .path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
        /// The process, its machine, since when and with what command.
        holder: String,
    },
    /// A folder on a disk that is too full.
    #[error(
        "{} has no room for {bytes} bytes more, which the run will need: free some, or choose another folder with --out",
        .path.display()
    )]
    Space {
        /// The folder.
        path: PathBuf,
        /// What is needed.
        bytes: u64,
    },
    /// Something else has the name of a file that is to be written.
    #[error("{} is in the way: {what}; move it away, or choose another folder with {option}", .path.display())]
    InTheWay {
        /// The place.
        path: PathBuf,
        /// What is there.
        what: String,
        /// The option that names the folder.
        option: &'static str,
    },
}

impl OutputError {
    /// Stable name of the fault.
    pub fn code(&self) -> &'static str {
        match self {
            OutputError::Io { .. } | OutputError::Content { .. } => "output::file",
            OutputError::Space { .. } => "output::space",
            OutputError::Locked { .. } => "output::locked",
            OutputError::InTheWay { .. } => "output::in_the_way",
        }
    }

    /// Something in the output folder of a run.
    pub(crate) fn in_the_way(path: &Path, what: &str) -> OutputError {
        OutputError::InTheWay { path: path.into(), what: what.into(), option: "--out" }
    }

    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> OutputError + '_ {
        |source| OutputError::Io { path: path.to_path_buf(), source }
    }

    /// The same of a file whose place is in `folder`, and not in `stage`, where it is until it is whole.
    pub(crate) fn placed(mut self, stage: &Path, folder: &Path) -> OutputError {
        place(self.path_mut(), stage, folder);
        self
    }

    /// The file or folder that it is about.
    pub(crate) fn path_mut(&mut self) -> &mut PathBuf {
        match self {
            OutputError::Io { path, .. }
            | OutputError::Content { path, .. }
            | OutputError::Locked { path, .. }
            | OutputError::Space { path, .. }
            | OutputError::InTheWay { path, .. } => path,
        }
    }

    fn content(path: &Path, why: impl ToString) -> OutputError {
        OutputError::Content { path: path.to_path_buf(), why: why.to_string() }
    }
}

/// Puts the path of a file in `stage` into `folder`.
pub(crate) fn place(path: &mut PathBuf, stage: &Path, folder: &Path) {
    if let Ok(name) = path.strip_prefix(stage) {
        *path = folder.join(name);
    }
}
