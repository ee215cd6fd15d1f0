//! From a document to a pipeline: serde's types over nodes that know their place.

use super::document::{Node, Place, Spanned, is_null};
use super::{Problem, unknown_key, unknown_value};
use serde::de::{self, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor};
use std::fmt;

/// Why a node is not what was asked for.
#[derive(Debug)]
pub(super) struct DeError(Box<Problem>);

impl DeError {
    /// The place of what was being read, where none is known yet.
    fn at(mut self, place: Place) -> DeError {
        if self.0.place == Place::Nowhere {
            self.0.place = place;
        }
        self
    }

    pub(super) fn problem(self) -> Problem {
        *self.0
    }
}

impl fmt::Display for DeError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for DeError {}

impl de::Error for DeError {
    fn custom<T: fmt::Display>(message: T) -> DeError {
        DeError(Box::new(Problem::new("pipeline::value", message.to_string(), Place::Nowhere)))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> DeError {
        DeError(Box::new(unknown_key(field, expected)))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> DeError {
        DeError(Box::new(unknown_value(variant, expected)))
    }

    fn missing_field(field: &'static str) -> DeError {
        DeError(Box::new(Problem::new(
            "pipeline::missing_key",
            format!("the key `{field}` is missing"),
            Place::Nowhere,
        )))
    }
}

/// A node to be read.
pub(super) struct Reading<'n>(pub(super) &'n Spanned<Node>);

/// Nothing below a bare name: every setting has its default.
static NO_SETTINGS: Spanned<Node> = Spanned { value: Node::Map(Vec::new()), place: Place::Nowhere };

impl<'n> Reading<'n> {
    fn wrong(&self, expected: &str) -> DeError {
        let have = match &self.0.value {
            Node::Scalar { text, .. } if text.is_empty() => "nothing".to_string(),
            Node::Scalar { text, .. } => format!("`{text}`"),
            Node::List(_) => "a list".to_string(),
            Node::Map(_) => "keys with values".to_string(),
        };
        let message = format!("expected {expected}, found {have}");
        DeError(Box::new(Problem::new("pipeline::value", message, self.0.place)))
    }

    fn scalar(&self, expected: &str) -> Result<(&'n str, bool), DeError> {
        match &self.0.value {
            Node::Scalar { text, plain } => Ok((text, *plain)),
            _ => Err(self.wrong(expected)),
        }
    }

    fn number<T: std::str::FromStr>(&self, expected: &str) -> Result<T, DeError> {
        let (text, plain) = self.scalar(expected)?;
        text.parse().ok().filter(|_| plain).ok_or_else(|| self.wrong(expected))
    }

    fn real(&self) -> Result<f64, DeError> {
        let (text, plain) = self.scalar("a number")?;
        let number = match text.to_ascii_lowercase().as_str() {
            ".inf" | "+.inf" => Some(f64::INFINITY),
            "-.inf" => Some(f64::NEG_INFINITY),
            ".nan" => Some(f64::NAN),
            // Rust reads words as well.
            word if word.contains(['i', 'n']) => None,
            digits => digits.parse().ok(),
        };
        number.filter(|_| plain).ok_or_else(|| self.wrong("a number"))
    }

    fn boolean(&self) -> Result<bool, DeError> {
        let (text, plain) = self.scalar("true or false")?;
        match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "y" if plain => Ok(true),
            "false" | "no" | "off" | "n" if plain => Ok(false),
            _ => Err(self.wrong("true or false")),
        }
    }
}

macro_rules! integers {
    ($($method:ident $visit:ident $type:ty, $expected:literal;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
            visitor.$visit(self.number::<$type>($expected)?).map_err(|e: DeError| e.at(self.0.place))
        })*
    };
}

impl<'de, 'n> de::Deserializer<'de> for Reading<'n> {
    type Error = DeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        let place = self.0.place;
        match &self.0.value {
            Node::Map(_) => self.deserialize_map(visitor),
            Node::List(_) => self.deserialize_seq(visitor),
            Node::Scalar { text, plain: true } if is_null(text) => visitor.visit_unit(),
            Node::Scalar { text, plain: true } if matches!(text.as_str(), "true" | "false") => {
                visitor.visit_bool(text == "true")
            }
            Node::Scalar { text, plain: true } if text.parse::<i64>().is_ok() => {
                visitor.visit_i64(text.parse().unwrap_or_default())
            }
            Node::Scalar { plain: true, .. } if self.real().is_ok() => visitor.visit_f64(self.real()?),
            Node::Scalar { text, .. } => visitor.visit_str(text),
        }
        .map_err(|e: DeError| e.at(place))
    }

    integers! {
        deserialize_i8 visit_i8 i8, "a whole number";
        deserialize_i16 visit_i16 i16, "a whole number";
        deserialize_i32 visit_i32 i32, "a whole number";
        deserialize_i64 visit_i64 i64, "a whole number";
        deserialize_u8 visit_u8 u8, "a whole number that is not negative";
        deserialize_u16 visit_u16 u16, "a whole number that is not negative";
        deserialize_u32 visit_u32 u32, "a whole number that is not negative";
        deserialize_u64 visit_u64 u64, "a whole number that is not negative";
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        visitor.visit_f32(self.real()? as f32)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        visitor.visit_f64(self.real()?)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        visitor.visit_bool(self.boolean()?)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        match self.scalar("a word")? {
            (text, true) if is_null(text) => Err(self.wrong("a word")),
            (text, _) => visitor.visit_str(text).map_err(|e: DeError| e.at(self.0.place)),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        match &self.0.value {
            Node::Scalar { text, plain: true } if is_null(text) => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, DeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        let Node::List(items) = &self.0.value else { return Err(self.wrong("a list")) };
        visitor.visit_seq(Items(items.iter())).map_err(|e| e.at(self.0.place))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        let entries: &[(Spanned<String>, Spanned<Node>)] = match &self.0.value {
            Node::Map(entries) => entries,
            // A key without anything behind it: everything below has its default.
            Node::Scalar { text, plain: true } if is_null(text) => &[],
            _ => return Err(self.wrong("keys with values")),
        };
        visitor.visit_map(Entries { entries: entries.iter(), value: None }).map_err(|e| e.at(self.0.place))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DeError> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DeError> {
        let place = self.0.place;
        let (name, at, settings) = match &self.0.value {
            Node::Scalar { text, plain } if !(*plain && is_null(text)) => (text, place, None),
            Node::Map(entries) if entries.len() == 1 => (&entries[0].0.value, entries[0].0.place, Some(&entries[0].1)),
            Node::Map(entries) if entries.len() > 1 => {
                let second = entries[1].0.place;
                let message = format!("expected one of {}, found a second key", names.join(", "));
                return Err(DeError(Box::new(Problem::new("pipeline::value", message, second))));
            }
            _ => return Err(self.wrong(&format!("one of {}", names.join(", ")))),
        };
        visitor.visit_enum(Choice { name, settings }).map_err(|e| e.at(at))
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

struct Items<'n>(std::slice::Iter<'n, Spanned<Node>>);

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = DeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, DeError> {
        self.0.next().map(|node| seed.deserialize(Reading(node)).map_err(|e| e.at(node.place))).transpose()
    }
}

struct Entries<'n> {
    entries: std::slice::Iter<'n, (Spanned<String>, Spanned<Node>)>,
    value: Option<&'n Spanned<Node>>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = DeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DeError> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        self.value = Some(value);
        let name: de::value::StrDeserializer<DeError> = key.value.as_str().into_deserializer();
        seed.deserialize(name).map(Some).map_err(|e| e.at(key.place))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, DeError> {
        let node = self.value.take().unwrap_or(&NO_SETTINGS);
        seed.deserialize(Reading(node)).map_err(|e| e.at(node.place))
    }
}

struct Choice<'n> {
    name: &'n str,
    settings: Option<&'n Spanned<Node>>,
}

impl<'de, 'n> EnumAccess<'de> for Choice<'n> {
    type Error = DeError;
    type Variant = Settings<'n>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Settings<'n>), DeError> {
        let name: de::value::StrDeserializer<DeError> = self.name.into_deserializer();
        Ok((seed.deserialize(name)?, Settings(self.settings)))
    }
}

struct Settings<'n>(Option<&'n Spanned<Node>>);

impl<'de> VariantAccess<'de> for Settings<'_> {
    type Error = DeError;

    fn unit_variant(self) -> Result<(), DeError> {
        match self.0 {
            None => Ok(()),
            Some(node) => Err(Reading(node).wrong("no settings")),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, DeError> {
        let node = self.0.unwrap_or(&NO_SETTINGS);
        seed.deserialize(Reading(node)).map_err(|e| e.at(node.place))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, DeError> {
        de::Deserializer::deserialize_seq(Reading(self.0.unwrap_or(&NO_SETTINGS)), visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, DeError> {
        de::Deserializer::deserialize_map(Reading(self.0.unwrap_or(&NO_SETTINGS)), visitor)
    }
}
