//! `data:`: examples to learn from and to evaluate on.

mod check;
mod written;

use super::held_out::HeldOut;
use super::images::ImageOptions;
use super::label_columns::LabelColumns;
use super::stream::StreamOptions;
use crate::source::Source;
use lorac_data::format::of;
use lorac_data::{Format, Inputs, MessageKeys, Quote, Selection, TextEncoding, Truncate, Written, encode, format};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de};
use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::Path;

pub(super) use written::{keys, names, one_or_all};

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
