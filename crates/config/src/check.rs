//! What types cannot say: ranges, duplicates, combinations. All problems at once.

use std::fmt::Display;

/// A section that can be wrong although its keys and types are right.
pub trait Check {
    /// Reports every problem of the section.
    fn check(&self, problems: &mut Problems);
}

/// One thing that is wrong with a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key at fault, from the root: `adapt.0.lora.rank`.
    pub path: String,
    /// Stable name: `pipeline::range`.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

/// Collects problems below a path.
#[derive(Debug, Default)]
pub struct Problems {
    path: Vec<String>,
    found: Vec<Problem>,
}

impl Problems {
    /// Checks what lies below a key, or below a position of a list.
    pub fn within(&mut self, key: impl Display, check: impl FnOnce(&mut Problems)) {
        self.path.push(key.to_string());
        check(self);
        self.path.pop();
    }

    /// Reports a problem of the value of `key`; of the section itself where `key` is empty.
    pub fn report(&mut self, key: &str, code: &'static str, message: impl Display) {
        self.report_with_help(key, code, message, None);
    }

    /// As [`Problems::report`], with what to do.
    pub fn report_with_help(&mut self, key: &str, code: &'static str, message: impl Display, help: Option<String>) {
        let below = (!key.is_empty()).then(|| key.to_string());
        let path = self.path.iter().cloned().chain(below).collect::<Vec<_>>().join(".");
        self.found.push(Problem { path, code, message: message.to_string(), help });
    }

    /// Reports a number that is not within `min..=max`, or is NaN.
    pub fn range(&mut self, key: &str, x: f64, min: f64, max: f64) {
        if !(x >= min && x <= max) {
            let most = if max >= f64::MAX { String::new() } else { format!(" and at most {max}") };
            self.report(key, RANGE, format!("`{key}` is {x}: expected at least {min}{most}"));
        }
    }

    /// Reports a number that is not above 0 and at most `max`, or is NaN.
    pub fn positive(&mut self, key: &str, x: f64, max: f64) {
        if !(x > 0.0 && x <= max) {
            let most = if max >= f64::MAX { String::new() } else { format!(" and at most {max}") };
            self.report(key, RANGE, format!("`{key}` is {x}: expected a number above 0{most}"));
        }
    }

    /// Reports a count below `min`.
    pub fn at_least(&mut self, key: &str, n: usize, min: usize) {
        if n < min {
            self.report(key, RANGE, format!("`{key}` is {n}: expected at least {min}"));
        }
    }

    /// Every problem, in the order of the reports.
    #[must_use]
    pub fn finish(self) -> Vec<Problem> {
        self.found
    }
}

/// A number outside its range.
const RANGE: &str = "pipeline::range";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_have_the_path_of_their_key() {
        let mut p = Problems::default();
        p.within("adapt", |p| p.within(0, |p| p.range("rank", 0.0, 1.0, 8.0)));
        p.report("", "pipeline::x", "all of it");
        let found = p.finish();
        let seen: Vec<_> = found.iter().map(|p| (p.path.as_str(), p.message.as_str())).collect();
        assert_eq!(seen, [("adapt.0.rank", "`rank` is 0: expected at least 1 and at most 8"), ("", "all of it")]);
    }

    #[test]
    fn numbers_that_are_none_are_out_of_every_range() {
        let mut p = Problems::default();
        p.range("a", f64::NAN, 0.0, f64::MAX);
        p.positive("b", f64::NAN, 1.0);
        p.positive("c", 0.0, f64::MAX);
        p.positive("d", 1.0, 1.0);
        p.range("e", 0.0, 0.0, 0.0);
        assert_eq!(p.finish().iter().map(|p| p.path.clone()).collect::<Vec<_>>(), ["a", "b", "c"]);
    }
}
