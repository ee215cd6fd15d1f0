//! Cells that hold a list of texts.

use crate::error::DataError;
use crate::row::{Cell, Row};
use serde_json::Value;

impl Cell {
    /// A list of texts.
    pub(crate) fn list(texts: &[String]) -> Cell {
        Cell::Other { kind: "an array", text: Value::from(texts.to_vec()).to_string() }
    }
}

impl Row {
    /// The list of texts in a column: an array of strings and integers, or a text of words between spaces.
    ///
    /// # Errors
    /// `MissingField`; `WrongType` where it is anything else.
    pub fn list(&self, column: &str) -> Result<Vec<String>, DataError> {
        let wrong = || self.wrong_type(column, "a list of strings");
        let item = |value: &Value| match value {
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) if !number.is_f64() => Ok(number.to_string()),
            _ => Err(wrong()),
        };
        match self.need(column)? {
            Cell::Text(text) => Ok(text.split_whitespace().map(str::to_owned).collect()),
            Cell::Other { kind: "an array", text } => {
                let items: Vec<Value> = serde_json::from_str(text).map_err(|_| wrong())?;
                items.iter().map(item).collect()
            }
            _ => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn lists_are_arrays_or_words() {
        let row = |cell| Row::new(Path::new("f").into(), 3, vec!["tags".to_owned()].into(), vec![cell]);
        let array = |text: &str| Cell::Other { kind: "an array", text: text.to_owned() };
        assert_eq!(row(array("[\"a b\", 3, \"\"]")).list("tags").unwrap(), ["a b", "3", ""]);
        assert_eq!(row(Cell::Text(" B-X  O ".into())).list("tags").unwrap(), ["B-X", "O"]);
        assert_eq!(row(Cell::list(&["\"".to_owned()])).list("tags").unwrap(), ["\""]);
        for cell in [array("[\"a\", null]"), array("[0.5]"), array("[[\"a\"]]"), Cell::Null, Cell::Integer("1".into())]
        {
            assert!(matches!(row(cell).list("tags"), Err(DataError::WrongType { row: 3, .. })));
        }
    }
}
