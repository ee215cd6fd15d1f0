//! Graph to graph, one file a pass, each a function that reads well alone.
//!
//! A pass never sees a file or a session. It reads a graph, applies one patch to it, and leaves it verified and with
//! its facts inferred.
//!
//! ```
//! use lorac_passes::{differentiate, mean_squared_error};
//! let text = "graph g(%x: f32[N,2], %w: f32[2,2], %t: f32[N,2]) -> %y { %y = MatMul(%x, %w) : f32[..] }";
//! let mut graph = lorac_ir::parse(text)?;
//! let (w, y, t) = (graph.find("w").unwrap(), graph.find("y").unwrap(), graph.find("t").unwrap());
//! let loss = mean_squared_error(&mut graph, y, t)?;
//! let grads = differentiate(&mut graph, loss, &[w])?;
//! assert_eq!(graph.fact(grads[0]).to_string(), "f32[2,2]");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod arena;
mod cumsum_to_i32;
mod dead;
mod dense;
mod differentiate;
pub mod dropout;
mod empty_cache;
mod error;
mod fold;
mod fold_constants;
mod fused_slice;
mod head;
mod inline;
mod instantiate;
mod layer_norm_stats;
mod lora;
mod loss;
mod lower;
mod matrix;
mod optimizer;
mod order;
mod prepare;
mod reassociate;
mod rewrite;
mod role;
mod select;
mod share_shapes;
mod straight_through;
mod trained;
mod unfreeze;
mod upgrade;

pub use arena::{Arena, Slot, pack};
pub use cumsum_to_i32::cumsum_to_i32;
pub use dead::remove_dead;
pub use dense::fuse_dense;
pub use differentiate::{active_nodes, differentiate, gradients};
pub use dropout::drop_inputs;
pub use empty_cache::{empty_cache, specialize_empty_cache};
pub use error::PassError;
pub use fold::{FoldError, fold_lora};
pub use fold_constants::fold_constants;
pub use fused_slice::FusedSlice;
pub use head::{Head, Pool, attach_head, hidden_states, language_logits};
pub use inline::{inline, take_branches};
pub use layer_norm_stats::expose_layer_norm_stats;
pub use lora::{Branch, Lora, insert_lora, insert_lora_for};
pub use loss::{causal_cross_entropy, causal_log_likelihood, cross_entropy, mean_squared_error};
pub use lower::lower;
pub use matrix::{Matrix, matrices};
pub use optimizer::{AdamW, Update, adamw};
pub use prepare::prepare;
pub use reassociate::reassociate;
pub use rewrite::rewrite;
pub use role::{Role, roles};
pub use select::{NoMatch, Target, group_by_weight, select};
pub use trained::trained;
pub use unfreeze::unfreeze;
pub use upgrade::{OPSET, upgrade};
