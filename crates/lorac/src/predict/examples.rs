//! Texts and rows of files as a model is fed them.

use crate::served::Served;
use lorac_data::encode::{Encode, Pair, Text};
use lorac_data::{Cell, DataError, Example, Field, Measure, Row, Tokenizer};
use lorac_train::Prediction;
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
    served: &Served,
    tokenizer: &Tokenizer,
) -> Result<Examples, DataError> {
    if served.predicts == Prediction::Tags {
        return words(rows, columns.first().map_or(COLUMNS[0], String::as_str), tokenizer);
    }
    let encoded = match columns {
        [first, second] => Pair { first: first.clone(), second: second.clone() }.encode(rows, Some(tokenizer))?,
        _ => Text { column: columns.first().cloned().unwrap_or_default() }.encode(rows, Some(tokenizer))?,
    };
    Ok(Examples { examples: encoded.examples, measures: encoded.measures, words: Vec::new() })
}

/// Encodes the words of rows: a list, or a text with spaces between them.
fn words(rows: &[Row], column: &str, tokenizer: &Tokenizer) -> Result<Examples, DataError> {
    let sentences = rows.iter().map(|row| row.list(column)).collect::<Result<Vec<_>, _>>()?;
    let mut found = Examples::default();
    for (one, words) in tokenizer.encode_words(&sentences)?.into_iter().zip(sentences) {
        let mut last = None;
        let begins = one.words.iter().map(|word| {
            let first = word.filter(|word| last != Some(*word));
            last = word.or(last);
            first
        });
        found.words.push(Words { words, begins: begins.collect() });
        found.measures.push(one.measure);
        let tokens = |ids, pad| Field::Tokens { ids, pad };
        let fields =
            vec![("input_ids", tokens(one.ids, tokenizer.pad_id())), ("token_type_ids", tokens(one.type_ids, 0))];
        found.examples.push(Example { fields });
    }
    Ok(found)
}
