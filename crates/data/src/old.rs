//! Labelled texts and blocks as they were before formats, encoders and examples with named fields.

mod batch;

pub use batch::{Batch, collate};

use crate::batch::IGNORE;
pub use crate::encode::Rest;
use crate::error::DataError;
use crate::filter::Filter;
use crate::format::{self, Csv, JsonLines, TEXT};
use crate::label::Labels;
use crate::table::{Columns, rows};
use crate::tokenize::Tokenizer;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated values with a header row.
    Csv,
    /// One JSON object a line.
    JsonLines,
}

/// What to take from each row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReadSpec {
    /// The column that holds the text.
    pub text: String,
    /// The column that holds the label; without one, every example has label 0.
    pub label: Option<String>,
    /// Rows to keep; all of them when absent.
    pub filter: Option<Filter>,
    /// The task's label names; a label's index is its place here.
    pub labels: Vec<String>,
    /// Raw values, each with the label name it stands for.
    pub label_map: Option<BTreeMap<String, String>>,
}

/// One labelled text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// The text as it stands in the file; it may be empty.
    pub text: String,
    /// The label's index in [`ReadSpec::labels`].
    pub label: usize,
    /// The data record, from 1, a header excluded; in JSON lines, the line.
    pub row: usize,
}

/// Reads `path` and keeps the rows the filter keeps, in the file's order.
///
/// # Errors
/// Those of [`rows`], [`Labels`] and [`Row::text`](crate::Row::text).
pub fn read(path: &Path, format: Format, spec: &ReadSpec) -> Result<Vec<Example>, DataError> {
    let labels = Labels::new(&spec.labels, spec.label_map.as_ref())?;
    let format: &dyn format::Format = match format {
        Format::Csv => &Csv,
        Format::JsonLines => &JsonLines,
    };
    let needed = std::iter::once(&spec.text).chain(&spec.label).cloned().collect();
    let example = |row: &crate::Row| {
        let text = row.text(&spec.text)?.to_owned();
        let label = spec.label.as_ref().map_or(Ok(0), |label| labels.index(row, label))?;
        Ok(Example { text, label, row: row.position })
    };
    rows(format, path, &Columns { needed, filter: spec.filter.clone() })?.iter().map(example).collect()
}

/// Reads a text file, or every `.txt` file below a folder, in the order of their paths.
///
/// # Errors
/// Those of [`format::Text`].
pub fn read_texts(path: &Path) -> Result<Vec<Text>, DataError> {
    let columns = Columns { needed: vec![TEXT.to_owned()], filter: None };
    let text = |row: &crate::Row| Ok(Text { path: row.path.to_path_buf(), text: row.text(TEXT)?.to_owned() });
    rows(&format::Text, path, &columns)?.iter().map(text).collect()
}

/// A plain text file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// Where it was read.
    pub path: PathBuf,
    /// Its content, without a byte order mark.
    pub text: String,
}

/// Rows of equally many tokens, one text after the other. The three fields hold `rows * len` numbers each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocks {
    /// Token ids.
    pub input_ids: Vec<i64>,
    /// 1 on a token, 0 on padding.
    pub attention_mask: Vec<i64>,
    /// The ids again, [`IGNORE`] on padding. The loss of a language model compares the scores at a token with the
    /// label of the next one.
    pub labels: Vec<i64>,
    /// Number of blocks.
    pub rows: usize,
    /// Tokens a block, padding included.
    pub len: usize,
}

/// Tokenizes each text whole, without special tokens, and cuts it into blocks of `len` tokens, each beginning where
/// the last one ended. No block goes from one text into the next.
///
/// # Errors
/// `ShortBlock` when `len` is below 2, with nothing to predict; `Encode`; `NoBlock` when no text fills a block.
pub fn text_blocks<S: AsRef<str>>(
    texts: &[S],
    tokenizer: &Tokenizer,
    len: usize,
    rest: Rest,
) -> Result<Blocks, DataError> {
    if len < 2 {
        return Err(DataError::ShortBlock { len });
    }
    let mut blocks = Blocks { input_ids: vec![], attention_mask: vec![], labels: vec![], rows: 0, len };
    let mut tokens = 0;
    for text in texts {
        let ids = tokenizer.encode_whole(&[text])?.concat();
        tokens += ids.len();
        let whole = ids.chunks_exact(len);
        // A single token predicts nothing.
        let partial = Some(whole.remainder()).filter(|partial| rest == Rest::Pad && partial.len() > 1);
        for block in whole.chain(partial) {
            let padding = len - block.len();
            let append = |field: &mut Vec<i64>, values: &[i64], pad| {
                field.extend(values);
                field.extend(std::iter::repeat_n(pad, padding));
            };
            append(&mut blocks.input_ids, block, tokenizer.pad_id());
            append(&mut blocks.attention_mask, &vec![1; block.len()], 0);
            append(&mut blocks.labels, block, IGNORE);
            blocks.rows += 1;
        }
    }
    match blocks.rows {
        0 => Err(DataError::NoBlock { tokens, len }),
        _ => Ok(blocks),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenize::tests::letters;

    #[test]
    fn whole_texts_are_cut_without_overlap_or_special_tokens() {
        let blocks = text_blocks(&["abcdefgh", "hg", "abcd"], &letters(), 3, Rest::Drop).unwrap();
        assert_eq!(blocks.input_ids, [0, 1, 2, 3, 4, 5, 0, 1, 2]);
        assert_eq!((blocks.rows, blocks.len), (3, 3));
        assert_eq!((blocks.labels, blocks.attention_mask), (blocks.input_ids, vec![1; 9]));
    }

    #[test]
    fn what_is_left_is_padded_and_ignored() {
        let blocks = text_blocks(&["abcde", "hg", "abcd"], &letters(), 3, Rest::Pad).unwrap();
        assert_eq!(blocks.input_ids, [0, 1, 2, 3, 4, 9, 7, 6, 9, 0, 1, 2]);
        assert_eq!(blocks.labels, [0, 1, 2, 3, 4, IGNORE, 7, 6, IGNORE, 0, 1, 2]);
        assert_eq!(blocks.attention_mask, [1, 1, 1, 1, 1, 0, 1, 1, 0, 1, 1, 1]);
        assert_eq!(blocks.rows, 4, "a single token predicts nothing");
    }

    #[test]
    fn nothing_to_predict_is_refused() {
        let wrong = text_blocks(&["ab", "c"], &letters(), 3, Rest::Drop).unwrap_err();
        assert_eq!(wrong.to_string(), "the texts have 3 tokens, and none of them fills a block of 3");
        assert!(matches!(text_blocks(&["abc"], &letters(), 1, Rest::Pad), Err(DataError::ShortBlock { len: 1 })));
        let none: [&str; 0] = [];
        assert!(matches!(text_blocks(&none, &letters(), 2, Rest::Pad), Err(DataError::NoBlock { tokens: 0, .. })));
    }
}
