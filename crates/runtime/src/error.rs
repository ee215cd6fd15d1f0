//! What can go wrong between a model and its outputs.

use crate::DeviceChoice;
use lorac_ir::Fact;
use std::path::PathBuf;

/// An error of opening an engine, compiling a model or running a program.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// The file is not an ONNX Runtime library that this process can load.
    #[error("{} is not a usable ONNX Runtime library: {why}", path.display())]
    NotALibrary {
        /// The file.
        path: PathBuf,
        /// What the loader said.
        why: String,
    },
    /// The library is older than the interface that lorac speaks.
    #[error("{} is ONNX Runtime {version}; {need} or newer is needed", path.display())]
    TooOld {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: String,
        /// The oldest that works.
        need: &'static str,
    },
    /// Another library was loaded before: a process can hold only one.
    #[error("this process already runs on {}; {} needs a process of its own", loaded.display(), asked.display())]
    AnotherLibrary {
        /// The library in use.
        loaded: PathBuf,
        /// The library asked for.
        asked: PathBuf,
    },
    /// CUDA was asked for and cannot be had.
    #[error("cannot run on a GPU: {why} ({help})")]
    NoGpu {
        /// What failed.
        why: String,
        /// What to do about it.
        help: String,
    },
    /// The engine cannot run on the device asked for.
    #[error("{backend} does not run on device `{device}`")]
    WrongDevice {
        /// The engine.
        backend: String,
        /// The device asked for.
        device: DeviceChoice,
    },
    /// The embedded engine was asked for, and is not compiled in.
    #[error("this program was built without the embedded engine: build it with the feature `embedded`")]
    NotBuiltIn,
    /// No candidate could be opened.
    #[error("no engine could be opened{}", list(tried))]
    NoEngine {
        /// Each candidate and why it was refused.
        tried: Vec<String>,
    },
    /// A weight does not fit the model.
    #[error("weight `{name}`: {why}")]
    Weight {
        /// The initializer.
        name: String,
        /// What does not fit.
        why: String,
    },
    /// The engine refused the model.
    #[error("{backend} cannot compile the model{}: {why}", at(node))]
    Compile {
        /// The engine.
        backend: String,
        /// The node at fault, where the engine names it.
        node: Option<String>,
        /// What the engine said.
        why: String,
    },
    /// A run failed.
    #[error("{backend} failed{}: {why}", at(node))]
    Run {
        /// The engine.
        backend: String,
        /// The node at fault, where the engine names it.
        node: Option<String>,
        /// What the engine said.
        why: String,
    },
    /// The engine panicked. The program can be used again.
    #[error("{backend} panicked: {why}")]
    Panic {
        /// The engine.
        backend: String,
        /// The panic's message.
        why: String,
    },
    /// A name that is not an input.
    #[error("no input `{name}`{}", have_names(have))]
    NoSuchInput {
        /// The name given.
        name: String,
        /// The inputs there are.
        have: Vec<String>,
    },
    /// A name that is not an output.
    #[error("no output `{name}`{}", have_names(have))]
    NoSuchOutput {
        /// The name given.
        name: String,
        /// The outputs there are.
        have: Vec<String>,
    },
    /// A name that is not a state slot.
    #[error("no state `{name}`{}", have_names(have))]
    NoSuchState {
        /// The name given.
        name: String,
        /// The state slots there are.
        have: Vec<String>,
    },
    /// An input was not fed, or fed or bound twice.
    #[error("input `{name}` is fed {times} times")]
    Feed {
        /// The input.
        name: String,
        /// How often.
        times: usize,
    },
    /// A tensor does not fit what the graph declares.
    #[error("`{value}`: expected {want}, got {got}")]
    ShapeMismatch {
        /// The input, output or state slot.
        value: String,
        /// What the graph declares.
        want: Fact,
        /// What was given.
        got: Fact,
    },
    /// An element type that the engine cannot exchange.
    #[error("{backend} cannot exchange `{value}`: elements of {dtype}")]
    DType {
        /// The engine.
        backend: String,
        /// The value.
        value: String,
        /// Its element type.
        dtype: String,
    },
    /// The system refused a file or folder that compiling needs.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl RuntimeError {
    /// The stable code of the error, for messages and for those who look it up:
    ///
    /// | code | error |
    /// |---|---|
    /// | `runtime::not_a_library` | a file that is not a loadable ONNX Runtime |
    /// | `runtime::too_old` | a library that is older than lorac speaks |
    /// | `runtime::another_library` | a second library in one process |
    /// | `runtime::no_gpu` | CUDA was asked for and cannot be had |
    /// | `runtime::wrong_device` | an engine that does not run there |
    /// | `runtime::not_built_in` | the embedded engine, where it is not compiled in |
    /// | `runtime::no_engine` | no candidate could be opened |
    /// | `runtime::weight` | a bound tensor that does not fit the model |
    /// | `runtime::compile` | a model that the engine refuses |
    /// | `runtime::run` | a run that failed |
    /// | `runtime::panic` | an engine that panicked |
    /// | `runtime::no_such_input` | an unknown input |
    /// | `runtime::no_such_output` | an unknown output |
    /// | `runtime::no_such_state` | an unknown state slot |
    /// | `runtime::feed` | an input that is not fed exactly once |
    /// | `runtime::shape_mismatch` | a tensor of another type or shape than declared |
    /// | `runtime::dtype` | elements that the engine cannot exchange |
    /// | `runtime::io` | a file or folder that the system refuses |
    pub fn code(&self) -> &'static str {
        match self {
            RuntimeError::NotALibrary { .. } => "runtime::not_a_library",
            RuntimeError::TooOld { .. } => "runtime::too_old",
            RuntimeError::AnotherLibrary { .. } => "runtime::another_library",
            RuntimeError::NoGpu { .. } => "runtime::no_gpu",
            RuntimeError::WrongDevice { .. } => "runtime::wrong_device",
            RuntimeError::NotBuiltIn => "runtime::not_built_in",
            RuntimeError::NoEngine { .. } => "runtime::no_engine",
            RuntimeError::Weight { .. } => "runtime::weight",
            RuntimeError::Compile { .. } => "runtime::compile",
            RuntimeError::Run { .. } => "runtime::run",
            RuntimeError::Panic { .. } => "runtime::panic",
            RuntimeError::NoSuchInput { .. } => "runtime::no_such_input",
            RuntimeError::NoSuchOutput { .. } => "runtime::no_such_output",
            RuntimeError::NoSuchState { .. } => "runtime::no_such_state",
            RuntimeError::Feed { .. } => "runtime::feed",
            RuntimeError::ShapeMismatch { .. } => "runtime::shape_mismatch",
            RuntimeError::DType { .. } => "runtime::dtype",
            RuntimeError::Io { .. } => "runtime::io",
        }
    }
}

fn list(tried: &[String]) -> String {
    tried.iter().map(|t| format!("\n  {t}")).collect()
}

fn at(node: &Option<String>) -> String {
    node.as_ref().map_or_else(String::new, |n| format!(" at node `{n}`"))
}

fn have_names(have: &[String]) -> String {
    if have.is_empty() { " (there is none)".to_string() } else { format!(" (there is {})", have.join(", ")) }
}

/// The node that an engine's message names. ONNX Runtime writes `Name:'n'`, `Node (n)`, `Node:n ` or `In Node, ("n",`;
/// tract writes `#3 "n"`.
pub(crate) fn node_in(message: &str) -> Option<String> {
    let between = |open: &str, close: char| {
        let rest = message.split_once(open)?.1;
        let name = rest.split_once(close)?.0;
        (!name.is_empty()).then(|| name.to_string())
    };
    let tract = || {
        message.match_indices('#').find_map(|(i, _)| {
            let rest = message.get(i + 1..)?.trim_start_matches(|c: char| c.is_ascii_digit());
            let (name, _) = rest.strip_prefix(" \"")?.split_once('"')?;
            (!name.is_empty()).then(|| name.to_string())
        })
    };
    between("Name:'", '\'')
        .or_else(|| between("In Node, (\"", '"'))
        .or_else(|| between("Node (", ')'))
        .or_else(|| between("Node:", ' '))
        .or_else(tract)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_node_in_engine_messages() {
        let cases = [
            ("Non-zero status code returned while running Gather node. Name:'g1' Status Message: idx", Some("g1")),
            ("This is an invalid model. In Node, (\"n1\", Foo, \"\", -1) : ", Some("n1")),
            ("Node (mm) Op (MatMul) [ShapeInferenceError]", Some("mm")),
            ("Translating node #3 \"cumsum\" CumSum ToTypedTranslator", Some("cumsum")),
            ("Evaluating #12 \"a.b\" Gather", Some("a.b")),
            ("nothing # here", None),
        ];
        for (message, node) in cases {
            assert_eq!(node_in(message).as_deref(), node, "{message}");
        }
    }

    #[test]
    fn codes_are_stable() {
        let codes = [
            RuntimeError::NotBuiltIn.code(),
            RuntimeError::Feed { name: "x".into(), times: 2 }.code(),
            RuntimeError::NoSuchInput { name: "z".into(), have: Vec::new() }.code(),
        ];
        assert_eq!(codes, ["runtime::not_built_in", "runtime::feed", "runtime::no_such_input"]);
    }

    #[test]
    fn names_what_there_is() {
        let error = RuntimeError::NoSuchInput { name: "z".into(), have: vec!["x".into(), "y".into()] };
        assert_eq!(error.to_string(), "no input `z` (there is x, y)");
    }
}
