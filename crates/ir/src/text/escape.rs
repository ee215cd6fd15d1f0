//! Characters that act on a terminal instead of being shown.

use std::borrow::Cow;
use std::fmt::Write;

/// Whether a character moves, hides or reorders others instead of being shown: control characters but line feed and tab,
/// and those of the direction of writing.
pub fn is_control(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        c => c.is_control(),
    }
}

/// The text with its control characters as `\u{1b}`, so that names out of foreign files do nothing to a terminal.
///
/// ```
/// assert_eq!(lorac_ir::escape_control("red\u{1b}[31m"), "red\\u{1b}[31m");
/// ```
pub fn escape_control(text: &str) -> Cow<'_, str> {
    if !text.contains(is_control) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match is_control(c) {
            true => _ = write!(out, "\\u{{{:x}}}", u32::from(c)),
            false => out.push(c),
        }
    }
    Cow::Owned(out)
}
