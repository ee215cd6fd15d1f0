//! A setting that is a number, or a number with a word of what it counts: `0.06`, `100 steps`.

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// What such a setting is written as. Types that are made of it have `#[serde(try_from = "NumberOrText", into =
/// "NumberOrText")]`.
#[derive(Clone, Debug, PartialEq)]
pub enum NumberOrText {
    /// A bare number.
    Number(f64),
    /// Anything else.
    Text(String),
}

impl NumberOrText {
    /// The number in front of one of `units`, and which of them it is; none where it is neither. A space between them does
    /// not matter.
    #[must_use]
    pub fn with_unit(&self, units: &[&str]) -> Option<(f64, usize)> {
        let NumberOrText::Text(text) = self else { return None };
        units.iter().enumerate().find_map(|(i, unit)| {
            let number = text.trim().strip_suffix(unit)?.trim_end();
            let written = number.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '+'));
            number.parse().ok().filter(|_| written).map(|number| (number, i))
        })
    }
}

impl fmt::Display for NumberOrText {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            NumberOrText::Number(number) => write!(f, "{number}"),
            NumberOrText::Text(text) => f.write_str(text),
        }
    }
}

impl Serialize for NumberOrText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            NumberOrText::Number(number) => serializer.serialize_f64(*number),
            NumberOrText::Text(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for NumberOrText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = NumberOrText;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a number or a word")
            }
            fn visit_f64<E: Error>(self, number: f64) -> Result<NumberOrText, E> {
                Ok(NumberOrText::Number(number))
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<NumberOrText, E> {
                Ok(NumberOrText::Number(number as f64))
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<NumberOrText, E> {
                Ok(NumberOrText::Number(number as f64))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<NumberOrText, E> {
                Ok(NumberOrText::Text(text.to_string()))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_one_of_the_units_or_none() {
        let read = |text: &str| NumberOrText::Text(text.into()).with_unit(&["steps", "%"]);
        assert_eq!((read("100 steps"), read("6%"), read("1.5 %")), (Some((100.0, 0)), Some((6.0, 1)), Some((1.5, 1))));
        assert_eq!((read("many steps"), read("inf %"), read("6"), read("%")), (None, None, None, None));
        assert_eq!(NumberOrText::Number(1.0).with_unit(&[""]), None);
    }
}
