//! From what a cell says to a label's index.

use crate::error::DataError;
use crate::nearest::nearest;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// The label names of a task and the ways a raw value can name one of them.
#[derive(Debug)]
pub(crate) struct Labels<'a> {
    names: &'a [String],
    by_value: HashMap<&'a str, usize>,
}

impl<'a> Labels<'a> {
    /// Errors: `DuplicateLabel`, `UnknownMapping` when the map's target is not among `names`.
    pub(crate) fn new(names: &'a [String], map: Option<&'a BTreeMap<String, String>>) -> Result<Self, DataError> {
        let mut by_name = HashMap::new();
        for (index, name) in names.iter().enumerate() {
            if by_name.insert(name.as_str(), index).is_some() {
                return Err(DataError::DuplicateLabel { label: name.clone() });
            }
        }
        let mut by_value = by_name.clone();
        for (value, to) in map.into_iter().flatten() {
            let index = *by_name.get(to.as_str()).ok_or_else(|| DataError::UnknownMapping {
                value: value.clone(),
                to: to.clone(),
                known: names.to_vec(),
                nearest: nearest(to, names),
            })?;
            by_value.insert(value, index);
        }
        Ok(Self { names, by_value })
    }

    /// The index `raw` stands for: by the map, else by name, else as an index written in digits.
    pub(crate) fn index(&self, path: &Path, row: usize, raw: &str) -> Result<usize, DataError> {
        self.by_value
            .get(raw)
            .copied()
            .or_else(|| raw.parse().ok().filter(|index| *index < self.names.len()))
            .ok_or_else(|| DataError::UnknownLabel {
                path: path.to_owned(),
                row,
                value: raw.to_owned(),
                known: self.names.to_vec(),
                nearest: nearest(raw, self.names),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn map_then_name_then_index() {
        let names = names(&["1", "pos"]);
        let map = BTreeMap::from([("pos".to_owned(), "1".to_owned()), ("5".to_owned(), "pos".to_owned())]);
        let labels = Labels::new(&names, Some(&map)).unwrap();
        let index = |raw| labels.index(Path::new("f"), 1, raw);
        assert_eq!(index("pos").unwrap(), 0, "the map comes before the name");
        assert_eq!(index("5").unwrap(), 1);
        assert_eq!(index("1").unwrap(), 0, "the name comes before the index");
        assert_eq!(index("0").unwrap(), 0);
        for raw in ["2", "-1", "", " 1", "1.0"] {
            assert!(matches!(index(raw), Err(DataError::UnknownLabel { row: 1, .. })), "{raw}");
        }
    }

    #[test]
    fn a_map_to_nowhere_and_a_repeated_label_are_refused_before_reading() {
        let two = names(&["neg", "pos"]);
        let map = BTreeMap::from([("1".to_owned(), "poss".to_owned())]);
        match Labels::new(&two, Some(&map)) {
            Err(DataError::UnknownMapping { value, nearest, .. }) => {
                assert_eq!((value.as_str(), nearest), ("1", names(&["pos"])))
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(Labels::new(&names(&["a", "a"]), None), Err(DataError::DuplicateLabel { .. })));
    }
}
