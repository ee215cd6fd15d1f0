//! Examples for a run: read, selected, encoded, with their targets.

use crate::error::Error;
use crate::pipeline::{Data, Split};
use crate::source::{Resolved, Resolver, Stop};
use crate::task::{LABELS, Targets, Task};
use globset::{GlobSet, GlobSetBuilder};
use lorac_data::format::{Format, Rows};
use lorac_data::{Columns, DataError, Encodings, Example, Field, Filter, Row, Tokenizer, each, rows, select};
use std::io::ErrorKind;
use std::path::Path;

/// What became of the rows of a split.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SplitSummary {
    /// Rows of the file; of plain texts, files.
    pub read: usize,
    /// Rows that the filter, or `include` and `exclude`, left out.
    pub filtered: usize,
    /// Examples that `skip` and `take` left out.
    pub unselected: usize,
    /// Examples that were dropped because they are held out.
    pub held_out: usize,
    /// Examples that are there.
    pub examples: usize,
    /// Examples whose text was cut.
    pub cut: usize,
    /// Tokens of texts that fill no block.
    pub left_out: usize,
    /// Classes, and how many examples have them.
    pub labels: Vec<(String, usize)>,
}

impl SplitSummary {
    /// In words; texts are cut at `max_length` tokens.
    pub fn describe(&self, max_length: usize) -> String {
        let mut words = vec![format!("{} examples of {} rows", self.examples, self.read)];
        let counts = [
            (self.filtered, "filtered out"),
            (self.unselected, "not taken"),
            (self.held_out, "dropped because they are held out"),
        ];
        words.extend(counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")));
        let labels: Vec<String> =
            self.labels.iter().map(|(name, n)| format!("{n} `{}`", name.escape_debug())).collect();
        match labels.len() {
            0 => {}
            n if n > SHOWN_LABELS => words.push(format!("{}, ... ({n} labels)", labels[..SHOWN_LABELS].join(", "))),
            _ => words.push(labels.join(", ")),
        }
        if self.cut > 0 {
            let (cut, all) = (self.cut, self.examples + self.held_out);
            let share = 100.0 * cut as f64 / all.max(1) as f64;
            words.push(format!("cut {cut} of {all} texts ({share:.1} %) at {max_length} tokens"));
        }
        if self.left_out > 0 {
            words.push(format!("{} tokens at the ends of texts fill no block", self.left_out));
        }
        words.join("; ")
    }

    /// Labels that no example has.
    pub fn absent(&self) -> Vec<&str> {
        self.labels.iter().filter(|(_, n)| *n == 0).map(|(name, _)| name.as_str()).collect()
    }
}

/// More labels than this are a count.
const SHOWN_LABELS: usize = 12;

/// The examples of a split, what became of its rows, and the file or folder that they come from.
pub(super) fn examples(
    split: &Split,
    task: &dyn Task,
    data: &Data,
    tokenizer: &Tokenizer,
    resolver: &Resolver,
) -> Result<(Vec<Example>, SplitSummary, Resolved), Error> {
    let found = resolver.resolve(&split.source, split.sha256.as_deref())?;
    let format = split.format().ok_or_else(|| Error::Usage(format!("unknown format `{}`", split.format)))?;
    let (inputs, targets) = (split.inputs(), task.targets(split)?);
    let needed = inputs.columns().into_iter().chain(targets.columns()).map(String::from).collect();
    let filter = split.filter.as_ref().map(|f| Filter::parse(f)).transpose().map_err(DataError::from)?;
    let format = Interruptible { format, stop: resolver.stop };
    let table = rows(&format, &found.path, &Columns { needed, filter })?;
    found.unchanged()?;
    found.nothing_else()?;
    let (read, mut rows) = (table.read, table.rows);
    if !split.is_table() {
        keep_files(&mut rows, split)?;
    }
    let filtered = read - rows.len();
    let chosen = split.selection(data.shuffle_seed);
    let (examples, all, cut, left_out): (Vec<Example>, usize, usize, usize) = match inputs.one_per_row() {
        // Every row has a right target, chosen or not.
        true => {
            let fields = each(&rows, |row| targets.of_row(row))?;
            let all = rows.len();
            let order = select((0..all).collect(), &chosen)?;
            let (rows, fields) = (picked(rows.into_iter().map(Some).collect(), &order), picked(fields, &order));
            let rows: Vec<Row> = rows.into_iter().flatten().collect();
            let Encodings { examples, cut, left_out } = inputs.encode(&rows, Some(tokenizer))?;
            let examples = examples.into_iter().zip(fields).map(|(e, field)| with_target(e, field, &*targets));
            (examples.collect(), all, cut, left_out)
        }
        false => {
            let Encodings { examples, cut, left_out } = inputs.encode(&rows, Some(tokenizer))?;
            let all = examples.len();
            let chosen = select(examples, &chosen)?;
            (chosen.into_iter().map(|e| with_target(e, None, &*targets)).collect(), all, cut, left_out)
        }
    };
    let unselected = all - examples.len();
    let mut summary = SplitSummary { read, filtered, unselected, cut, left_out, ..SplitSummary::default() };
    summary.labels = targets.classes().iter().map(|name| (name.clone(), 0)).collect();
    summary.count(&examples);
    Ok((examples, summary, found))
}

/// What is at these places, each of which is asked for once; the rest is let go.
fn picked<T>(mut all: Vec<Option<T>>, order: &[usize]) -> Vec<Option<T>> {
    order.iter().map(|at| all.get_mut(*at).and_then(Option::take)).collect()
}

/// A format whose rows end with an error once the user wants to stop.
struct Interruptible {
    format: &'static dyn Format,
    stop: Stop,
}

impl Format for Interruptible {
    fn about(&self) -> &'static str {
        self.format.about()
    }

    fn extensions(&self) -> &'static [&'static str] {
        self.format.extensions()
    }

    fn has_columns(&self) -> bool {
        self.format.has_columns()
    }

    fn open(&self, path: &Path) -> Result<Rows, DataError> {
        let (stop, at) = (self.stop, path.to_owned());
        let Rows { columns, rows } = self.format.open(path)?;
        let rows = rows.map(move |row| match stop.is_set() {
            true => Err(DataError::Io { path: at.clone(), source: ErrorKind::Interrupted.into() }),
            false => row,
        });
        Ok(Rows { columns, rows: Box::new(rows) })
    }
}

impl SplitSummary {
    /// Counts the examples that are there.
    pub(super) fn count(&mut self, examples: &[Example]) {
        self.examples = examples.len();
        self.labels.iter_mut().for_each(|(_, n)| *n = 0);
        for example in examples {
            if let Some(Field::Int(class)) = example.field(LABELS)
                && let Some((_, n)) = usize::try_from(*class).ok().and_then(|class| self.labels.get_mut(class))
            {
                *n += 1;
            }
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use lorac_data::format::Csv;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn what_is_picked_is_in_the_order_of_a_selection() {
        let all: Vec<Option<usize>> = (0..10).map(|i| (i != 3).then_some(i)).collect();
        let chosen = lorac_data::Selection { shuffle_seed: Some(5), skip: 2, take: Some(6) };
        let order = select((0..10).collect(), &chosen).expect("a selection");
        assert_eq!(picked(all.clone(), &order), select(all, &chosen).expect("a selection"));
    }

    #[test]
    fn rows_end_once_the_user_wants_to_stop() {
        static STOP: AtomicBool = AtomicBool::new(false);
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.csv");
        std::fs::write(&path, "text\na\nb\nc\n").expect("writes");
        let format = Interruptible { format: &Csv, stop: Stop(Some(&STOP)) };
        let mut rows = format.open(&path).expect("opens").rows;
        assert!(rows.next().expect("a row").is_ok());
        STOP.store(true, Ordering::Relaxed);
        match rows.next() {
            Some(Err(DataError::Io { source, .. })) => assert_eq!(source.kind(), ErrorKind::Interrupted),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_summary_counts_what_is_there_and_says_what_is_not() {
        let example = |class| Example { fields: vec![(LABELS, Field::Int(class))] };
        let labels = ["neg", "pos", "neutral"].map(|name| (name.to_string(), 0)).to_vec();
        let mut summary = SplitSummary {
            read: 10,
            filtered: 2,
            unselected: 3,
            held_out: 1,
            cut: 2,
            labels,
            ..SplitSummary::default()
        };
        summary.count(&[example(1), example(0), example(1), example(-100)]);
        let want = "4 examples of 10 rows; 2 filtered out; 3 not taken; 1 dropped because they are held out; 1 `neg`, \
                    2 `pos`, 0 `neutral`; cut 2 of 5 texts (40.0 %) at 32 tokens";
        assert_eq!(summary.describe(32), want);
        assert_eq!(summary.absent(), ["neutral"]);
        let plain = SplitSummary { read: 2, examples: 40, left_out: 7, ..SplitSummary::default() };
        assert_eq!(plain.describe(32), "40 examples of 2 rows; 7 tokens at the ends of texts fill no block");
    }
}
