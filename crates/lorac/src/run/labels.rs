//! The labels of a task that names none: those that its training set has.

use super::data::{reader, table};
use crate::error::Error;
use crate::pipeline::{Data, Split};
use crate::source::Resolver;
use crate::task::Task;
use lorac_data::{DataError, LabelCells, MOST_CLASSES, Skipped, distinct_labels, each_row, in_order};
use std::collections::BTreeSet;

/// The different labels of all rows that the filters of the training set keep, taken or not, by the names that label_map gives
/// them: sorted, numbers by their value.
///
/// # Errors
/// What is wrong with sources and files; more labels than there are classes.
pub(crate) fn labels_of_data(data: &Data, task: &dyn Task, resolver: &Resolver) -> Result<Vec<String>, Error> {
    let mut names = BTreeSet::new();
    for split in &data.train {
        let Some(cells) = task.label_cells(split) else { continue };
        let column = vec![cells.column().to_owned()];
        if split.stream.is_some() {
            names.extend(labels_of_stream(split, column, &cells, data, resolver)?);
            continue;
        }
        let (found, read) = table(split, column, Vec::new(), data, resolver)?;
        names.extend(distinct_labels(&found.path, &read.rows, &cells, split.label_map.as_ref())?);
        if names.len() > MOST_CLASSES {
            let (path, column) = (found.path, cells.column().to_owned());
            return Err(DataError::ManyLabels { path, column, most: MOST_CLASSES }.into());
        }
    }
    Ok(in_order(names))
}

/// Rows of a stream that are there at once.
const CHUNK: usize = 4096;

/// Those of a file that is never held whole.
fn labels_of_stream(
    split: &Split,
    column: Vec<String>,
    cells: &LabelCells,
    data: &Data,
    resolver: &Resolver,
) -> Result<BTreeSet<String>, Error> {
    let found = resolver.resolve(&split.source, split.sha256.as_deref())?;
    let (format, columns) = reader(split, column, Vec::new(), data, resolver)?;
    let (mut rows, mut skipped) = (each_row(&format, &found.path, &columns)?, Skipped::new(columns.max_errors));
    let mut names = BTreeSet::new();
    loop {
        let (mut read, mut some) = (0, Vec::new());
        for row in rows.by_ref().take(CHUNK) {
            read += 1;
            match row {
                Ok(row) => some.extend(row),
                Err(error) => skipped.leave_out(error)?,
            }
        }
        names.extend(distinct_labels(&found.path, &some, cells, split.label_map.as_ref())?);
        if read < CHUNK {
            return Ok(names);
        }
        if names.len() > MOST_CLASSES {
            let (path, column) = (found.path, cells.column().to_owned());
            return Err(DataError::ManyLabels { path, column, most: MOST_CLASSES }.into());
        }
    }
}

/// What is said of labels that are those of the training set.
pub(super) fn said(labels: &[String]) -> String {
    const SHOWN: usize = 12;
    let shown = labels.iter().take(SHOWN).map(|label| label.escape_debug().to_string()).collect::<Vec<_>>().join(", ");
    let more = if labels.len() > SHOWN { format!(", ... ({} in all)", labels.len()) } else { String::new() };
    let fractions =
        labels.iter().all(|label| label.parse::<f64>().is_ok()) && labels.iter().any(|label| label.contains('.'));
    let doubt = if fractions { "; are they numbers to predict (`task: regress`)?" } else { "" };
    format!("the labels are those of data.train: {shown}{more}{doubt}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_labels_are_is_said() {
        let of = |labels: &[&str]| said(&labels.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(of(&["neg", "p\u{1b}os"]), "the labels are those of data.train: neg, p\\u{1b}os");
        assert!(of(&["0.5", "1"]).ends_with("are they numbers to predict (`task: regress`)?"));
        assert!(!of(&["1", "2"]).contains('?') && !of(&["v1.0", "2"]).contains('?'));
        assert!(of(&["x"; 20]).ends_with(", ... (20 in all)"));
    }
}
