//! Small pipelines where lorac meets what others made: tests/data/borders, a folder each.

use lorac::error::Error;
use lorac::pipeline::Loaded;
use lorac::progress::Progress;
use lorac::run::{Outcome, ResumeFrom, RunOptions, resume, run};
use lorac::source::Resolver;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
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
        self.go("out", settings, None, &Ears::default())
    }

    /// Runs the pipeline into a folder of this name, or goes on with what is there.
    ///
    /// # Errors
    /// Those of the run; that it is stopped, where `ears` do that.
    pub fn go(&self, out: &str, settings: &[&str], from: Option<&ResumeFrom>, ears: &Ears) -> Result<Outcome, Error> {
        let settings: Vec<String> = settings.iter().map(|s| s.to_string()).collect();
        let loaded = Loaded::load(&self.path().join("pipeline.yaml"), &settings).map_err(Box::new)?;
        let resolver = Resolver::new(None, self.path())?;
        let options = RunOptions { out: self.path().join(out), command: "test".into(), progress: ears, emit: None };
        match from {
            Some(from) => resume(&loaded, &resolver, &options, from, &ears.stop),
            None => run(&loaded, &resolver, &options, &ears.stop),
        }
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

/// Hears a run, and stops it behind a step of the training, if any.
#[derive(Debug, Default)]
pub struct Ears {
    last: Option<u64>,
    /// What stops the run.
    pub stop: AtomicBool,
    training: AtomicBool,
    lines: Mutex<Vec<String>>,
}

impl Ears {
    /// Such that stop behind a step.
    pub fn until(step: u64) -> Ears {
        Ears { last: Some(step), ..Ears::default() }
    }

    /// What was heard.
    pub fn text(&self) -> String {
        self.lines.lock().unwrap_or_else(|e| e.into_inner()).join("\n")
    }
}

impl Progress for Ears {
    fn line(&self, text: &str) {
        self.lines.lock().unwrap_or_else(|e| e.into_inner()).push(text.into());
    }

    fn begin(&self, what: &str, _len: u64) {
        self.training.store(what == "training", Ordering::Relaxed);
    }

    fn at(&self, position: u64, _message: &str) {
        if self.training.load(Ordering::Relaxed) && Some(position) == self.last {
            self.stop.store(true, Ordering::Relaxed);
        }
    }

    fn end(&self) {}
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
