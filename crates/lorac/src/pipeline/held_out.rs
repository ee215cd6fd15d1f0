//! `data.eval:`: examples that are held out, from files of their own or from the training set.

use super::data::{Split, keys, named, names, one_or_all};
use lorac_config::{Check, Problems};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::sync::LazyLock;

/// Where held-out examples come from.
#[derive(Clone, Debug, PartialEq)]
pub enum HeldOut {
    /// From files of their own.
    Sources(Vec<Split>),
    /// From the training set.
    Part(Part),
}

/// A part of the training set that is held out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// How many of the training examples are held out: a share of them below 1, rounded to the nearest, or that many. Which
    /// ones is decided by shuffle_seed
    pub split: f64,
    /// Whether every class, or every set of labels, has its share among them, by the largest remainders
    #[serde(default)]
    pub stratify: bool,
}

impl HeldOut {
    /// The files of their own.
    pub fn sources(&self) -> &[Split] {
        match self {
            Self::Sources(sources) => sources,
            Self::Part(_) => &[],
        }
    }

    /// The part of the training set.
    pub fn part(&self) -> Option<Part> {
        match self {
            Self::Sources(_) => None,
            Self::Part(part) => Some(*part),
        }
    }
}

impl Check for HeldOut {
    fn check(&self, problems: &mut Problems) {
        match self {
            Self::Part(part) => part.check(problems),
            Self::Sources(sources) => {
                if sources.is_empty() {
                    let message = format!("a split names its file by a format: one of {}", names());
                    problems.report("", "pipeline::split", message);
                }
                for (path, split) in named("", sources) {
                    let check = |p: &mut Problems| {
                        split.check(p);
                        if split.weight.is_some() {
                            let why = "`weight`: every held-out example is evaluated once";
                            p.report("weight", "pipeline::idle", why);
                        }
                    };
                    match path.strip_prefix('.') {
                        Some(at) => problems.within(at, check),
                        None => check(problems),
                    }
                }
            }
        }
    }
}

impl Check for Part {
    fn check(&self, problems: &mut Problems) {
        let Part { split, .. } = self;
        if *split >= 1.0 && split.fract() != 0.0 {
            let message = format!("`split` is {split}: expected a share below 1, or a whole number of examples");
            problems.report("split", "pipeline::range", message);
        }
        problems.positive("split", *split, 1e12);
    }
}

impl Serialize for HeldOut {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Sources(sources) => one_or_all(sources, serializer),
            Self::Part(part) => part.serialize(serializer),
        }
    }
}

/// The keys of a part.
const PART: [&str; 2] = ["split", "stratify"];

/// Every key that may stand below `eval`.
fn all_keys() -> &'static [&'static str] {
    static KEYS: LazyLock<Vec<&'static str>> = LazyLock::new(|| keys().iter().copied().chain(PART).collect());
    &KEYS
}

impl<'de> Deserialize<'de> for HeldOut {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<HeldOut, D::Error> {
        struct Held;
        impl<'de> Visitor<'de> for Held {
            type Value = HeldOut;
            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("a format with its source, a list of them, or the part of the training set to hold out")
            }
            fn visit_str<E: de::Error>(self, file: &str) -> Result<HeldOut, E> {
                Split::of_file(file).map(|split| HeldOut::Sources(vec![split]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<HeldOut, A::Error> {
                let mut sources = Vec::new();
                while let Some(split) = items.next_element()? {
                    sources.push(split);
                }
                Ok(HeldOut::Sources(sources))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<HeldOut, A::Error> {
                let first: Option<Key> = map.next_key()?;
                let is_part = first.as_ref().is_some_and(|key| PART.contains(&key.0.as_str()));
                let map = de::value::MapAccessDeserializer::new(Peeked { first: first.map(|key| key.0), map });
                match is_part {
                    true => Part::deserialize(map).map(HeldOut::Part),
                    false => Split::deserialize(map).map(|split| HeldOut::Sources(vec![split])),
                }
            }
        }
        deserializer.deserialize_any(Held)
    }
}

/// A key that may stand here.
struct Key(String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Key, D::Error> {
        let name = String::deserialize(deserializer)?;
        match all_keys().contains(&name.as_str()) {
            true => Ok(Key(name)),
            false => Err(de::Error::unknown_field(&name, all_keys())),
        }
    }
}

/// A map of which the first key was read.
struct Peeked<A> {
    first: Option<String>,
    map: A,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Peeked<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        match self.first.take() {
            Some(name) => {
                let key: de::value::StringDeserializer<A::Error> = de::IntoDeserializer::into_deserializer(name);
                seed.deserialize(key).map(Some)
            }
            None => self.map.next_key_seed(seed),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

impl JsonSchema for HeldOut {
    fn schema_name() -> Cow<'static, str> {
        "HeldOut".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (split, part) = (generator.subschema_for::<Split>(), generator.subschema_for::<Part>());
        schemars::json_schema!({
            "description": "Held-out examples: out of files of their own, or a part of the training set",
            "anyOf": [split, part, { "type": "array", "items": split }],
        })
    }
}
