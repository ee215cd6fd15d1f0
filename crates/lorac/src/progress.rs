//! What a run says of itself while it goes on. Nothing is drawn here.

use std::fmt::Debug;

/// Hears how far a run is. One piece of work goes on at a time.
pub trait Progress: Debug + Sync {
    /// A stage is done; `text` is a line that says what came out.
    fn line(&self, text: &str);
    /// Something that the user should know, although the work goes on.
    fn warning(&self, text: &str) {
        self.line(&format!("warning   {text}"));
    }
    /// Work of `len` parts begins: rows of an evaluation, steps of a training.
    fn begin(&self, what: &str, len: u64);
    /// The work has come to `position`; `message` may say more, and may be empty.
    fn at(&self, position: u64, message: &str);
    /// The work that began last has ended, done or not.
    fn end(&self);
}

/// Says nothing at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Silent;

impl Progress for Silent {
    fn line(&self, _text: &str) {}
    fn begin(&self, _what: &str, _len: u64) {}
    fn at(&self, _position: u64, _message: &str) {}
    fn end(&self) {}
}
