//! Examples for a run: read, selected, tokenized.

use crate::error::Error;
use crate::pipeline::{Data, Split};
use crate::source::{Resolved, Resolver};
use lorac_data::{Example, Filter, Format, PadTo, ReadSpec, Selection, Tokenizer, dedup_against, read, select};
use lorac_train::Dataset;

/// The examples of a split, and the file that they come from.
pub(super) fn examples(
    split: &Split,
    labels: &[String],
    data: &Data,
    resolver: &Resolver,
) -> Result<(Vec<Example>, Resolved), Error> {
    let (source, format) = match (&split.csv, &split.jsonl) {
        (Some(source), _) => (source, Format::Csv),
        (None, Some(source)) => (source, Format::JsonLines),
        (None, None) => return Err(Error::Usage("a split names neither csv nor jsonl".into())),
    };
    let file = resolver.resolve(source, split.sha256.as_deref())?;
    let filter = split.filter.as_ref().map(|f| Filter::parse(f)).transpose();
    let spec = ReadSpec {
        text: split.text.to_string(),
        label: Some(split.label.to_string()),
        filter: filter.map_err(lorac_data::DataError::from)?,
        labels: labels.to_vec(),
        label_map: split.label_map.clone(),
    };
    let all = read(&file.path, format, &spec)?;
    let chosen = Selection { shuffle_seed: Some(data.shuffle_seed), skip: split.skip, take: split.take };
    Ok((select(all, &chosen)?, file))
}

/// Drops training texts that the evaluation has too: what is held out must never have been seen.
pub(super) fn hold_out(train: &mut Vec<Example>, eval: &[Example]) -> usize {
    dedup_against(train, eval)
}

/// The examples as token ids.
pub(super) fn encode(examples: &[Example], tokenizer: &Tokenizer, data: &Data) -> Result<Dataset, Error> {
    let texts: Vec<&str> = examples.iter().map(|e| e.text.as_str()).collect();
    Ok(Dataset {
        encoded: tokenizer.encode(&texts)?,
        labels: examples.iter().map(|e| e.label).collect(),
        pad_id: tokenizer.pad_id(),
        pad: PadTo { multiple: data.pad_to_multiple, max: data.max_length, ..PadTo::default() },
    })
}
