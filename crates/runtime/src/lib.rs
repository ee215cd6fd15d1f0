//! Engines behind one interface: ONNX bytes and weights become a [`Program`] whose state stays on the device.
//!
//! Two engines: ONNX Runtime, loaded from a library file at run time ([`open_onnxruntime`]), and tract, compiled in
//! (`embedded`, a cargo feature that is on by default). [`discover`] lists what a machine offers, [`open_first`] takes
//! the first that works and says why.
//!
//! This crate must never know what a graph computes, where a model came from, or that anything is trained: it sees
//! serialized models, tensors and names. Inside lorac it depends on the tensors of `lorac-ir` and on `lorac-onnx`'s way
//! to step over a serialized model.
//!
//! ```
//! use lorac_runtime::{Options, Search, discover, open_first};
//! let candidates = discover(&Search::default());
//! match open_first(&candidates, &Options::default()) {
//!     Ok(opened) => println!("{}: {}", opened.backend.name(), opened.backend.reason()),
//!     Err(why) => println!("{why}"),
//! }
//! ```

mod backend;
mod cores;
mod discover;
#[cfg(feature = "embedded")]
mod embedded;
mod error;
mod gpu;
mod library;
mod manifest;
mod onnxruntime;
mod ports;

pub use backend::{Backend, Device, DeviceChoice, Optimization, Options, Program, Source, StateSlot};
pub use discover::{Candidate, Engine, Found, Opened, Search, discover, open, open_first};
#[cfg(feature = "embedded")]
pub use embedded::{TRACT, embedded};
pub use error::RuntimeError;
pub use library::{find_libraries, library_among, wheel_library};
pub use onnxruntime::{ONNX_RUNTIME, open_onnxruntime, take_log};
pub use ports::Port;
