//! manifest.json: what went in, what was done, how good it is, what came out.

use super::{DataCard, OutputError, write_atomic};
use crate::pipeline::Loaded;
use crate::served::Served;
use crate::verify::VerifyReport;
use crate::writing::SHOWN;
use lorac_train::{Breakdown, Generated, Scores};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The record of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Manifest {
    pub lorac_version: String,
    /// Seconds since 1970, UTC.
    pub created: u64,
    /// Whether the result is what was promised.
    #[serde(default)]
    pub status: Status,
    /// The gates that were missed.
    #[serde(default)]
    pub gates: Vec<MissedGate>,
    pub command: String,
    pub pipeline: PipelineRecord,
    pub inputs: Vec<InputRecord>,
    /// What became of the rows of the data, and what its examples are like.
    #[serde(default)]
    pub data: DataCard,
    pub runtime: RuntimeRecord,
    pub targets: Vec<TargetRecord>,
    pub trainable_parameters: usize,
    pub model_parameters: usize,
    pub train: TrainRecord,
    pub eval: Evaluation,
    pub verify: VerifyReport,
    /// What those who run the model need to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served: Option<Served>,
    /// Largest resident size of the process, where the system tells.
    pub peak_memory_bytes: Option<u64>,
    /// What the user should know of the run, in words.
    #[serde(default)]
    pub notes: Vec<String>,
    pub artifacts: Vec<Artifact>,
}

/// How a run came out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Every gate was passed.
    #[default]
    Passed,
    /// A gate was missed: the model and what belongs to it have names that nobody deploys by accident.
    Rejected,
}

/// What a result was to reach and did not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MissedGate {
    /// Its key in the pipeline: `metrics.accuracy.min`.
    pub name: String,
    /// The bound; none for a number that had to be finite.
    pub expected: Option<f64>,
    /// The number that missed it.
    #[serde(deserialize_with = "lorac_train::number")]
    pub got: f64,
    /// The same in words.
    pub message: String,
}

/// The pipeline that was run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct PipelineRecord {
    pub name: String,
    pub path: String,
    /// Of the file's text and the overrides.
    pub sha256: String,
    /// The pipeline with defaults and overrides.
    pub resolved: serde_json::Value,
}

/// A file or folder that was read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct InputRecord {
    /// `model`, `tokenizer`, `data.train`, `data.eval` or `runtime`; of several sources of data `data.train.0`.
    pub role: String,
    pub source: String,
    pub sha256: String,
    pub path: String,
}

/// The execution engine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct RuntimeRecord {
    pub engine: String,
    pub provider: String,
    pub reason: String,
    pub threads: Option<usize>,
}

/// A weight that was adapted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct TargetRecord {
    pub name: String,
    pub roles: Vec<String>,
    /// The pattern that picked it.
    pub pattern: String,
    /// `[in, out]` of a matrix or a slice of one, else the weight's own.
    pub shape: Vec<usize>,
    /// LoRA rank r; none where the weight was adapted otherwise.
    pub rank: Option<usize>,
    /// What B A is multiplied by.
    pub scale: Option<f64>,
}

/// The training.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct TrainRecord {
    pub steps: u64,
    /// Examples of a step.
    #[serde(default)]
    pub batch: usize,
    pub epochs: f64,
    #[serde(deserialize_with = "lorac_train::number")]
    pub loss_first: f64,
    /// Mean of the last tenth of the steps.
    #[serde(deserialize_with = "lorac_train::number")]
    pub loss_last: f64,
    pub seconds: f64,
    pub tokens: u64,
    pub tokens_per_second: f64,
    /// The step whose parameters are deployed, where those are not the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployed_step: Option<u64>,
}

/// The same examples before and after.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Evaluation {
    pub before: Scores,
    pub after: Scores,
    /// The same examples class by class, after the training; none where nothing is classified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_class: Option<Breakdown>,
    /// Some of the texts that the model writes; none where no metric is of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub texts: Vec<WrittenTexts>,
}

/// What a model writes behind a prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrittenTexts {
    /// The prompt.
    pub prompt: String,
    /// What it wrote before the training.
    pub before: String,
    /// What it writes now.
    pub after: String,
    /// Texts each of which would be right.
    pub references: Vec<String>,
}

impl WrittenTexts {
    /// Those of the same prompts before and after a training.
    pub fn of(before: &[Generated], after: &[Generated]) -> Vec<WrittenTexts> {
        let one = |(before, after): (&Generated, &Generated)| WrittenTexts {
            prompt: after.prompt.clone(),
            before: before.text.clone(),
            after: after.text.clone(),
            references: after.references.clone(),
        };
        before.iter().zip(after).take(SHOWN).map(one).collect()
    }
}

/// A file that was written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Artifact {
    /// Relative to the output folder.
    pub path: String,
    pub sha256: String,
    pub size: u64,
    /// `model`, `weights`, `adapter`, `checkpoint`, `metrics`, `tensorboard` or `report`.
    pub kind: String,
}

/// An evaluation, as metrics.jsonl has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct MetricsEval {
    /// `before` or `after` the training, or `train` in it.
    pub eval: String,
    /// The step behind which it was made.
    #[serde(default)]
    pub step: u64,
    /// In the first line of a log, by which lorac knows its logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lorac_version: Option<String>,
    #[serde(flatten)]
    pub scores: Scores,
    /// Some of the texts that were written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub generated: Vec<Generated>,
}

impl MetricsEval {
    /// The line of an evaluation.
    pub fn new(when: &str, step: u64, scores: &Scores) -> MetricsEval {
        MetricsEval { eval: when.into(), step, lorac_version: None, scores: scores.clone(), generated: Vec::new() }
    }

    /// The same with some of the texts that were written.
    #[must_use]
    pub fn showing(self, texts: &[Generated]) -> MetricsEval {
        MetricsEval { generated: texts.iter().take(SHOWN).cloned().collect(), ..self }
    }

    /// The first line of a log.
    pub fn first(scores: &Scores) -> MetricsEval {
        let version = env!("CARGO_PKG_VERSION").to_string();
        MetricsEval { lorac_version: Some(version), ..MetricsEval::new("before", 0, scores) }
    }
}

impl PipelineRecord {
    /// The record of a pipeline that was read.
    pub fn new(loaded: &Loaded) -> PipelineRecord {
        PipelineRecord {
            name: loaded.pipeline.name.to_string(),
            path: loaded.path.display().to_string(),
            sha256: loaded.sha256.clone(),
            resolved: serde_json::to_value(&loaded.pipeline).unwrap_or_default(),
        }
    }
}

impl Manifest {
    /// Reads the manifest of an output folder.
    pub fn read(folder: &Path) -> Result<Manifest, OutputError> {
        let path = folder.join("manifest.json");
        let bytes = std::fs::read(&path).map_err(OutputError::io(&path))?;
        serde_json::from_slice(&bytes).map_err(|e| OutputError::content(&path, e))
    }

    /// Writes manifest.json into the folder. Returns its path.
    pub fn write(&self, folder: &Path) -> Result<PathBuf, OutputError> {
        let path = folder.join("manifest.json");
        let mut text = serde_json::to_vec_pretty(self).map_err(|e| OutputError::content(&path, e))?;
        text.push(b'\n');
        write_atomic(&path, &text)?;
        Ok(path)
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// Largest resident size of this process.
pub(crate) fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok()? * 1024)
}
