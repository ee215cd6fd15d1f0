//! Examples to learn from that are never there all at once: their file is read anew in every epoch.

use super::data::{Interruptible, Reading, needed, none_refused, reader, refused};
use super::plan::reads_texts;
use crate::error::Error;
use crate::pipeline::{Data, Loaded, Pipeline, Split, StreamOptions};
use crate::progress::Progress;
use crate::source::{Resolved, Resolver};
use crate::task::{LABELS, Targets, Task, TaskChoice};
use lorac_config::Problem;
use lorac_data::{
    Columns, DataError, EachRow, Encodings, Example, Field, Grouped, IGNORE, Inputs, Row, Skipped, Tokenizer, Truncate,
    batched, each_row, hold_out, shuffled,
};
use lorac_train::{Drawn, Every, Stream};

/// Rows that are encoded together, on all cores.
const CHUNK: usize = 1024;

/// So many examples are looked at before the training, at least.
const FIRST: usize = 2048;

/// A file of rows, and what is made of them.
pub struct RowStream {
    split: Split,
    buffer: usize,
    format: Interruptible,
    columns: Columns,
    inputs: Inputs,
    tokenizer: Option<Tokenizer>,
    truncate: Option<Truncate>,
    /// Held-out examples: what stands among them is not learnt.
    held: Vec<Example>,
    /// What is read.
    pub(super) file: Resolved,
    /// The examples that come first.
    pub(super) first: Vec<Example>,
    /// How many there are in all, where they are counted.
    pub(super) count: Option<usize>,
}

impl RowStream {
    /// Opens a source and reads its first examples.
    ///
    /// # Errors
    /// What is wrong with the source, the file and the rows that are read; no example at all.
    pub(super) fn open(
        split: &Split,
        options: StreamOptions,
        task: &dyn Task,
        data: &Data,
        reading: Reading,
        resolver: &Resolver,
        held: &[Example],
    ) -> Result<RowStream, Error> {
        let file = resolver.resolve(&split.source, split.sha256.as_deref())?;
        file.nothing_else()?;
        let inputs = reading.inputs(task, split);
        let (must, may) = needed(&inputs, &*task.targets(split)?);
        let (format, columns) = reader(split, must, may, data, resolver)?;
        let mut stream = RowStream {
            split: split.clone(),
            buffer: options.buffer,
            format,
            columns,
            inputs,
            tokenizer: reading.tokenizer.cloned(),
            truncate: data.truncate,
            held: held.to_vec(),
            file,
            first: Vec::new(),
            count: None,
        };
        let mut rows = stream.examples(task)?;
        let first = rows.by_ref().take(FIRST).collect::<Result<Vec<_>, _>>()?;
        let ended = first.len() < FIRST;
        if first.is_empty() {
            let (path, read, skipped) = (stream.file.path.clone(), rows.read, rows.skipped.count());
            return Err(DataError::Empty { path, read, skipped }.into());
        }
        if let Some(error) = rows.rows.absent().filter(|_| ended) {
            return Err(error.into());
        }
        drop(rows);
        (stream.count, stream.first) = (ended.then_some(first.len()), first);
        Ok(stream)
    }

    /// Counts the examples: reads the whole file.
    ///
    /// # Errors
    /// What is wrong with any row.
    pub(super) fn count(&mut self, task: &dyn Task) -> Result<usize, Error> {
        if let Some(count) = self.count {
            return Ok(count);
        }
        let (mut count, mut rows) = (0, self.examples(task)?);
        for example in rows.by_ref() {
            example?;
            count += 1;
        }
        if let Some(error) = rows.rows.absent() {
            return Err(error.into());
        }
        drop(rows);
        self.count = Some(count);
        Ok(count)
    }

    /// Steps of an epoch with batches of so many, where the examples are counted.
    pub(super) fn batches_per_epoch(&self, batch: usize) -> Option<u64> {
        self.count.map(|count| count.div_ceil(batch.max(1)).max(1) as u64)
    }

    /// Counts the examples where something comes by epochs. Returns what the user should know.
    ///
    /// # Errors
    /// As [`RowStream::count`].
    pub(super) fn prepare(&mut self, p: &Pipeline, task: &dyn Task, progress: &dyn Progress) -> Result<String, Error> {
        let by_epochs = |every: Every| matches!(every, Every::Epochs(_));
        let asked = p.train.checkpoint.as_ref().map(|checkpoint| checkpoint.every);
        if p.train.steps.is_none() || [p.train.evaluated_every(), asked].into_iter().flatten().any(by_epochs) {
            progress.line("stream    the examples are counted: all rows are read once");
            self.count(task)?;
        }
        let (looked_at, buffer) = (self.first.len(), self.buffer);
        let all = self.count.map_or(String::new(), |count| format!(" of {count}"));
        Ok(format!(
            "data.train is a stream, shuffled in a buffer of {buffer} examples: what is said of it is of its first {looked_at}{all}"
        ))
    }

    /// The examples in the order of the file. The first error is the last.
    fn examples<'a>(&'a self, task: &'a dyn Task) -> Result<Examples<'a>, DataError> {
        if let Err(why) = self.file.unchanged() {
            let source = std::io::Error::other(why.to_string());
            return Err(DataError::Io { path: self.file.path.clone(), source });
        }
        Ok(Examples {
            rows: each_row(&self.format, &self.file.path, &self.columns)?,
            read: 0,
            stream: self,
            targets: task.targets(&self.split)?,
            skipped: Skipped::new(self.columns.max_errors),
            ready: Vec::new().into_iter(),
            pass: self.split.skip,
            left: self.split.take.unwrap_or(usize::MAX),
            ended: false,
        })
    }
}

/// The examples of one epoch in the order of the file.
struct Examples<'a> {
    stream: &'a RowStream,
    rows: EachRow,
    /// Rows that were read.
    read: usize,
    targets: Box<dyn Targets + 'a>,
    skipped: Skipped,
    ready: std::vec::IntoIter<Example>,
    /// Rows still to be passed over.
    pass: usize,
    /// Rows still to be taken.
    left: usize,
    ended: bool,
}

impl Iterator for Examples<'_> {
    type Item = Result<Example, DataError>;

    fn next(&mut self) -> Option<Result<Example, DataError>> {
        loop {
            if let Some(example) = self.ready.next() {
                return Some(Ok(example));
            }
            if self.ended {
                return None;
            }
            match self.chunk().and_then(|rows| self.encoded(rows)) {
                Ok(examples) => self.ready = examples.into_iter(),
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
    }
}

impl Examples<'_> {
    /// The next rows that are right.
    fn chunk(&mut self) -> Result<Vec<Row>, DataError> {
        let mut some = Vec::with_capacity(CHUNK);
        while some.len() < CHUNK && self.left > 0 {
            let row = self.rows.next();
            self.read += usize::from(row.is_some());
            match row {
                Some(Ok(Some(_))) if self.pass > 0 => self.pass -= 1,
                Some(Ok(Some(row))) => {
                    self.left -= 1;
                    some.push(row);
                }
                Some(Ok(None)) => {}
                Some(Err(error)) => self.skipped.leave_out(error)?,
                None => {
                    self.ended = true;
                    break;
                }
            }
        }
        self.ended |= self.left == 0;
        Ok(some)
    }

    fn encoded(&mut self, rows: Vec<Row>) -> Result<Vec<Example>, DataError> {
        let (stream, targets) = (self.stream, &*self.targets);
        let inputs = &stream.inputs;
        let right = |row: &Row| {
            let field = targets.of_row(row)?;
            inputs.check_row(row).map(|()| field)
        };
        let (rows, fields) = self.skipped.each(rows, right)?;
        let made = inputs.encode(&rows, stream.tokenizer.as_ref())?;
        let Encodings { examples: encoded, measures, refused: mut wrong, .. } = made;
        if !self.skipped.allows() {
            none_refused(&rows, std::mem::take(&mut wrong))?;
        }
        let longest = stream.tokenizer.as_ref().map_or(0, Tokenizer::max_length);
        let (mut wrong, mut examples) = (wrong.into_iter().peekable(), Vec::with_capacity(rows.len()));
        for (at, (mut example, field)) in encoded.into_iter().zip(fields).enumerate() {
            if let Some((_, error)) = wrong.next_if(|(row, _)| *row == at) {
                self.skipped.leave_out(error)?;
                continue;
            }
            let measure = measures.get(at).copied().unwrap_or_default();
            if let Some(error) = refused(stream.truncate, measure, &rows[at], longest) {
                self.skipped.leave_out(error)?;
                continue;
            }
            if example.field(LABELS).is_none() {
                let made = || targets.of_tokens(example.tokens("input_ids").unwrap_or_default());
                let field: Field = field.unwrap_or_else(made);
                example.fields.push((LABELS, field));
            }
            examples.push(example);
        }
        let counts = |labels: &[i64]| labels.iter().any(|label| *label != IGNORE);
        examples.retain(|example| example.tokens(LABELS).is_none_or(counts));
        hold_out(&mut examples, &stream.held);
        Ok(examples)
    }
}

/// Refuses a stream of what is no text.
///
/// # Errors
/// The key of the stream.
pub(super) fn check_texts(loaded: &Loaded) -> Result<(), Error> {
    let p = &loaded.pipeline;
    match p.data.train.iter().any(|split| split.stream.is_some()) && !reads_texts(p) {
        false => Ok(()),
        true => Err(wrong(loaded, "`stream`: arrays and images are held in memory", "leave `stream` out")),
    }
}

/// Refuses what needs all examples at once: `counts` of labels.
///
/// # Errors
/// The key of the stream.
pub(super) fn check_counts(loaded: &Loaded, stream: Option<&RowStream>, counts: bool) -> Result<(), Error> {
    if stream.is_none() || !counts {
        return Ok(());
    }
    let message =
        "`stream`: the task weighs labels by how many examples have each, and those of a stream are not counted";
    Err(wrong(loaded, message, "give the weights themselves, class_weights: { LABEL: 2.5 }, or leave `stream` out"))
}

fn wrong(loaded: &Loaded, message: &str, help: &str) -> Error {
    let (message, help) = (message.to_string(), Some(help.to_string()));
    let problem = Problem { path: "data.train.stream".into(), code: "pipeline::stream", message, help };
    Box::new(loaded.errors_at(vec![problem])).into()
}

/// A stream in the batches of a training.
pub(super) struct Streamed<'a> {
    /// The file.
    pub(super) rows: &'a RowStream,
    /// What its rows are for.
    pub(super) task: &'a TaskChoice,
    /// Examples of a step.
    pub(super) batch: usize,
    /// Whether those of like length come together.
    pub(super) by_length: bool,
    /// Seed of their order.
    pub(super) seed: u64,
}

impl Streamed<'_> {
    fn epoch(&self, epoch: u64) -> Box<dyn Iterator<Item = Drawn> + '_> {
        let Streamed { batch, by_length, seed, .. } = *self;
        let examples = match self.rows.examples(&**self.task) {
            Ok(examples) => examples,
            Err(error) => return Box::new(std::iter::once(Err(error))),
        };
        let drawn = shuffled(examples, self.rows.buffer, seed, epoch);
        let batches = batched(drawn, Grouped { batch, by_length, seed, epoch }, Example::longest);
        Box::new(batches.map(move |batch| batch.map(|examples| (epoch, examples))))
    }
}

impl Stream for Streamed<'_> {
    fn batches(&self, taken: u64) -> Box<dyn Iterator<Item = Drawn> + '_> {
        let per_epoch = self.batches_per_epoch();
        let (first, skip) = match self.rows.count {
            Some(_) => (taken / per_epoch, taken % per_epoch),
            None => (0, taken),
        };
        let mut failed = false;
        let all = (first..).flat_map(|epoch| self.epoch(epoch)).take_while(move |drawn| {
            let goes_on = !failed;
            failed |= drawn.is_err();
            goes_on
        });
        let mut left = skip;
        // What is passed over is read all the same, and an error in it is one.
        Box::new(all.filter(move |drawn| {
            let passed = left > 0 && drawn.is_ok();
            left -= u64::from(passed);
            !passed
        }))
    }

    fn batches_per_epoch(&self) -> u64 {
        self.rows.batches_per_epoch(self.batch).unwrap_or(u64::MAX)
    }
}
