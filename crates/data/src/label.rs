//! From what a cell says to a label's index.

use crate::error::DataError;
use crate::row::{Cell, Row};
use lorac_config::nearest;
use std::collections::{BTreeMap, HashMap};

/// The label names of a task and the ways a raw value can name one of them.
#[derive(Debug, Clone)]
pub struct Labels {
    names: Vec<String>,
    by_value: HashMap<String, usize>,
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
        Ok(Self { names, by_value })
    }

    /// The names, each at its index.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The index `raw` stands for: by the map, else by name, else as an index written in digits.
    #[must_use]
    pub fn find(&self, raw: &str) -> Option<usize> {
        self.by_value.get(raw).copied().or_else(|| raw.parse().ok().filter(|index| *index < self.names.len()))
    }

    /// The index that the cell in a column stands for: a string or an integer.
    ///
    /// # Errors
    /// `MissingField`, `WrongType`, `UnknownLabel`.
    pub fn index(&self, row: &Row, column: &str) -> Result<usize, DataError> {
        let (Cell::Text(raw) | Cell::Integer(raw)) = row.need(column)? else {
            return Err(row.wrong_type(column, "a string or an integer"));
        };
        self.find(raw).ok_or_else(|| DataError::UnknownLabel {
            path: row.path.to_path_buf(),
            row: row.position,
            value: raw.clone(),
            known: self.names.clone(),
            nearest: nearest(raw, &self.names),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn map_then_name_then_index() {
        let map = BTreeMap::from([("pos".to_owned(), "1".to_owned()), ("5".to_owned(), "pos".to_owned())]);
        let labels = Labels::new(&["1", "pos"], Some(&map)).unwrap();
        let index = |cell| {
            let row = Row::new(Path::new("f").into(), 1, vec!["label".to_owned()].into(), vec![cell]);
            labels.index(&row, "label")
        };
        let text = |raw: &str| Cell::Text(raw.to_owned());
        assert_eq!(index(text("pos")).unwrap(), 0, "the map comes before the name");
        assert_eq!(index(text("5")).unwrap(), 1);
        assert_eq!(index(text("1")).unwrap(), 0, "the name comes before the index");
        assert_eq!(index(text("0")).unwrap(), 0);
        assert_eq!(index(Cell::Integer("5".into())).unwrap(), 1);
        for raw in ["2", "-1", "", " 1", "1.0"] {
            assert!(matches!(index(text(raw)), Err(DataError::UnknownLabel { row: 1, .. })), "{raw}");
        }
        assert!(matches!(index(Cell::Fraction("1.0".into())), Err(DataError::WrongType { have: "a fraction", .. })));
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
