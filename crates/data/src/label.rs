//! From what a cell says to a label's index.

use crate::error::DataError;
use crate::label_cells::{any, whole};
use crate::row::{Cell, Row};
use lorac_config::nearest;
use std::collections::{BTreeMap, HashMap};

/// The label names of a task and the ways a raw value can name one of them.
#[derive(Debug, Clone)]
pub struct Labels {
    names: Vec<String>,
    by_value: HashMap<String, usize>,
    /// Whether digits may stand for a place among the names.
    has_indices: bool,
}

impl Labels {
    /// Labels by their names, and raw values that stand for one of them by `map`.
    ///
    /// # Errors
    /// `DuplicateLabel`; `UnknownMapping` when the map's target is not among `names`.
    pub fn new<S: AsRef<str>>(names: &[S], map: Option<&BTreeMap<String, String>>) -> Result<Self, DataError> {
        let names: Vec<String> = names.iter().map(|name| name.as_ref().to_owned()).collect();
        let mut by_name = HashMap::new();
        for (index, name) in names.iter().enumerate() {
            if by_name.insert(name.clone(), index).is_some() {
                return Err(DataError::DuplicateLabel { label: name.clone() });
            }
        }
        let mut by_value = by_name.clone();
        for (value, to) in map.into_iter().flatten() {
            let index = *by_name.get(to).ok_or_else(|| DataError::UnknownMapping {
                value: value.clone(),
                to: to.clone(),
                known: names.clone(),
                nearest: nearest(to, &names),
            })?;
            by_value.insert(value.clone(), index);
        }
        let has_indices = !names.iter().any(|name| name.trim().parse::<i128>().is_ok());
        Ok(Self { names, by_value, has_indices })
    }

    /// The names, each at its index.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The index `raw` stands for: by the map, else by name, else as an index written in digits, where no name is an integer
    /// itself: of labels 1, 3 and 5 a 2 is none of them.
    #[must_use]
    pub fn find(&self, raw: &str) -> Option<usize> {
        let index = || raw.parse().ok().filter(|index| self.has_indices && *index < self.names.len());
        self.by_value.get(raw).copied().or_else(index)
    }

    /// The index that the cell in a column stands for: a string, a number or a boolean. A boolean is `true` or `false`; a
    /// number of an integer, such as 1.0, may also be looked up as that.
    ///
    /// # Errors
    /// `MissingField`, `WrongType`, `UnknownLabel`.
    pub fn index(&self, row: &Row, column: &str) -> Result<usize, DataError> {
        let cell = row.need(column)?;
        let raw = match cell {
            Cell::Text(_) | Cell::Integer(_) | Cell::Fraction(_) | Cell::Bool(_) => {
                cell.as_written().unwrap_or_default()
            }
            Cell::Null | Cell::Array(_) | Cell::Other { .. } => {
                return Err(row.wrong_type(column, "a string, a number or a boolean"));
            }
        };
        let integer = || match cell {
            Cell::Fraction(text) => whole(text),
            _ => None,
        };
        let found = self.find(raw).or_else(|| self.find(&integer()?));
        found.ok_or_else(|| self.unknown(row, column, raw))
    }

    /// The indices that the list of labels in a column stands for, one for each word.
    ///
    /// # Errors
    /// `MissingField`, `WrongType`, `UnknownLabel`.
    pub fn indices(&self, row: &Row, column: &str) -> Result<Vec<usize>, DataError> {
        let known = |raw: &String| self.find(raw).ok_or_else(|| self.unknown(row, column, raw));
        row.list(column)?.iter().map(known).collect()
    }

    /// The labels that the cell in a column holds: those of a list, or of a text with `separator` between them; a text
    /// without one, a number or a boolean is one label, and no value, an empty text or list is none.
    ///
    /// # Errors
    /// `MissingField`, `WrongType`, `UnknownLabel`.
    pub fn set(&self, row: &Row, column: &str, separator: Option<&str>) -> Result<Vec<usize>, DataError> {
        let values = any(row, column, separator)?;
        values.iter().map(|value| self.find(value).ok_or_else(|| self.unknown(row, column, value))).collect()
    }

    fn unknown(&self, row: &Row, column: &str, value: &str) -> DataError {
        DataError::UnknownLabel {
            path: row.path.as_ref().into(),
            row: row.position,
            line: row.line,
            column: column.into(),
            value: value.into(),
            known: self.names.clone().into(),
            nearest: nearest(value, &self.names).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn map_then_name_then_index() {
        let map = BTreeMap::from([("pos".to_owned(), "neg".to_owned()), ("5".to_owned(), "pos".to_owned())]);
        let labels = Labels::new(&["neg", "pos"], Some(&map)).unwrap();
        let index = |cell| {
            let row = Row::new(Path::new("f").into(), 1, vec!["label".to_owned()].into(), vec![cell]);
            labels.index(&row, "label")
        };
        let text = |raw: &str| Cell::Text(raw.to_owned());
        assert_eq!(index(text("pos")).unwrap(), 0, "the map comes before the name");
        assert_eq!(index(text("5")).unwrap(), 1);
        assert_eq!(index(text("neg")).unwrap(), 0);
        assert_eq!((index(text("0")).unwrap(), index(text("1")).unwrap()), (0, 1));
        assert_eq!(index(Cell::Integer("5".into())).unwrap(), 1);
        for raw in ["2", "-1", "", " 1", "1.0"] {
            assert!(matches!(index(text(raw)), Err(DataError::UnknownLabel { row: 1, .. })), "{raw}");
        }
        assert_eq!(index(Cell::Fraction("0.0".into())).unwrap(), 0);
        assert!(matches!(index(Cell::Fraction("0.5".into())), Err(DataError::UnknownLabel { .. })));
        assert!(matches!(index(Cell::Bool(true)), Err(DataError::UnknownLabel { .. })));
        assert!(matches!(index(Cell::Null), Err(DataError::WrongType { have: "null", .. })));
    }

    #[test]
    fn digits_are_no_index_where_names_are_integers() {
        let labels = Labels::new(&["1", "3", "5"], None).unwrap();
        assert_eq!(["1", "3", "5", "0", "2"].map(|raw| labels.find(raw)), [Some(0), Some(1), Some(2), None, None]);
        assert_eq!(Labels::new(&["-1", "word"], None).unwrap().find("0"), None);
        assert_eq!(Labels::new(&["0.5", "1st"], None).unwrap().find("1"), Some(1));
    }

    #[test]
    fn booleans_and_numbers_are_labels_by_their_names_or_by_the_map() {
        let index = |names: &[&str], map: &[(&str, &str)], cell| {
            let map = map.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
            let row = Row::new(Path::new("f").into(), 1, vec!["label".to_owned()].into(), vec![cell]);
            Labels::new(names, Some(&map)).unwrap().index(&row, "label").unwrap()
        };
        assert_eq!(index(&["false", "true"], &[], Cell::Bool(true)), 1);
        assert_eq!(index(&["spam", "ham"], &[("true", "spam"), ("false", "ham")], Cell::Bool(true)), 0);
        assert_eq!(index(&["1", "2", "3"], &[], Cell::Integer("3".into())), 2);
        assert_eq!(index(&["1", "2", "3"], &[], Cell::Fraction("3.0".into())), 2);
        assert_eq!(index(&["0.5", "1.5"], &[], Cell::Fraction("1.5".into())), 1);
        assert_eq!(index(&["bad", "good"], &[("-1", "bad"), ("1", "good")], Cell::Fraction("-1.0".into())), 0);
    }

    #[test]
    fn several_labels_are_a_list_or_have_a_separator_between_them() {
        let map = BTreeMap::from([("+".to_owned(), "pos".to_owned())]);
        let labels = Labels::new(&["neg", "pos", "odd one"], Some(&map)).unwrap();
        let set = |cell, separator| {
            let row = Row::new(Path::new("f").into(), 1, vec!["label".to_owned()].into(), vec![cell]);
            labels.set(&row, "label", separator)
        };
        let text = |raw: &str| Cell::Text(raw.to_owned());
        let list = |raw: &str| Cell::Other { kind: "an array", text: raw.to_owned() };
        assert_eq!(set(list(r#"["odd one", "+", 0]"#), None).unwrap(), [2, 1, 0]);
        assert_eq!(set(text("pos ; odd one;"), Some(";")).unwrap(), [1, 2]);
        assert_eq!(set(text("odd one"), None).unwrap(), [2]);
        assert_eq!(set(Cell::Integer("1".into()), Some(";")).unwrap(), [1]);
        for none in [text(""), Cell::Null, list("[]")] {
            assert!(set(none, Some(";")).unwrap().is_empty());
        }
        assert!(
            matches!(set(text("pos;ne"), Some(";")), Err(DataError::UnknownLabel { value, .. }) if &*value == "ne")
        );
        for wrong in [r#"{"a": 1}"#, r#"[["pos"]]"#, "[null]"] {
            let wrong = set(Cell::Other { kind: "an object", text: wrong.into() }, None);
            assert!(matches!(wrong, Err(DataError::WrongType { want: "a list of labels", .. })));
        }
    }

    #[test]
    fn a_map_to_nowhere_and_a_repeated_label_are_refused_before_reading() {
        let map = BTreeMap::from([("1".to_owned(), "poss".to_owned())]);
        match Labels::new(&["neg", "pos"], Some(&map)) {
            Err(DataError::UnknownMapping { value, nearest, .. }) => {
                assert_eq!((value.as_str(), nearest), ("1", vec!["pos".to_owned()]))
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(Labels::new(&["a", "a"], None), Err(DataError::DuplicateLabel { .. })));
    }
}
