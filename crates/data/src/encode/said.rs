//! What the columns of a row say for a conversation, or for a prompt.

use crate::error::DataError;
use crate::row::{Cell, Row};
use crate::template::Template;
use serde_json::Value;

/// The columns of a text: one, or those of a template.
pub(super) fn columns_of(text: &str) -> Vec<&str> {
    Template::parse(text).map_or_else(|_| Vec::new(), |template| template.columns())
}

/// A text of a row: a column, or a template of several.
pub(super) fn fill(row: &Row, text: &str) -> Result<String, DataError> {
    Ok(Template::parse(text)?.fill(row)?.into_owned())
}

/// Whether a text is a column with a list.
pub(super) fn is_list(row: &Row, text: &str) -> Result<bool, DataError> {
    match text.contains(['{', '}']) {
        true => Ok(false),
        false => Ok(matches!(row.need(text)?, Cell::Other { kind: "an array", .. })),
    }
}

/// The text in a column; nothing where there is no value.
pub(super) fn optional<'r>(row: &'r Row, column: &str) -> Result<&'r str, DataError> {
    match row.need(column)? {
        Cell::Null => Ok(""),
        _ => row.text(column),
    }
}

/// The list in a column: an array, or a text that is one in JSON.
pub(super) fn json_list(row: &Row, column: &str) -> Result<Option<Value>, DataError> {
    let list = match row.need(column)? {
        Cell::Other { text, .. } => serde_json::from_str(text).ok(),
        Cell::Text(text) if text.trim_start().starts_with('[') => serde_json::from_str(text).ok(),
        _ => None,
    };
    Ok(list.filter(Value::is_array))
}

/// What is wrong with the conversation of a row.
pub(super) fn conversation(row: &Row, what: String) -> DataError {
    DataError::Conversation { path: row.path.to_path_buf(), row: row.position, line: row.line, what }
}

/// The prompt of Stanford's Alpaca.
pub(super) fn alpaca(instruction: &str, input: &str) -> String {
    match input.is_empty() {
        false => format!(
            "Below is an instruction that describes a task, paired with an input that provides further context. Write a response \
             that appropriately completes the request.\n\n### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:"
        ),
        true => format!(
            "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n\
             ### Instruction:\n{instruction}\n\n### Response:"
        ),
    }
}

/// What a user asks with an instruction and its input.
pub(super) fn asked(instruction: &str, input: &str) -> String {
    if input.is_empty() { instruction.to_owned() } else { format!("{instruction}\n{input}") }
}
