//! Sentences of words, each with its tag.

use super::{Encode, Encodings, LostWords};
use crate::batch::IGNORE;
use crate::each::each;
use crate::error::DataError;
use crate::example::{Example, Field, LABELS};
use crate::label::Labels;
use crate::row::Row;
use crate::tokenize::{EncodedWords, Tokenizer};
use lorac_config::{Check, Problems};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Lists of words and of their tags. Each row becomes `input_ids` and `token_type_ids`, every word tokenized for itself,
/// special tokens around them and cut to the tokenizer's maximum, and labels, one a token: that of its word for the first token
/// of a word, [`IGNORE`] for special tokens. Errors: `TagCount`, `UnknownLabel`, `Encode`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Words {
    /// Column of the words
    pub text: String,
    /// Column of their tags
    pub label: String,
    /// Names of the tags
    pub labels: Vec<String>,
    /// Names of tags by what the file has for them
    pub label_map: Option<BTreeMap<String, String>>,
    /// Which tokens of a word have its label
    pub pieces: Pieces,
}

/// Which tokens of a word have its label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pieces {
    /// The first one; the others do not count
    #[default]
    First,
    /// All of them; those behind the first of a word that begins a span (B-X) are within it (I-X)
    All,
}

impl Check for Words {
    fn check(&self, _: &mut Problems) {}
}

impl Encode for Words {
    fn columns(&self) -> Vec<&str> {
        vec![&self.text, &self.label]
    }

    fn one_per_row(&self) -> bool {
        true
    }

    fn check_row(&self, row: &Row) -> Result<(), DataError> {
        self.read(row, &Labels::new(&self.labels, self.label_map.as_ref())?).map(drop)
    }

    fn encode(&self, rows: &[Row], tokenizer: Option<&Tokenizer>) -> Result<Encodings, DataError> {
        let tokenizer = tokenizer.ok_or(DataError::NoTokenizer { inputs: "words" })?;
        let labels = Labels::new(&self.labels, self.label_map.as_ref())?;
        let read = each(rows, |row| self.read(row, &labels))?;
        let (sentences, tags): (Vec<Vec<String>>, Vec<Vec<usize>>) = read.into_iter().unzip();
        let encoded = tokenizer.encode_words(&sentences)?;
        let count = |of: fn(&EncodedWords) -> usize| encoded.iter().map(of).sum();
        let words = LostWords { lost: count(|one| one.lost), empty: count(|one| one.empty) };
        let measures = encoded.iter().map(|one| one.measure).collect();
        let inside = self.inside();
        let example = |(one, tags): (EncodedWords, &Vec<usize>)| Example {
            fields: vec![
                (LABELS, Field::Tokens { ids: self.targets(&one.words, tags, &inside), pad: IGNORE }),
                ("input_ids", Field::Tokens { ids: one.ids, pad: tokenizer.pad_id() }),
                ("token_type_ids", Field::Tokens { ids: one.type_ids, pad: 0 }),
            ],
        };
        let examples = encoded.into_iter().zip(&tags).map(example).collect();
        Ok(Encodings { examples, measures, words, ..Encodings::default() })
    }
}

impl Words {
    /// The words of a row and the tag of each.
    ///
    /// # Errors
    /// `MissingField`, `WrongType`, `TagCount`, `UnknownLabel`.
    fn read(&self, row: &Row, labels: &Labels) -> Result<(Vec<String>, Vec<usize>), DataError> {
        let words = row.list(&self.text)?;
        let tags = labels.indices(row, &self.label)?;
        match words.len() == tags.len() {
            true => Ok((words, tags)),
            false => Err(DataError::TagCount {
                path: row.path.to_path_buf(),
                row: row.position,
                line: row.line,
                text: self.text.as_str().into(),
                tokens: words.len(),
                label: self.label.as_str().into(),
                tags: tags.len(),
            }),
        }
    }

    /// The label of the tokens behind the first of a word, by that of the word.
    fn inside(&self) -> Vec<usize> {
        let of = |(at, name): (usize, &String)| {
            let within = name.strip_prefix("B-").map(|kind| format!("I-{kind}"));
            within.and_then(|name| self.labels.iter().position(|other| *other == name)).unwrap_or(at)
        };
        self.labels.iter().enumerate().map(of).collect()
    }

    fn targets(&self, words: &[Option<usize>], tags: &[usize], inside: &[usize]) -> Vec<i64> {
        let mut last = None;
        let mut target = |word: &Option<usize>| {
            let first = *word != last;
            last = *word;
            let tag = word.and_then(|word| tags.get(word));
            let tag = match (first, self.pieces) {
                (true, _) => tag,
                (false, Pieces::First) => None,
                (false, Pieces::All) => tag.and_then(|tag| inside.get(*tag)),
            };
            tag.map_or(IGNORE, |tag| *tag as i64)
        };
        words.iter().map(&mut target).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoded::Measure;
    use crate::row::Cell;
    use crate::tokenize::tests::letters;
    use std::path::Path;

    fn row(words: &str, tags: &str) -> Row {
        let cells = [words, tags].map(|text| Cell::Text(text.to_owned())).to_vec();
        Row::new(Path::new("f").into(), 4, ["w", "t"].map(str::to_owned).to_vec().into(), cells)
    }

    fn words(pieces: Pieces) -> Words {
        let labels = ["O", "B-x", "I-x"].map(str::to_owned).to_vec();
        Words { text: "w".into(), label: "t".into(), labels, pieces, ..Words::default() }
    }

    fn encode(pieces: Pieces, words_of: &str, tags: &str) -> (Vec<i64>, Vec<i64>, Encodings) {
        let made = words(pieces).encode(&[row(words_of, tags)], Some(&letters())).unwrap();
        let of = |name| made.examples[0].tokens(name).unwrap().to_vec();
        (of("input_ids"), of(LABELS), made)
    }

    #[test]
    fn the_first_token_of_a_word_has_its_label() {
        // A token a letter, one special token on each side, at most four.
        let (ids, labels, made) = encode(Pieces::First, "ab", "B-x");
        assert_eq!((ids, labels), (vec![8, 0, 1, 8], vec![IGNORE, 1, IGNORE, IGNORE]));
        assert_eq!((made.measures[0].is_cut(), made.words), (false, LostWords::default()));
        assert_eq!(encode(Pieces::All, "ab", "B-x").1, [IGNORE, 1, 2, IGNORE]);
        assert_eq!(encode(Pieces::All, "ab", "I-x").1, [IGNORE, 2, 2, IGNORE]);
        assert_eq!(encode(Pieces::First, "a a", "B-x O").1, [IGNORE, 1, 0, IGNORE], "two words, not one");
    }

    #[test]
    fn words_that_are_cut_off_are_counted() {
        let (ids, labels, made) = encode(Pieces::First, "a bcd e f", "O B-x O O");
        assert_eq!((ids, labels), (vec![8, 0, 1, 8], vec![IGNORE, 0, 1, IGNORE]));
        assert_eq!(made.measures, [Measure { tokens: 2, lost: 4, ..Measure::default() }]);
        assert_eq!(made.words, LostWords { lost: 2, empty: 0 }, "of bcd a part is left");
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        let error = |words_of: &str, tags: &str| {
            words(Pieces::First).encode(&[row(words_of, tags)], Some(&letters())).unwrap_err().to_string()
        };
        assert_eq!(error("a b", "O"), "f: row 4 has 2 words in `w` and 1 labels in `t`");
        let unknown = error("a b", "O B-y");
        assert!(unknown.contains("row 4 has the unknown label `B-y`") && unknown.contains("`B-x`"), "{unknown}");
    }
}
