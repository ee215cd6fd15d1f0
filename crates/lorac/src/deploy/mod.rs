//! What comes out of a run: one file for each format of artifact.

mod deployment;

pub use deployment::Deployment;
pub use peft::PeftOptions;
pub(crate) use peft::{Given, adapter_params};

use crate::error::Error;
use crate::run::Plan;
use crate::verify::VerifyReport;
use lorac_passes::ParamValues;
use lorac_train::Scores;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

lorac_config::members! {
    /// Every format by its name under `deploy.formats`.
    pub static FORMATS: dyn DeployFormat = {
        onnx: Onnx,
        peft: Peft,
        serving: Serving,
    };
}

/// A format of artifacts.
pub trait DeployFormat {
    /// One line for the schema.
    fn about(&self) -> &'static str;

    /// Whether it is written although nobody asks for it.
    fn always(&self) -> bool {
        false
    }

    /// What a user should know of the artifacts before anything is trained.
    ///
    /// # Errors
    /// What would fail when the training is done.
    fn check(&self, plan: &Plan, folder: &Path) -> Result<Vec<String>, Error>;

    /// Writes the artifacts into a folder, each file whole or not at all.
    ///
    /// # Errors
    /// What the system refuses.
    fn write(&self, trained: &Trained, folder: &Path) -> Result<Written, Error>;

    /// Holds what was written against what was trained.
    ///
    /// # Errors
    /// What was written cannot be read back.
    fn verify(&self, _: &Trained, _: &Path) -> Result<Option<VerifyReport>, Error> {
        Ok(None)
    }
}

/// A training that has come to its end, or is to begin: then what comes after it is tried with other values.
#[derive(Clone, Copy)]
pub struct Trained<'a> {
    /// What was planned.
    pub plan: &'a Plan,
    /// What the pipeline says of the result.
    pub pipeline: &'a crate::pipeline::Pipeline,
    /// What was learnt.
    pub values: ParamValues<'a>,
    /// The same as one vector.
    pub theta: &'a [f32],
    /// The scores before and after the training, of a training that has come to its end.
    pub scores: Option<(&'a Scores, &'a Scores)>,
    /// Held-out examples to verify with.
    pub samples: usize,
    /// Set when the user wants to stop: what is under way fails.
    pub stop: &'a AtomicBool,
}

/// Files that were written, with their kinds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// The files.
    pub files: Vec<(PathBuf, &'static str)>,
    /// Why nothing was written, if so.
    pub skipped: Option<String>,
}

/// The formats that a pipeline asks for, and those that are always written.
pub fn chosen<'a>(names: &'a [String]) -> impl Iterator<Item = &'static (dyn DeployFormat + Sync)> + 'a {
    FORMATS.iter().filter(|(name, format)| format.always() || names.iter().any(|n| n == name)).map(|(_, f)| *f)
}
