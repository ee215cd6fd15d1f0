//! Plain texts for language models, cut into blocks of tokens.

use super::{Encode, Encodings};
use crate::error::DataError;
use crate::example::{Example, Field};
use crate::format::TEXT;
use crate::row::Row;
use crate::tokenize::Tokenizer;
use lorac_config::{Check, Problems};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Texts are tokenized whole, without special tokens, and cut into blocks, each beginning where the last one ended. No
/// block goes from one text into the next. Errors: `ShortBlock` for blocks of fewer than 2 tokens, with nothing to
/// predict; `NoBlock` when no text fills a block; `Encode`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Blocks {
    /// Column of the text. Default: text, which is that of plain texts
    pub column: String,
    /// Tokens of a block. Default: the most that a text is cut to
    pub tokens: Option<usize>,
    /// What becomes of the last tokens of a text
    pub rest: Rest,
}

impl Default for Blocks {
    fn default() -> Self {
        Self { column: TEXT.to_owned(), tokens: None, rest: Rest::default() }
    }
}

/// What becomes of the last tokens of a text, where they fill no block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rest {
    /// They are left out
    #[default]
    Drop,
    /// They become a block that batches pad, unless it is a single token
    Pad,
}

impl Check for Blocks {
    fn check(&self, problems: &mut Problems) {
        if let Some(tokens) = self.tokens {
            problems.range("tokens", tokens as f64, 2.0, 1e6);
        }
    }
}

impl Encode for Blocks {
    fn columns(&self) -> Vec<&str> {
        vec![&self.column]
    }

    fn one_per_row(&self) -> bool {
        false
    }

    fn encode(&self, rows: &[Row], tokenizer: Option<&Tokenizer>) -> Result<Encodings, DataError> {
        let tokenizer = tokenizer.ok_or(DataError::NoTokenizer { inputs: "blocks" })?;
        let len = self.tokens.unwrap_or(tokenizer.max_length());
        if len < 2 {
            return Err(DataError::ShortBlock { len });
        }
        let texts: Vec<&str> = rows.iter().map(|row| row.text(&self.column)).collect::<Result<_, _>>()?;
        let encoded = tokenizer.encode_whole(&texts)?;
        // A single token predicts nothing.
        let least = if self.rest == Rest::Pad { 2 } else { len };
        let blocks = encoded.iter().flat_map(|ids| ids.chunks(len)).filter(|block| block.len() >= least);
        let examples: Vec<Example> = blocks.map(|block| example(block, tokenizer.pad_id())).collect();
        let tokens: usize = encoded.iter().map(Vec::len).sum();
        let used: usize = examples.iter().map(Example::length).sum();
        match examples.is_empty() {
            true => Err(DataError::NoBlock { tokens, len }),
            false => Ok(Encodings { examples, left_out: tokens - used, ..Encodings::default() }),
        }
    }
}

fn example(block: &[i64], pad: i64) -> Example {
    let tokens = |ids, pad| Field::Tokens { ids, pad };
    Example {
        fields: vec![("input_ids", tokens(block.to_vec(), pad)), ("token_type_ids", tokens(vec![0; block.len()], 0))],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::Cell;
    use crate::tokenize::tests::letters;
    use std::path::Path;

    fn blocks(texts: &[&str], tokens: Option<usize>, rest: Rest) -> Result<Vec<Vec<i64>>, DataError> {
        let blocks = Blocks { tokens, rest, ..Blocks::default() };
        let row = |text: &&str| {
            Row::new(Path::new("f").into(), 1, vec!["text".to_owned()].into(), vec![Cell::Text((*text).into())])
        };
        let examples = blocks.encode(&texts.iter().map(row).collect::<Vec<_>>(), Some(&letters()))?.examples;
        Ok(examples.iter().map(|example| example.tokens("input_ids").unwrap().to_vec()).collect())
    }

    #[test]
    fn whole_texts_are_cut_without_overlap_or_special_tokens() {
        let texts = ["abcdefgh", "hg", "abcd"];
        assert_eq!(blocks(&texts, Some(3), Rest::Drop).unwrap(), [[0, 1, 2], [3, 4, 5], [0, 1, 2]]);
        assert_eq!(blocks(&texts, None, Rest::Drop).unwrap(), [[0, 1, 2, 3], [4, 5, 6, 7], [0, 1, 2, 3]]);
    }

    #[test]
    fn what_is_left_is_a_shorter_block_or_none() {
        let cut = blocks(&["abcde", "hg", "abcd"], Some(3), Rest::Pad).unwrap();
        assert_eq!(cut, [vec![0, 1, 2], vec![3, 4], vec![7, 6], vec![0, 1, 2]], "a single token predicts nothing");
    }

    #[test]
    fn nothing_to_predict_is_refused() {
        let wrong = blocks(&["ab", "c"], Some(3), Rest::Drop).unwrap_err();
        assert_eq!(wrong.to_string(), "the texts have 3 tokens, and none of them fills a block of 3");
        assert!(matches!(blocks(&["abc"], Some(1), Rest::Pad), Err(DataError::ShortBlock { len: 1 })));
        assert!(matches!(blocks(&[], Some(2), Rest::Pad), Err(DataError::NoBlock { tokens: 0, .. })));
    }
}
