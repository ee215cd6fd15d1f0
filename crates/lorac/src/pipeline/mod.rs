//! Pipelines: YAML to [`Pipeline`], with every mistake shown where it stands.

mod data;
mod de;
mod deploy;
mod document;
mod error;
mod metrics;
mod runtime;
mod synonyms;
mod train;

pub use data::{Data, Split, SplitOptions};
pub use deploy::{Deploy, Verify};
pub use document::{Document, Node, Place, Spanned};
pub use error::{Issue, PipelineError, Problem};
pub use metrics::{Gate, Metrics};
pub use runtime::{Runtime, RuntimeSource};
pub use train::Train;

use crate::output::sha256;
use crate::source::Source;
use crate::task::TaskChoice;
use de::Reading;
use lorac_config::{Check, Problems, nearest};
use lorac_passes::MethodChoice;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use synonyms::synonym;

/// A pipeline: from a model and data to a deployable model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pipeline {
    /// What the run is called; names its output folder
    pub name: String,
    /// The model to start from
    pub model: SourceSpec,
    /// The tokenizer: a tokenizer.json. Default: the one beside the model
    pub tokenizer: Option<SourceSpec>,
    /// What the model is to learn
    pub task: TaskChoice,
    /// Examples
    pub data: Data,
    /// How the model is adapted
    pub adapt: Vec<MethodChoice>,
    /// How long and how fast it learns
    #[serde(default)]
    pub train: Train,
    /// The execution engine
    #[serde(default)]
    pub runtime: Runtime,
    /// What the result is scored by and must reach
    #[serde(default)]
    pub metrics: Metrics,
    /// What comes out
    #[serde(default)]
    pub deploy: Deploy,
}

/// A file or folder by its source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceSpec {
    /// A path, pypi:NAME==VERSION/PATH or hf:ORG/NAME@REVISION/PATH
    #[schemars(with = "String")]
    pub source: Source,
    /// sha256 that the file must have; of a folder, that of its sorted list of paths and sums
    pub sha256: Option<String>,
}

impl Check for Pipeline {
    fn check(&self, problems: &mut Problems) {
        let name = &self.name;
        if name.is_empty() || name.contains(['/', '\\']) || name.starts_with('.') {
            problems.report("name", "pipeline::name", format!("`{name}` cannot name a folder"));
        }
        problems.within("task", |p| self.task.check(p));
        problems.within("data", |p| {
            self.data.check(p);
            for (key, split) in [("train", &self.data.train), ("eval", &self.data.eval)] {
                p.within(key, |p| self.task.check_split(split, p));
            }
        });
        if self.adapt.is_empty() {
            let help = "no method: try - lora: { targets: [\"role:query\", \"role:value\"] }";
            problems.report("adapt", "pipeline::adapt", help);
        }
        problems.within("adapt", |p| {
            for (i, method) in self.adapt.iter().enumerate() {
                p.within(i, |p| method.check(p));
            }
        });
        problems.within("train", |p| self.train.check(p));
        problems.within("runtime", |p| self.runtime.check(p));
        problems.within("metrics", |p| {
            self.metrics.check(p);
            self.metrics.check_task(self.task.prediction(), p);
        });
        problems.within("deploy", |p| self.deploy.check(p));
    }
}

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
    sets: Vec<String>,
    document: Document,
}

/// Longer files are not pipelines.
const MAX_BYTES: u64 = 1 << 20;

impl Loaded {
    /// Reads a pipeline and applies overrides (`train.epochs=1`).
    ///
    /// # Errors
    /// Everything that is wrong with the file and the overrides.
    pub fn load(path: &Path, sets: &[String]) -> Result<Loaded, PipelineError> {
        let shown = path.display().to_string();
        let unreadable = |message: String| {
            let problem = Problem::new("pipeline::unreadable", format!("{shown}: {message}"), Place::Nowhere);
            PipelineError::new(&shown, "", vec![Issue::new(problem, &[])])
        };
        let size = std::fs::metadata(path).map_err(|e| unreadable(e.to_string()))?.len();
        if size > MAX_BYTES {
            return Err(unreadable(format!("{size} bytes: a pipeline has at most {MAX_BYTES}")));
        }
        let text = std::fs::read_to_string(path).map_err(|e| unreadable(e.to_string()))?;
        Loaded::parse(&text, path, sets)
    }

    /// The same from text; `path` names it in errors.
    ///
    /// # Errors
    /// As [`Loaded::load`].
    pub fn parse(text: &str, path: &Path, sets: &[String]) -> Result<Loaded, PipelineError> {
        let wrong = |problems: Vec<Problem>| {
            let issues = problems.into_iter().map(|p| Issue::new(p, sets)).collect();
            PipelineError::new(&path.display().to_string(), text, issues)
        };
        let mut document = Document::parse(text).map_err(|p| wrong(vec![p]))?;
        let unset: Vec<Problem> = sets.iter().enumerate().filter_map(|(i, set)| document.set(i, set).err()).collect();
        if !unset.is_empty() {
            return Err(wrong(unset));
        }
        let pipeline = Pipeline::deserialize(Reading(document.root())).map_err(|e| wrong(vec![e.problem()]))?;
        let mut problems = Problems::default();
        pipeline.check(&mut problems);
        let placed = |p: lorac_config::Problem| Problem {
            place: document.place(&p.path),
            code: p.code,
            message: p.message,
            help: p.help,
        };
        let problems: Vec<Problem> = problems.finish().into_iter().map(placed).collect();
        if !problems.is_empty() {
            return Err(wrong(problems));
        }
        let sha256 = sha256([text, &sets.join("\n")].join("\n").as_bytes());
        let (path, text, sets) = (path.to_path_buf(), text.to_string(), sets.to_vec());
        Ok(Loaded { pipeline, path, sha256, text, sets, document })
    }

    /// An error about values of the pipeline that was found later, by their paths.
    pub fn errors_at(&self, problems: Vec<lorac_config::Problem>) -> PipelineError {
        let issue = |p: lorac_config::Problem| {
            let place = self.document.place(&p.path);
            Issue::new(Problem { code: p.code, message: p.message, place, help: p.help }, &self.sets)
        };
        let issues = problems.into_iter().map(issue).collect();
        PipelineError::new(&self.path.display().to_string(), &self.text, issues)
    }
}

/// A key that no section has.
fn unknown_key(key: &str, known: &[&str]) -> Problem {
    let help = synonym(key).map_or_else(|| offer(key, known), |ours| format!("lorac says this as {ours}"));
    let message = format!("unknown key `{key}`");
    Problem { code: "pipeline::unknown_key", message, place: Place::Nowhere, help: Some(help) }
}

/// A value that is none of a choice.
fn unknown_value(value: &str, known: &[&str]) -> Problem {
    let (message, help) = (format!("unknown `{value}`"), Some(offer(value, known)));
    Problem { code: "pipeline::unknown_value", message, place: Place::Nowhere, help }
}

fn offer(word: &str, known: &[&str]) -> String {
    match nearest(word, known).first() {
        Some(best) => format!("nearest: {best}"),
        None => format!("known: {}", known.join(", ")),
    }
}

/// The JSON Schema (draft 7) of pipelines.
pub fn schema() -> serde_json::Value {
    SchemaSettings::draft07().into_generator().into_root_schema_for::<Pipeline>().to_value()
}

#[cfg(test)]
mod tests;
