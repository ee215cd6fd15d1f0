//! Examples for a run: read, selected, tokenized.

use crate::error::Error;
use crate::pipeline::{Data, Located, Split, Task};
use crate::source::{Resolved, Resolver, Source};
use globset::{GlobSet, GlobSetBuilder};
use lorac_data::old::{Format, ReadSpec, Rest, Text, read, read_texts, text_blocks};
use lorac_data::{Encoded, Filter, PadTo, Selection, Tokenizer, select};
use lorac_train::Dataset;
use std::collections::HashSet;
use std::path::Path;

/// A tokenized example and its label.
pub(super) struct Labelled {
    encoded: Encoded,
    label: usize,
}

/// The examples of a split, and the file or folder that they come from.
pub(super) fn examples(
    split: &Split,
    task: &Task,
    data: &Data,
    tokenizer: &Tokenizer,
    resolver: &Resolver,
) -> Result<(Vec<Labelled>, Resolved), Error> {
    let chosen = Selection { shuffle_seed: Some(data.shuffle_seed), skip: split.skip, take: split.take };
    let (source, format) = match (&split.txt, &split.csv, &split.jsonl) {
        (Some(source), ..) => return blocks(split, source, &chosen, data, tokenizer, resolver),
        (_, Some(source), _) => (source, Format::Csv),
        (_, _, Some(source)) => (source, Format::JsonLines),
        _ => return Err(Error::Usage("a split names none of csv, jsonl and txt".into())),
    };
    let file = resolver.resolve(source, split.sha256.as_deref())?;
    let filter = split.filter.as_ref().map(|f| Filter::parse(f)).transpose();
    let labels = task.labels();
    let spec = ReadSpec {
        text: split.text.as_ref().map(|t| t.to_string()).unwrap_or_default(),
        label: split.label.as_ref().filter(|_| !labels.is_empty()).map(|l| l.to_string()),
        filter: filter.map_err(lorac_data::DataError::from)?,
        labels: labels.iter().map(|l| l.to_string()).collect(),
        label_map: split.label_map.clone().filter(|_| !labels.is_empty()),
    };
    let examples = select(read(&file.path, format, &spec)?, &chosen)?;
    let texts: Vec<&str> = examples.iter().map(|e| e.text.as_str()).collect();
    let encoded = tokenizer.encode(&texts)?;
    let pairs = encoded.into_iter().zip(&examples).map(|(encoded, e)| Labelled { encoded, label: e.label });
    Ok((pairs.collect(), file))
}

/// Blocks of plain texts.
fn blocks(
    split: &Split,
    source: &Source,
    chosen: &Selection,
    data: &Data,
    tokenizer: &Tokenizer,
    resolver: &Resolver,
) -> Result<(Vec<Labelled>, Resolved), Error> {
    let found = resolver.resolve(source, split.sha256.as_deref())?;
    let (include, exclude) = (globs(&split.include)?, globs(&split.exclude)?);
    let wanted = |text: &Text| {
        let name = text.path.file_name().map(Path::new).unwrap_or(&text.path);
        (split.include.is_empty() || include.is_match(name)) && !exclude.is_match(name)
    };
    let mut texts = read_texts(&found.path)?;
    texts.retain(wanted);
    if texts.is_empty() {
        return Err(Error::Usage(format!("{source}: include and exclude leave none of its files")));
    }
    let texts: Vec<&str> = texts.iter().map(|t| t.text.as_str()).collect();
    let len = split.block.unwrap_or(data.max_length);
    let blocks = text_blocks(&texts, tokenizer, len, Rest::Drop)?;
    let whole = blocks
        .input_ids
        .chunks_exact(len)
        .map(|ids| Labelled { encoded: Encoded { ids: ids.to_vec(), type_ids: vec![0; ids.len()] }, label: 0 });
    Ok((select(whole.collect(), chosen)?, found))
}

fn globs(patterns: &[Located]) -> Result<GlobSet, Error> {
    let wrong = |e: globset::Error| Error::Usage(e.to_string());
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(globset::Glob::new(pattern).map_err(wrong)?);
    }
    set.build().map_err(wrong)
}

/// Drops training examples that the evaluation has too: what is held out must never have been seen.
pub(super) fn hold_out(train: &mut Vec<Labelled>, eval: &[Labelled]) -> usize {
    let held: HashSet<&[i64]> = eval.iter().map(|e| e.encoded.ids.as_slice()).collect();
    let before = train.len();
    train.retain(|t| !held.contains(t.encoded.ids.as_slice()));
    before - train.len()
}

/// The examples as what is batched.
pub(super) fn dataset(examples: Vec<Labelled>, tokenizer: &Tokenizer, data: &Data) -> Dataset {
    let longest = examples.iter().map(|e| e.encoded.ids.len()).max().unwrap_or(0);
    let labels = examples.iter().map(|e| e.label).collect();
    Dataset {
        encoded: examples.into_iter().map(|e| e.encoded).collect(),
        labels,
        pad_id: tokenizer.pad_id(),
        pad: PadTo { multiple: data.pad_to_multiple, max: data.max_length.max(longest), ..PadTo::default() },
    }
}

/// Tokens of a step with batches of at most `batch` rows, as a mean and without padding.
pub(super) fn tokens_per_step(data: &Dataset, batch: usize) -> usize {
    let tokens: usize = data.encoded.iter().map(|e| e.ids.len()).sum();
    let rows = data.encoded.len();
    tokens * batch.min(rows) / rows.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lorac_data::Encoded;

    #[test]
    fn a_step_sees_no_more_rows_than_there_are() {
        let encoded = |len| Encoded { ids: vec![1; len], type_ids: vec![0; len] };
        let data =
            Dataset { encoded: [2, 4, 9].map(encoded).to_vec(), labels: vec![0; 3], pad_id: 0, pad: PadTo::default() };
        assert_eq!([1, 2, 3, 16].map(|batch| tokens_per_step(&data, batch)), [5, 10, 15, 15]);
    }
}
