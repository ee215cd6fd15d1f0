//! `data:`: examples to learn from and to evaluate on.

use super::check_pin;
use super::held_out::HeldOut;
use super::images::ImageOptions;
use super::label_columns::LabelColumns;
use super::offer_value;
use super::stream::StreamOptions;
use crate::inputs::FIELDS;
use crate::source::Source;
use lorac_config::{Check, Problems};
use lorac_data::format::of;
use lorac_data::{
    FORMATS, Filter, Format, Inputs, MessageKeys, Quote, Selection, Template, TextEncoding, Truncate, Written, encode,
    format,
};
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
    /// Examples to learn from: one source, or a list of them, each with a weight
    #[serde(serialize_with = "one_or_all")]
    pub train: Vec<Split>,
    /// Held-out examples to evaluate on: a source or a list of them, or a part of the training set: { split: 0.1, stratify:
    /// true }, where `split` is a share below 1, rounded to the nearest, or a number of examples, and `stratify` gives every
    /// class its share. Texts that stand here too are dropped from `train`. Default: none, and nothing is evaluated
    #[serde(default)]
    pub eval: Option<HeldOut>,
    /// Tokens a text is cut to
    #[serde(default = "max_length")]
    pub max_length: usize,
    /// What becomes of a longer text. Default: it is cut on the side that tokenizer_config.json says, else on the right
    #[serde(default)]
    pub truncate: Option<Truncate>,
    /// What becomes of a row that is wrong: malformed, without a field that is needed, with a label or number that is none
    #[serde(default)]
    pub on_error: OnError,
    /// How many rows of each source `on_error: skip` leaves out; one more is an error. Default: 100
    #[serde(default)]
    pub max_errors: Option<usize>,
    /// Whether short examples to learn from share rows of `max_length` tokens, so that few tokens are padding. None sees another,
    /// and positions begin anew with each. `train.batch` counts rows then. For tasks that learn tokens: causal_lm, masked_lm, tag.
    /// Default: every example has a row of its own
    #[serde(default)]
    pub pack: bool,
    /// Whether tokens are kept in the cache, so that the same rows are not tokenized again by the same tokenizer. Default: those of
    /// 4 MiB of texts and more, unless a `sha256` pins them
    #[serde(default)]
    pub token_cache: Option<bool>,
    /// Batches are padded to a multiple of this many tokens
    #[serde(default = "pad_to_multiple")]
    pub pad_to_multiple: usize,
    /// Names of the model's inputs for input_ids, attention_mask, token_type_ids and position_ids, or pixel_values of images, where
    /// it has others: { input_ids: "input.1" }
    #[serde(default)]
    pub inputs: BTreeMap<String, String>,
    /// What is done to images. Default: what preprocessor_config.json beside the model says
    #[serde(default)]
    pub images: Option<ImageOptions>,
    /// Order in which a file's examples are taken from, before `skip` and `take`; and which of them a part held out has
    #[serde(default)]
    pub shuffle_seed: u64,
}

/// More rows than any file has.
const MOST_ROWS: f64 = 1e12;

/// What becomes of a row that is wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// The run ends before the training, with what is wrong
    #[default]
    Fail,
    /// It is left out, counted, and named in the data card
    Skip,
}

impl Data {
    /// How many wrong rows of a source are left out.
    pub fn most_errors(&self) -> usize {
        match self.on_error {
            OnError::Fail => 0,
            OnError::Skip => self.max_errors.unwrap_or(100),
        }
    }

    /// Every source with its path below `data`: `train`, or `train.0` where there are several.
    pub fn splits(&self) -> impl Iterator<Item = (String, &Split)> {
        named("train", &self.train).chain(self.eval.iter().flat_map(|eval| named("eval", eval.sources())))
    }
}

/// Sources with their paths.
pub(crate) fn named<'s>(key: &'static str, splits: &'s [Split]) -> impl Iterator<Item = (String, &'s Split)> {
    let single = splits.len() == 1;
    let path = move |i: usize| if single { key.to_string() } else { format!("{key}.{i}") };
    splits.iter().enumerate().map(move |(i, split)| (path(i), split))
}

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
    /// Whether the examples to learn from are never all in memory: the file is read anew in every epoch, and shuffled in a
    /// buffer: true, or { buffer: 10000 }. `skip` and `take` count in the order of the file then. Default: they are
    pub stream: Option<StreamOptions>,
    /// How often each example is drawn in an epoch: 2 is twice, 0.5 is half of them, others in each epoch. Default: 1
    pub weight: Option<f64>,
    /// What stands between the cells of a csv file: one character, or \t. Default: a comma
    pub separator: Option<String>,
    /// What the cells of a csv file are quoted by: one character, or none. Default: a quotation mark
    pub quote: Option<String>,
    /// How a file of text is written: utf-8, utf-16 (with its mark), latin-1, windows-1252, or another name of the Encoding Standard
    /// (shift_jis, gb18030, windows-1251). Default: utf-8
    pub encoding: Option<String>,
    /// Names of the columns of a csv or tsv file without a header. Default: its first row
    pub columns: Option<Vec<String>>,
    /// Column of the text, a dotted path (answer.text), or a template of several: "{title}. {body}"
    pub text: Option<String>,
    /// Column of the second text of a pair, or a template: both become one example by the tokenizer's template for pairs; of task:
    /// embed each is a text of its own
    pub text_pair: Option<String>,
    /// Columns of texts that do not belong to a pair's first text, or templates: of task: embed
    pub negatives: Vec<String>,
    /// Columns of arrays and numbers by the model's inputs that they are for; several columns become one array: { x: [a, b] }
    pub arrays: BTreeMap<String, Vec<String>>,
    /// Column of the label, or a dotted path; of several labels at once the column of their list, or a column of 0 and 1 for
    /// each of them
    pub label: Option<LabelColumns>,
    /// What stands between several labels in a cell. Default: a cell is one label, or a list
    pub label_separator: Option<String>,
    /// Column of conversations: lists of messages, each with role and content as OpenAI has them, or from and value as ShareGPT has
    pub messages: Option<String>,
    /// Column of the tools that the assistant of a conversation may call: lists of JSON schemas, which the chat template is given
    pub tools: Option<String>,
    /// Column of what the system says before a conversation that does not begin with it
    pub system: Option<String>,
    /// What other names the file has for the roles of messages: { assistant: [bot, model], user: [customer, agent] }
    pub roles: BTreeMap<String, Vec<String>>,
    /// What other keys messages have than role and content: { role: speaker, content: text }
    pub message_keys: MessageKeys,
    /// Column of prompts, whose completions are learnt: texts, or lists of messages; or a template of several: "{question} =>"
    pub prompt: Option<String>,
    /// Column of the completions of prompts, or a template
    pub completion: Option<String>,
    /// Column of instructions, as Alpaca has them
    pub instruction: Option<String>,
    /// Column of the inputs of instructions; may be left out
    pub input: Option<String>,
    /// Column of the outputs of instructions, which are learnt
    pub output: Option<String>,
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
    /// A file whose end names its format.
    pub(super) fn of_file<E: de::Error>(file: &str) -> Result<Split, E> {
        let format = of(Path::new(file)).ok_or_else(|| {
            let names = names();
            E::custom(format!("the end of `{file}` names no format: write it as FORMAT: FILE, one of {names}"))
        })?;
        let source = file.parse().map_err(E::custom)?;
        Ok(Split { format: format.to_string(), source, options: SplitOptions::default() })
    }

    /// The format of the file.
    pub fn format(&self) -> Option<&'static dyn Format> {
        format(&self.format)
    }

    /// Whether the file is a table, and not plain texts.
    pub fn is_table(&self) -> bool {
        self.format().is_some_and(Format::has_columns)
    }

    /// The columns of the texts and of their labels: those that are named, else those that all files of the format have.
    pub fn text_and_label(&self) -> [Option<&str>; 2] {
        let usual = self.format().and_then(Format::usual);
        let named = [self.text.as_deref(), self.label.as_deref()];
        [0, 1].map(|i| named[i].or(usual.map(|usual| usual[i])))
    }

    /// Whether its columns may have texts.
    pub fn has_texts(&self) -> bool {
        self.format().is_none_or(Format::has_texts)
    }

    /// Whether it has images.
    pub fn is_images(&self) -> bool {
        self.format().is_some_and(Format::has_images)
    }

    /// The column of the label: the one that is named, else the one that all files of the format have.
    pub fn label_column(&self) -> Option<&str> {
        self.text_and_label()[1].filter(|label| !label.is_empty())
    }

    /// What of a row the model is fed.
    pub fn inputs(&self) -> Inputs {
        if !self.arrays.is_empty() {
            return encode::Arrays { inputs: self.arrays.clone() }.into();
        }
        if let (true, [Some(column), _]) = (self.is_images(), self.text_and_label()) {
            return encode::Image { column: column.into(), ..encode::Image::default() }.into();
        }
        let text = || self.text.clone().unwrap_or_default();
        match (self.is_table(), &self.text_pair) {
            (true, Some(second)) => encode::Pair { first: text(), second: second.clone() }.into(),
            (true, None) => encode::Text { column: text() }.into(),
            (false, _) => encode::Blocks { tokens: self.block, ..encode::Blocks::default() }.into(),
        }
    }

    /// How the file is written, as far as the keys say that rightly.
    pub fn written(&self) -> Written {
        let quote = self.quote.as_deref().map(|quote| sign(quote).map_or(Quote::Absent, Quote::Sign));
        let separator = self.separator.as_deref().and_then(sign);
        let encoding = self.encoding.as_deref().and_then(|name| TextEncoding::named(name).ok()).unwrap_or_default();
        Written { separator, quote, encoding, columns: self.columns.clone(), ..Written::default() }
    }

    /// How often each of its examples is drawn in an epoch.
    pub fn drawn(&self) -> f64 {
        self.weight.unwrap_or(1.0)
    }

    /// Which examples are taken.
    pub fn selection(&self, shuffle_seed: u64) -> Selection {
        Selection { shuffle_seed: Some(shuffle_seed), skip: self.skip, take: self.take }
    }
}

/// The one byte that is meant: a character of ASCII that ends no line, or `\t` for a tab.
fn sign(text: &str) -> Option<u8> {
    match text.as_bytes() {
        [byte] if byte.is_ascii() && !matches!(byte, b'\n' | b'\r' | 0) => Some(*byte),
        b"\\t" | b"tab" => Some(b'\t'),
        _ => None,
    }
}

impl Check for Data {
    fn check(&self, problems: &mut Problems) {
        problems.range("max_length", self.max_length as f64, 4.0, 1e6);
        problems.range("pad_to_multiple", self.pad_to_multiple as f64, 1.0, 1024.0);
        problems.within("inputs", |p| {
            for (i, (field, name)) in self.inputs.iter().enumerate() {
                let known = [&FIELDS[..], &[encode::PIXELS]].concat();
                if !known.contains(&field.as_str()) {
                    let help = Some(offer_value(field, &known));
                    p.report_with_help(field, "pipeline::unknown_key", format!("unknown field `{field}`"), help);
                }
                if self.inputs.values().take(i).any(|other| other == name) {
                    p.report(field, "pipeline::inputs", format!("the input `{name}` stands for two fields"));
                }
            }
        });
        problems.within("images", |p| self.images.iter().for_each(|images| images.check(p)));
        if self.images.is_some() && !self.splits().any(|(_, split)| split.is_images()) {
            problems.report("images", "pipeline::idle", "`images`: no source of the data has images");
        }
        if self.on_error == OnError::Fail && self.max_errors.is_some() {
            problems.report("max_errors", "pipeline::idle", "`max_errors`: on_error is fail, which ends at the first");
        }
        if let Some(most) = self.max_errors {
            problems.range("max_errors", most as f64, 1.0, MOST_ROWS);
        }
        if self.train.is_empty() {
            problems.report(
                "train",
                "pipeline::split",
                format!("a split names its file by a format: one of {}", names()),
            );
        }
        for (path, split) in named("train", &self.train) {
            problems.within(path, |p| split.check(p));
        }
        problems.within("eval", |p| self.eval.iter().for_each(|eval| eval.check(p)));
        super::stream::check(self, problems);
    }
}

impl Check for Split {
    fn check(&self, problems: &mut Problems) {
        check_pin(&self.format, &self.source, self.sha256.as_deref(), problems);
        let settings = self.format().map_or(&[][..], Format::settings);
        let written = [
            ("separator", self.separator.is_some()),
            ("quote", self.quote.is_some()),
            ("columns", self.columns.is_some()),
            ("encoding", self.encoding.is_some()),
        ];
        for (key, _) in written.iter().filter(|(key, given)| *given && !settings.contains(key)) {
            problems.report(key, "pipeline::idle", format!("`{key}`: it says nothing about a {} file", self.format));
        }
        for (key, text) in [("separator", &self.separator), ("quote", &self.quote)] {
            let is_none = key == "quote" && text.as_deref() == Some("none");
            if let Some(text) = text.as_deref().filter(|text| !is_none && sign(text).is_none()) {
                problems.report(key, "pipeline::split", format!("`{text}` is not one character of ASCII"));
            }
        }
        if let Some(Err(near)) = self.encoding.as_deref().map(TextEncoding::named) {
            let name = self.encoding.as_deref().unwrap_or_default();
            let help = Some(if near.len() == 1 {
                format!("nearest: {}", near[0])
            } else {
                format!("known: {}", near.join(", "))
            });
            problems.report_with_help(
                "encoding",
                "pipeline::unknown_value",
                format!("unknown encoding `{name}`"),
                help,
            );
        }
        if self.separator.is_some() && self.written().separator == self.quote.as_deref().and_then(sign) {
            problems.report("separator", "pipeline::split", "the separator is the quote");
        }
        let columns = self.columns.iter().flatten().enumerate();
        for (i, column) in columns.filter(|(i, c)| self.columns.iter().flatten().take(*i).any(|other| other == *c)) {
            let message = format!("two columns are called `{column}`");
            problems.within("columns", |p| p.report(&i.to_string(), "pipeline::split", message));
        }
        if let Some(weight) = self.weight {
            problems.positive("weight", weight, 1000.0);
        }
        for (key, text) in [("text", &self.text), ("text_pair", &self.text_pair)] {
            if let Some(Err(e)) = text.as_deref().map(Template::parse) {
                problems.report(key, "pipeline::template", e);
            }
        }
        for (i, text) in self.negatives.iter().enumerate() {
            if let Err(e) = Template::parse(text) {
                problems.within("negatives", |p| p.report(&i.to_string(), "pipeline::template", e));
            }
        }
        if self.label_separator.as_ref().is_some_and(String::is_empty) {
            problems.report("label_separator", "pipeline::split", "nothing cannot stand between labels");
        }
        let of_texts = [
            ("include", !self.include.is_empty()),
            ("exclude", !self.exclude.is_empty()),
            ("block", self.block.is_some()),
        ];
        let (idle, why): (Vec<&str>, _) = match self.is_table() {
            true => (
                of_texts.into_iter().filter_map(|(key, given)| given.then_some(key)).collect(),
                "it is for plain texts: it says nothing about a table",
            ),
            false => (
                self.given().into_iter().chain(self.filter.is_some().then_some("filter")).collect(),
                "it is for tables: plain texts have no columns",
            ),
        };
        for key in idle {
            problems.report(key, "pipeline::idle", format!("`{key}`: {why}"));
        }
        self.check_dialogue(problems);
        for (input, _) in self.arrays.iter().filter(|(_, columns)| columns.is_empty()) {
            let message = format!("the input `{input}` has no column");
            problems.within("arrays", |p| p.report(input, "pipeline::split", message));
        }
        let other = !self.has_texts() || !self.arrays.is_empty();
        for (key, given) in [("text", self.text.is_some()), ("text_pair", self.text_pair.is_some())] {
            if given && other {
                let message = format!("`{key}`: the model is fed arrays and images, and no texts");
                problems.report(key, "pipeline::idle", message);
            }
        }
        if self.is_images() && !self.arrays.is_empty() {
            problems.report("arrays", "pipeline::idle", "`arrays`: folders of images have no columns of numbers");
        }
        let named = self.text_and_label()[0].is_some() || self.dialogue_key().is_some();
        if self.is_table() && !other && !named {
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

/// A list of one source is written as the one: keys have the paths that people write.
pub(super) fn one_or_all<S: Serializer>(sources: &[Split], serializer: S) -> Result<S::Ok, S::Error> {
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

pub(super) fn names() -> String {
    FORMATS.iter().map(|f| f.0).collect::<Vec<_>>().join(", ")
}

/// Every key of a split.
pub(super) fn keys() -> &'static [&'static str] {
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
