//! Graph to graph, one file per pass, each a function that reads well alone.
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

mod axes_as_attributes;
mod buffer;
mod cache_shape;
mod copy;
mod cumsum_to_i32;
mod cut;
mod dead;
mod dense;
mod differentiate;
pub mod dropout;
mod dropout_mask;
mod empty_cache;
mod error;
mod first_look;
mod fix;
mod fold;
mod fold_constants;
mod fused_slice;
pub mod grad;
mod graft;
mod half_gemm;
mod head;
mod inline;
mod input_limits;
mod instantiate;
mod isolate;
mod join;
mod layer;
mod layer_norm_stats;
mod loss;
mod lower;
mod matrix;
mod method;
mod names;
mod next_token;
mod no_match;
mod objective;
mod obstacle;
mod optimizer;
mod order;
mod pack;
mod param;
mod peak;
mod prepare;
mod product_bias;
mod readable;
mod reassociate;
mod rewrite;
mod role;
mod select;
mod sequence;
mod share_shapes;
mod stack;
mod static_lists;
mod straight_through;
mod tables_and_kernels;
mod target;
mod trail;
mod trained;
mod unfreeze;
mod untie;
mod upgrade;
mod vocabulary;

pub use axes_as_attributes::axes_as_attributes;
pub use cumsum_to_i32::cumsum_to_i32;
pub use cut::{Cut, cut};
pub use dead::remove_dead;
pub use dense::fuse_dense;
pub use differentiate::{active_nodes, differentiate, differentiate_from, gradients};
pub use dropout::drop_inputs;
pub use dropout_mask::expose_dropout_masks;
pub use empty_cache::{empty_cache, specialize_empty_cache};
pub use error::PassError;
pub use first_look::{FedMatrix, FirstLook, GradientsLook, InputsLook, before_the_look, first_look};
pub use fix::fix;
pub use fold::{FoldError, column_norms, fold_low_rank, fold_magnitude, fold_values};
pub use fold_constants::fold_constants;
pub use fused_slice::FusedSlice;
pub use graft::graft;
pub use half_gemm::half_gemm_to_matmul;
pub use head::{Head, Pool, hidden_states, language_logits, unit};
pub use inline::{inline, take_branches};
pub use input_limits::{FixedInput, InputLimits, InputStats, LimitExceeded, Table, fixed_input, input_limits};
pub use isolate::{EXAMPLE_IDS, EXAMPLE_POSITIONS, Isolated, isolate_examples};
pub use join::{Joined, join};
pub use layer::Layers;
pub use layer_norm_stats::expose_layer_norm_stats;
pub use loss::{
    Alike, BinaryCrossEntropy, CrossEntropy, Distance, InBatch, LOSS, LossTerms, causal_cross_entropy, cosine_terms,
    cross_entropy, cross_entropy_terms, mean_squared_error, next_token_terms, squared_error_terms,
};
pub use lower::lower;
pub use matrix::{Matrix, matrices};
pub use method::*;
pub use names::{Names, TARGETS};
pub use next_token::{NEXT_AT, NEXT_LOGITS, expose_next_token};
pub use no_match::{NoMatch, NoMatches};
pub use objective::{Attached, Objective};
pub use obstacle::Obstacle;
pub use optimizer::*;
pub use pack::{Packed, THETA, pack};
pub use param::{
    Factor, FactorPair, FactorSource, Group, Init, Layout, LayoutError, Param, ParamValues, Slot, WeightColumns,
};
pub use peak::peak_bytes;
pub use prepare::prepare;
pub use product_bias::product_bias;
pub use readable::{inlined, readable};
pub use reassociate::reassociate;
pub use rewrite::rewrite;
pub use role::{Role, roles};
pub use select::{LeftOut, left_out, select, slices};
pub use sequence::{
    Caches, Emitted, Evaluated, Gradients, LOSS_COUNT, LOSS_SUM, Observer, Training, TrainingSpec, Writer, evaluation,
    for_dialect, training_step, writer,
};
pub use static_lists::resolve_lists;
pub use tables_and_kernels::ReadAs;
pub use target::{Target, group_by_weight};
pub use trained::trained;
pub use unfreeze::unfreeze;
pub use untie::untie;
pub use upgrade::{OPSET, upgrade};
pub use vocabulary::{HiddenGrad, chunk_vocabulary};
