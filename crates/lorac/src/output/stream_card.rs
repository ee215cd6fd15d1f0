//! What was counted as the rows of a stream were read.

use super::{SourceCard, SplitCard, Truncated};
use lorac_data::Measure;
use serde::{Deserialize, Serialize};

/// What became of the rows of a stream, in the pass over its file that went furthest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamCard {
    /// Rows that were read.
    pub read: usize,
    /// Whether they are all that a training reads.
    pub whole: bool,
    /// Rows that the filter left out.
    pub filtered: usize,
    /// Rows that were left out because something is wrong with them.
    pub skipped: usize,
    /// Rows that `skip` left out.
    pub unselected: usize,
    /// Examples that were dropped because they are held out.
    pub held_out: usize,
    /// Examples that were dropped because no token of them is learnt.
    pub unlearned: usize,
    /// Examples that the others became.
    pub examples: usize,
    /// How many of them became tokens: none does where rows are only counted, and nothing depends on their tokens.
    pub encoded: usize,
    /// What was cut off of those.
    pub truncated: Truncated,
    /// What is wrong with the first rows that were left out, each with its file, row, line and column.
    pub errors: Vec<String>,
}

impl StreamCard {
    /// Takes what a pass has counted, where it went further.
    pub(crate) fn further(&mut self, pass: &StreamCard) {
        let (own, other) = ((self.encoded, self.truncated), (pass.encoded, pass.truncated));
        if (pass.read, pass.whole) >= (self.read, self.whole) {
            *self = pass.clone();
        }
        (self.encoded, self.truncated) = if other.0 >= own.0 { other } else { own };
    }

    /// The card of the examples that came first, where these are all so far.
    pub(crate) fn of_first(&self, source: &str) -> SplitCard {
        SplitCard {
            sources: vec![SourceCard {
                source: source.to_string(),
                weight: 1.0,
                read: self.read,
                examples: self.examples,
            }],
            read: self.read,
            filtered: self.filtered,
            skipped: self.skipped,
            unselected: self.unselected,
            held_out: self.held_out,
            unlearned: self.unlearned,
            errors: self.errors.clone(),
            stream: Some(self.clone()),
            ..SplitCard::default()
        }
    }

    /// In words.
    pub fn describe(&self) -> String {
        let so_far = if self.whole { "" } else { " so far" };
        let mut words = vec![format!("{} examples of {} rows that were read{so_far}", self.examples, self.read)];
        let counts = [
            (self.filtered, "filtered out"),
            (self.skipped, "wrong and left out"),
            (self.unselected, "not taken"),
            (self.held_out, "dropped because they are held out"),
            (self.unlearned, "dropped because no token of them is learnt"),
        ];
        words.extend(counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")));
        let Truncated { texts, tokens, at_least } = self.truncated;
        if texts > 0 {
            let (least, all) = (if at_least { "at least " } else { "" }, self.encoded);
            words.push(format!("cut {texts} of {all} texts, {least}{tokens} tokens"));
        }
        words.join("; ")
    }
}

impl Truncated {
    /// Counts a text.
    pub(crate) fn add(&mut self, measure: Measure) {
        self.texts += usize::from(measure.is_cut());
        self.tokens += measure.lost;
        self.at_least |= measure.more;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pass_that_went_furthest_counts_and_cut_texts_of_the_one_that_made_most_tokens() {
        let mut card = StreamCard::default();
        let cut = Truncated { texts: 2, tokens: 9, at_least: false };
        let first = StreamCard { read: 5, examples: 4, encoded: 4, skipped: 1, truncated: cut, ..card.clone() };
        card.further(&first);
        assert_eq!(card, first);
        let all = StreamCard { read: 9, whole: true, examples: 7, skipped: 2, ..StreamCard::default() };
        card.further(&all);
        assert_eq!(card, StreamCard { encoded: 4, truncated: cut, ..all.clone() });
        card.further(&StreamCard { whole: false, ..all.clone() });
        assert_eq!((card.whole, card.read), (true, 9));
        card.further(&StreamCard { encoded: 6, ..first });
        assert_eq!((card.read, card.encoded), (9, 6));
        assert_eq!(
            card.describe(),
            "7 examples of 9 rows that were read; 2 wrong and left out; cut 2 of 6 texts, 9 tokens"
        );
        let part = StreamCard { read: 3, held_out: 1, examples: 2, ..StreamCard::default() };
        let want = "2 examples of 3 rows that were read so far; 1 dropped because they are held out";
        assert_eq!(part.describe(), want);
    }
}
