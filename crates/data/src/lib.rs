//! Labelled text on its way to a training step: readers, tokenizing, batching, sampling.
//!
//! A file's [`Format`] iterates over its rows. [`rows()`] keeps those that are selected, with the columns that are needed, and
//! [`Labels`] and [`Row::number`] say what their cells mean. Rows are shuffled and cut ([`select`]) and encoded
//! ([`Inputs`]) as [`Example`]s: named fields, a target being one more of them. A [`Dataset`] makes [`Batch`]es of them,
//! which are named tensors, in the seeded order of a [`Sampler`]. Every step is deterministic: the same files, settings
//! and seeds give the same bytes on every machine and with any number of threads.
//!
//! This crate must never know what the numbers are for: no ONNX, no graph, no runtime, no YAML, no download.
//!
//! ```
//! use lorac_data::encode::{Encode, Text};
//! use lorac_data::format::Csv;
//! use lorac_data::{Columns, Dataset, Field, LABELS, Labels, PadTo, Sampler, Selection, Tokenizer, rows, select};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let file = folder.path().join("tokenizer.json");
//! # std::fs::write(&file, r#"{"model":{"type":"WordLevel","vocab":{"?":0,"film":1},"unk_token":"?"},"pre_tokenizer":{"type":"Whitespace"}}"#)?;
//! let path = folder.path().join("reviews.csv");
//! std::fs::write(&path, "review,label\nfine film,positive\n\"dull, long\",negative\nlovely,positive\n")?;
//! let columns = Columns { needed: vec!["review".into(), "label".into()], ..Columns::default() };
//! let reviews = rows(&Csv, &path, &columns)?.rows;
//!
//! // Train and evaluation rows from one file: the same shuffle, then disjoint cuts of it.
//! let cut = |skip, take| Selection { shuffle_seed: Some(7), skip, take };
//! let train = select(reviews.clone(), &cut(0, Some(2)))?;
//! let eval = select(reviews, &cut(2, None))?;
//! assert_eq!((train.len(), eval.len()), (2, 1));
//!
//! let tokenizer = Tokenizer::from_file(&file, 128)?;
//! let mut examples = Text { column: "review".into() }.encode(&train, Some(&tokenizer))?.examples;
//! let labels = Labels::new(&["negative", "positive"], None)?;
//! for (example, row) in examples.iter_mut().zip(&train) {
//!     example.fields.push((LABELS, Field::Int(labels.index(row, "label")? as i64)));
//! }
//! let data = Dataset::new(examples, PadTo::default());
//! for rows in Sampler::new(data.len(), 2, 7, false)?.by_length(data.lengths())?.epoch(0) {
//!     let batch = data.batch(&rows, 2)?;
//!     assert_eq!(batch.get("input_ids").ok_or("no ids")?.dims(), [2, 8]);
//! }
//! # Ok(())
//! # }
//! ```

mod batch;
mod chat_settings;
mod chat_template;
mod clock;
mod compression;
mod conversation;
mod dataset;
mod each;
pub mod encode;
mod encoded;
mod encoding;
mod error;
mod example;
mod file;
mod filter;
pub mod format;
mod growth;
mod image;
mod kept;
mod label;
mod label_cells;
mod list;
mod masking;
mod messages;
mod packing;
mod part;
mod python_json;
mod row;
mod sampler;
mod select;
mod shuffle;
mod skip;
mod slice;
mod stream;
mod table;
mod template;
mod tokenize;
mod tokenizer_config;

pub use batch::{Batch, IGNORE, PadTo, collate};
pub use chat_settings::ChatSettings;
pub use dataset::Dataset;
pub use each::each;
pub use encode::{Encode, Encodings, Inputs, Question};
pub use encoded::{Encoded, Measure, Truncate};
pub use encoding::TextEncoding;
pub use error::{DataError, Fault};
pub use example::{Example, Field, HeldOut, LABELS, duplicates, hold_out};
pub use filter::{Filter, FilterError};
pub use format::{FORMATS, Format, Quote, Rows, Written, format};
pub use image::{Levels, Picture, Preprocess, PreprocessError, Resample, Size};
pub use label::Labels;
pub use label_cells::{LabelCells, MOST_CLASSES, distinct_labels, in_order};
pub use masking::Masking;
pub use messages::{MessageKeys, MessageStyle};
pub use packing::{EXAMPLE_IDS, POSITION_IDS, pack};
pub use part::{hold_out_part, part_size};
pub use row::{Cell, Row};
pub use sampler::{Epoch, Sampler};
pub use select::{Selection, select};
pub use shuffle::shuffle;
pub use skip::Skipped;
pub use slice::Slicing;
pub use stream::{Grouped, batched, shuffled};
pub use table::{Columns, EachRow, Table, each_row, rows, stream};
pub use template::{Template, TemplateError};
pub use tokenize::{EncodedWords, Tokenizer};
