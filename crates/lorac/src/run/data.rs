//! Examples for a run: read, selected, encoded, with their targets; a part of them held out.

use super::card::{self, Seen};
use super::interruptible::Interruptible;
use super::part::split_off;
use super::stream::RowStream;
use super::token_cache;
use crate::error::Error;
use crate::output::{DataCard, SourceCard, SplitCard};
use crate::pipeline::{Data, Split, named};
use crate::source::{Resolved, Resolver};
use crate::task::{LABELS, Targets, Task};
use crate::writing::{Asked, together};
use globset::{GlobSet, GlobSetBuilder};
use lorac_data::format::Format;
use lorac_data::{
    Cell, Columns, DataError, Encodings, Example, Field, Filter, IGNORE, Inputs, Measure, Preprocess, Row, Skipped,
    Table, Tokenizer, Truncate, each, hold_out, rows, select,
};
use lorac_ir::Graph;
use std::cell::RefCell;
use std::path::Path;

/// The examples of a run.
pub(crate) struct Examples {
    /// Those to learn from, source after source.
    pub(crate) train: Vec<Example>,
    /// How many of them each source has, and its weight; nothing where all have the same.
    pub(crate) weights: Vec<(usize, f64)>,
    /// The held-out ones; none where nothing is held out.
    pub(crate) eval: Vec<Example>,
    /// What is asked of a model that writes texts: of the held-out examples, where metrics of texts are asked for.
    pub(crate) asked: Vec<Asked>,
    /// Where the others to learn from come from, where `train` is but the first of them.
    pub(crate) stream: Option<RowStream>,
    /// What became of the rows.
    pub(crate) card: DataCard,
    /// What was read, by the path below `data` of its source.
    pub(crate) files: Vec<(String, Resolved)>,
    /// Paths of sources whose tokens were in the cache.
    pub(crate) cached: Vec<String>,
}

/// What rows become examples with.
#[derive(Clone, Copy)]
pub(crate) struct Reading<'a> {
    /// The model.
    pub(crate) graph: &'a Graph,
    /// What makes tokens of texts, where the model reads some.
    pub(crate) tokenizer: Option<&'a Tokenizer>,
    /// What is done to images, where it takes those.
    pub(crate) preprocess: Option<&'a Preprocess>,
}

impl Reading<'_> {
    /// What of the rows of a split the model is fed.
    pub(super) fn inputs(&self, task: &dyn Task, split: &Split) -> Inputs {
        let mut inputs = task.inputs_of(split, self.graph);
        if let (Inputs::Image(image), Some(preprocess)) = (&mut inputs, self.preprocess) {
            image.preprocess = preprocess.clone();
        }
        inputs
    }
}

/// Reads what `data` names.
///
/// # Errors
/// What is wrong with sources, files and rows; a training set of which nothing is left.
pub(crate) fn examples(data: &Data, task: &dyn Task, reading: Reading, resolver: &Resolver) -> Result<Examples, Error> {
    let (mut files, mut cached) = (Vec::new(), Vec::new());
    let is_part = data.eval.as_ref().is_some_and(|held| held.part().is_some());
    let mut sources = |key: &'static str, splits: &[Split]| -> Result<(Vec<Item>, SplitCard), Error> {
        let (mut all, mut card) = (Vec::new(), SplitCard::default());
        let asks = task.generation().is_some() && (key == "eval" || is_part);
        for (at, (path, split)) in named(key, splits).enumerate() {
            let (found, of_file, was_kept) = read(split, task, data, reading, resolver, asks, &mut card)?;
            cached.extend(was_kept.then(|| path.clone()));
            files.push((path, of_file));
            all.extend(found.into_iter().map(|(example, seen)| Item { example, seen, source: at }));
        }
        Ok((all, card))
    };
    let streamed = data.train.first().and_then(|split| Some((split, split.stream?)));
    let (mut train, mut train_card) = match streamed {
        None => sources("train", &data.train)?,
        Some(_) => Default::default(),
    };
    let (eval, eval_card) = match &data.eval {
        None => (Vec::new(), None),
        Some(held) => match held.part() {
            None => sources("eval", held.sources()).map(|(items, card)| (items, Some(card)))?,
            Some(part) => {
                let read = train.len();
                let eval = split_off(&mut train, part, data.shuffle_seed)?;
                train_card.split_off = eval.len();
                (eval, Some(SplitCard { read, ..SplitCard::default() }))
            }
        },
    };
    let open = |(split, options)| {
        let held: Vec<Example> = eval.iter().map(|item| item.example.clone()).collect();
        RowStream::open(split, options, task, data, reading, resolver, held)
    };
    let mut stream = streamed.map(open).transpose()?;
    if let Some(stream) = &mut stream {
        let item = |(example, seen)| Item { example, seen: Some(seen), source: 0 };
        train = std::mem::take(&mut stream.first).into_iter().map(item).collect();
        train_card = stream.card().of_first(&stream.file.source);
        files.push(("train".to_string(), stream.file.clone()));
    }
    let dropped = hold_out(&mut train, &eval);
    some_left(train.len(), dropped, is_part)?;
    train_card.held_out += dropped;
    let targets = data.train.first().map(|split| task.targets(split)).transpose()?;
    let classes = targets.as_ref().map_or(&[][..], |targets| targets.classes());
    let fill = |card: &mut SplitCard, items: &[Item]| {
        for (at, source) in card.sources.iter_mut().enumerate() {
            source.examples = items.iter().filter(|item| item.source == at).count();
        }
        card::fill(card, classes, items.iter().map(|item| (&item.example, item.seen.as_ref())));
    };
    fill(&mut train_card, &train);
    let eval_card = eval_card.map(|mut card| {
        fill(&mut card, &eval);
        card
    });
    let weights: Vec<(usize, f64)> = train_card.sources.iter().map(|s| (s.examples, s.weight)).collect();
    let weights = if weights.iter().all(|(_, weight)| *weight == 1.0) { Vec::new() } else { weights };
    let mut card = DataCard { train: train_card, eval: eval_card, ..DataCard::default() };
    card.warnings = card::warnings(&card);
    let bare = |items: Vec<Item>| items.into_iter().map(|item| item.example).collect();
    if task.generation().is_some() {
        card.warnings.extend(unanswered(&eval));
    }
    let asked = asked(&eval);
    Ok(Examples { train: bare(train), weights, eval: bare(eval), asked, stream, card, files, cached })
}

/// What the examples ask.
fn asked(items: &[Item]) -> Vec<Asked> {
    together(items.iter().filter_map(|item| item.seen.as_ref()?.question.clone()))
}

/// What is said of examples that nobody answers, where others are.
fn unanswered(items: &[Item]) -> Option<String> {
    let answered = items.iter().filter(|item| item.seen.as_ref().is_some_and(|seen| seen.question.is_some())).count();
    let (all, without) = (items.len(), items.len() - answered);
    (answered > 0 && without > 0).then(|| {
        format!("{without} of {all} held-out examples have no answer that a text could be compared with: none is written for them")
    })
}

/// The error of what needs held-out examples where a pipeline has none.
pub(crate) fn nothing_held_out() -> Error {
    Error::Usage("the pipeline has no held-out examples: give data.eval, as in --set data.eval.csv=FILE".into())
}

/// The held-out examples alone.
pub(crate) struct HeldOut {
    pub(crate) examples: Vec<Example>,
    /// What they ask of a model that writes.
    pub(crate) asked: Vec<Asked>,
    /// What a user should know of what they ask.
    pub(crate) note: Option<String>,
}

/// The held-out examples. Of the training set no more is read than they are split off from.
///
/// # Errors
/// A pipeline that holds nothing out, and what is wrong with sources, files and rows.
pub(crate) fn held_out(data: &Data, task: &dyn Task, reading: Reading, resolver: &Resolver) -> Result<HeldOut, Error> {
    let Some(held) = &data.eval else { return Err(nothing_held_out()) };
    let splits = if held.part().is_some() { &data.train } else { held.sources() };
    let (mut all, mut card) = (Vec::new(), SplitCard::default());
    for (source, split) in splits.iter().enumerate() {
        let asks = task.generation().is_some();
        let (found, ..) = read(split, task, data, reading, resolver, asks, &mut card)?;
        all.extend(found.into_iter().map(|(example, seen)| Item { example, seen, source }));
    }
    let held = held.part().map(|part| split_off(&mut all, part, data.shuffle_seed)).transpose()?;
    let held = held.unwrap_or(all);
    let (asked, note) = (asked(&held), unanswered(&held));
    Ok(HeldOut { examples: held.into_iter().map(|item| item.example).collect(), asked, note })
}

/// An example, with what is to be said of it.
type Encoded = (Example, Option<Seen>);

/// An example with where it comes from.
struct Item {
    example: Example,
    seen: Option<Seen>,
    source: usize,
}

impl AsRef<Example> for Item {
    fn as_ref(&self) -> &Example {
        &self.example
    }
}

/// Refuses a training set of which holding out leaves nothing.
pub(super) fn some_left(left: usize, dropped: usize, part: bool) -> Result<(), Error> {
    match left {
        0 if dropped > 0 => {
            let choose = match part {
                true => "all texts are the same: more data is needed",
                false => "choose others by skip, take or filter",
            };
            Err(Error::Usage(format!(
                "all {dropped} examples of data.train are also in data.eval, so they are held out and none is left to \
                 train on: {choose}"
            )))
        }
        _ => Ok(()),
    }
}

/// The examples of a source, each with what is to be said of it and, where `asks` says so, what it asks, and the file or folder
/// that they come from; whether its tokens were in the cache. What became of its rows is added to the card.
fn read(
    split: &Split,
    task: &dyn Task,
    data: &Data,
    reading: Reading,
    resolver: &Resolver,
    asks: bool,
    card: &mut SplitCard,
) -> Result<(Vec<Encoded>, Resolved, bool), Error> {
    let (inputs, targets) = (reading.inputs(task, split), task.targets(split)?);
    let tokenizer = reading.tokenizer;
    let (needed, optional) = needed(&inputs, &*targets);
    let (found, table) = table(split, needed, optional, data, resolver)?;
    let is_typed = split.format().is_some_and(Format::is_typed);
    let (read, mut rows, mut skipped) = (table.read, table.rows, table.skipped);
    if !split.is_table() {
        keep_files(&mut rows, split)?;
    }
    card.filtered += read - skipped.count() - rows.len();
    let chosen = split.selection(data.shuffle_seed);
    let with_target = |mut example: Example, field: Option<Field>| {
        if example.field(LABELS).is_some() {
            return example;
        }
        let field = field.unwrap_or_else(|| targets.of_tokens(example.tokens("input_ids").unwrap_or_default()));
        example.fields.push((LABELS, field));
        example
    };
    // Who can write to the cache is not asked what pinned rows are.
    let keeps = data.token_cache.or(split.sha256.is_some().then_some(false));
    let was_kept;
    let mut examples = Vec::new();
    match inputs.one_per_row() {
        // Every row has a right target, chosen or not.
        true => {
            let right = |row: &Row| {
                let field = targets.of_row(row)?;
                inputs.check_row(row).map(|()| field)
            };
            let (rows, fields) = skipped.each(rows, right)?;
            some_right(rows.len(), &skipped, &found.path, read)?;
            if is_typed {
                card.number_strings += rows.iter().filter(|row| is_number_string(row, split, &*targets)).count();
            }
            let order = select((0..rows.len()).collect(), &chosen)?;
            card.unselected += rows.len() - order.len();
            let rows: Vec<Row> = picked(rows, &order);
            let made;
            (made, was_kept) = token_cache::encode(&inputs, &rows, tokenizer, keeps, resolver)?;
            if split.is_images() {
                only_summed(&found, &rows)?;
            }
            let Encodings { examples: encoded, measures, left_out, words, refused: mut wrong } = made;
            card.left_out += left_out;
            card.words_lost += words.lost;
            card.words_empty += words.empty;
            if !skipped.allows() {
                none_refused(&rows, std::mem::take(&mut wrong))?;
            }
            let mut questions = if asks { inputs.questions(&rows, tokenizer)? } else { Vec::new() };
            let mut wrong = wrong.into_iter().peekable();
            for (at, (example, field)) in encoded.into_iter().zip(picked(fields, &order)).enumerate() {
                if let Some((_, error)) = wrong.next_if(|(row, _)| *row == at) {
                    skipped.leave_out(error)?;
                    continue;
                }
                let measure = measures.get(at).copied().unwrap_or_default();
                match refused(data.truncate, measure, &rows[at], tokenizer.map_or(0, Tokenizer::max_length)) {
                    Some(error) => skipped.leave_out(error)?,
                    None => {
                        let question = questions.get_mut(at).and_then(Option::take);
                        let seen = Seen::of(measure, &rows[at]).asking(question);
                        examples.push((with_target(example, field), Some(seen)));
                    }
                }
            }
            some_right(examples.len(), &skipped, &found.path, read)?;
            card.unlearned += drop_unlearned(&mut examples, &found.path)?;
        }
        false => {
            let made;
            (made, was_kept) = token_cache::encode(&inputs, &rows, tokenizer, keeps, resolver)?;
            let Encodings { examples: encoded, left_out, .. } = made;
            let all = encoded.len();
            let encoded = select(encoded, &chosen)?;
            card.left_out += left_out;
            card.unselected += all - encoded.len();
            examples.extend(encoded.into_iter().map(|example| (with_target(example, None), None)));
        }
    }
    card.read += read;
    card.skipped += skipped.count();
    card.errors.extend(skipped.shown().iter().cloned());
    let (source, weight) = (found.source.clone(), split.drawn());
    card.sources.push(SourceCard { source, weight, read, examples: examples.len() });
    Ok((examples, found, was_kept))
}

/// The columns that a row must have, and those that it may lack.
pub(super) fn needed(inputs: &Inputs, targets: &dyn Targets) -> (Vec<String>, Vec<String>) {
    let optional: Vec<String> = inputs.optional().into_iter().map(String::from).collect();
    let all = inputs.columns().into_iter().chain(targets.columns()).map(String::from);
    (all.filter(|column| !optional.contains(column)).collect(), optional)
}

/// What is read of a source, with these columns, and how: rows end with an error once the user wants to stop.
pub(super) fn reader(
    split: &Split,
    needed: Vec<String>,
    optional: Vec<String>,
    data: &Data,
    resolver: &Resolver,
) -> Result<(Interruptible, Columns), Error> {
    let format = split.format().ok_or_else(|| Error::Usage(format!("unknown format `{}`", split.format)))?;
    let filter = split.filter.as_ref().map(|f| Filter::parse(f)).transpose().map_err(DataError::from)?;
    let columns = Columns { needed, optional, filter, written: split.written(), max_errors: data.most_errors() };
    Ok((Interruptible { format, stop: resolver.stop }, columns))
}

/// The rows of a source that its filter keeps, with these columns, and the file or folder that they come from.
pub(super) fn table(
    split: &Split,
    needed: Vec<String>,
    optional: Vec<String>,
    data: &Data,
    resolver: &Resolver,
) -> Result<(Resolved, Table), Error> {
    let found = resolver.resolve(&split.source, split.sha256.as_deref())?;
    let (format, columns) = reader(split, needed, optional, data, resolver)?;
    let table = rows(&format, &found.path, &columns)?;
    found.unchanged()?;
    found.nothing_else()?;
    Ok((found, table))
}

/// Refuses files of rows, which are read one by one, that are not what the sum is of.
fn only_summed(found: &Resolved, rows: &[Row]) -> Result<(), Error> {
    let new = rows.iter().find(|row| !found.has(&row.path));
    new.map_or(Ok(()), |row| found.open(&row.path).map(drop))?;
    Ok(found.unchanged()?)
}

/// Refuses rows that cannot be encoded.
pub(super) fn none_refused(rows: &[Row], refused: Vec<(usize, DataError)>) -> Result<(), DataError> {
    let wrong: Vec<Row> = refused.iter().filter_map(|(at, _)| rows.get(*at).cloned()).collect();
    let errors = RefCell::new(refused.into_iter());
    each(&wrong, |_| errors.borrow_mut().next().map_or(Ok(()), |(_, error)| Err(error))).map(drop)
}

/// Drops examples with a label a token of which none counts, as where the completion of a prompt was cut off; returns how many.
fn drop_unlearned(examples: &mut Vec<(Example, Option<Seen>)>, path: &Path) -> Result<usize, DataError> {
    let rows = examples.len();
    let counts = |labels: &[i64]| labels.iter().any(|label| *label != IGNORE);
    examples.retain(|(example, _)| example.tokens(LABELS).is_none_or(counts));
    match examples.is_empty() && rows > 0 {
        true => Err(DataError::NothingToLearn { path: path.to_owned(), rows }),
        false => Ok(rows - examples.len()),
    }
}

/// Refuses a source of which every row was left out.
fn some_right(right: usize, skipped: &Skipped, path: &Path, read: usize) -> Result<(), DataError> {
    match right {
        0 => Err(DataError::Empty { path: path.to_owned(), read, skipped: skipped.count() }),
        _ => Ok(()),
    }
}

/// Why a text is not cut, where none is to be.
pub(super) fn refused(truncate: Option<Truncate>, measure: Measure, row: &Row, max: usize) -> Option<DataError> {
    (truncate == Some(Truncate::Refuse) && measure.is_cut()).then(|| DataError::LongText {
        path: row.path.to_path_buf(),
        row: row.position,
        line: row.line,
        have: measure.lost + max,
        more: measure.more,
        max,
    })
}

/// Whether the target of a row is a string of digits that stands for a number, in a format that has numbers.
fn is_number_string(row: &Row, split: &Split, targets: &dyn Targets) -> bool {
    targets.columns().into_iter().any(|column| match row.cell(column) {
        Some(Cell::Text(text)) => {
            let named = targets.classes().contains(text)
                || split.label_map.as_ref().is_some_and(|map| map.contains_key(text.as_str()));
            !named && text.trim().parse::<f64>().is_ok()
        }
        _ => false,
    })
}

/// What is at these places, each of which is asked for once; the rest is let go.
fn picked<T>(all: Vec<T>, order: &[usize]) -> Vec<T> {
    let mut all: Vec<Option<T>> = all.into_iter().map(Some).collect();
    order.iter().filter_map(|at| all.get_mut(*at).and_then(Option::take)).collect()
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

    #[test]
    fn what_is_picked_is_in_the_order_of_a_selection() {
        let all: Vec<usize> = (0..10).collect();
        let chosen = lorac_data::Selection { shuffle_seed: Some(5), skip: 2, take: Some(6) };
        let order = select((0..10).collect(), &chosen).expect("a selection");
        assert_eq!(picked(all.clone(), &order), select(all, &chosen).expect("a selection"));
    }

    #[test]
    fn files_of_rows_are_those_that_the_sum_is_of() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str| folder.path().join(name);
        let row = |name: &str| Row::new(file(name).into(), 1, Vec::new().into(), Vec::new());
        std::fs::write(file("a.png"), "one").expect("writes");
        let resolver = Resolver::new(Some(file("no-cache")), folder.path()).expect("a cache");
        let found = resolver.resolve(&crate::source::Source::Path(folder.path().into()), None).expect("resolves");
        assert!(only_summed(&found, &[row("a.png")]).is_ok());
        std::fs::write(file("b.png"), "new").expect("writes");
        let new = only_summed(&found, &[row("a.png"), row("b.png")]).expect_err("not summed");
        assert!(new.to_string().contains("b.png"), "{new}");
        std::fs::write(file("a.png"), "other").expect("writes");
        assert_eq!(only_summed(&found, &[row("a.png")]).expect_err("changed").code(), "source::changed");
    }

    #[test]
    fn a_training_set_that_is_held_out_whole_is_named() {
        let text = some_left(0, 12, false).expect_err("none left").to_string();
        assert!(text.contains("all 12 examples of data.train are also in data.eval"), "{text}");
        assert!(some_left(1, 12, false).is_ok());
    }
}
