//! What the codes of errors mean: `lorac explain CODE`.

use crate::error::{Class, Error};
use lorac_config::nearest;
use serde::Serialize;

/// A code, and what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The code.
    pub code: &'static str,
    /// How a command that ends with it ends.
    pub class: Class,
    /// What it means and what to do.
    pub text: &'static str,
}

/// The explanation of a code.
///
/// # Errors
/// A code that no error has, with the nearest ones.
pub fn explain(code: &str) -> Result<&'static Explanation, Error> {
    let found = CODES.iter().find(|e| e.code == code);
    found.ok_or_else(|| {
        let near = nearest(code, CODES.iter().map(|e| e.code)).join(", ");
        let near = if near.is_empty() { String::new() } else { format!("; nearest: {near}") };
        Error::Usage(format!("no error has the code `{code}`{near}"))
    })
}

/// Every code.
pub static CODES: &[Explanation] = &[];
