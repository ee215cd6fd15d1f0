//! The sections of a pipeline. Sections say what, not how.

use super::Located;
use crate::source::Source;
use lorac_runtime::DeviceChoice;
use schemars::JsonSchema;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

/// A pipeline: from a model and data to a deployable model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pipeline {
    /// What the run is called; names its output folder
    pub name: Located,
    /// The model to start from
    pub model: SourceSpec,
    /// The tokenizer: a tokenizer.json. Default: the one beside the model
    pub tokenizer: Option<SourceSpec>,
    /// What the model is to learn
    #[schemars(with = "TaskForm")]
    pub task: Task,
    /// Examples
    pub data: Data,
    /// How the model is adapted
    pub adapt: Vec<Adapt>,
    /// How long and how fast it learns
    #[serde(default)]
    pub train: Train,
    /// What computes
    #[serde(default)]
    pub runtime: Runtime,
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

/// What the model is to learn.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// One label a text: a new head on the model's hidden states
    Classify(Classify),
    /// The next token of plain texts, by the model's own logits
    CausalLm(CausalLm),
}

/// A task, or the bare name of one that needs no settings.
#[derive(JsonSchema)]
#[serde(untagged)]
#[allow(dead_code)]
enum TaskForm {
    Bare(BareTask),
    Full(Task),
}

/// A task without settings.
#[derive(JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(dead_code)]
enum BareTask {
    /// The next token of plain texts, by the model's own logits
    CausalLm,
}

const TASKS: [&str; 2] = ["classify", "causal_lm"];

impl<'de> Deserialize<'de> for Task {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Task, D::Error> {
        d.deserialize_any(TaskVisitor)
    }
}

struct TaskVisitor;

impl<'de> Visitor<'de> for TaskVisitor {
    type Value = Task;

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "causal_lm, or one of {} with its settings", TASKS.join(" and "))
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Task, E> {
        match name {
            "causal_lm" => Ok(Task::CausalLm(CausalLm::default())),
            "classify" => Err(E::custom("classify needs its labels: classify: { labels: [...] }")),
            other => Err(E::unknown_variant(other, &TASKS)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Task, A::Error> {
        let task = match map.next_key::<String>()?.as_deref() {
            Some("classify") => Task::Classify(map.next_value()?),
            Some("causal_lm") => Task::CausalLm(map.next_value()?),
            Some(other) => return Err(de::Error::unknown_variant(other, &TASKS)),
            None => return Err(de::Error::custom("a task is missing")),
        };
        match map.next_key::<String>()? {
            None => Ok(task),
            Some(_) => Err(de::Error::custom("a pipeline has one task")),
        }
    }
}

impl Task {
    /// Names of the classes; none where the task has none.
    pub fn labels(&self) -> &[Located] {
        match self {
            Task::Classify(c) => &c.labels,
            Task::CausalLm(_) => &[],
        }
    }
}

/// The next token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CausalLm {
    /// The output of logits. Default: the one called logits, else the first float output of rank 3
    pub logits: Option<Located>,
}

/// One label a text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Classify {
    /// Names of the classes, in the order of the logits
    pub labels: Vec<Located>,
    /// How hidden states become one vector
    #[serde(default)]
    pub pool: Pooling,
    /// The output of hidden states. Default: the first float output of rank 3
    pub hidden: Option<Located>,
}

/// How hidden states become one vector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// The mean over the tokens that are no padding
    #[default]
    Mean,
    /// The first token
    Cls,
}

/// Examples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// Examples to learn from
    pub train: Split,
    /// Held-out examples to judge by; texts that stand here too are dropped from `train`
    pub eval: Split,
    /// Tokens a text is cut to
    #[serde(default = "max_length")]
    pub max_length: usize,
    /// Batches are padded to a multiple of this many tokens
    #[serde(default = "pad_to_multiple")]
    pub pad_to_multiple: usize,
    /// Order in which a file's examples are taken from, before `skip` and `take`
    #[serde(default)]
    pub shuffle_seed: u64,
}

fn max_length() -> usize {
    128
}

fn pad_to_multiple() -> usize {
    8
}

/// Examples out of files: exactly one of `csv`, `jsonl` and `txt`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// Comma-separated values with a header
    #[schemars(with = "Option<String>")]
    pub csv: Option<Source>,
    /// JSON Lines
    #[schemars(with = "Option<String>")]
    pub jsonl: Option<Source>,
    /// Plain text for a language model: a .txt file, or a folder of them
    #[schemars(with = "Option<String>")]
    pub txt: Option<Source>,
    /// sha256 that the file must have
    pub sha256: Option<String>,
    /// Names of the files in a folder of plain texts that are read: globs. Default: all
    #[serde(default)]
    pub include: Vec<Located>,
    /// Names of the files in a folder of plain texts that are not read: globs
    #[serde(default)]
    pub exclude: Vec<Located>,
    /// Tokens of the blocks that plain texts are cut into. Default: max_length
    pub block: Option<usize>,
    /// Column of the text
    pub text: Option<Located>,
    /// Column of the label
    pub label: Option<Located>,
    /// Names of labels by what the file has for them
    pub label_map: Option<BTreeMap<String, String>>,
    /// Rows to keep: column == "value" and other >= 3
    pub filter: Option<Located>,
    /// Examples left out at the start of the shuffled file
    #[serde(default)]
    pub skip: usize,
    /// Examples taken after that; all where not given
    pub take: Option<usize>,
}

/// A way of adapting a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Adapt {
    /// Low-rank branches (Hu et al. 2021)
    Lora(LoraSpec),
}

/// Low-rank branches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoraSpec {
    /// Matrices: role:query|key|value|output|up|gate|down|head, all-linear, or globs over names. Of a matrix that is query,
    /// key and value in one, a role means its columns
    pub targets: Vec<Located>,
    /// r
    #[serde(default = "rank")]
    pub rank: usize,
    /// alpha: branches are scaled by alpha / r
    #[serde(default = "alpha")]
    pub alpha: f64,
    /// Scale by alpha / sqrt(r) instead
    #[serde(default)]
    pub rslora: bool,
    /// Probability that an element of what a branch reads is dropped in a training step (PEFT's lora_dropout)
    #[serde(default)]
    pub dropout: f64,
}

fn rank() -> usize {
    8
}

fn alpha() -> f64 {
    16.0
}

/// How long and how fast the model learns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Train {
    /// Passes over the examples
    pub epochs: f64,
    /// At most this many steps
    pub steps: Option<usize>,
    /// Examples a step
    pub batch: usize,
    /// The optimizer
    pub optimizer: Optimizer,
    /// The learning rate over time
    pub schedule: Schedule,
    /// Longest gradient (global norm); 0 for any
    pub clip: f64,
    /// Seed of A, of the head and of the order of examples
    pub seed: u64,
    /// Batches of texts of similar length: less padding
    pub by_length: bool,
    /// Examples at once in evaluation
    pub eval_batch: usize,
    /// Steps between checkpoints
    pub checkpoint_every: Option<usize>,
}

impl Default for Train {
    fn default() -> Train {
        Train {
            epochs: 1.0,
            steps: None,
            batch: 16,
            optimizer: Optimizer::Adamw(Adamw::default()),
            schedule: Schedule::Linear(Warmup::default()),
            clip: 1.0,
            seed: 0,
            by_length: true,
            eval_batch: 32,
            checkpoint_every: None,
        }
    }
}

/// The optimizer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Optimizer {
    /// Adam with decoupled weight decay (Loshchilov & Hutter 2019)
    Adamw(Adamw),
}

impl Optimizer {
    /// AdamW's numbers.
    pub fn adamw(&self) -> &Adamw {
        let Optimizer::Adamw(a) = self;
        a
    }
}

/// AdamW's numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Adamw {
    /// Highest learning rate
    pub lr: f64,
    /// Decoupled weight decay
    pub weight_decay: f64,
    /// Decay of the first moment
    pub beta1: f64,
    /// Decay of the second moment
    pub beta2: f64,
    /// Added to the root of the second moment
    pub eps: f64,
}

impl Default for Adamw {
    fn default() -> Adamw {
        Adamw { lr: 5e-4, weight_decay: 0.01, beta1: 0.9, beta2: 0.999, eps: 1e-8 }
    }
}

/// The learning rate over time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// Up during the warm-up, then straight down to zero
    Linear(Warmup),
    /// Up during the warm-up, then level
    Constant(Warmup),
}

/// The start of a schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Warmup {
    /// Part of all steps, from 0 to 1
    pub warmup: f64,
}

impl Default for Warmup {
    fn default() -> Warmup {
        Warmup { warmup: 0.06 }
    }
}

/// What computes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Runtime {
    /// auto (the first that works), embedded (tract), a path to libonnxruntime, or pypi:onnxruntime==VERSION
    #[schemars(with = "String")]
    pub source: RuntimeSource,
    /// sha256 of the resolved source
    pub sha256: Option<String>,
    /// Processor or GPU
    pub provider: DeviceChoice,
    /// Threads; the machine's cores where not given
    pub threads: Option<usize>,
}

/// Where the engine comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum RuntimeSource {
    /// The first that works
    #[default]
    Auto,
    /// The engine compiled in
    Embedded,
    /// A library or package
    Source(Source),
}

impl TryFrom<String> for RuntimeSource {
    type Error = crate::source::SourceError;
    fn try_from(text: String) -> Result<RuntimeSource, Self::Error> {
        Ok(match text.as_str() {
            "auto" => RuntimeSource::Auto,
            "embedded" => RuntimeSource::Embedded,
            other => RuntimeSource::Source(other.parse()?),
        })
    }
}

impl From<RuntimeSource> for String {
    fn from(s: RuntimeSource) -> String {
        match s {
            RuntimeSource::Auto => "auto".into(),
            RuntimeSource::Embedded => "embedded".into(),
            RuntimeSource::Source(s) => s.to_string(),
        }
    }
}

/// What comes out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Deploy {
    /// Artifacts beside the manifest, the metrics and the report
    pub formats: Vec<Format>,
    /// The proof that folding changed nothing but the targets
    pub verify: Verify,
    /// What the result must reach, else the exit code is 1
    pub metrics: Option<Gates>,
}

impl Default for Deploy {
    fn default() -> Deploy {
        Deploy { formats: vec![Format::Onnx, Format::Peft], verify: Verify::default(), metrics: None }
    }
}

/// An artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// The deployable model; always written
    Onnx,
    /// The adapter as PEFT has it
    Peft,
}

/// The proof of a fold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Verify {
    /// Largest difference between outputs of base + adapter and of the deployed model
    pub max_abs_diff: f64,
    /// Held-out examples to run through both
    pub samples: usize,
}

impl Default for Verify {
    fn default() -> Verify {
        Verify { max_abs_diff: 1e-4, samples: 64 }
    }
}

/// What the result must reach.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gates {
    /// Lowest accuracy on the held-out examples
    pub accuracy_min: Option<f64>,
    /// Highest perplexity on the held-out texts
    pub perplexity_max: Option<f64>,
}
