//! Small pipelines where lorac meets what others made: tests/data/borders, a folder each.

use lorac::error::Error;
use lorac::pipeline::Loaded;
use lorac::progress::Silent;
use lorac::run::{Outcome, RunOptions, run};
use lorac::source::Resolver;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use tempfile::TempDir;

/// A pipeline in a temporary folder of its own.
pub struct Border {
    folder: TempDir,
}

/// A copy of `tests/data/borders/<name>`. Tables and a tokenizer that it lacks come from `common` beside it.
pub fn border(name: &str) -> Border {
    let folder = tempfile::tempdir().unwrap_or_else(|e| panic!("no temporary folder: {e}"));
    for source in ["common", name] {
        copy(&crate::data("borders").join(source), folder.path());
    }
    Border { folder }
}

impl Border {
    /// The folder; `pipeline.yaml` is in it.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Where [`Border::run`] puts its results.
    pub fn out(&self) -> PathBuf {
        self.path().join("out")
    }

    /// Runs the pipeline with more settings, as `lorac run pipeline.yaml --set ..` does.
    ///
    /// # Errors
    /// Those of the run.
    pub fn run(&self, settings: &[&str]) -> Result<Outcome, Error> {
        let settings: Vec<String> = settings.iter().map(|s| s.to_string()).collect();
        let loaded = Loaded::load(&self.path().join("pipeline.yaml"), &settings).map_err(Box::new)?;
        let resolver = Resolver::new(None, self.path())?;
        let options = RunOptions { out: self.out(), command: "test".into(), progress: &Silent, emit: None };
        run(&loaded, &resolver, &options, &AtomicBool::new(false))
    }

    /// Runs the pipeline, which must succeed and verify.
    #[track_caller]
    pub fn succeeds(&self, settings: &[&str]) -> Outcome {
        let outcome = self.run(settings).unwrap_or_else(|e| panic!("{settings:?}: {e}"));
        let verify = &outcome.manifest.verify;
        assert!(outcome.gates.is_empty() && verify.passed, "{settings:?}: {:?} {verify:?}", outcome.gates);
        outcome
    }

    /// Runs the pipeline, which must fail; returns what it says.
    #[track_caller]
    pub fn fails(&self, settings: &[&str]) -> String {
        match self.run(settings) {
            Ok(outcome) => panic!("{settings:?} succeeded: {:?}", outcome.manifest.eval.after),
            Err(error) => error.to_string(),
        }
    }
}

fn copy(from: &Path, to: &Path) {
    let entries = fs::read_dir(from).unwrap_or_else(|e| panic!("{}: {e}", from.display()));
    fs::create_dir_all(to).unwrap_or_else(|e| panic!("{}: {e}", to.display()));
    for entry in entries.flatten() {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(&from, &to).unwrap_or_else(|e| panic!("{}: {e}", from.display()));
        }
    }
}
