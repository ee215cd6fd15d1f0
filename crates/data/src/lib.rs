//! Labelled text on its way to a training step: readers, tokenizing, batching, sampling.
//!
//! A file of rows becomes [`Example`]s ([`read()`]), which are shuffled and cut ([`select`], [`split()`]), tokenized
//! ([`Tokenizer`]), drawn in a seeded order ([`Sampler`]), padded into rectangles ([`collate`]) and, when the logits
//! are back, scored ([`Classification`]). Every step is deterministic: the same files, settings and seeds give the
//! same bytes on every machine and with any number of threads.
//!
//! A language model needs no labels: plain texts ([`read_texts`]) are tokenized whole and cut into blocks
//! ([`text_blocks`]), and scored by [`Perplexity`].
//!
//! This crate must never know what the numbers are for: no ONNX, no graph, no runtime, no YAML, no download.
//!
//! ```
//! use lorac_data::{Format, ReadSpec, Sampler, Selection, read, select};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! let path = folder.path().join("reviews.csv");
//! std::fs::write(&path, "text,label\nfine film,positive\n\"dull, long\",negative\nlovely,positive\n")?;
//! let spec = ReadSpec {
//!     text: "text".into(),
//!     label: Some("label".into()),
//!     labels: vec!["negative".into(), "positive".into()],
//!     ..ReadSpec::default()
//! };
//! let examples = read(&path, Format::Csv, &spec)?;
//! assert_eq!((examples[1].text.as_str(), examples[1].label, examples[1].row), ("dull, long", 0, 2));
//!
//! // Train and evaluation rows from one file: the same shuffle, then disjoint cuts of it.
//! let cut = |skip, take| Selection { shuffle_seed: Some(7), skip, take };
//! let train = select(examples.clone(), &cut(0, Some(2)))?;
//! let eval = select(examples, &cut(2, None))?;
//! assert_eq!((train.len(), eval.len()), (2, 1));
//!
//! let sampler = Sampler::new(train.len(), 2, 7, false)?;
//! let batches: Vec<Vec<usize>> = sampler.epoch(0).collect();
//! assert_eq!(batches.len(), 1);
//! # Ok(())
//! # }
//! ```

mod batch;
mod csv;
mod error;
mod filter;
mod jsonl;
mod label;
mod metrics;
mod nearest;
mod perplexity;
mod read;
mod sampler;
mod shuffle;
mod split;
mod text;
mod tokenize;

pub use batch::{Batch, IGNORE, PadTo, collate};
pub use error::DataError;
pub use filter::{Filter, FilterError};
pub use metrics::Classification;
pub use perplexity::Perplexity;
pub use read::{Example, Format, ReadSpec, read};
pub use sampler::{Epoch, Sampler};
pub use shuffle::shuffle;
pub use split::{Holdout, Selection, dedup_against, overlap, select, split};
pub use text::{Blocks, Rest, Text, read_texts, text_blocks};
pub use tokenize::{Encoded, Tokenizer};
