//! What the pipeline says of the update and the training cannot follow, at its key.

use crate::error::Error;
use crate::pipeline::Loaded;
use lorac_config::{Problem, Problems};
use lorac_passes::{NoMatch, PassError};

/// The error of a training that cannot be compiled, at the key of what is wrong with the update.
pub(super) fn error(loaded: &Loaded, error: PassError) -> Error {
    let PassError::NoParam(unknown) = error else { return error.into() };
    let problem = |(path, why): (String, NoMatch)| {
        let (path, code, message) = (format!("train.{path}"), why.code(), why.to_string());
        Problem { path, code, message, help: None }
    };
    Box::new(loaded.errors_at(unknown.into_iter().map(problem).collect())).into()
}

/// Refuses what a training of so many steps has no room for.
pub(super) fn fits(loaded: &Loaded, total: u64) -> Result<(), Error> {
    let mut problems = Problems::default();
    loaded.pipeline.train.check_length(total, &mut problems);
    match problems.finish() {
        found if found.is_empty() => Ok(()),
        found => Err(Box::new(loaded.errors_at(found)).into()),
    }
}
