//! `data:`: examples to learn from and to evaluate on.

use super::offer_value;
use crate::inputs::FIELDS;
use crate::source::Source;
use lorac_config::{Check, Problems};
use lorac_data::format::of;
use lorac_data::{FORMATS, Filter, Format, Inputs, Selection, encode, format};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{self, DeserializeSeed, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::Path;
use std::sync::LazyLock;

/// Examples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// Examples to learn from
    pub train: Split,
    /// Held-out examples to evaluate on; texts that stand here too are dropped from `train`
    pub eval: Split,
    /// Tokens a text is cut to
    #[serde(default = "max_length")]
    pub max_length: usize,
    /// Batches are padded to a multiple of this many tokens
    #[serde(default = "pad_to_multiple")]
    pub pad_to_multiple: usize,
    /// Names of the model's inputs for input_ids, attention_mask, token_type_ids and position_ids, where it has others:
    /// { input_ids: "input.1" }
    #[serde(default)]
    pub inputs: BTreeMap<String, String>,
    /// Order in which a file's examples are taken from, before `skip` and `take`
    #[serde(default)]
    pub shuffle_seed: u64,
}

/// More rows than any file has.
const MOST_ROWS: f64 = 1e12;

fn max_length() -> usize {
    128
}

fn pad_to_multiple() -> usize {
    8
}

/// Examples out of files: a format with its source, and what is taken of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// Name of the format: a key of the YAML, `csv`.
    pub format: String,
    /// The file or folder.
    pub source: Source,
    /// What is taken of it.
    pub options: SplitOptions,
}

/// What is taken of a file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SplitOptions {
    /// sha256 that the file must have
    pub sha256: Option<String>,
    /// Names of the files in a folder of plain texts that are read: globs. Default: all
    pub include: Vec<String>,
    /// Names of the files in a folder of plain texts that are not read: globs
    pub exclude: Vec<String>,
    /// Tokens of the blocks that plain texts are cut into. Default: max_length
    pub block: Option<usize>,
    /// Column of the text
    pub text: Option<String>,
    /// Column of the label
    pub label: Option<String>,
    /// Names of labels by what the file has for them
    pub label_map: Option<BTreeMap<String, String>>,
    /// Rows to keep: column == "value" and other >= 3
    pub filter: Option<String>,
    /// Examples left out at the start of the shuffled file
    pub skip: usize,
    /// Examples taken after that; all where not given
    pub take: Option<usize>,
}

impl Deref for Split {
    type Target = SplitOptions;
    fn deref(&self) -> &SplitOptions {
        &self.options
    }
}

impl Split {
    /// How the file is written.
    pub fn format(&self) -> Option<&'static dyn Format> {
        format(&self.format)
    }

    /// Whether the file is a table, and not plain texts.
    pub fn is_table(&self) -> bool {
        self.format().is_some_and(Format::has_columns)
    }

    /// What of a row the model is fed.
    pub fn inputs(&self) -> Inputs {
        match self.is_table() {
            true => encode::Text { column: self.text.clone().unwrap_or_default() }.into(),
            false => encode::Blocks { tokens: self.block, ..encode::Blocks::default() }.into(),
        }
    }

    /// Which examples are taken.
    pub fn selection(&self, shuffle_seed: u64) -> Selection {
        Selection { shuffle_seed: Some(shuffle_seed), skip: self.skip, take: self.take }
    }
}

impl Check for Data {
    fn check(&self, problems: &mut Problems) {
        problems.range("max_length", self.max_length as f64, 4.0, 1e6);
        problems.range("pad_to_multiple", self.pad_to_multiple as f64, 1.0, 1024.0);
        problems.within("inputs", |p| {
            for (i, (field, name)) in self.inputs.iter().enumerate() {
                if !FIELDS.contains(&field.as_str()) {
                    let help = Some(offer_value(field, &FIELDS));
                    p.report_with_help(field, "pipeline::unknown_key", format!("unknown field `{field}`"), help);
                }
                if self.inputs.values().take(i).any(|other| other == name) {
                    p.report(field, "pipeline::inputs", format!("the input `{name}` stands for two fields"));
                }
            }
        });
        problems.within("train", |p| self.train.check(p));
        problems.within("eval", |p| self.eval.check(p));
    }
}

impl Check for Split {
    fn check(&self, problems: &mut Problems) {
        let of_tables = [
            ("text", self.text.is_some()),
            ("label", self.label.is_some()),
            ("label_map", self.label_map.is_some()),
            ("filter", self.filter.is_some()),
        ];
        let of_texts = [
            ("include", !self.include.is_empty()),
            ("exclude", !self.exclude.is_empty()),
            ("block", self.block.is_some()),
        ];
        let (keys, why): (&[_], _) = match self.is_table() {
            true => (&of_texts, "it is for plain texts: it says nothing about a table"),
            false => (&of_tables, "it is for tables: plain texts have no columns"),
        };
        for (key, _) in keys.iter().filter(|(_, given)| *given) {
            problems.report(key, "pipeline::idle", format!("`{key}`: {why}"));
        }
        if self.is_table() && self.text.is_none() {
            problems.report("text", "pipeline::split", "a table needs the column of its texts: text: COLUMN");
        }
        for (key, patterns) in [("include", &self.include), ("exclude", &self.exclude)] {
            for (i, pattern) in patterns.iter().enumerate() {
                if let Err(e) = globset::Glob::new(pattern) {
                    let message = format!("`{pattern}` is not a valid pattern: {}", e.kind());
                    problems.within(key, |p| p.report(&i.to_string(), "pipeline::glob", message));
                }
            }
        }
        if let Some(block) = self.block {
            problems.range("block", block as f64, 2.0, 1e6);
        }
        if let Some(take) = self.take {
            problems.range("take", take as f64, 1.0, MOST_ROWS);
        }
        problems.range("skip", self.skip as f64, 0.0, MOST_ROWS);
        if let Some(Err(e)) = self.filter.as_ref().map(|f| Filter::parse(f)) {
            problems.report("filter", "pipeline::filter", e);
        }
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
                let format = of(Path::new(file)).ok_or_else(|| {
                    let names = names();
                    E::custom(format!("the end of `{file}` names no format: write it as FORMAT: FILE, one of {names}"))
                })?;
                let source = file.parse().map_err(E::custom)?;
                Ok(Split { format: format.to_string(), source, options: SplitOptions::default() })
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

fn names() -> String {
    FORMATS.iter().map(|f| f.0).collect::<Vec<_>>().join(", ")
}

/// Every key of a split.
fn keys() -> &'static [&'static str] {
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
