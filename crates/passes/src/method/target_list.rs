//! `targets:` as it is written: patterns, and slices of what a pattern picks, `{ match: "*c_attn*", slice: [q, v] }`.

use crate::select::slice_pattern;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;
use std::fmt;

/// The schema of such a list.
pub(super) struct TargetList;

/// A pattern, whichever way it is written.
struct One(String);

/// Slices of what a pattern picks.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Slices {
    #[serde(rename = "match")]
    pattern: String,
    slice: Words,
}

/// A word or several.
struct Words(Vec<String>);

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Words, D::Error> {
        struct Given;
        impl<'de> Visitor<'de> for Given {
            type Value = Words;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a slice, or a list of them: q, k, v, gate or up")
            }
            fn visit_str<E: Error>(self, word: &str) -> Result<Words, E> {
                Ok(Words(vec![word.to_string()]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Words, A::Error> {
                let mut all = Vec::new();
                while let Some(word) = items.next_element()? {
                    all.push(word);
                }
                Ok(Words(all))
            }
        }
        deserializer.deserialize_any(Given)
    }
}

impl<'de> Deserialize<'de> for One {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<One, D::Error> {
        struct Given;
        impl<'de> Visitor<'de> for Given {
            type Value = One;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a pattern, or { match: PATTERN, slice: [q, v] }")
            }
            fn visit_str<E: Error>(self, pattern: &str) -> Result<One, E> {
                Ok(One(pattern.to_string()))
            }
            fn visit_i64<E: Error>(self, name: i64) -> Result<One, E> {
                Ok(One(name.to_string()))
            }
            fn visit_f64<E: Error>(self, name: f64) -> Result<One, E> {
                Ok(One(name.to_string()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<One, A::Error> {
                Err(A::Error::custom("a target is a pattern, or { match: PATTERN, slice: [q, v] }, and not a list"))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<One, A::Error> {
                let Slices { pattern, slice } = Slices::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                slice_pattern(&pattern, &slice.0).map(One).map_err(A::Error::custom)
            }
        }
        deserializer.deserialize_any(Given)
    }
}

/// Reads the list; one may be written as itself.
pub(super) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let all: Vec<One> = Vec::deserialize(deserializer)?;
    Ok(all.into_iter().map(|One(pattern)| pattern).collect())
}

impl JsonSchema for TargetList {
    fn schema_name() -> Cow<'static, str> {
        "TargetList".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let slices = json_schema!({
            "type": "object",
            "description": "Slices of the matrices that a pattern picks",
            "properties": {
                "match": { "type": "string", "description": "The pattern" },
                "slice": {
                    "type": "array",
                    "description": "Which: q, k, v, gate or up",
                    "items": { "enum": ["q", "k", "v", "query", "key", "value", "gate", "up"] },
                },
            },
            "required": ["match", "slice"],
            "additionalProperties": false,
        });
        json_schema!({ "type": "array", "items": { "anyOf": [{ "type": "string" }, slices] } })
    }
}
