//! `runtime:`: the execution engine.

use super::check_pin;
use crate::engine::EngineChoice;
use crate::source::{Source, SourceError};
use lorac_config::{Check, Problems};
use lorac_runtime::{DeviceChoice, Options};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The execution engine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Runtime {
    /// auto (ORT_DYLIB_PATH, else the version that this lorac is made for), embedded (tract), a path to libonnxruntime, or pypi:onnxruntime==VERSION
    #[schemars(with = "String")]
    pub source: RuntimeSource,
    /// sha256 of the resolved source
    pub sha256: Option<String>,
    /// Processor or GPU
    pub provider: DeviceChoice,
    /// Threads; the machine's cores where not given
    pub threads: Option<usize>,
}

impl Runtime {
    /// How the engine is opened.
    pub fn options(&self) -> Options {
        Options { device: self.provider, threads: self.threads, ..Options::default() }
    }
}

/// Where the engine comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum RuntimeSource {
    /// The library that ORT_DYLIB_PATH names, else the version that this lorac is made for
    #[default]
    Auto,
    /// The engine compiled in
    Embedded,
    /// A library or package
    Source(Source),
}

impl RuntimeSource {
    /// What [`engine::open`](crate::engine::open) takes; `sha256` pins a library or package.
    pub fn choice<'a>(&'a self, sha256: Option<&'a str>) -> EngineChoice<'a> {
        match self {
            Self::Auto => EngineChoice::Auto,
            Self::Embedded => EngineChoice::Embedded,
            Self::Source(source) => EngineChoice::Source(source, sha256),
        }
    }
}

impl TryFrom<String> for RuntimeSource {
    type Error = SourceError;
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

impl Check for Runtime {
    fn check(&self, problems: &mut Problems) {
        if let RuntimeSource::Source(source) = &self.source {
            check_pin("source", source, self.sha256.as_deref(), problems);
        }
        if self.source == RuntimeSource::Embedded && self.provider == DeviceChoice::Cuda {
            let why = "the embedded engine runs on the processor: cuda needs a library of ONNX Runtime";
            problems.report("provider", "pipeline::provider", why);
        }
        if self.sha256.is_some() && !matches!(self.source, RuntimeSource::Source(_)) {
            let idle = "`sha256` pins a library or package: this source names none";
            problems.report("sha256", "pipeline::idle", idle);
        }
        problems.range("threads", self.threads.unwrap_or(1) as f64, 1.0, 1024.0);
    }
}
