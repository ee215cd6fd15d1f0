//! The operator table: what each ONNX operator takes, infers, computes, costs, and how it is differentiated.
//!
//! One operator is one `const` in the file of its family; [`TABLE`] lists them, and [`register()`](register()) adds those of
//! a program. The crate knows no file format and no runtime. [`infer()`](infer()) fills in the facts of a graph,
//! [`evaluate`] computes it in f64, and [`Emit`] writes new nodes with handles that read like formulas.
//!
//! ```
//! use lorac_ops::{Array, evaluate, infer};
//! let text = "graph g(%x: f32[N,2]) -> %y { %y = Tanh(%x) : f32[..] }";
//! let mut graph = lorac_ir::parse(text)?;
//! infer(&mut graph)?;
//! assert_eq!(graph.fact(graph.outputs()[0]).to_string(), "f32[N,2]");
//! let x = Array::from_shape_vec(vec![1, 2], vec![0.0, 1.0])?;
//! let y = evaluate(&graph, &[("x", x)])?;
//! assert_eq!(y[0][[0, 1]], 1.0f64.tanh());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod backward;
mod bench;
mod case;
mod check;
mod emit;
mod eval;
mod family;
mod infer;
mod op;
mod registry;

pub use backward::{Backward, apply_rule, reduce_to};
pub use bench::{Bench, BenchError, Random, named};
pub use case::{Attribute, Case, Operand, case};
pub use check::check_gradient;
pub use emit::{Emit, Val};
pub use eval::{Args, Array, EvalError, array, evaluate, tensor};
pub use family::{BINARY, TABLE, UNARY};
pub use infer::{Ctx, InferError, Inferred, Input, ShapeData, infer, infer_node};
pub use op::{Grad, Lowering, Op, Projection, Projects, Traits, Vjp};
pub use registry::{RegisterError, find, register};
