//! The labels that rows name, before anything says which labels there are.

use crate::error::DataError;
use crate::row::{Cell, Row};
use serde_json::Value;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Where the labels of a row stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabelCells<'a> {
    /// One label in a column.
    One(&'a str),
    /// Any number of labels in a column: a list, or a text with a separator between them.
    Any {
        /// The column.
        column: &'a str,
        /// What stands between them.
        separator: Option<&'a str>,
    },
    /// A list of labels in a column, one for each word.
    Words(&'a str),
}

impl<'a> LabelCells<'a> {
    /// The column.
    #[must_use]
    pub fn column(&self) -> &'a str {
        match self {
            Self::One(column) | Self::Any { column, .. } | Self::Words(column) => column,
        }
    }

    /// The labels of a row, as the file writes them. An empty cell is none.
    ///
    /// # Errors
    /// `MissingField`; `WrongType` for a cell that cannot be a label.
    pub fn of(&self, row: &Row) -> Result<Vec<String>, DataError> {
        let mut labels = match self {
            Self::One(column) => vec![one(row, column)?],
            Self::Any { column, separator } => any(row, column, *separator)?,
            Self::Words(column) => row.list(column)?,
        };
        labels.retain(|label| !label.trim().is_empty());
        Ok(labels)
    }
}

/// More values are none of classes.
pub const MOST_CLASSES: usize = 1000;

/// The different labels of rows by the names that `map` gives them, and all names of the map: texts by their letters, numbers by
/// their value. Cells that cannot be labels are passed over.
///
/// # Errors
/// `ManyLabels` where there are more than [`MOST_CLASSES`].
pub fn distinct_labels(
    path: &Path,
    rows: &[Row],
    cells: &LabelCells,
    map: Option<&BTreeMap<String, String>>,
) -> Result<Vec<String>, DataError> {
    let mut names: BTreeSet<String> = map.into_iter().flat_map(BTreeMap::values).cloned().collect();
    for label in rows.iter().filter_map(|row| cells.of(row).ok()).flatten() {
        let name = map.and_then(|map| map.get(&label)).unwrap_or(&label);
        if !names.contains(name) {
            names.insert(name.clone());
        }
        if names.len() > MOST_CLASSES {
            let (path, column) = (path.to_owned(), cells.column().to_owned());
            return Err(DataError::ManyLabels { path, column, most: MOST_CLASSES });
        }
    }
    Ok(in_order(names))
}

/// Numbers by their value where all are numbers, else by their letters.
pub fn in_order(names: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut names: Vec<String> = names.into_iter().collect();
    let number = |name: &String| name.parse::<f64>().ok().filter(|x| x.is_finite());
    match names.iter().all(|name| number(name).is_some()) {
        true => names.sort_by(|a, b| number(a).partial_cmp(&number(b)).unwrap_or(Ordering::Equal).then(a.cmp(b))),
        false => names.sort(),
    }
    names
}

/// The one label in a column. A number of an integer, such as 1.0, is that.
fn one(row: &Row, column: &str) -> Result<String, DataError> {
    let cell = row.need(column)?;
    match cell {
        Cell::Null | Cell::Other { .. } => Err(row.wrong_type(column, "a string, a number or a boolean")),
        Cell::Fraction(text) => Ok(whole(text).unwrap_or_else(|| text.clone())),
        cell => Ok(cell.as_written().unwrap_or_default().to_owned()),
    }
}

/// The integer that a number with a fraction is.
pub(crate) fn whole(text: &str) -> Option<String> {
    let number = text.parse().ok().filter(|x: &f64| x.fract() == 0.0 && x.abs() < 1e15)?;
    Some(format!("{number:.0}"))
}

/// The labels in a column: those of a list, or of a text with `separator` between them; a text without one, a number or a boolean
/// is one label, and no value, an empty text or list is none.
pub(crate) fn any(row: &Row, column: &str, separator: Option<&str>) -> Result<Vec<String>, DataError> {
    let wrong = || row.wrong_type(column, "a list of labels");
    let mut values: Vec<String> = match row.need(column)? {
        Cell::Null => Vec::new(),
        Cell::Other { text, .. } => {
            let items: Vec<Value> = serde_json::from_str(text).map_err(|_| wrong())?;
            let value = |item: Value| match item {
                Value::String(text) => Ok(text),
                Value::Number(_) | Value::Bool(_) => Ok(item.to_string()),
                _ => Err(wrong()),
            };
            items.into_iter().map(value).collect::<Result<_, _>>()?
        }
        cell => {
            let text = cell.as_written().unwrap_or_default();
            match separator.filter(|separator| !separator.is_empty()) {
                Some(separator) => text.split(separator).map(|one| one.trim().to_owned()).collect(),
                None => vec![text.to_owned()],
            }
        }
    };
    values.retain(|value| !value.is_empty());
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(cells: Vec<Cell>) -> Vec<Row> {
        let row = |cell| Row::new(Path::new("f").into(), 1, vec!["l".to_owned()].into(), vec![cell]);
        cells.into_iter().map(row).collect()
    }

    fn texts(texts: &[&str]) -> Vec<Row> {
        rows(texts.iter().map(|text| Cell::Text((*text).to_owned())).collect())
    }

    fn distinct(rows: &[Row], cells: LabelCells) -> Vec<String> {
        distinct_labels(Path::new("f"), rows, &cells, None).unwrap()
    }

    #[test]
    fn labels_are_sorted_and_come_once() {
        let one = LabelCells::One("l");
        assert_eq!(distinct(&texts(&["pos", "neg", "pos", "", " "]), one), ["neg", "pos"]);
        assert_eq!(distinct(&texts(&["10", "9", "-1", "9"]), one), ["-1", "9", "10"], "numbers by their value");
        assert_eq!(distinct(&texts(&["10", "9", "x"]), one), ["10", "9", "x"]);
        let typed =
            vec![Cell::Fraction("2.0".into()), Cell::Integer("10".into()), Cell::Integer("2".into()), Cell::Null];
        assert_eq!(distinct(&rows(typed), one), ["2", "10"]);
        assert_eq!(distinct(&rows(vec![Cell::Bool(true), Cell::Bool(false)]), one), ["false", "true"]);
        let list = |text: &str| Cell::Other { kind: "an array", text: text.into() };
        let any = |separator| LabelCells::Any { column: "l", separator };
        assert_eq!(
            distinct(&rows(vec![list(r#"["b", "a"]"#), list("[]"), Cell::Text("c".into())]), any(None)),
            ["a", "b", "c"]
        );
        assert_eq!(distinct(&texts(&["b;a", "c; a"]), any(Some(";"))), ["a", "b", "c"]);
        assert_eq!(distinct(&texts(&["O B-x I-x", "O"]), LabelCells::Words("l")), ["B-x", "I-x", "O"]);
    }

    #[test]
    fn a_map_gives_names_also_those_that_no_row_has() {
        let map =
            BTreeMap::from([("1", "bad"), ("5", "good"), ("3", "so so")].map(|(a, b)| (a.to_owned(), b.to_owned())));
        let made = distinct_labels(Path::new("f"), &texts(&["5", "1", "good"]), &LabelCells::One("l"), Some(&map));
        assert_eq!(made.unwrap(), ["bad", "good", "so so"]);
    }

    #[test]
    fn a_thousand_classes_are_the_most() {
        let names: Vec<String> = (0..1001).map(|i| i.to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(distinct(&texts(&names[..1000]), LabelCells::One("l")).len(), 1000);
        match distinct_labels(Path::new("f"), &texts(&names), &LabelCells::One("l"), None) {
            Err(error @ DataError::ManyLabels { most: 1000, .. }) => {
                assert!(error.to_string().contains("more than 1000 different values"), "{error}");
            }
            other => panic!("{other:?}"),
        }
    }
}
