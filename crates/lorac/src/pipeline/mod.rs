//! Pipelines: YAML to [`Pipeline`], with every mistake shown where it stands.

mod check;
mod convert;
mod error;
mod located;
mod sets;
mod spec;

pub use error::{Issue, PipelineError};
pub use located::Located;
pub use spec::{
    Adamw, Adapt, CausalLm, Classify, Data, Deploy, Format, Gates, LoraSpec, Optimizer, Pipeline, Pooling,
    Runtime, RuntimeSource, Schedule, SourceSpec, Split, Task, Train, Verify, Warmup,
};

use crate::error::Error;
use crate::output::sha256;
use schemars::generate::SchemaSettings;
use std::path::{Path, PathBuf};

/// A pipeline that was read.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The pipeline, overrides applied.
    pub pipeline: Pipeline,
    /// The file.
    pub path: PathBuf,
    /// sha256 of the file's text and the overrides.
    pub sha256: String,
    text: String,
    original: Pipeline,
}

/// Longer files are no pipelines.
const MAX_BYTES: u64 = 1 << 20;

impl Loaded {
    /// Reads a pipeline and applies overrides (`train.epochs=1`).
    ///
    /// # Errors
    /// Everything that is wrong with the file, or, where the file is right, with the overrides.
    pub fn load(path: &Path, sets: &[String]) -> Result<Loaded, PipelineError> {
        let shown = path.display().to_string();
        let unreadable = |message: String| {
            let code = "pipeline::unreadable";
            PipelineError::new(
                &shown,
                "",
                vec![Issue { code, message: format!("{shown}: {message}"), line: 0, column: 0, help: None }],
            )
        };
        let size = std::fs::metadata(path).map_err(|e| unreadable(e.to_string()))?.len();
        if size > MAX_BYTES {
            return Err(unreadable(format!("{size} bytes: a pipeline has at most {MAX_BYTES}")));
        }
        let text = std::fs::read_to_string(path).map_err(|e| unreadable(e.to_string()))?;
        Loaded::parse(&text, path, sets)
    }

    /// The same from text; `path` names it in errors.
    pub fn parse(text: &str, path: &Path, sets: &[String]) -> Result<Loaded, PipelineError> {
        let wrong = |issues| PipelineError::new(&path.display().to_string(), text, issues);
        let original = read(text).map_err(|i| wrong(vec![i]))?;
        let issues = check::check(&original, text);
        if !issues.is_empty() {
            return Err(wrong(issues));
        }
        let pipeline = match sets {
            [] => original.clone(),
            _ => sets::apply(text, &original, sets).map_err(wrong)?,
        };
        let sha256 = sha256([text, &sets.join("\n")].join("\n").as_bytes());
        Ok(Loaded { pipeline, path: path.to_path_buf(), sha256, text: text.to_string(), original })
    }

    /// An error about strings of the pipeline, each with its code, message and what to do.
    pub fn errors_at<'a>(
        &self,
        issues: impl Iterator<Item = (Option<&'a Located>, &'static str, String, String)>,
    ) -> Error {
        let issue = |(at, code, message, help): (Option<&Located>, &'static str, String, String)| {
            let known = at.and_then(|at| self.locate(at));
            let (line, column) = known.unwrap_or_default();
            Issue { code, message, line, column, help: (!help.is_empty()).then_some(format!("nearest: {help}")) }
        };
        let issues = issues.map(issue).collect();
        Error::Pipeline(Box::new(PipelineError::new(&self.path.display().to_string(), &self.text, issues)))
    }

    /// Where the file has a string; one from an override is nowhere in it.
    fn locate(&self, at: &Located) -> Option<(usize, usize)> {
        let targets = self.original.adapt.iter().flat_map(|Adapt::Lora(l)| &l.targets);
        targets.into_iter().find(|t| *t == at).map(|t| (t.line, t.column))
    }
}

/// Reads text whose keys and types are right.
fn read(text: &str) -> Result<Pipeline, Issue> {
    serde_saphyr::from_str(text).map_err(|e| issue(&e))
}

fn issue(error: &serde_saphyr::Error) -> Issue {
    let error = error.without_snippet();
    let (line, column) = error.location().map_or((0, 0), |l| (l.line() as usize, l.column() as usize));
    let (code, message, help) = match error {
        serde_saphyr::Error::SerdeUnknownField { field, expected, .. } => {
            ("pipeline::unknown_key", format!("unknown key '{field}'"), nearest(field, expected))
        }
        serde_saphyr::Error::SerdeUnknownVariant { variant, expected, .. } => {
            ("pipeline::unknown_value", format!("unknown '{variant}'"), nearest(variant, expected))
        }
        other => {
            let text = other.to_string();
            ("pipeline::syntax", text.lines().next().unwrap_or_default().to_string(), None)
        }
    };
    Issue { code, message, line, column, help }
}

fn nearest(word: &str, known: &[&str]) -> Option<String> {
    let best = known.iter().max_by(|a, b| strsim::jaro_winkler(a, word).total_cmp(&strsim::jaro_winkler(b, word)))?;
    Some(match strsim::jaro_winkler(best, word) > 0.7 {
        true => format!("nearest: {best}"),
        false => format!("known: {}", known.join(", ")),
    })
}

/// The JSON Schema (draft 7) of pipelines.
pub fn schema() -> serde_json::Value {
    SchemaSettings::draft07().into_generator().into_root_schema_for::<Pipeline>().to_value()
}

#[cfg(test)]
mod tests;
