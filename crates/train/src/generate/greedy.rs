//! The likeliest token, each time.

use super::{Open, Rules, Search};

/// A text of the likeliest tokens.
pub(super) struct Greedy<'a> {
    rules: Rules<'a>,
    /// The row, while it goes on.
    open: Vec<Open>,
    found: Vec<i64>,
}

impl<'a> Greedy<'a> {
    pub(super) fn new(prompt: &[i64], rules: Rules<'a>) -> Greedy<'a> {
        Greedy { rules, open: vec![Open { ids: prompt.to_vec(), from: 0 }], found: Vec::new() }
    }
}

impl Search for Greedy<'_> {
    fn open(&self) -> &[Open] {
        &self.open
    }

    fn advance(&mut self, logits: &[&[f32]]) {
        let (Some(mut row), Some(logits)) = (self.open.pop(), logits.first()) else { return };
        let mut scores = logits.to_vec();
        self.rules.penalize(&row.ids, &mut scores);
        row.ids.push(likeliest(&scores));
        match self.rules.is_done(&row.ids) {
            true => self.found = self.rules.new_tokens(&row.ids).to_vec(),
            false => self.open.push(Open { from: 0, ..row }),
        }
    }

    fn found(&self) -> &[i64] {
        &self.found
    }
}

/// The first of the highest scores; a NaN is none.
fn likeliest(scores: &[f32]) -> i64 {
    let mut best = (0, f32::NEG_INFINITY);
    for (at, score) in scores.iter().enumerate() {
        if *score > best.1 {
            best = (at, *score);
        }
    }
    best.0 as i64
}

#[cfg(test)]
mod tests {
    use super::likeliest;

    #[test]
    fn the_first_of_the_highest_is_taken_and_a_nan_is_passed_over() {
        assert_eq!(likeliest(&[0.0, f32::NAN, 2.0, 2.0]), 2);
        assert_eq!([likeliest(&[f32::NAN]), likeliest(&[])], [0, 0]);
    }
}
