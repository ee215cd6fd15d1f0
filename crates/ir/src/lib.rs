//! The graph of lorac: nodes, values, tensors, typed ids, patches, a verifier and a text form.
//!
//! This crate knows no file format, no operator semantics and no runtime. A pass reads a [`Graph`],
//! builds a [`Patch`] and applies it atomically; [`verify`] names every broken invariant.
//!
//! ```
//! use lorac_ir::{parse, print, verify};
//! let graph = parse(
//!     r#"graph tiny(%x: f32[N,64]) -> %y {
//!       %w = weight "fc.w" f32[64,64]
//!       %h = MatMul(%x, %w) : f32[N,64]
//!       %y = Relu(%h) : f32[N,64]
//!     }"#,
//! )?;
//! assert!(verify(&graph).is_empty());
//! assert_eq!(print(&parse(&print(&graph))?), print(&graph));
//! # Ok::<(), lorac_ir::ParseError>(())
//! ```

mod attr;
mod dialect;
mod dim;
mod dtype;
mod fact;
mod function;
mod graph;
mod id;
mod node;
mod patch;
mod tensor;
mod text;
mod verify;
mod view;

pub use attr::{Attr, Attrs, Body};
pub use dialect::Dialect;
pub use dim::{Dim, SymId};
pub use dtype::DType;
pub use fact::{Fact, Shape};
pub use function::Function;
pub use graph::{Def, Graph, GraphError, Use, Value};
pub use id::{NodeId, TensorId, ValueId};
pub use node::{Node, OpName, Origin};
pub use patch::{Patch, PatchError};
pub use tensor::{Element, Tensor, TensorError};
pub use text::{ParseError, escape_control, is_control, parse, print};
pub use verify::{Violation, verify};
pub use view::{Edge, topological_order};
