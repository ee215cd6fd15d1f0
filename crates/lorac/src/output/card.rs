//! The data card: what became of the rows of a run's data, and what its examples are like.

use super::StreamCard;
use serde::{Deserialize, Serialize};

/// What a run has learned from and is evaluated on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DataCard {
    /// Who has named the classes, where the task has any.
    pub labels_from: Option<LabelsFrom>,
    /// The training set.
    pub train: SplitCard,
    /// The held-out set; none where nothing is held out.
    pub eval: Option<SplitCard>,
    /// What is likely to be a mistake, in words.
    pub warnings: Vec<String>,
}

/// Who has named the classes of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LabelsFrom {
    /// The pipeline.
    Pipeline,
    /// The config.json of the model, whose own head is trained.
    Model,
    /// The training set: its labels, sorted, or the names of its columns.
    Data,
}

/// What became of the rows of a split, and what its examples are like.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SplitCard {
    /// What it was read from; nothing of a part of the training set.
    pub sources: Vec<SourceCard>,
    /// Rows of the files; of plain texts, files. Of a part of the training set, examples of it.
    pub read: usize,
    /// Rows that the filter, or `include` and `exclude`, left out.
    pub filtered: usize,
    /// Rows that were left out because something is wrong with them.
    pub skipped: usize,
    /// Examples that `skip` and `take` left out.
    pub unselected: usize,
    /// Examples that were split off to evaluate on.
    pub split_off: usize,
    /// Examples that were dropped because they are held out.
    pub held_out: usize,
    /// Examples that are there.
    pub examples: usize,
    /// Examples that an epoch draws: more or fewer than there are where sources have weights.
    pub drawn: usize,
    /// Examples whose inputs are those of an earlier one.
    pub duplicates: usize,
    /// Those of them that have another target.
    pub contradictions: usize,
    /// Targets that are strings of numbers, in a format that has numbers.
    pub number_strings: usize,
    /// Classes, and how many examples have them; of a classification of tokens, how many words.
    pub labels: Vec<LabelCount>,
    /// How many tokens examples have, special ones included.
    pub lengths: Lengths,
    /// What was cut off because it was too long.
    pub truncated: Truncated,
    /// What the tokenizer does not know.
    pub unknown: Unknown,
    /// Tokens of plain texts that fill no block.
    pub left_out: usize,
    /// Examples that were dropped because no token of them is learnt.
    pub unlearned: usize,
    /// How examples share rows, where they do.
    pub packed: Option<PackedCard>,
    /// Words that were cut off with their labels, of a classification of tokens.
    pub words_lost: usize,
    /// Words that have no token.
    pub words_empty: usize,
    /// What is wrong with the first rows that were left out, each with its file, row, line and column.
    pub errors: Vec<String>,
    /// Of a stream, what was counted as its rows were read: the rest of the card is of the first of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamCard>,
}

/// One source of a split.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceCard {
    /// The source as the pipeline names it.
    pub source: String,
    /// How often each example is drawn in an epoch.
    pub weight: f64,
    /// Rows of the file; of plain texts, files.
    pub read: usize,
    /// Examples of it that are there.
    pub examples: usize,
}

/// How examples share rows of tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PackedCard {
    /// Rows.
    pub rows: usize,
    /// Tokens that a row has room for.
    pub room: usize,
    /// Examples of a row, as a mean.
    pub examples_per_row: f64,
    /// The share of the room of all rows that tokens take.
    pub filled: f64,
}

impl PackedCard {
    /// In words.
    pub fn describe(&self) -> String {
        let PackedCard { rows, room, examples_per_row, filled } = self;
        let filled = 100.0 * filled;
        format!("{rows} rows of {room} tokens, {examples_per_row:.1} examples each; tokens fill {filled:.1} % of them")
    }
}

/// How many examples have a class.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LabelCount {
    /// The class.
    pub name: String,
    /// Its examples.
    pub examples: usize,
}

/// How many tokens examples have: of examples in the order of their lengths, the one that so many per cent reach at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Lengths {
    pub p50: usize,
    pub p90: usize,
    pub p99: usize,
    pub max: usize,
    /// Tokens of all examples.
    pub total: usize,
}

/// What was cut off because it was too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Truncated {
    /// Texts that were cut.
    pub texts: usize,
    /// Tokens that were cut off.
    pub tokens: usize,
    /// Whether they are more: of very long texts no more is looked at than is needed.
    pub at_least: bool,
}

/// What the tokenizer does not know; special tokens do not count.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Unknown {
    /// Tokens that stand for what the vocabulary does not have.
    pub tokens: usize,
    /// Their share of all tokens, between 0 and 1.
    pub share: f64,
    /// Texts of which nothing is known.
    pub texts: usize,
    /// The first of those, by file and row.
    pub rows: Vec<String>,
}

impl Lengths {
    /// Of these lengths, in any order: percentiles by the nearest rank.
    pub fn of(mut lengths: Vec<usize>) -> Lengths {
        lengths.sort_unstable();
        let at = |share: usize| {
            let rank = (lengths.len() * share).div_ceil(100).max(1);
            lengths.get(rank - 1).copied().unwrap_or(0)
        };
        let max = lengths.last().copied().unwrap_or(0);
        Lengths { p50: at(50), p90: at(90), p99: at(99), max, total: lengths.iter().sum() }
    }
}

impl SplitCard {
    /// In words; texts are cut at `max_length` tokens.
    pub fn describe(&self, max_length: usize) -> String {
        let of = if self.sources.is_empty() { "training examples" } else { "rows" };
        let mut words = vec![format!("{} examples of {} {of}", self.examples, self.read)];
        if self.drawn != self.examples {
            words.push(format!("{} drawn in an epoch", self.drawn));
        }
        let counts = [
            (self.filtered, "filtered out"),
            (self.skipped, "wrong and left out"),
            (self.unselected, "not taken"),
            (self.split_off, "held out to evaluate on"),
            (self.held_out, "dropped because they are held out"),
            (self.unlearned, "dropped because no token of them is learnt"),
        ];
        words.extend(counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")));
        let label = |l: &LabelCount| format!("{} `{}`", l.examples, l.name.escape_debug());
        let labels: Vec<String> = self.labels.iter().take(SHOWN_LABELS).map(label).collect();
        match self.labels.len() {
            0 => {}
            n if n > SHOWN_LABELS => words.push(format!("{}, ... ({n} labels)", labels.join(", "))),
            _ => words.push(labels.join(", ")),
        }
        if self.truncated.texts > 0 {
            let (cut, all) = (self.truncated.texts, self.examples);
            let share = 100.0 * cut as f64 / all.max(1) as f64;
            words.push(format!("cut {cut} of {all} texts ({share:.1} %) at {max_length} tokens"));
        }
        if self.left_out > 0 {
            words.push(format!("{} tokens at the ends of texts fill no block", self.left_out));
        }
        if self.words_lost > 0 {
            words.push(format!("{} words cut off with their labels", self.words_lost));
        }
        if self.words_empty > 0 {
            words.push(format!("{} words have no token", self.words_empty));
        }
        words.join("; ")
    }

    /// What its examples are like, in words.
    pub fn describe_tokens(&self) -> String {
        let Lengths { p50, p90, p99, max, total } = self.lengths;
        let mut words =
            vec![format!("{total} tokens; {p50} (50 %), {p90} (90 %), {p99} (99 %), {max} (most) an example")];
        if self.truncated.texts > 0 {
            let least = if self.truncated.at_least { "at least " } else { "" };
            words.push(format!("{least}{} cut off", self.truncated.tokens));
        }
        if self.unknown.tokens > 0 {
            words.push(format!("{:.1} % unknown", 100.0 * self.unknown.share));
        }
        if self.duplicates > 0 {
            words.push(format!("{} duplicates", self.duplicates));
        }
        words.join("; ")
    }

    /// Labels that no example has.
    pub fn absent(&self) -> Vec<&str> {
        self.labels.iter().filter(|l| l.examples == 0).map(|l| l.name.as_str()).collect()
    }
}

/// More labels than this are a count.
const SHOWN_LABELS: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_the_nearest_ranks() {
        let of = |lengths: Vec<usize>| {
            let Lengths { p50, p90, p99, max, total } = Lengths::of(lengths);
            [p50, p90, p99, max, total]
        };
        assert_eq!(of((1..=200).rev().collect()), [100, 180, 198, 200, 20_100]);
        assert_eq!(of(vec![7]), [7, 7, 7, 7, 7]);
        assert_eq!(of(vec![]), [0; 5]);
    }

    #[test]
    fn a_card_counts_what_is_there_and_says_what_is_not() {
        let label = |name: &str, examples| LabelCount { name: name.into(), examples };
        let card = SplitCard {
            sources: vec![SourceCard::default()],
            read: 12,
            filtered: 2,
            skipped: 2,
            unselected: 3,
            held_out: 1,
            examples: 4,
            drawn: 4,
            labels: vec![label("neg", 1), label("pos", 2), label("neutral", 0)],
            truncated: Truncated { texts: 2, tokens: 31, at_least: true },
            unknown: Unknown { tokens: 1, share: 0.015, ..Unknown::default() },
            lengths: Lengths { p50: 9, p90: 30, p99: 32, max: 32, total: 80 },
            duplicates: 1,
            ..SplitCard::default()
        };
        let want = "4 examples of 12 rows; 2 filtered out; 2 wrong and left out; 3 not taken; 1 dropped because they are \
                    held out; 1 `neg`, 2 `pos`, 0 `neutral`; cut 2 of 4 texts (50.0 %) at 32 tokens";
        assert_eq!(card.describe(32), want);
        let want = "80 tokens; 9 (50 %), 30 (90 %), 32 (99 %), 32 (most) an example; at least 31 cut off; 1.5 % unknown; \
                    1 duplicates";
        assert_eq!(card.describe_tokens(), want);
        assert_eq!(card.absent(), ["neutral"]);
        let sources = vec![SourceCard::default()];
        let plain = SplitCard { sources, read: 2, examples: 40, drawn: 80, left_out: 7, ..SplitCard::default() };
        let want = "40 examples of 2 rows; 80 drawn in an epoch; 7 tokens at the ends of texts fill no block";
        assert_eq!(plain.describe(32), want);
        let part = SplitCard { read: 30, examples: 3, drawn: 3, ..SplitCard::default() };
        assert_eq!(part.describe(32), "3 examples of 30 training examples");
    }

    #[test]
    fn a_card_of_another_version_is_read_as_far_as_it_is_known() {
        let card: DataCard = serde_json::from_str(r#"{ "train": { "examples": 3, "new": 1 } }"#).expect("reads");
        assert_eq!((card.train.examples, card.eval), (3, None));
    }
}
