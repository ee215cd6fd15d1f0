//! Texts and rows of files as a model is fed them.

use crate::served::Served;
use lorac_data::encode::{Encode, Pair, Text};
use lorac_data::{Cell, DataError, Example, Measure, Row, Tokenizer};
use std::path::Path;
use std::sync::Arc;

/// The columns of rows that are no rows of a file.
pub(super) const COLUMNS: [&str; 2] = ["text", "text_pair"];

/// What texts became.
#[derive(Default)]
pub(super) struct Examples {
    pub(super) examples: Vec<Example>,
    pub(super) measures: Vec<Measure>,
    /// Of texts whose words are tagged: the words, and of each token the word that it begins.
    pub(super) words: Vec<Words>,
}

/// The words of a text, and of each token the word that it begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) words: Vec<String>,
    pub(super) begins: Vec<Option<usize>>,
}

/// A row of texts that stand in no file.
pub(super) fn row(at: usize, texts: &[&str]) -> Row {
    let columns: Arc<[String]> = COLUMNS.iter().take(texts.len()).map(ToString::to_string).collect();
    let cells = texts.iter().map(|text| Cell::Text(text.to_string())).collect();
    Row::new(Path::new("--text").into(), at + 1, columns, cells)
}

/// Encodes rows, whose texts stand in these columns.
pub(super) fn encode(
    rows: &[Row],
    columns: &[String],
    _: &Served,
    tokenizer: &Tokenizer,
) -> Result<Examples, DataError> {
    let encoded = match columns {
        [first, second] => Pair { first: first.clone(), second: second.clone() }.encode(rows, Some(tokenizer))?,
        _ => Text { column: columns.first().cloned().unwrap_or_default() }.encode(rows, Some(tokenizer))?,
    };
    Ok(Examples { examples: encoded.examples, measures: encoded.measures, words: Vec::new() })
}
