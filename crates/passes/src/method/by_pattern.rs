//! Settings that hold for some targets only: a value for each pattern.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::marker::PhantomData;

/// A value for each of some patterns, in the order in which they were written. A target has that of the first that it fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByPattern<T>(pub Vec<(String, T)>);

impl<T> Default for ByPattern<T> {
    fn default() -> ByPattern<T> {
        ByPattern(Vec::new())
    }
}

impl<T> ByPattern<T> {
    /// Whether no pattern has a value of its own.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The patterns.
    pub fn patterns(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(pattern, _)| pattern.as_str())
    }

    /// The value at a position.
    pub fn at(&self, position: Option<&usize>) -> Option<&T> {
        position.and_then(|i| self.0.get(*i)).map(|(_, value)| value)
    }
}

impl<T: Serialize> Serialize for ByPattern<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(pattern, value)| (pattern, value)))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for ByPattern<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ByPattern<T>, D::Error> {
        struct Entries<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = ByPattern<T>;
            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("patterns with a value each")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ByPattern<T>, A::Error> {
                let mut all = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    all.push(entry);
                }
                Ok(ByPattern(all))
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for ByPattern<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("ByPatternOf{}", T::schema_name()).into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "additionalProperties": generator.subschema_for::<T>() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_keep_their_order() {
        let read: ByPattern<usize> = serde_json::from_str(r#"{ "z": 1, "a": 2 }"#).expect("reads");
        assert_eq!(read.patterns().collect::<Vec<_>>(), ["z", "a"]);
        assert_eq!((read.at(Some(&1)), read.at(None)), (Some(&2), None));
        assert_eq!(serde_json::to_string(&read).expect("writes"), r#"{"z":1,"a":2}"#);
    }
}
