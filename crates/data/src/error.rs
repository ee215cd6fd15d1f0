//! What can be wrong with a data set, a tokenizer file or a request, as facts.

mod code;
mod shown;

use crate::filter::FilterError;
use shown::{At, AtLeast, Faults, Left, List, Nearest, Path, Short, Taking};
use std::path::PathBuf;

/// What says how a file is written.
const ENCODING: &str = "encoding: windows-1252";

/// Everything this crate refuses. A `row` counts data records from 1, a header excluded; in JSON lines it is the line.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // Of the fields: the messages say what they are.
#[non_exhaustive]
pub enum DataError {
    /// The file cannot be opened or read.
    #[error("cannot read `{}`: {source}", Path(path))]
    Io { path: PathBuf, source: std::io::Error },

    /// A file that is not what it was when its sum was taken.
    #[error("{what}")]
    Changed { path: PathBuf, what: String },

    /// What is to be read as a file is none.
    #[error("`{}` is {what}, not a regular file", Path(path))]
    NotRegular { path: PathBuf, what: &'static str },

    /// A file that is of another kind than its name or format says.
    #[error("{}: expected {want}, found {have}; name the file, and its format, by what it holds", Path(path))]
    OtherContent { path: PathBuf, want: &'static str, have: &'static str },

    /// A file that is damaged, or written in a way that is not read.
    #[error("cannot read {} as {format}: {what}", Path(path))]
    BadFile { path: PathBuf, format: &'static str, what: String },

    /// A compressed file that holds more than any does.
    #[error("{}: {what}; it is refused", Path(path))]
    Inflates { path: PathBuf, what: String },

    /// A file in UTF-16.
    #[error("{}: the file is UTF-16; say so: encoding: utf-16", Path(path))]
    Utf16 { path: PathBuf },

    /// A row that is longer than any text. `line` counts from 1.
    #[error("{}: row {row} (line {line}) is longer than {most} bytes; is one of its quotes never closed?", Path(path))]
    LongRow { path: PathBuf, row: usize, line: u64, most: u64 },

    /// A row with more cells than any table has; with `row` 0, the header. `line` counts from 1.
    #[error("{}: row {row} (line {line}) has more than {most} columns; is it a table?", Path(path))]
    ManyColumns { path: PathBuf, row: usize, line: u64, most: usize },

    /// A quote that is still open at the end of the file; with `row` 0, in the header. `line` counts from 1.
    #[error("{}: a quote of row {row}, which begins on line {line}, is never closed", Path(path))]
    OpenQuote { path: PathBuf, row: usize, line: u64 },

    /// What is wrong with several rows.
    #[error("{}", Faults(faults, *more))]
    Rows { faults: Vec<Fault>, more: usize },

    /// A row, or with `row` 0 the header, is in another encoding. `line` counts from 1.
    #[error("{}: row {row} (line {line}) is not UTF-8; say what the file is, as in {}", Path(path), ENCODING)]
    NotUtf8 { path: PathBuf, row: usize, line: u64 },

    /// A file that is not in the encoding that it is said to be in.
    #[error("{}: {what}; say what the file is, as in {}", Path(path), ENCODING)]
    NotEncoded { path: PathBuf, what: String },

    /// A row with more or fewer cells than the header.
    #[error(
        "{}: row {row} (line {line}) has {have} cells, but the header has {want}; check its quotes and commas",
        Path(path)
    )]
    Ragged { path: PathBuf, row: usize, line: u64, want: u64, have: u64 },

    /// A line that is not one JSON object.
    #[error("{}: row {row} is not a JSON object: {what}", Path(path))]
    BadJson { path: PathBuf, row: usize, what: String },

    /// A list of JSON objects that is not one.
    #[error("{}: row {row} (line {line}): {what}", Path(path))]
    BadList { path: PathBuf, row: usize, line: u64, what: String },

    /// The header lacks a column that is needed, for an example or by the filter.
    #[error("{}: no column `{}`{}; the columns are {}", Path(path), Short(column), Nearest(nearest), List(have))]
    MissingColumn { path: PathBuf, column: String, have: Vec<String>, nearest: Vec<String> },

    /// A needed column is there more than once.
    #[error("{}: more than one column is named `{}`", Path(path), Short(column))]
    DuplicateColumn { path: PathBuf, column: String },

    /// A row lacks a field that is needed, for an example or by the filter.
    #[error(
        "{}: {} has no field `{}`{}; its fields are {}",
        Path(path),
        At(*row, *line),
        Short(field),
        Nearest(nearest),
        List(have)
    )]
    MissingField {
        path: PathBuf,
        row: usize,
        line: Option<u64>,
        field: Box<str>,
        have: Box<[String]>,
        nearest: Box<[String]>,
    },

    /// A cell of another type than is needed.
    #[error("{}: {}: expected `{}` to be {want}, found {have}", Path(path), At(*row, *line), Short(field))]
    WrongType { path: PathBuf, row: usize, line: Option<u64>, field: String, want: &'static str, have: &'static str },

    /// A cell that should hold a number and does not, or not one that a float can hold.
    #[error(
        "{}: {}: expected a finite number in `{}`, found `{}`",
        Path(path),
        At(*row, *line),
        Short(column),
        Short(value)
    )]
    NotANumber { path: PathBuf, row: usize, line: Option<u64>, column: String, value: String },

    /// A value that is neither mapped, nor a label, nor the index of one.
    #[error(
        "{}: {} has the unknown label `{}`{} in `{}`; the labels are {}",
        Path(path),
        At(*row, *line),
        Short(value),
        Nearest(nearest),
        Short(column),
        List(known)
    )]
    UnknownLabel {
        path: Box<std::path::Path>,
        row: usize,
        line: Option<u64>,
        column: Box<str>,
        value: Box<str>,
        known: Box<[String]>,
        nearest: Box<[String]>,
    },

    /// A text that is longer than it may be, where none is to be cut.
    #[error("{}: {} has a text of {} tokens, and {max} are the most", Path(path), At(*row, *line), AtLeast(*have, *more))]
    LongText { path: PathBuf, row: usize, line: Option<u64>, have: usize, more: bool, max: usize },

    /// More wrong rows than may be left out.
    #[error("{} rows are wrong, and {most} may be left out; the last of them: {last}", most + 1)]
    ManyErrors { most: usize, last: Box<DataError> },

    /// A value with braces that is not a template.
    #[error(transparent)]
    Template(#[from] crate::template::TemplateError),

    /// A stratified split of examples that have no classes.
    #[error("a stratified split needs examples of classes: these have none")]
    NoClasses,

    /// A part that leaves nothing to train on, or is empty.
    #[error("a part of {part} of {have} examples leaves nothing to train on, or is empty")]
    EmptyPart { part: usize, have: usize },

    /// A row with more or fewer tags than tokens.
    #[error(
        "{}: {} has {tokens} words in `{}` and {tags} labels in `{}`",
        Path(path),
        At(*row, *line),
        Short(text),
        Short(label)
    )]
    TagCount {
        path: PathBuf,
        row: usize,
        line: Option<u64>,
        text: Box<str>,
        tokens: usize,
        label: Box<str>,
        tags: usize,
    },

    /// A chat template that cannot be used.
    #[error("the chat template: {what}")]
    ChatTemplate { what: String },

    /// Conversations, and no template that makes texts of them.
    #[error(
        "conversations need a chat template, and the tokenizer has none: put the tokenizer_config.json or chat_template.jinja \
         of the model beside tokenizer.json, or give one as chat_template"
    )]
    NoChatTemplate,

    /// A row that is not a conversation, or none that the chat template can make a text of.
    #[error("{}: {}: {what}", Path(path), At(*row, *line))]
    Conversation { path: PathBuf, row: usize, line: Option<u64>, what: String },

    /// An end of text that is to be appended, and is not known.
    #[error(
        "append_eos: the token of the end of text is not known: put the tokenizer_config.json of the model, which names \
         eos_token, beside tokenizer.json, or say append_eos: false"
    )]
    NoEndOfText,

    /// Rows of which no token is to be learnt.
    #[error(
        "{}: none of its {rows} examples has a token to learn from: what is to be learnt is cut off at data.max_length, or there \
         is none",
        Path(path)
    )]
    NothingToLearn { path: PathBuf, rows: usize },

    /// A label map that leads to no label.
    #[error(
        "the label map sends `{}` to `{}`, which is not a label{}; the labels are {}",
        Short(value),
        Short(to),
        Nearest(nearest),
        List(known)
    )]
    UnknownMapping { value: String, to: String, known: Vec<String>, nearest: Vec<String> },

    /// A column with more different values than there are classes.
    #[error(
        "{}: `{}` has more than {most} different values, which are not classes: is it a number to predict (task: regress) or an \
         id? Name the labels if they are classes: labels: [..]",
        Path(path),
        Short(column)
    )]
    ManyLabels { path: PathBuf, column: String, most: usize },

    /// Two labels of one name.
    #[error("the label `{}` is listed twice", Short(label))]
    DuplicateLabel { label: String },

    /// No row was read, or none kept.
    #[error("{}: {}", Path(path), Left(*read, *skipped))]
    Empty { path: PathBuf, read: usize, skipped: usize },

    /// A text file in another encoding. `line` counts from 1.
    #[error("{}: line {line} is not UTF-8; say what the file is, as in {}", Path(path), ENCODING)]
    NotUtf8Text { path: PathBuf, line: u64 },

    /// A folder without texts.
    #[error("the folder `{}` has no .txt file", Path(path))]
    NoText { path: PathBuf },

    /// A folder without images.
    #[error("the folder `{}` has no .png or .jpg file", Path(path))]
    NoImage { path: PathBuf },

    /// An image that lies in no folder of a class.
    #[error(
        "{}: row {row} lies in no folder of a class: an image is in a folder that is called by its label",
        Path(path)
    )]
    ImageWithoutClass { path: PathBuf, row: usize },

    /// An image that cannot be decoded.
    #[error("{}: row {row} cannot be decoded as an image: {what}", Path(path))]
    BadImage { path: PathBuf, row: usize, what: String },

    /// An image of more pixels than any photograph.
    #[error("{}: row {row} is an image of {width} x {height} pixels, and {most} in all are the most", Path(path))]
    LargeImage { path: PathBuf, row: usize, width: usize, height: usize, most: usize },

    /// Arrays that are no columns of one table.
    #[error("{}: {what}; the first dimension of every array is that of the rows", Path(path))]
    ArrayRows { path: PathBuf, what: String },

    /// A cell that should hold an array of numbers and does not.
    #[error("{}: {}: expected numbers in `{}`: {what}", Path(path), At(*row, *line), Short(column))]
    Array { path: PathBuf, row: usize, line: Option<u64>, column: String, what: String },

    /// Arrays of one batch that are not of one shape and type; `row` counts from 0.
    #[error("row {row} of the batch has {have} for `{field}`, but the first has {want}")]
    ArrayMismatch { row: usize, field: String, want: String, have: String },

    /// Blocks in which no token has a next one.
    #[error("a block of {len} tokens leaves nothing to predict; blocks need at least 2 tokens")]
    ShortBlock { len: usize },

    /// Texts too short for one block.
    #[error("the texts have {tokens} tokens, and none of them fills a block of {len}")]
    NoBlock { tokens: usize, len: usize },

    /// An expression that is not a filter.
    #[error(transparent)]
    Filter(#[from] FilterError),

    /// A cut that leaves nothing.
    #[error("none of {have} examples is left after skipping {skip}{}", Taking(take))]
    EmptySelection { have: usize, skip: usize, take: Option<usize> },

    /// An epoch without a batch.
    #[error("{examples} examples make no batch of {batch}{}", if *drop_last { ": short batches are dropped" } else { "" })]
    NoBatch { examples: usize, batch: usize, drop_last: bool },

    /// A file that is not a `tokenizer.json`, or one this version cannot read.
    #[error("cannot use the tokenizer `{}`: {what}", Path(path))]
    BadTokenizer { path: PathBuf, what: String },

    /// A `tokenizer.json` that makes texts many times longer.
    #[error("the tokenizer `{}` is refused: {what}", Path(path))]
    GrowingTokenizer { path: PathBuf, what: String },

    /// Special tokens alone reach the maximum length.
    #[error("a maximum length of {max_length} tokens leaves no room for text: {special} of them are special tokens")]
    MaxLengthTooSmall { max_length: usize, special: usize },

    /// The tokenizer refused a text.
    #[error("cannot tokenize: {what}")]
    Encode { what: String },

    /// A row beyond the maximum length; `row` counts from 0.
    #[error("row {row} of the batch has {have} tokens, but the maximum is {max}")]
    TooLong { row: usize, have: usize, max: usize },

    /// Two lists that belong together are not equally long.
    #[error("{what}: expected {want}, got {have}")]
    LengthMismatch { what: &'static str, want: usize, have: usize },

    /// Examples of one batch that do not have the same fields; `row` counts from 0.
    #[error("row {row} of the batch has the fields {}, but the first has {}", List(have), List(want))]
    FieldMismatch { row: usize, want: Vec<String>, have: Vec<String> },

    /// An example was asked for that is not there; `row` counts from 0.
    #[error("there is no example {row}: the data set has {have}")]
    NoExample { row: usize, have: usize },

    /// Texts to encode, and nothing that does it.
    #[error("`{inputs}` needs a tokenizer, and there is none")]
    NoTokenizer { inputs: &'static str },

    /// Numbers that make no tensor.
    #[error(transparent)]
    Tensor(#[from] lorac_ir::TensorError),

    /// A label index that is not a class.
    #[error("label {label} is not in 0..{classes}")]
    LabelOutOfRange { label: i64, classes: usize },
}

/// One thing that is wrong with rows.
#[derive(Debug)]
pub struct Fault {
    /// What is wrong with the first of them.
    pub error: Box<DataError>,
    /// How many have it.
    pub rows: usize,
    /// The next few of them.
    pub next: Vec<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_the_fault_and_the_way_out() {
        let error = DataError::UnknownLabel {
            path: std::path::Path::new("a.csv").into(),
            row: 3,
            line: Some(4),
            column: "label".into(),
            value: "postive".into(),
            known: ["negative".into(), "positive".into()].into(),
            nearest: ["positive".into()].into(),
        };
        assert_eq!(
            error.to_string(),
            "a.csv: row 3 (line 4) has the unknown label `postive` (nearest: `positive`) in `label`; the labels are \
             `negative`, `positive`"
        );
        assert_eq!(error.code(), "data::unknown_label");
    }

    #[test]
    fn names_are_shown_without_what_a_terminal_would_obey() {
        let error = DataError::MissingColumn {
            path: "a\u{1b}[2J.csv".into(),
            column: "te\u{202e}xt\n".into(),
            have: vec!["it's \"x\"\u{7}".into()],
            nearest: vec![],
        };
        let want = "a\\u{1b}[2J.csv: no column `te\\u{202e}xt\\n`; the columns are `it's \"x\"\\u{7}`";
        assert_eq!(error.to_string(), want);
    }

    #[test]
    fn long_values_and_lists_are_cut() {
        let error = DataError::UnknownLabel {
            path: std::path::Path::new("a.csv").into(),
            row: 1,
            line: None,
            column: "label".into(),
            value: "é".repeat(1000).into(),
            known: (0..150).map(|i| i.to_string()).collect(),
            nearest: [].into(),
        };
        let text = error.to_string();
        assert!(text.len() < 300, "{text}");
        assert!(text.ends_with("(150 in all)"), "{text}");
    }
}
