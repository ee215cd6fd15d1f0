//! From a document to a pipeline: serde's types over nodes that know their place.
//!
//! serde ends at the first error. [`read`] notes it, and reads again as if the value at fault were not there, until nothing
//! new is found.

use super::Problem;
use super::document::{Entry, Node, Place, Spanned, is_null};
use super::findings::{DeError, Findings, shortened};
use super::shorthand::{required, short};
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
};

/// The value that a node stands for, as far as it can be read; what is wrong with it goes to `found`.
pub(super) fn read<T: DeserializeOwned>(node: &Spanned<Node>, found: &Findings) -> Option<T> {
    loop {
        let error = match T::deserialize(Reading { node, key: "", found }) {
            Ok(value) => return Some(value),
            Err(DeError::Noted) if !found.is_full() => continue,
            Err(error) => error.at(node.place),
        };
        if !matches!(error, DeError::Noted) {
            found.fault(node, error);
        }
        return None;
    }
}

/// A node to be read, the value of `key`.
#[derive(Clone, Copy)]
struct Reading<'n> {
    node: &'n Spanned<Node>,
    key: &'n str,
    found: &'n Findings,
}

/// A key, its place and its value.
type Pair<'n> = (&'n str, Place, &'n Spanned<Node>);

/// Nothing below a bare name: every setting has its default.
static NO_SETTINGS: Spanned<Node> = Spanned { value: Node::Map(Vec::new()), place: Place::Nowhere };

fn pairs(entries: &[Entry]) -> Vec<Pair<'_>> {
    entries.iter().map(|(key, node)| (key.value.as_str(), key.place, node)).collect()
}

impl<'n> Reading<'n> {
    fn wrong(&self, expected: &str) -> DeError {
        let (have, place) = match &self.node.value {
            Node::Scalar { text, .. } if text.is_empty() => ("nothing".to_string(), self.node.place),
            Node::Scalar { text, .. } => (format!("`{}`", shortened(text)), self.node.place),
            Node::List(_) => ("a list".to_string(), self.node.place),
            Node::Map(_) => ("keys with values".to_string(), self.node.place),
            Node::Extended(text, more) => {
                let below = more.first().map(|(key, _)| (key.value.as_str(), key.place));
                let (key, place) = below.unwrap_or(("", self.node.place));
                (format!("`{}` with a key `{key}` below it", shortened(text.text())), place)
            }
        };
        let of = if self.key.is_empty() { String::new() } else { format!("`{}`: ", self.key) };
        DeError::new(Problem::new("pipeline::value", format!("{of}expected {expected}, found {have}"), place))
    }

    /// A map with these entries; of the struct of this name, where it is one.
    fn map<'de, V: Visitor<'de>>(self, entries: Vec<Pair<'n>>, of: &str, visitor: V) -> Result<V::Value, DeError> {
        let have: Vec<&str> = entries.iter().map(|(key, ..)| *key).collect();
        let entries = Entries { entries: entries.into_iter(), value: None, map: self };
        let missing = match visitor.visit_map(entries) {
            Err(DeError::Missing(key)) => key,
            other => return other.map_err(|e| e.at(self.node.place)),
        };
        let all = match required(of) {
            [] => vec![missing],
            all => all.iter().map(String::as_str).filter(|key| !have.contains(key)).collect(),
        };
        let absent: Vec<&str> = all.into_iter().filter(|key| !self.found.known(self.node, key)).collect();
        Err(match &absent[..] {
            [] => DeError::Follows,
            [key] => {
                let message = format!("the key `{key}` is missing");
                DeError::new(Problem::new("pipeline::missing_key", message, self.node.place))
            }
            keys => {
                let message = format!("the keys `{}` are missing", keys.join("`, `"));
                DeError::new(Problem::new("pipeline::missing_key", message, self.node.place))
            }
        })
    }

    fn scalar(&self, expected: &str) -> Result<(&'n str, bool), DeError> {
        match &self.node.value {
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
            visitor.$visit(self.number::<$type>($expected)?).map_err(|e: DeError| e.at(self.node.place))
        })*
    };
}

impl<'de, 'n> de::Deserializer<'de> for Reading<'n> {
    type Error = DeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        let place = self.node.place;
        match &self.node.value {
            Node::Map(_) => self.deserialize_map(visitor),
            Node::List(_) => self.deserialize_seq(visitor),
            Node::Extended(..) => Err(self.wrong("a value")),
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
            (text, _) => visitor.visit_str(text).map_err(|e: DeError| e.at(self.node.place)),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        match &self.node.value {
            Node::Scalar { text, plain: true } if is_null(text) => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, DeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        let items = match &self.node.value {
            Node::List(items) => items.iter(),
            Node::Scalar { text, plain: true } if is_null(text) => return Err(self.wrong("a list")),
            // A list of one may be written as the one.
            _ => std::slice::from_ref(self.node).iter(),
        };
        visitor.visit_seq(Items { items, list: self }).map_err(|e| e.at(self.node.place))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        self.deserialize_struct("", &[], visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DeError> {
        let entries = match (&self.node.value, short(name)) {
            (Node::Map(entries), _) => pairs(entries),
            // A key without anything behind it: everything below has its default.
            (Node::Scalar { text, plain: true }, _) if is_null(text) => Vec::new(),
            (Node::Extended(text, more), Some(key)) => {
                let mut entries = pairs(more);
                if !entries.iter().any(|(have, ..)| *have == key) {
                    entries.push((key, text.place, text));
                }
                entries
            }
            (Node::Scalar { .. } | Node::List(_), Some(key)) => vec![(key, self.node.place, self.node)],
            _ if fields.is_empty() => return Err(self.wrong("keys with values")),
            _ => return Err(self.wrong(&format!("keys with values ({})", fields.join(", ")))),
        };
        self.map(entries, name, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DeError> {
        let place = self.node.place;
        let (name, at, settings) = match &self.node.value {
            Node::Scalar { text, plain } if !(*plain && is_null(text)) => (text, place, None),
            Node::Map(entries) if entries.len() == 1 => (&entries[0].0.value, entries[0].0.place, Some(&entries[0].1)),
            Node::Map(entries) if entries.len() > 1 => {
                let second = entries[1].0.place;
                let message = format!("expected one of {}, found a second key", names.join(", "));
                return Err(DeError::new(Problem::new("pipeline::value", message, second)));
            }
            _ => return Err(self.wrong(&format!("one of {}", names.join(", ")))),
        };
        let choice = Choice { name, settings, found: self.found };
        visitor.visit_enum(choice).map_err(|e| e.at(at))
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

struct Items<'n> {
    items: std::slice::Iter<'n, Spanned<Node>>,
    list: Reading<'n>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = DeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, DeError> {
        let found = self.list.found;
        let Some(node) = self.items.find(|node| !found.is_faulty(node)) else { return Ok(None) };
        let item = seed.deserialize(Reading { node, ..self.list });
        item.map(Some).map_err(|e| found.fault(node, e.at(node.place)))
    }
}

struct Entries<'n> {
    entries: std::vec::IntoIter<Pair<'n>>,
    value: Option<Pair<'n>>,
    map: Reading<'n>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = DeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DeError> {
        let found = self.map.found;
        let Some((key, place, node)) = self.entries.find(|(.., node)| !found.is_faulty(node)) else { return Ok(None) };
        self.value = Some((key, place, node));
        let name: de::value::StrDeserializer<DeError> = key.into_deserializer();
        seed.deserialize(name).map(Some).map_err(|e| {
            if let DeError::Wrong { meant: Some(meant), .. } = &e {
                found.stands_for(self.map.node, meant);
            }
            found.fault(node, e.at(place))
        })
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, DeError> {
        let (key, _, node) = self.value.take().unwrap_or(("", Place::Nowhere, &NO_SETTINGS));
        let found = self.map.found;
        seed.deserialize(Reading { node, key, found }).map_err(|e| found.fault(node, e.at(node.place)))
    }
}

struct Choice<'n> {
    name: &'n str,
    settings: Option<&'n Spanned<Node>>,
    found: &'n Findings,
}

impl<'de, 'n> EnumAccess<'de> for Choice<'n> {
    type Error = DeError;
    type Variant = Settings<'n>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Settings<'n>), DeError> {
        let name: de::value::StrDeserializer<DeError> = self.name.into_deserializer();
        let node = self.settings.unwrap_or(&NO_SETTINGS);
        let bare = self.settings.is_none();
        Ok((seed.deserialize(name)?, Settings { settings: Reading { node, key: self.name, found: self.found }, bare }))
    }
}

struct Settings<'n> {
    settings: Reading<'n>,
    bare: bool,
}

impl<'de> VariantAccess<'de> for Settings<'_> {
    type Error = DeError;

    fn unit_variant(self) -> Result<(), DeError> {
        if self.bare { Ok(()) } else { Err(self.settings.wrong("no settings")) }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, DeError> {
        seed.deserialize(self.settings).map_err(|e| e.at(self.settings.node.place))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, DeError> {
        de::Deserializer::deserialize_seq(self.settings, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, DeError> {
        de::Deserializer::deserialize_map(self.settings, visitor)
    }
}
