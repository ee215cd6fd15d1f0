//! One object as a row: its names and cells, without a value of what nobody needs.

use super::fault;
use crate::error::DataError;
use crate::format::{MOST_COLUMNS, Written};
use crate::row::{Cell, Row};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};
use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// What makes rows of the objects of a file.
pub(super) struct Objects {
    pub(super) path: Arc<Path>,
    written: Written,
    /// The names of the last object, which the next one mostly has too.
    columns: Arc<[String]>,
}

impl Objects {
    /// Those of a file. Of fields that are not needed only the names are kept.
    pub(super) fn new(path: Arc<Path>, written: Written) -> Objects {
        Objects { path, written, columns: Arc::new([]) }
    }

    /// The row of an object that begins on this line.
    ///
    /// # Errors
    /// `NotUtf8`, `BadJson`.
    pub(super) fn row(&mut self, bytes: &[u8], row: usize, line: u64) -> Result<Row, DataError> {
        let not_utf8 = |_| DataError::NotUtf8 { path: self.path.to_path_buf(), row, line };
        let text = std::str::from_utf8(bytes).map_err(not_utf8)?;
        let mut reader = serde_json::Deserializer::from_str(text);
        let object = Object { written: &self.written, before: &self.columns };
        let read = object.deserialize(&mut reader).and_then(|read| reader.end().map(|()| read));
        let (names, cells) = read.map_err(|error| {
            let at = error.line().saturating_sub(1);
            let what = fault(text.split('\n').nth(at).unwrap_or_default(), &error);
            let what = if line == row as u64 { what } else { format!("{what} of line {}", line + at as u64) };
            DataError::BadJson { path: self.path.to_path_buf(), row, what }
        })?;
        if let Some(names) = names {
            self.columns = names.into();
        }
        Ok(Row::new(self.path.clone(), row, self.columns.clone(), cells).on_line(line))
    }
}

/// The fields of an object, in its order, no two of one name: the names where they are not those before, and the cells.
#[derive(Clone, Copy)]
struct Object<'a> {
    written: &'a Written,
    before: &'a [String],
}

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = (Option<Vec<String>>, Vec<Cell>);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = (Option<Vec<String>>, Vec<Cell>);

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut cells = Vec::with_capacity(self.before.len());
        // Names that are those before come once, as they do there.
        let mut new: Option<(Vec<String>, HashSet<String>)> = None;
        while let Some(Name(name)) = map.next_key()? {
            let at = cells.len();
            if at == MOST_COLUMNS {
                return Err(A::Error::custom(format!("it has more than {MOST_COLUMNS} fields")));
            }
            let wanted = self.written.wants(&name);
            if new.is_some() || self.before.get(at).is_none_or(|before| *before != name) {
                let before = || self.before.iter().take(at).cloned();
                let (names, known) = new.get_or_insert_with(|| (before().collect(), before().collect()));
                if !known.insert(name.clone().into_owned()) {
                    let name = name.escape_debug();
                    return Err(A::Error::custom(format!("the field `{name}` is there twice")));
                }
                names.push(name.into_owned());
            }
            cells.push(match wanted {
                true => map.next_value_seed(AnyCell)?,
                false => map.next_value::<IgnoredAny>().map(|_| Cell::Null)?,
            });
        }
        let fewer = || cells.len() < self.before.len();
        let names = new.map(|(names, _)| names).or_else(|| fewer().then(|| self.before[..cells.len()].to_vec()));
        Ok((names, cells))
    }
}

/// A name, which is mostly written as it is.
struct Name<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a name")
            }
            fn visit_borrowed_str<E: Error>(self, name: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(name)))
            }
            fn visit_str<E: Error>(self, name: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// The cell of a value.
struct AnyCell;

impl<'de> DeserializeSeed<'de> for AnyCell {
    type Value = Cell;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Cell, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AnyCell {
    type Value = Cell;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("any valid JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Cell, E> {
        Ok(Cell::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Cell, E> {
        Ok(Cell::Bool(value))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Cell, E> {
        Ok(Cell::Text(text.to_owned()))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Cell, E> {
        Ok(Cell::Integer(number.to_string()))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Cell, E> {
        Ok(Cell::Integer(number.to_string()))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Cell, E> {
        Ok(Number::from_f64(number).map_or(Cell::Null, |number| Cell::Fraction(number.to_string())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Cell, A::Error> {
        Ok(Cell::of(&Value::deserialize(SeqAccessDeserializer::new(items))?))
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Cell, A::Error> {
        Ok(Cell::of(&Value::deserialize(MapAccessDeserializer::new(fields))?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(needed: &[&str]) -> Objects {
        let needed = needed.iter().map(|name| (*name).to_owned()).collect();
        Objects::new(Path::new("f").into(), Written { needed, ..Written::default() })
    }

    #[test]
    fn cells_are_those_of_the_values() {
        let text = r#"{"a":"x\ny","b":-3,"c":18446744073709551615,"d":1.50,"e":-0,"f":true,"g":null,"h":[1,{"i":"é"}],"j":{"k":[]},"l":1e3}"#;
        let row = objects(&[]).row(text.as_bytes(), 4, 4).unwrap();
        let values: serde_json::Map<String, Value> = serde_json::from_str(text).unwrap();
        for (name, value) in &values {
            assert_eq!(row.cell(name), Some(&Cell::of(value)), "{name}");
        }
        assert_eq!(values.len(), 10);
    }

    #[test]
    fn what_is_not_needed_has_a_name_and_no_value() {
        let mut objects = objects(&["text", "m.lang"]);
        let row = objects.row(br#"{"text":"a","more":[1e999,"x"],"m":{"lang":"en"}}"#, 1, 1).unwrap();
        assert_eq!((row.text("text").unwrap(), row.cell("more")), ("a", Some(&Cell::Null)));
        assert!(matches!(row.cell("m"), Some(Cell::Other { .. })));
        assert!(objects.row(br#"{"text":"a","more":[1,}"#, 2, 2).is_err());
    }

    #[test]
    fn names_are_kept_from_row_to_row_as_long_as_they_are_the_same() {
        let mut objects = objects(&[]);
        let mut names = |text: &str| {
            let row = objects.row(text.as_bytes(), 1, 1).map_err(|e| e.to_string())?;
            let have = row.need("?").unwrap_err();
            let DataError::MissingField { have, .. } = have else { panic!("{have}") };
            Ok::<String, String>(have.join(" "))
        };
        for (text, want) in [
            (r#"{"a":1,"b":2}"#, "a b"),
            (r#"{"a":3,"\u0062":4}"#, "a b"),
            (r#"{"a":3,"b":4,"c":5}"#, "a b c"),
            (r#"{"a":3}"#, "a"),
            (r#"{"b":3,"a":1}"#, "b a"),
            ("{}", ""),
            (r#"{"a":3,"b":4}"#, "a b"),
        ] {
            assert_eq!(names(text).as_deref(), Ok(want), "{text}");
        }
        for text in [r#"{"a":3,"a":4}"#, r#"{"a":3,"b":4,"a":4}"#, r#"{"b":3,"a":4,"b":4}"#] {
            assert!(names(text).unwrap_err().contains("is there twice"), "{text}");
        }
        assert_eq!(names(r#"{"a":3,"b":4}"#).as_deref(), Ok("a b"));
    }
}
