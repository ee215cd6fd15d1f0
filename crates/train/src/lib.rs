//! The loop: one step after another, a schedule, checkpoints, metrics.
//!
//! This crate knows programs, batches and numbers; it must never know a graph, a model file or a pipeline.
//!
//! ```
//! use lorac_train::{Decay, Schedule};
//! let schedule = Schedule { lr: 1e-3, warmup: 2, total: 10, decay: Decay::Linear };
//! assert_eq!(schedule.at(0), 0.5e-3);
//! assert_eq!(schedule.at(2), 1e-3);
//! assert_eq!(schedule.at(10), 0.0);
//! ```

mod checkpoint;
mod error;
mod evaluate;
mod feed;
mod fit;
mod noise;
mod number;
mod schedule;
mod step;

pub use checkpoint::Checkpoint;
pub use error::TrainError;
pub use evaluate::{ClassScores, LanguageScores, NLL, Scores, TOKENS, evaluate_classes, evaluate_language};
pub use feed::{Constant, Dataset, Feeds, Labels};
pub use fit::{Event, Fit, Summary, fit};
pub use noise::Noise;
pub use number::number;
pub use schedule::{Decay, Schedule};
pub use step::{Step, StepResult};
