//! lorac: a better ONNX model from an ONNX model and a YAML file.
//!
//! `lorac run pipeline.yaml` inserts LoRA branches (Hu et al. 2021) into an ONNX graph, differentiates it into plain ONNX
//! operators, trains it on a stock ONNX Runtime, folds B·A into W0 and writes a deployable model with no added latency.
//! This crate holds the pipeline and its [`run`](mod@run), and re-exports [`source`] and the graph API: [`ir`], [`ops`],
//! [`onnx`], [`passes`], [`runtime`], [`models`], [`data`], [`train`]. It must never know a command line or a terminal:
//! those are `lorac-cli`'s.
//!
//! Features: `embedded` (on by default) compiles tract in, `hub` the client of `hf:` sources, `report` the report.html
//! of a run.
//!
//! ```
//! let graph = lorac::ir::parse("graph g(%x: f32[N,4]) -> %y { %y = Relu(%x) : f32[N,4] }")?;
//! assert_eq!(lorac::inspect::summary(&graph, &[]).nodes, 1);
//! # Ok::<(), lorac::ir::ParseError>(())
//! ```

pub use {
    lorac_data as data, lorac_ir as ir, lorac_models as models, lorac_onnx as onnx, lorac_ops as ops,
    lorac_passes as passes, lorac_runtime as runtime, lorac_source as source, lorac_train as train,
};

mod arrays;
pub mod base;
mod chain;
pub mod coverage;
pub mod deploy;
pub mod engine;
pub mod error;
pub mod evaluate;
pub mod explain;
pub mod grad;
pub mod inputs;
pub mod inspect;
pub mod module_paths;
pub mod output;
pub mod pipeline;
pub mod predict;
pub mod program;
pub mod progress;
pub mod run;
pub mod served;
mod stop;
pub mod task;
pub mod verify;
pub mod writing;
