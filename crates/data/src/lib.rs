//! Labelled text on its way to a training step: readers, tokenizing, batching, sampling.
//!
//! A file's [`Format`] iterates over its rows. [`rows()`] keeps those that are wanted, with the columns that are needed, and
//! [`Labels`] and [`Row::number`] say what their cells mean. Rows are shuffled and cut ([`select`]), tokenized
//! ([`Tokenizer`]), drawn in a seeded order ([`Sampler`]), padded into rectangles ([`collate`]) and, when the logits
//! are back, scored ([`Classification`]). Every step is deterministic: the same files, settings and seeds give the
//! same bytes on every machine and with any number of threads.
//!
//! This crate must never know what the numbers are for: no ONNX, no graph, no runtime, no YAML, no download.
//!
//! ```
//! use lorac_data::format::Csv;
//! use lorac_data::{Columns, Filter, Labels, Sampler, Selection, rows, select};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! let path = folder.path().join("reviews.csv");
//! std::fs::write(&path, "text,label\nfine film,positive\n\"dull, long\",negative\nlovely,positive\n")?;
//! let columns = Columns { needed: vec!["text".into(), "label".into()], filter: Some(Filter::parse("text != ''")?) };
//! let reviews = rows(&Csv, &path, &columns)?;
//! let labels = Labels::new(&["negative", "positive"], None)?;
//! assert_eq!((reviews[1].text("text")?, labels.index(&reviews[1], "label")?), ("dull, long", 0));
//!
//! // Train and evaluation rows from one file: the same shuffle, then disjoint cuts of it.
//! let cut = |skip, take| Selection { shuffle_seed: Some(7), skip, take };
//! let train = select(reviews.clone(), &cut(0, Some(2)))?;
//! let eval = select(reviews, &cut(2, None))?;
//! assert_eq!((train.len(), eval.len()), (2, 1));
//!
//! let sampler = Sampler::new(train.len(), 2, 7, false)?;
//! let batches: Vec<Vec<usize>> = sampler.epoch(0).collect();
//! assert_eq!(batches.len(), 1);
//! # Ok(())
//! # }
//! ```

mod batch;
mod error;
mod filter;
pub mod format;
mod label;
mod metrics;
mod nearest;
pub mod old;
mod perplexity;
mod row;
mod sampler;
mod shuffle;
mod split;
mod table;
mod tokenize;

pub use batch::{Batch, IGNORE, PadTo, collate};
pub use error::DataError;
pub use filter::{Filter, FilterError};
pub use format::{FORMATS, Format, Rows, format};
pub use label::Labels;
pub use metrics::Classification;
pub use perplexity::Perplexity;
pub use row::{Cell, Row};
pub use sampler::{Epoch, Sampler};
pub use shuffle::shuffle;
pub use split::{Holdout, Selection, dedup_against, overlap, select, split};
pub use table::{Columns, rows};
pub use tokenize::{Encoded, Tokenizer};
