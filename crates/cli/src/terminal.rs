//! The one way to the terminal: names and texts of foreign files pass here, and none of them reaches it as a command.

use lorac::error::Error;
use lorac::ir::{escape_control, is_control};
use std::borrow::Cow;
use std::fmt::Debug;
use std::io::{ErrorKind, Write};

/// A text as it is shown.
pub(super) fn shown(text: &str) -> Cow<'_, str> {
    escape_control(text)
}

/// A name or another text of a foreign file, as it is shown on the line that it has a place on: it ends no line.
pub(super) fn cell(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in shown(text).chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c => out.push(c),
        }
    }
    out
}

/// A text with another character of the same length in place of every control character, for those who point into it.
pub(super) fn covered(text: &str) -> String {
    let cover = |c: char| match c.len_utf8() {
        _ if !is_control(c) => c,
        // An end of line has two of them on some systems.
        _ if c == '\r' => ' ',
        1 => '?',
        2 => '¿',
        _ => '\u{fffd}',
    };
    text.chars().map(cover).collect()
}

/// JSON whose texts have no control characters: `serde_json` escapes those below 0x20 alone.
fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match is_control(c) {
            true => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => out.push(c),
        }
    }
    out
}

/// Prints a result, and does not mind a reader who has gone.
pub(super) fn print(text: &str) -> Result<(), Error> {
    write(&shown(text))
}

/// Prints a result that is JSON, with an end of line.
pub(super) fn print_json(text: &str) -> Result<(), Error> {
    write(&(json(text) + "\n"))
}

/// Prints lines of a result that has more, and whether somebody still reads them. Each is JSON, or it is shown.
pub(super) fn print_lines(lines: &[String], are_json: bool) -> Result<bool, Error> {
    let line = |line: &String| if are_json { json(line) } else { shown(line).replace('\n', "\\n") };
    write_while_read(&lines.iter().map(|one| line(one) + "\n").collect::<String>())
}

fn write(text: &str) -> Result<(), Error> {
    write_while_read(text).map(drop)
}

fn write_while_read(text: &str) -> Result<bool, Error> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(Error::Usage(format!("standard output: {e}"))),
        written => Ok(written.is_ok()),
    }
}

/// Says a line on standard error. A reader who has gone hears nothing.
pub(super) fn say(line: &str) {
    say_raw(&shown(line));
}

/// Says JSON on standard error.
pub(super) fn say_json(text: &str) {
    say_raw(&json(text));
}

/// Says what is drawn in colours, of texts that were [`shown`] and [`covered`].
pub(super) fn say_drawn(report: &impl Debug) {
    say_raw(&format!("{report:?}"));
}

fn say_raw(line: &str) {
    _ = writeln!(std::io::stderr().lock(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_or_covered() {
        let hostile = "a\u{1b}[31m\u{9b}b\u{7f}\u{202e}\tc\n";
        assert_eq!(shown(hostile), "a\\u{1b}[31m\\u{9b}b\\u{7f}\\u{202e}\tc\n");
        assert_eq!(cell(hostile), "a\\u{1b}[31m\\u{9b}b\\u{7f}\\u{202e}\\tc\\n");
        assert_eq!(covered("a\r\nb"), "a \nb");
        let covered = covered(hostile);
        assert_eq!((covered.as_str(), covered.len()), ("a?[31m¿b?\u{fffd}\tc\n", hostile.len()));
        let text = json(&serde_json::json!({ "name": hostile }).to_string());
        assert!(!text.contains(is_control), "{text:?}");
        let back: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(back["name"], hostile);
    }
}
