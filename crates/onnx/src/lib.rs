//! `.onnx` files to and from [`lorac_ir::Graph`], at any size.
//!
//! [`load`] maps a file and decodes it without copying a weight; [`encode`] and [`save`] write a graph; [`patch`] makes
//! the deployable model, which is the user's file with the bytes of some weights replaced; [`compare`] proves that
//! nothing else changed; [`wire`] steps over protobuf messages without decoding them. This crate knows no operator semantics and no runtime, and never runs a model.
//!
//! ```
//! use lorac_onnx::{EncodeOptions, SaveOptions, encode, load, save};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let graph = lorac_ir::parse(
//!     r#"graph tiny(%x: f32[N,4]) -> %y {
//!       %w = weight "fc.w" f32[4,4]
//!       %y = MatMul(%x, %w) : f32[N,4]
//!     }"#,
//! )?;
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("tiny.onnx");
//! save(&graph, &path, &SaveOptions::default())?;
//!
//! let model = load(&path)?;
//! assert_eq!(model.graph.inputs().len(), 1);
//! let step = encode(&model.graph, &EncodeOptions { inline_limit: 16, ..EncodeOptions::default() })?;
//! assert_eq!(step.external[0].0, "fc.w"); // bound from memory by a runtime
//! # Ok(())
//! # }
//! ```

mod append;
mod attr;
mod body;
mod check;
mod compare;
mod encode;
mod error;
mod external;
mod fact;
pub mod field_number;
mod fresh;
mod layout;
mod load;
mod map;
mod model;
mod order;
mod output;
mod part;
mod patch;
mod problem;
pub mod proto;
mod save;
mod scope;
mod splice;
mod tensor;
pub mod wire;

pub use append::Appendix;
pub use attr::read_attr;
pub use check::check_patch;
pub use compare::{Comparison, Inserted, compare};
pub use encode::{EncodeOptions, Encoded, encode};
pub use error::OnnxError;
pub use load::{decode, load};
pub use model::{Location, Model, ModelPart};
pub use part::Part;
pub use patch::{Changed, Edit, PatchReport, patch};
pub use problem::{ExternalFault, Problem, TensorFault};
pub use save::{SaveOptions, save};
pub use scope::{ModuleScope, module_scopes};
pub use tensor::read_tensor;
