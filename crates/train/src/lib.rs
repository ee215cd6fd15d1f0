//! The loop: one step after another, a learning rate over time, checkpoints, evaluations.
//!
//! This crate knows graphs as what [`lorac_passes::training_step`] made of them, engines and batches; it must never know
//! what a model file, a pipeline or a task is.
//!
//! ```
//! use lorac_train::{LearningRate, Linear};
//! let rate = LearningRate { lr: 1e-3, total: 10, schedule: Linear { warmup: 0.2.into() }.into() };
//! assert_eq!((rate.at(0), rate.at(2), rate.at(10)), (0.5e-3, 1e-3, 0.0));
//! ```

mod ahead;
mod checkpoint;
mod error;
mod evaluate;
mod evaluations;
mod every;
mod feed;
mod fit;
mod generate;
mod history;
mod init;
mod metric;
mod noise;
mod number;
mod program;
mod schedule;
mod scores;
mod similar;
mod state;
mod step;
#[cfg(test)]
mod testing;

pub use ahead::{Drawn, Stream};
pub use checkpoint::{Checkpoint, Checkpoints, Kept};
pub use error::TrainError;
pub use evaluate::{Evaluate, evaluate};
pub use evaluations::{Evaluations, Patience};
pub use every::Every;
pub use feed::{Binding, CAUSAL_MASK, Feeds, PAIR_MASK, ZeroInput};
pub use fit::{Event, Fit, Summary, fit};
pub use generate::{CachePair, Decoder, DecoderPorts, Encoder, Generate, Going, NextToken, Scored, Writing, generate};
pub use history::{Best, History, Waiting};
pub use init::{derive, directions_of_inputs, initial_theta, look, with_directions};
pub use metric::*;
pub use noise::Noise;
pub use number::number;
pub use program::{compile_graph, noise, theta_program, training_program};
pub use schedule::*;
pub use scores::{Score, Scores};
pub use state::State;
pub use step::{Step, StepResult};
