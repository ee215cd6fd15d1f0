//! Examples for a run: read, selected, encoded, with their targets.

use crate::error::Error;
use crate::pipeline::{Data, Split};
use crate::source::{Resolved, Resolver};
use crate::task::{LABELS, Targets, Task};
use globset::{GlobSet, GlobSetBuilder};
use lorac_data::{Columns, DataError, Example, Field, Filter, Row, Tokenizer, rows, select};
use std::path::Path;

/// The examples of a split, and the file or folder that they come from.
pub(super) fn examples(
    split: &Split,
    task: &dyn Task,
    data: &Data,
    tokenizer: &Tokenizer,
    resolver: &Resolver,
) -> Result<(Vec<Example>, Resolved), Error> {
    let found = resolver.resolve(&split.source, split.sha256.as_deref())?;
    let format = split.format().ok_or_else(|| Error::Usage(format!("unknown format `{}`", split.format)))?;
    let (inputs, targets) = (split.inputs(), task.targets(split)?);
    let needed = inputs.columns().into_iter().chain(targets.columns()).map(String::from).collect();
    let filter = split.filter.as_ref().map(|f| Filter::parse(f)).transpose().map_err(DataError::from)?;
    let mut rows = rows(format, &found.path, &Columns { needed, filter })?;
    if !split.is_table() {
        keep_files(&mut rows, split)?;
    }
    let chosen = split.selection(data.shuffle_seed);
    let examples = match inputs.one_per_row() {
        // Every row has a right target, chosen or not.
        true => {
            let fields = rows.iter().map(|row| targets.of_row(row)).collect::<Result<Vec<_>, _>>()?;
            let (rows, fields): (Vec<Row>, Vec<_>) =
                select(rows.into_iter().zip(fields).collect(), &chosen)?.into_iter().unzip();
            let encoded = inputs.encode(&rows, Some(tokenizer))?;
            encoded.into_iter().zip(fields).map(|(e, field)| with_target(e, field, &*targets)).collect()
        }
        false => {
            let encoded = select(inputs.encode(&rows, Some(tokenizer))?, &chosen)?;
            encoded.into_iter().map(|e| with_target(e, None, &*targets)).collect()
        }
    };
    Ok((examples, found))
}

fn with_target(mut example: Example, field: Option<Field>, targets: &dyn Targets) -> Example {
    let field = field.unwrap_or_else(|| targets.of_tokens(example.tokens("input_ids").unwrap_or_default()));
    example.fields.push((LABELS, field));
    example
}

/// Drops the files of a folder that `include` and `exclude` do not want.
fn keep_files(rows: &mut Vec<Row>, split: &Split) -> Result<(), Error> {
    let (include, exclude) = (globs(&split.include)?, globs(&split.exclude)?);
    rows.retain(|row| {
        let name = row.path.file_name().map(Path::new).unwrap_or(&row.path);
        (split.include.is_empty() || include.is_match(name)) && !exclude.is_match(name)
    });
    match rows.is_empty() {
        true => Err(Error::Usage(format!("{}: include and exclude leave none of its files", split.source))),
        false => Ok(()),
    }
}

fn globs(patterns: &[String]) -> Result<GlobSet, Error> {
    let wrong = |e: globset::Error| Error::Usage(e.to_string());
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(globset::Glob::new(pattern).map_err(wrong)?);
    }
    set.build().map_err(wrong)
}
