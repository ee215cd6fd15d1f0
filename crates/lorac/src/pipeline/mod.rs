//! Pipelines: YAML to [`Pipeline`], with every mistake shown where it stands.

mod batch;
mod checkpoint;
mod data;
mod de;
mod deploy;
mod dialogue;
mod document;
mod error;
mod evaluate;
mod findings;
mod held_out;
mod idle;
mod images;
mod label_columns;
mod log;
mod memory;
mod metrics;
mod pack;
mod reference;
mod runtime;
mod shorthand;
mod slice;
mod stream;
mod synonyms;
mod texts;
mod train;
mod yaml;

pub use batch::BatchChoice;
pub use checkpoint::CheckpointOptions;
pub(crate) use data::named;
pub use data::{Data, OnError, Split, SplitOptions};
pub use deploy::{Deploy, Verify};
pub use document::{Document, Node, Place, Spanned};
pub use error::{Issue, PipelineError, Problem};
pub use evaluate::{EvaluateOptions, StopOptions};
pub use held_out::{HeldOut, Part};
pub use images::ImageOptions;
pub use label_columns::LabelColumns;
pub use log::LogOptions;
pub use memory::MemoryLimit;
pub use metrics::{Gate, Metrics, Reference};
pub use reference::reference;
pub use runtime::{Runtime, RuntimeSource};
pub use shorthand::schema;
pub use slice::SliceChoice;
pub use stream::StreamOptions;
pub use train::Train;

use crate::output::sha256;
use crate::source::Source;
use crate::task::TaskChoice;
use de::read;
use findings::{Findings, MOST_FINDINGS, shortened};
use lorac_config::{Check, Problems, nearest};
use lorac_passes::MethodChoice;
use lorac_train::Prediction;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use synonyms::{synonym, value_synonym};

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
    /// Where the course of the training is told, besides metrics.jsonl
    #[serde(default)]
    pub log: LogOptions,
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
    /// A path, pypi:NAME==VERSION/PATH, hf:ORG/NAME@REVISION/PATH, or https://HOST/PATH, which needs its sha256
    #[schemars(with = "String")]
    pub source: Source,
    /// sha256 that the file must have; of a folder, that of its sorted list of paths and sums
    pub sha256: Option<String>,
}

/// Reports an address without a sum: the value of `key`, pinned by the key `sha256` beside it.
pub(crate) fn check_pin(key: &str, source: &Source, sha256: Option<&str>, problems: &mut Problems) {
    if matches!(source, Source::Https { .. }) && sha256.is_none() {
        let message =
            format!("`{source}` needs the sha256 of what it leads to: what a web server has can be another tomorrow");
        let help = Some("add sha256: SUM, as `sha256sum FILE` prints it".into());
        problems.report_with_help(key, "source::no_pin", message, help);
    }
}

impl Pipeline {
    /// Reports a part that is to have its share of classes, of examples that have none.
    fn check_strata(&self, problems: &mut Problems) {
        let stratified = self.data.eval.as_ref().and_then(HeldOut::part).is_some_and(|part| part.stratify);
        let kind = self.task.prediction();
        if stratified && !matches!(kind, Prediction::Classes | Prediction::Labels | Prediction::Tags) {
            let task = self.task.name();
            let message =
                format!("`stratify` gives every class its share, and the examples of `{task}` have no classes");
            let help = Some("leave it out: `split` alone picks at random".into());
            problems.within("eval", |p| p.report_with_help("stratify", "data::no_classes", message, help));
        }
    }
}

impl Check for Pipeline {
    fn check(&self, problems: &mut Problems) {
        let name = &self.name;
        if name.is_empty() || name.contains(['/', '\\']) || name.starts_with('.') {
            problems.report("name", "pipeline::name", format!("`{name}` cannot name a folder"));
        }
        for (key, spec) in [("model", Some(&self.model)), ("tokenizer", self.tokenizer.as_ref())] {
            let check =
                |spec: &SourceSpec, p: &mut Problems| check_pin("source", &spec.source, spec.sha256.as_deref(), p);
            spec.into_iter().for_each(|spec| problems.within(key, |p| check(spec, p)));
        }
        problems.within("task", |p| self.task.check(p));
        problems.within("data", |p| {
            self.data.check(p);
            let reads =
                |split: &Split| self.task.inputs(split).fields().iter().map(ToString::to_string).collect::<Vec<_>>();
            let first = self.data.train.first().map(reads).unwrap_or_default();
            for (path, split) in self.data.splits() {
                let other = !split.has_texts() || !split.arrays.is_empty();
                let key = if split.arrays.is_empty() { split.format.as_str() } else { "arrays" };
                p.within(path, |p| {
                    if other && !self.task.takes_arrays() {
                        let message = format!("the task `{}` reads texts, and no arrays or images", self.task.name());
                        p.report(key, "pipeline::split", message);
                        return;
                    }
                    if reads(split) != first {
                        p.report(
                            key,
                            "pipeline::split",
                            "all data is fed into the same inputs, as that of data.train is",
                        );
                    }
                    split.check_read(&self.task, p);
                    self.task.check_split(split, p);
                });
            }
            self.check_strata(p);
            self.check_pack(p);
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
        problems.within("train", |p| {
            self.train.check(p);
            self.task.check_train(&self.train, p);
            self.train.check_evaluations(&self.data, &self.task, p);
        });
        problems.within("runtime", |p| self.runtime.check(p));
        problems.within("log", |p| self.log.check(p));
        problems.within("metrics", |p| {
            self.metrics.check(p);
            let classes = Some(self.task.labels().len()).filter(|classes| *classes > 0);
            self.metrics.check_task(self.task.prediction(), classes, p);
            if self.data.eval.is_none() {
                for name in self.metrics.0.keys() {
                    let message = format!("`{name}` is computed on held-out examples, and there are none");
                    let help = Some("give data.eval: a file, or a part of the training set: { split: 0.1 }".into());
                    p.report_with_help(name, "pipeline::metrics", message, help);
                }
            }
        });
        self.check_texts(problems);
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
        let metadata = std::fs::metadata(path).map_err(|e| unreadable(e.to_string()))?;
        if !metadata.is_file() {
            return Err(unreadable("it is not a regular file".into()));
        }
        if metadata.len() > MAX_BYTES {
            return Err(unreadable(format!("{} bytes: a pipeline has at most {MAX_BYTES}", metadata.len())));
        }
        let bytes = std::fs::read(path).map_err(|e| unreadable(e.to_string()))?;
        let utf16 = matches!(bytes.get(..2), Some([0xff, 0xfe] | [0xfe, 0xff] | [_, 0] | [0, _]));
        let text = String::from_utf8(bytes).ok().filter(|_| !utf16);
        let is = if utf16 { "it is UTF-16" } else { "it is not UTF-8" };
        let text = text.ok_or_else(|| unreadable(format!("{is}: save it as UTF-8")))?;
        Loaded::parse(&text, path, sets)
    }

    /// The same from text; `path` names it in errors.
    ///
    /// # Errors
    /// As [`Loaded::load`].
    pub fn parse(text: &str, path: &Path, sets: &[String]) -> Result<Loaded, PipelineError> {
        let (document, mut problems) = with_sets(text, sets);
        let (pipeline, found) = examine(&document);
        problems.extend(found);
        match pipeline {
            Some(pipeline) if problems.is_empty() => {
                let sha256 = sha256([text, &sets.join("\n")].join("\n").as_bytes());
                let (path, text, sets) = (path.to_path_buf(), text.to_string(), sets.to_vec());
                Ok(Loaded { pipeline, path, sha256, text, sets, document })
            }
            _ => {
                problems.sort_by_key(|p| p.place.order());
                problems.truncate(MOST_FINDINGS);
                blame_sets(text, sets, &document, &mut problems);
                problems.sort_by_key(|p| p.place.order());
                let issues = problems.into_iter().map(|p| Issue::new(p, sets)).collect();
                Err(PipelineError::new(&path.display().to_string(), text, issues))
            }
        }
    }

    /// The overrides, as they were given.
    pub fn sets(&self) -> &[String] {
        &self.sets
    }

    /// Whether the pipeline, or an override, gives a value for the key at this path.
    pub fn says(&self, path: &str) -> bool {
        path.split('.').try_fold(self.document.root(), |at, part| at.get(part)).is_some()
    }

    /// An error about values of the pipeline that was found later, by their paths.
    pub fn errors_at(&self, problems: Vec<lorac_config::Problem>) -> PipelineError {
        let issue = |p: lorac_config::Problem| Issue::new(placed(&self.document, p), &self.sets);
        let issues = problems.into_iter().map(issue).collect();
        PipelineError::new(&self.path.display().to_string(), &self.text, issues)
    }
}

/// A document with overrides, and what is wrong with these or with it as YAML.
fn with_sets(text: &str, sets: &[String]) -> (Document, Vec<Problem>) {
    let mut document = Document::parse(text);
    let wrong = sets.iter().enumerate().filter_map(|(i, set)| document.set(i, set).err());
    let mut problems: Vec<Problem> = wrong.collect();
    problems.extend(document.problems().iter().cloned());
    (document, problems)
}

/// The pipeline of a document, as far as there is one, and what is wrong with it.
fn examine(document: &Document) -> (Option<Pipeline>, Vec<Problem>) {
    let found = Findings::new(document.is_cut());
    let pipeline = read::<Pipeline>(document.root(), &found);
    let mut checked = Problems::default();
    match &pipeline {
        Some(pipeline) => {
            pipeline.check(&mut checked);
            check_command(pipeline, document, &mut checked);
        }
        None => check_sections(document.root(), &found, &mut checked),
    }
    let checked = checked.finish().into_iter().filter(|p| !found.explain(document.root(), &p.path));
    let mut problems: Vec<Problem> = checked.map(|p| placed(document, p)).collect();
    problems.extend(found.problems());
    (pipeline, problems)
}

/// Gives problems of values of the file that an override has put something into, and that are none without it, the place
/// of the override.
fn blame_sets(text: &str, sets: &[String], document: &Document, problems: &mut [Problem]) {
    let of_file = |p: &Problem| matches!(p.place, Place::File { .. }) && p.code != "pipeline::missing_key";
    let mut before: Option<Vec<Problem>> = None;
    for index in 0..sets.len() {
        if !problems.iter().any(|p| of_file(p) && document.has_set(p.place, index)) {
            before = None;
            continue;
        }
        let without = before.take().unwrap_or_else(|| examine(&with_sets(text, &sets[..index]).0).1);
        let with = examine(&with_sets(text, &sets[..=index]).0).1;
        for problem in problems.iter_mut().filter(|p| of_file(p)) {
            let new = with.contains(problem) && !without.contains(problem);
            if new && document.has_set(problem.place, index) {
                problem.place = Place::Set { index };
            }
        }
        before = Some(with);
    }
}

fn placed(document: &Document, problem: lorac_config::Problem) -> Problem {
    let lorac_config::Problem { path, code, message, help } = problem;
    Problem { place: document.place(&path), code, message, help }
}

/// Refuses a command that stands in the file: whoever wrote that is not who runs it.
fn check_command(pipeline: &Pipeline, document: &Document, problems: &mut Problems) {
    if !pipeline.log.command.is_empty() && matches!(document.place("log.command"), Place::File { .. }) {
        let help = Some("give it where the run is started: --set \"log.command=[PROGRAM, ARGUMENT]\"".into());
        problems.report_with_help("log.command", "pipeline::command", "a pipeline's file runs no commands", help);
    }
}

/// Checks the sections that can be read, each for itself, of a pipeline that cannot.
fn check_sections(root: &Spanned<Node>, found: &Findings, problems: &mut Problems) {
    fn section<T: Check + DeserializeOwned>(
        root: &Spanned<Node>,
        path: &str,
        found: &Findings,
        problems: &mut Problems,
    ) {
        let below = path.split('.').try_fold(root, |at, part| at.get(part));
        if let Some(value) = below.filter(|node| !found.is_faulty(node)).and_then(|node| read::<T>(node, found)) {
            problems.within(path, |p| value.check(p));
        }
    }
    section::<TaskChoice>(root, "task", found, problems);
    let sources = root.get("data").and_then(|data| data.get("train"));
    match sources.map_or(1, Spanned::items) {
        1 => section::<Split>(root, "data.train", found, problems),
        n => (0..n).for_each(|i| section::<Split>(root, &format!("data.train.{i}"), found, problems)),
    }
    section::<HeldOut>(root, "data.eval", found, problems);
    section::<Train>(root, "train", found, problems);
    section::<Runtime>(root, "runtime", found, problems);
    section::<LogOptions>(root, "log", found, problems);
    section::<Metrics>(root, "metrics", found, problems);
    section::<Deploy>(root, "deploy", found, problems);
    for i in 0..root.get("adapt").map_or(0, Spanned::items) {
        section::<MethodChoice>(root, &format!("adapt.{i}"), found, problems);
    }
}

/// A key that no section has, and the one that may have been meant.
fn unknown_key(key: &str, known: &[&str]) -> (Problem, Option<String>) {
    let (help, meant) = match synonym(key) {
        Some(ours) => (format!("lorac says this as {ours}"), ours.split(':').next()),
        None => (offer(key, known), None),
    };
    let meant = meant.map(String::from).or_else(|| nearest(key, known).into_iter().next());
    let message = format!("unknown key `{}`", shortened(key));
    (Problem { code: "pipeline::unknown_key", message, place: Place::Nowhere, help: Some(help) }, meant)
}

/// A value that is none of a choice.
fn unknown_value(value: &str, known: &[&str]) -> Problem {
    let (message, help) = (format!("unknown `{}`", shortened(value)), Some(offer_value(value, known)));
    Problem { code: "pipeline::unknown_value", message, place: Place::Nowhere, help }
}

/// What may have been meant by a value that is none of a choice.
fn offer_value(value: &str, known: &[&str]) -> String {
    match value_synonym(value) {
        Some(ours) if known.contains(&ours) => format!("lorac says this as {ours}"),
        _ => offer(value, known),
    }
}

fn offer(word: &str, known: &[&str]) -> String {
    match nearest(word, known).first() {
        Some(best) => format!("nearest: {best}"),
        None => format!("known: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests;
