//! Names that nothing else has.

use std::collections::HashMap;

/// Makes names out of others, each in time that does not depend on how many were made of the same one. A name that is in
/// use stays in use.
#[derive(Debug, Default)]
pub(crate) struct FreshNames {
    /// The number to try next, by what it is put behind; none before the first try.
    next: HashMap<String, u64>,
}

impl FreshNames {
    /// `base`, or `base` with the first number that makes it free.
    pub(crate) fn fresh(&mut self, base: &str, is_used: impl Fn(&str) -> bool) -> String {
        if !self.next.contains_key(base) && !is_used(base) {
            return base.to_string();
        }
        let next = self.next.entry(base.to_string()).or_insert(1);
        loop {
            let name = format!("{base}_{next}");
            *next += 1;
            if !is_used(&name) {
                return name;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_first_free_number_is_taken_and_none_is_tried_twice() {
        let mut used: HashSet<String> = ["a", "a_2"].map(String::from).into();
        let mut names = FreshNames::default();
        for want in ["a_1", "a_3", "a_4"] {
            let name = names.fresh("a", |n| used.contains(n));
            assert_eq!(name, want);
            used.insert(name);
        }
        assert_eq!(names.fresh("b", |n| used.contains(n)), "b");
        let tries = std::cell::Cell::new(0);
        for _ in 0..1000 {
            let name = names.fresh("a", |n| {
                tries.set(tries.get() + 1);
                used.contains(n)
            });
            used.insert(name);
        }
        assert_eq!(tries.get(), 1000);
    }
}
