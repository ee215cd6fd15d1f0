//! What the sections of a configuration share: a choice among several ([`choices!`]), checks that types cannot express
//! ([`Check`]) and the names that a user may have meant ([`nearest`]).
//!
//! A section is a plain struct: what a pipeline says under a key, what the Rust API takes, and what the JSON Schema
//! describes. This crate must never know which sections there are, nor how a configuration is written down: a problem
//! names the path of its key (`adapt.0.lora.rank`), and whoever read the file knows where that is.
//!
//! ```
//! use lorac_config::{Check, Problems};
//!
//! struct Warmup {
//!     steps: usize,
//! }
//!
//! impl Check for Warmup {
//!     fn check(&self, problems: &mut Problems) {
//!         problems.at_least("steps", self.steps, 1);
//!     }
//! }
//!
//! let mut problems = Problems::default();
//! problems.within("warmup", |p| Warmup { steps: 0 }.check(p));
//! let found = problems.finish();
//! assert_eq!((found[0].path.as_str(), found[0].message.as_str()), ("warmup.steps", "`steps` is 0: expected at least 1"));
//! ```

mod check;
mod choices;
mod nearest;
mod number_or_text;

pub use check::{Check, Problem, Problems};
#[doc(hidden)]
pub use choices::choice_schema;
pub use nearest::nearest;
pub use number_or_text::NumberOrText;

#[doc(hidden)]
pub use {schemars, serde};
