//! How a source of examples is written: its format is a key, beside those of what is taken of it.

use super::{Split, SplitOptions};
use crate::source::Source;
use lorac_data::{FORMATS, format};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{self, DeserializeSeed, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::sync::LazyLock;

/// A list of one source is written as the one: keys have the paths that people write.
pub(in crate::pipeline) fn one_or_all<S: Serializer>(sources: &[Split], serializer: S) -> Result<S::Ok, S::Error> {
    match sources {
        [one] => one.serialize(serializer),
        all => all.serialize(serializer),
    }
}

impl Serialize for Split {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let options = serde_json::to_value(&self.options).map_err(serde::ser::Error::custom)?;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(&self.format, &self.source)?;
        for (key, value) in options.as_object().into_iter().flatten() {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Split {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Split, D::Error> {
        struct OneSplit;
        impl<'de> Visitor<'de> for OneSplit {
            type Value = Split;
            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("a format with its source, and what is taken of it")
            }
            fn visit_str<E: de::Error>(self, file: &str) -> Result<Split, E> {
                Split::of_file(file)
            }
            fn visit_unit<E: de::Error>(self) -> Result<Split, E> {
                Err(E::custom(format!("a split names its file by a format: one of {}", names())))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Split, A::Error> {
                let mut found = Vec::new();
                let rest = WithoutFormats { map, found: &mut found };
                let options = SplitOptions::deserialize(de::value::MapAccessDeserializer::new(rest))?;
                match found.len() {
                    1 => Ok(found.remove(0)).map(|(format, source)| Split { format, source, options }),
                    0 => Err(de::Error::custom(format!("a split names its file by a format: one of {}", names()))),
                    _ => Err(de::Error::custom(format!("a split names exactly one of {}", names()))),
                }
            }
        }
        deserializer.deserialize_any(OneSplit)
    }
}

pub(in crate::pipeline) fn names() -> String {
    FORMATS.iter().map(|f| f.0).collect::<Vec<_>>().join(", ")
}

/// Every key of a split.
pub(in crate::pipeline) fn keys() -> &'static [&'static str] {
    static KEYS: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
        let options = serde_json::to_value(SplitOptions::default()).unwrap_or_default();
        let options = options.as_object().into_iter().flatten().map(|(key, _)| &*String::leak(key.clone()));
        FORMATS.iter().map(|f| f.0).chain(options).collect()
    });
    &KEYS
}

/// The keys of a map that are not formats; those that are go to `found`, with their sources.
struct WithoutFormats<'f, A> {
    map: A,
    found: &'f mut Vec<(String, Source)>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for WithoutFormats<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        let mut seed = Some(seed);
        loop {
            match self.map.next_key_seed(FormatOr(&mut seed))? {
                None => return Ok(None),
                Some(Key::Other(key)) => return Ok(Some(key)),
                Some(Key::Format(name)) => {
                    let source = self.map.next_value()?;
                    self.found.push((name, source));
                }
            }
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

enum Key<T> {
    Format(String),
    Other(T),
}

/// A key that is a format, or what the seed makes of it.
struct FormatOr<'s, K>(&'s mut Option<K>);

impl<'de, K: DeserializeSeed<'de>> DeserializeSeed<'de> for FormatOr<'_, K> {
    type Value = Key<K::Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let name = String::deserialize(deserializer)?;
        if format(&name).is_some() {
            return Ok(Key::Format(name));
        }
        if !keys().contains(&name.as_str()) {
            return Err(de::Error::unknown_field(&name, keys()));
        }
        let seed = self.0.take().ok_or_else(|| de::Error::custom("a key was read twice"))?;
        let key: de::value::StringDeserializer<D::Error> = de::IntoDeserializer::into_deserializer(name);
        seed.deserialize(key).map(Key::Other)
    }
}

impl JsonSchema for Split {
    fn schema_name() -> Cow<'static, str> {
        "Split".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = SplitOptions::json_schema(generator);
        schema.remove("description");
        let mut one_of = Vec::new();
        for (name, format) in FORMATS {
            one_of.push(serde_json::json!({ "required": [name] }));
            if let Some(properties) = schema.get_mut("properties").and_then(|p| p.as_object_mut()) {
                properties
                    .insert(name.to_string(), serde_json::json!({ "type": "string", "description": format.about() }));
            }
        }
        schema.insert("oneOf".into(), one_of.into());
        let file = "A file whose end names its format";
        schemars::json_schema!({
            "description": "Examples out of files: exactly one format with its source",
            "anyOf": [schema, { "type": "string", "description": file }],
        })
    }
}
