//! One row of a file, and what its cells say.

use crate::error::DataError;
use lorac_config::nearest;
use lorac_ir::Tensor;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

/// What a cell holds. Numbers stay text until somebody knows what they mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// A text; in CSV every cell is one.
    Text(String),
    /// An integer in decimal digits.
    Integer(String),
    /// A number with a fraction or an exponent.
    Fraction(String),
    /// True or false.
    Bool(bool),
    /// An array of numbers.
    Array(Tensor),
    /// No value.
    Null,
    /// Anything else.
    Other {
        /// What it is, with an article: `an array`.
        kind: &'static str,
        /// How the file writes it.
        text: String,
    },
}

impl Cell {
    /// The cell of a value in JSON.
    pub(crate) fn of(value: &Value) -> Cell {
        match value {
            Value::Null => Cell::Null,
            Value::Bool(value) => Cell::Bool(*value),
            Value::String(text) => Cell::Text(text.clone()),
            Value::Number(number) if number.is_f64() => Cell::Fraction(number.to_string()),
            Value::Number(number) => Cell::Integer(number.to_string()),
            Value::Array(_) => Cell::Other { kind: "an array", text: value.to_string() },
            Value::Object(_) => Cell::Other { kind: "an object", text: value.to_string() },
        }
    }

    /// What the cell holds, with an article, for messages.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Fraction(_) => "a fraction",
            Self::Bool(_) => "a boolean",
            Self::Array(_) => "an array",
            Self::Null => "null",
            Self::Other { kind, .. } => kind,
        }
    }

    /// The cell as a filter compares it: a text without its quotes, anything else as the file writes it, and no value
    /// for [`Cell::Null`] and [`Cell::Array`].
    #[must_use]
    pub fn as_written(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Integer(text) | Self::Fraction(text) | Self::Other { text, .. } => Some(text),
            Self::Bool(true) => Some("true"),
            Self::Bool(false) => Some("false"),
            Self::Array(_) | Self::Null => None,
        }
    }
}

/// One row: where it stands, and its cells by column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The file that it was read from.
    pub path: Arc<Path>,
    /// The data record, from 1, a header excluded; in JSON lines, the line; in a folder of texts, the file.
    pub position: usize,
    /// The line that it begins on, from 1, where the format has lines.
    pub line: Option<u64>,
    columns: Arc<[String]>,
    cells: Vec<Cell>,
}

impl Row {
    /// A row with one cell per column. Of columns with one name, the first counts.
    #[must_use]
    pub fn new(path: Arc<Path>, position: usize, columns: Arc<[String]>, cells: Vec<Cell>) -> Self {
        Self { path, position, line: None, columns, cells }
    }

    /// The row, which begins on this line.
    #[must_use]
    pub fn on_line(self, line: u64) -> Self {
        Self { line: Some(line), ..self }
    }

    /// The names of the columns.
    #[must_use]
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The cells, in the order of the columns; of a short row, fewer.
    #[must_use]
    pub fn cells(&self) -> &[Cell] {
        &self.cells
    }

    /// Adds what stands at a dotted path, as a column of that name, unless there is one: `answer.text` is the `text` of the
    /// object in the column `answer`, `answers.0` the first item of a list.
    pub(crate) fn add_path(&mut self, path: &str) {
        if self.cell(path).is_none()
            && let Some(found) = self.at_path(path)
        {
            self.columns = self.columns.iter().cloned().chain([path.to_owned()]).collect();
            // A row of fewer cells than columns would have this one under another name.
            self.cells.resize(self.columns.len() - 1, Cell::Null);
            self.cells.push(found);
        }
    }

    fn at_path(&self, path: &str) -> Option<Cell> {
        let (value, rest) = self.head(path)?;
        rest.split('.').try_fold(&value, |at, part| below(at, part)).map(Cell::of)
    }

    /// The value of the column that a dotted path begins with, and the rest of the path.
    fn head<'p>(&self, path: &'p str) -> Option<(Value, &'p str)> {
        let cuts = path.match_indices('.').map(|(at, _)| (&path[..at], &path[at + 1..]));
        cuts.into_iter().rev().find_map(|(column, rest)| match self.cell(column)? {
            Cell::Other { text, .. } => Some((serde_json::from_str(text).ok()?, rest)),
            _ => None,
        })
    }

    /// The names that stand beside the one that a path or column fails at.
    fn beside(&self, column: &str) -> Vec<String> {
        let Some((value, rest)) = self.head(column) else { return self.columns.to_vec() };
        let (mut at, mut known) = (&value, column[..column.len() - rest.len()].to_owned());
        for part in rest.split('.') {
            match below(at, part) {
                Some(next) => (at, known) = (next, format!("{known}{part}.")),
                None => break,
            }
        }
        let fields = at.as_object().into_iter().flatten().map(|(name, _)| format!("{known}{name}"));
        let items = at.as_array().map_or(0, Vec::len);
        fields.chain((0..items).map(|i| format!("{known}{i}"))).collect()
    }

    /// The cell in a column, where there is one.
    #[must_use]
    pub fn cell(&self, column: &str) -> Option<&Cell> {
        self.columns.iter().position(|name| name == column).and_then(|at| self.cells.get(at))
    }

    /// The cell in a column that must be there.
    ///
    /// # Errors
    /// `MissingField`.
    pub fn need(&self, column: &str) -> Result<&Cell, DataError> {
        self.cell(column).ok_or_else(|| {
            let have = self.beside(column);
            DataError::MissingField {
                path: self.path.to_path_buf(),
                row: self.position,
                line: self.line,
                field: column.into(),
                nearest: nearest(column, have.iter()).into(),
                have: have.into(),
            }
        })
    }

    /// The text in a column.
    ///
    /// # Errors
    /// `MissingField`; `WrongType` when the cell is not a string.
    pub fn text(&self, column: &str) -> Result<&str, DataError> {
        match self.need(column)? {
            Cell::Text(text) => Ok(text),
            _ => Err(self.wrong_type(column, "a string")),
        }
    }

    /// The number in a column, written as one or as a text. It is finite, also when rounded to an f32.
    ///
    /// # Errors
    /// `MissingField`; `WrongType` when the cell is neither a number nor a string; `NotANumber`.
    pub fn number(&self, column: &str) -> Result<f64, DataError> {
        let (Cell::Text(text) | Cell::Integer(text) | Cell::Fraction(text)) = self.need(column)? else {
            return Err(self.wrong_type(column, "a number"));
        };
        let number = text.trim().parse::<f64>().ok().filter(|number| (*number as f32).is_finite());
        number.ok_or_else(|| DataError::NotANumber {
            path: self.path.to_path_buf(),
            row: self.position,
            line: self.line,
            column: column.to_owned(),
            value: text.clone(),
        })
    }

    /// Whether the cell in a column says yes: 1 or true, and 0 or false for no.
    ///
    /// # Errors
    /// `MissingField`; `UnknownLabel` for anything else.
    pub fn flag(&self, column: &str) -> Result<bool, DataError> {
        let value = self.need(column)?.as_written().unwrap_or("null");
        match value.trim().to_ascii_lowercase().as_str() {
            "1" | "true" | "1.0" => Ok(true),
            "0" | "false" | "0.0" => Ok(false),
            _ => Err(DataError::UnknownLabel {
                path: self.path.as_ref().into(),
                row: self.position,
                line: self.line,
                column: column.into(),
                value: value.into(),
                known: ["0", "1"].map(str::to_owned).into(),
                nearest: [].into(),
            }),
        }
    }

    pub(crate) fn wrong_type(&self, column: &str, want: &'static str) -> DataError {
        DataError::WrongType {
            path: self.path.to_path_buf(),
            row: self.position,
            line: self.line,
            field: column.to_owned(),
            want,
            have: self.cell(column).map_or("null", Cell::kind),
        }
    }

    /// The row with these columns alone; those that it lacks are [`Cell::Null`]. Requires: no name is a duplicate.
    pub(crate) fn keep_columns(mut self, columns: &Arc<[String]>) -> Self {
        let mut cell = |column: &String| {
            let at = self.columns.iter().position(|name| name == column);
            let cell = at.and_then(|at| self.cells.get_mut(at));
            cell.map_or(Cell::Null, |cell| std::mem::replace(cell, Cell::Null))
        };
        let cells = columns.iter().map(&mut cell).collect();
        Self { columns: columns.clone(), cells, ..self }
    }
}

/// What an object has under a name, or a list at a position.
fn below<'v>(value: &'v Value, part: &str) -> Option<&'v Value> {
    match value {
        Value::Object(fields) => fields.get(part),
        Value::Array(items) => part.parse::<usize>().ok().and_then(|at| items.get(at)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cell: Cell) -> Row {
        Row::new(Path::new("f").into(), 7, vec!["stars".to_owned()].into(), vec![cell])
    }

    #[test]
    fn numbers_are_written_as_numbers_or_as_texts() {
        let number = |cell| row(cell).number("stars").unwrap();
        assert_eq!(number(Cell::Text(" -2.5e1 ".into())), -25.0);
        assert_eq!(number(Cell::Integer("12".into())), 12.0);
        assert_eq!(number(Cell::Fraction("0.1".into())), 0.1);
    }

    #[test]
    fn what_is_not_a_finite_number_is_refused_with_its_place() {
        for text in ["", "four", "4,5", "NaN", "inf", "-infinity", "1e39", "-1e999"] {
            let error = row(Cell::Text(text.into())).number("stars").unwrap_err();
            assert_eq!(error.to_string(), format!("f: row 7: expected a finite number in `stars`, found `{text}`"));
        }
        for (cell, have) in [(Cell::Null, "null"), (Cell::Bool(true), "a boolean")] {
            match row(cell).number("stars") {
                Err(DataError::WrongType { row: 7, have: seen, .. }) => assert_eq!(seen, have),
                other => panic!("{other:?}"),
            }
        }
        assert!(matches!(row(Cell::Null).number("star"), Err(DataError::MissingField { row: 7, .. })));
    }

    #[test]
    fn a_dotted_path_leads_into_objects_and_lists() {
        let columns: Arc<[String]> = ["a", "b.c", "b"].map(str::to_owned).to_vec().into();
        let other = |text: &str| Cell::Other { kind: "an object", text: text.into() };
        let cells = vec![other(r#"{"x":{"y":["p",2]},"n":1.5}"#), Cell::Text("own".into()), other(r#"{"c":1}"#)];
        let mut row = Row::new(Path::new("f").into(), 3, columns, cells).on_line(9);
        for path in ["a.x.y.0", "a.x.y.1", "a.n", "b.c", "a.x.z", "a.n.m", "c.d"] {
            row.add_path(path);
        }
        assert_eq!((row.text("a.x.y.0").unwrap(), row.number("a.n").unwrap()), ("p", 1.5));
        assert_eq!(row.cell("a.x.y.1"), Some(&Cell::Integer("2".into())));
        assert_eq!(row.text("b.c").unwrap(), "own", "a column of the whole name comes first");
        let error = row.text("a.x.z").unwrap_err().to_string();
        assert_eq!(error, "f: row 3 (line 9) has no field `a.x.z` (nearest: `a.x.y`); its fields are `a.x.y`");
        assert!(row.text("c.d").unwrap_err().to_string().contains("its fields are `a`, `b.c`, `b`"));
    }

    #[test]
    fn yes_and_no_are_numbers_or_booleans() {
        let flag = |cell| row(cell).flag("stars");
        let text = |raw: &str| Cell::Text(raw.into());
        for yes in [text("1"), text(" True"), Cell::Integer("1".into()), Cell::Bool(true), Cell::Fraction("1.0".into())]
        {
            assert!(flag(yes).unwrap());
        }
        for no in [text("0"), text("false"), Cell::Bool(false)] {
            assert!(!flag(no).unwrap());
        }
        for wrong in [text(""), text("2"), Cell::Null, Cell::Integer("-1".into())] {
            assert!(matches!(flag(wrong), Err(DataError::UnknownLabel { .. })));
        }
    }

    #[test]
    fn the_columns_that_are_needed_are_kept() {
        let columns = ["a", "b", "a"].map(str::to_owned).to_vec().into();
        let cells = ["1", "2", "3"].map(|text| Cell::Text(text.into())).to_vec();
        let row = Row::new(Path::new("f").into(), 1, columns, cells);
        let kept = row.clone().keep_columns(&vec!["b".to_owned(), "a".to_owned()].into());
        assert_eq!((kept.text("a").unwrap(), kept.text("b").unwrap(), kept.cell("c")), ("1", "2", None));
        assert_eq!(row.keep_columns(&vec!["c".to_owned()].into()).cell("c"), Some(&Cell::Null));
    }
}
