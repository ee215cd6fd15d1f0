//! One row of a file, and what its cells say.

use crate::error::DataError;
use lorac_config::nearest;
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
    /// What the cell holds, with an article, for messages.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Fraction(_) => "a fraction",
            Self::Bool(_) => "a boolean",
            Self::Null => "null",
            Self::Other { kind, .. } => kind,
        }
    }

    /// The cell as a filter compares it: a text without its quotes, anything else as the file writes it, and no value
    /// for [`Cell::Null`].
    #[must_use]
    pub fn as_written(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Integer(text) | Self::Fraction(text) | Self::Other { text, .. } => Some(text),
            Self::Bool(true) => Some("true"),
            Self::Bool(false) => Some("false"),
            Self::Null => None,
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
    columns: Arc<[String]>,
    cells: Vec<Cell>,
}

impl Row {
    /// A row with one cell per column. Of columns with one name, the first counts.
    #[must_use]
    pub fn new(path: Arc<Path>, position: usize, columns: Arc<[String]>, cells: Vec<Cell>) -> Self {
        Self { path, position, columns, cells }
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
        self.cell(column).ok_or_else(|| DataError::MissingField {
            path: self.path.to_path_buf(),
            row: self.position,
            field: column.to_owned(),
            nearest: nearest(column, self.columns.iter()),
            have: self.columns.to_vec(),
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
            column: column.to_owned(),
            value: text.clone(),
        })
    }

    pub(crate) fn wrong_type(&self, column: &str, want: &'static str) -> DataError {
        DataError::WrongType {
            path: self.path.to_path_buf(),
            row: self.position,
            field: column.to_owned(),
            want,
            have: self.cell(column).map_or("null", Cell::kind),
        }
    }

    /// The row with these columns alone. Requires: no name is a duplicate.
    pub(crate) fn keep_columns(mut self, columns: &Arc<[String]>) -> Result<Self, DataError> {
        let mut cells = Vec::with_capacity(columns.len());
        for column in columns.iter() {
            self.need(column)?;
            if let Some(cell) =
                self.columns.iter().position(|name| name == column).and_then(|at| self.cells.get_mut(at))
            {
                cells.push(std::mem::replace(cell, Cell::Null));
            }
        }
        Ok(Self { columns: columns.clone(), cells, ..self })
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
    fn the_columns_that_are_needed_are_kept() {
        let columns = ["a", "b", "a"].map(str::to_owned).to_vec().into();
        let cells = ["1", "2", "3"].map(|text| Cell::Text(text.into())).to_vec();
        let row = Row::new(Path::new("f").into(), 1, columns, cells);
        let kept = row.clone().keep_columns(&vec!["b".to_owned(), "a".to_owned()].into()).unwrap();
        assert_eq!((kept.text("a").unwrap(), kept.text("b").unwrap(), kept.cell("c")), ("1", "2", None));
        assert!(matches!(row.keep_columns(&vec!["c".to_owned()].into()), Err(DataError::MissingField { .. })));
    }
}
