//! Everything that can end a command, with its exit code.

use crate::output::{OutputError, place};
use crate::pipeline::PipelineError;
use crate::run::ResumeError;
use crate::served::ServedError;
use crate::source::SourceError;
use lorac_data::DataError;
use lorac_models::ModelError;
use lorac_onnx::OnnxError;
use lorac_passes::{FoldError, LayoutError, PassError};
use lorac_runtime::RuntimeError;
use lorac_train::{Kept, TrainError};
use serde::Serialize;
use std::fmt;
use std::path::Path;

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
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error(transparent)]
    Resume(#[from] ResumeError),
    #[error(transparent)]
    Served(#[from] ServedError),
    /// The command line does not make sense.
    #[error("{0}")]
    Usage(String),
    /// The result is not what was promised.
    #[error("{0}")]
    Gate(String),
    /// Ctrl-C: what is left of the run.
    #[error("interrupted: {0}")]
    Interrupted(String),
    /// What comes after the training was tried before it, and failed.
    #[error(
        "{}; found before the training by a trial of what comes after it: nothing is trained",
        .error.to_string().trim_end()
    )]
    Trial {
        /// What failed.
        error: Box<Error>,
    },
    /// The training is done, and what comes after it failed.
    #[error("{error}; the trained parameters {checkpoint}{}", continued(.resume))]
    Trained {
        /// Where the training is kept.
        checkpoint: Kept,
        /// The command that deploys them without training again.
        resume: Option<String>,
        /// What failed.
        error: Box<Error>,
    },
}

fn continued(resume: &Option<String>) -> String {
    resume.as_ref().map_or(String::new(), |command| format!("; deploy them with: {command}"))
}

impl Error {
    /// The same of a file whose place is in `folder`, and not in `stage`, where it is until it is whole.
    pub(crate) fn placed(mut self, stage: &Path, folder: &Path) -> Error {
        let path = match &mut self {
            Error::Output(error) => Some(error.path_mut()),
            Error::Onnx(error) => error.path_mut(),
            Error::Source(SourceError::Io { path, .. }) => Some(path),
            _ => None,
        };
        path.into_iter().for_each(|path| place(path, stage, folder));
        self
    }

    /// An error of what comes after the training, found by a trial before it.
    pub(crate) fn of_trial(self) -> Error {
        match self {
            Error::Interrupted(_) | Error::Output(OutputError::InTheWay { .. }) => self,
            error => Error::Trial { error: Box::new(error) },
        }
    }
}

/// What kind of end a command has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// The result is not what was promised.
    Gate,
    /// What was asked for does not make sense: the command line, the pipeline, the data or the model.
    Usage,
    /// The run failed.
    Failed,
    /// The user ended it.
    Interrupted,
}

impl Class {
    /// 1: a gate; 2: usage; 3: failed; 130: interrupted.
    pub fn exit_code(self) -> u8 {
        match self {
            Class::Gate => 1,
            Class::Usage => 2,
            Class::Failed => 3,
            Class::Interrupted => 130,
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Class::Gate => "gate",
            Class::Usage => "usage",
            Class::Failed => "failed",
            Class::Interrupted => "interrupted",
        })
    }
}

impl Error {
    /// What kind of end this is: of errors with one [`code`](Error::code) the same, wherever they were found.
    pub fn class(&self) -> Class {
        match self {
            Error::Gate(_) => Class::Gate,
            Error::Pipeline(_) | Error::Usage(_) | Error::Resume(_) | Error::Served(_) => Class::Usage,
            // Patches that do not fit and graphs that break are lorac's own defects.
            Error::Pass(PassError::Patch { .. } | PassError::Verify { .. }) => Class::Failed,
            Error::Data(DataError::Changed { .. }) | Error::Train(TrainError::Data(DataError::Changed { .. })) => {
                Class::Failed
            }
            Error::Pass(_) | Error::Infer(_) | Error::Data(_) => Class::Usage,
            Error::Source(SourceError::Interrupted { .. }) => Class::Interrupted,
            Error::Source(
                SourceError::Syntax { .. }
                | SourceError::NotFound { .. }
                | SourceError::NoSuchEntry { .. }
                | SourceError::BadSha256 { .. }
                | SourceError::NoPin { .. }
                | SourceError::NotRegular { .. },
            ) => Class::Usage,
            Error::Model(ModelError::UnknownType { .. } | ModelError::Node(_)) => Class::Usage,
            Error::Train(TrainError::Data(_) | TrainError::FewTokens { .. }) => Class::Usage,
            Error::Output(OutputError::InTheWay { .. }) => Class::Usage,
            Error::Interrupted(_) => Class::Interrupted,
            Error::Trained { error, .. } | Error::Trial { error } => error.class(),
            _ => Class::Failed,
        }
    }

    /// The exit code of the class.
    pub fn exit_code(&self) -> u8 {
        self.class().exit_code()
    }

    /// Stable name of the fault, which [`crate::explain`] says more of.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Pipeline(e) => e.issues.first().map_or("pipeline::syntax", |i| i.code),
            Error::Source(e) => e.code(),
            Error::Onnx(e) => e.code(),
            Error::Model(e) => e.code(),
            Error::Pass(e) => e.code(),
            Error::Infer(e) => e.code(),
            Error::Fold(e) => e.code(),
            Error::Data(e) => e.code(),
            Error::Runtime(e) => e.code(),
            Error::Train(e) => e.code(),
            Error::Output(e) => e.code(),
            Error::Tensor(e) => e.code(),
            Error::Resume(e) => e.code(),
            Error::Served(e) => e.code(),
            Error::Layout(_) => "train::layout",
            Error::Usage(_) => "usage",
            Error::Gate(_) => "gate",
            Error::Interrupted(_) => "interrupted",
            Error::Trained { error, .. } | Error::Trial { error } => error.code(),
        }
    }

    /// What the user may do in the pipeline, where that is known: engines and trainings know no pipelines.
    pub fn advice(&self) -> Option<&'static str> {
        match self {
            Error::Train(TrainError::Diverged { .. }) => Some(
                "lower the optimizer's lr under train.optimizer, or look at the batch; train.init_from: CHECKPOINT begins \
                 with what was learnt before",
            ),
            Error::Resume(error) => Some(error.advice()),
            Error::Runtime(RuntimeError::NoGpu { .. }) => {
                Some("choose runtime.provider: cpu to train on the processor")
            }
            Error::Runtime(RuntimeError::NotALibrary { .. } | RuntimeError::NoEngine { .. }) => {
                Some("choose runtime.source: embedded for the engine that is compiled in, or pypi:onnxruntime==VERSION")
            }
            Error::Trial { error } if matches!(**error, Error::Runtime(RuntimeError::Compile { .. })) => Some(
                "what is deployed is the model's own file with other bytes in some weights: choose another \
                 runtime.source, or a file that this one reads",
            ),
            Error::Trained { error, .. } | Error::Trial { error } => error.advice(),
            _ => None,
        }
    }
}
