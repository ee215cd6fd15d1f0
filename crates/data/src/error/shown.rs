//! How messages show what files hold: on one line, without what a terminal would obey, and not at full length.

use super::Fault;
use std::fmt::{self, Display, Formatter};

pub(super) struct Faults<'a>(pub(super) &'a [Fault], pub(super) usize);

impl Display for Faults<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.0.iter().enumerate() {
            write!(f, "{}{}", if i > 0 { "\n" } else { "" }, fault.error)?;
            if fault.rows > 1 {
                let next: Vec<String> = fault.next.iter().map(usize::to_string).collect();
                let dots = if fault.rows - 1 > next.len() { ", ..." } else { "" };
                let s = if fault.rows == 2 { "" } else { "s" };
                write!(f, " ({} more row{s} like it: {}{dots})", fault.rows - 1, next.join(", "))?;
            }
        }
        match self.1 {
            0 => Ok(()),
            more => write!(f, "\n{more} more rows are wrong in other ways"),
        }
    }
}

/// A row, and the line that it begins on where that is another number.
pub(super) struct At(pub(super) usize, pub(super) Option<u64>);

impl Display for At {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "row {}", self.0)?;
        match self.1.filter(|line| *line != self.0 as u64) {
            Some(line) => write!(f, " (line {line})"),
            None => Ok(()),
        }
    }
}

pub(super) struct AtLeast(pub(super) usize, pub(super) bool);

impl Display for AtLeast {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.1 { "at least " } else { "" }, self.0)
    }
}

/// A path without what a terminal would obey.
pub(super) struct Path<'a>(pub(super) &'a std::path::Path);

impl Display for Path<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Plain(&self.0.to_string_lossy()))
    }
}

/// A text on one line and without what a terminal would obey.
pub(super) struct Plain<'a>(pub(super) &'a str);

impl Display for Plain<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            // Marks of direction change the order in which the rest of a line is shown.
            let hides = c.is_control()
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
            if hides { write!(f, "{}", c.escape_default())? } else { write!(f, "{c}")? }
        }
        Ok(())
    }
}

pub(super) struct List<'a>(pub(super) &'a [String]);

impl Display for List<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 12;
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (i, name) in self.0.iter().take(SHOWN).enumerate() {
            write!(f, "{}`{}`", if i > 0 { ", " } else { "" }, Short(name))?;
        }
        if self.0.len() > SHOWN {
            write!(f, ", ... ({} in all)", self.0.len())?;
        }
        Ok(())
    }
}

pub(super) struct Nearest<'a>(pub(super) &'a [String]);

impl Display for Nearest<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, " (nearest: {})", List(self.0)) }
    }
}

pub(super) struct Left(pub(super) usize, pub(super) usize);

impl Display for Left {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match (self.0, self.1) {
            (0, _) => f.write_str("it has no rows"),
            (read, 0) => write!(f, "the filter keeps none of its {read} rows"),
            (1, 1) => f.write_str("its only row is wrong, and is left out"),
            (read, skipped) if read == skipped => write!(f, "all {read} rows are wrong, and are left out"),
            (read, skipped) => {
                write!(
                    f,
                    "of its {read} rows {skipped} are wrong and left out, and the filter keeps none of the others"
                )
            }
        }
    }
}

pub(super) struct Taking<'a>(pub(super) &'a Option<usize>);

impl Display for Taking<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |take| write!(f, " and taking {take}"))
    }
}

pub(super) struct Short<'a>(pub(super) &'a str);

impl Display for Short<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 60;
        match self.0.char_indices().nth(SHOWN) {
            Some((end, _)) => write!(f, "{}...", Plain(&self.0[..end])),
            None => write!(f, "{}", Plain(self.0)),
        }
    }
}
