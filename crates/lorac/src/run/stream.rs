//! Examples to learn from that are never there all at once: their file is read anew in every epoch.

mod pass;

use super::card::Seen;
use super::data::{Reading, needed, reader, some_left};
use super::interruptible::Interruptible;
use super::plan::reads_texts;
use crate::error::Error;
use crate::output::StreamCard;
use crate::pipeline::{Data, Loaded, Pipeline, Split, StreamOptions};
use crate::progress::Progress;
use crate::source::{Resolved, Resolver, SourceError};
use crate::task::{Task, TaskChoice};
use lorac_config::Problem;
use lorac_data::{
    Columns, DataError, Example, Grouped, HeldOut, Inputs, Tokenizer, Truncate, batched, each_row, shuffled,
};
use lorac_train::{Drawn, Every, Stream};
use pass::{CHUNK, Pass, Read, Rows};
use std::sync::mpsc::sync_channel;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many examples are looked at before the training, at least.
const FIRST: usize = 2048;

/// Chunks of rows that are read ahead of what counts them.
const AHEAD: usize = 4;

/// How often a long count says how far it is.
const BETWEEN_LINES: Duration = Duration::from_secs(10);

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
    held: HeldOut,
    /// What is read.
    pub(super) file: Resolved,
    /// The examples that come first, until they are taken, and how many they were.
    pub(super) first: Vec<(Example, Seen)>,
    looked_at: usize,
    /// What is wrong with all the rows of those, where that may come right later.
    absent: Option<DataError>,
    /// How many there are in all, where they are counted.
    pub(super) count: Option<usize>,
    card: Mutex<StreamCard>,
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
        held: Vec<Example>,
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
            held: HeldOut::of(held),
            file,
            first: Vec::new(),
            looked_at: 0,
            absent: None,
            count: None,
            card: Mutex::default(),
        };
        let (mut pass, mut first) = (stream.examples(task)?, Vec::new());
        while first.len() < FIRST
            && let Some(some) = pass.some()
        {
            first.extend(some?);
        }
        let (said, absent) = (pass.card().clone(), pass.absent());
        drop(pass);
        if first.is_empty() {
            some_left(0, said.held_out, false)?;
            let path = stream.file.path.clone();
            return Err(match said.unlearned {
                0 => DataError::Empty { path, read: said.read, skipped: said.skipped },
                rows => DataError::NothingToLearn { path, rows },
            }
            .into());
        }
        let absent = match absent {
            Some(error) if said.whole => return Err(error.into()),
            absent => absent,
        };
        (stream.count, stream.looked_at) = (said.whole.then_some(first.len()), first.len());
        (stream.first, stream.absent) = (first, absent);
        Ok(stream)
    }

    /// Counts the examples: reads the whole file, on a thread beside the one that counts.
    ///
    /// # Errors
    /// What is wrong with any row.
    pub(super) fn count(&mut self, task: &dyn Task, progress: &dyn Progress) -> Result<usize, Error> {
        if let Some(count) = self.count {
            return Ok(count);
        }
        self.unchanged()?;
        let stream: &RowStream = self;
        let count = std::thread::scope(|scope| -> Result<usize, DataError> {
            let (send, receive) = sync_channel::<Vec<Read>>(AHEAD);
            let reads = scope.spawn(move || {
                let mut rows = match each_row(&stream.format, &stream.file.path, &stream.columns) {
                    Ok(rows) => rows,
                    Err(error) => {
                        // Whoever counts has ended where nobody takes it.
                        _ = send.send(vec![Err(error)]);
                        return None;
                    }
                };
                loop {
                    let some: Vec<Read> = rows.by_ref().take(CHUNK).collect();
                    if some.is_empty() || send.send(some).is_err() {
                        return rows.absent();
                    }
                }
            });
            let rows = Rows::Elsewhere(Box::new(receive.into_iter().flatten()));
            let (mut pass, mut count) = (Pass::of(stream, rows, task)?, 0);
            let (start, mut said) = (Instant::now(), 1);
            while let Some(some) = pass.count_some() {
                count += some?;
                if start.elapsed() >= said * BETWEEN_LINES {
                    said += 1;
                    progress.line(&format!("stream    {} rows are read", pass.card().read));
                }
            }
            let ended = pass.card().whole;
            drop(pass);
            match reads.join() {
                Ok(Some(error)) if ended => Err(error),
                Ok(_) => Ok(count),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })?;
        (self.count, self.absent) = (Some(count), None);
        Ok(count)
    }

    /// Steps of an epoch with batches of so many, where the examples are counted.
    pub(super) fn batches_per_epoch(&self, batch: usize) -> Option<u64> {
        self.count.map(|count| count.div_ceil(batch.max(1)).max(1) as u64)
    }

    /// Counts the examples where something comes by epochs. Returns what the user should know.
    ///
    /// # Errors
    /// As [`RowStream::count`]; an optional column that no row has which was looked at.
    pub(super) fn prepare(&mut self, p: &Pipeline, task: &dyn Task, progress: &dyn Progress) -> Result<String, Error> {
        let by_epochs = |every: Every| matches!(every, Every::Epochs(_));
        let asked = p.train.checkpoint.as_ref().map(|checkpoint| checkpoint.every);
        if p.train.steps.is_none() || [p.train.evaluated_every(), asked].into_iter().flatten().any(by_epochs) {
            progress.line("stream    the examples are counted: all rows are read once");
            self.count(task, progress)?;
            progress.line(&format!("stream    {}", self.card().describe()));
        }
        if let Some(error) = self.absent.take() {
            return Err(error.into());
        }
        let (looked_at, buffer) = (self.looked_at, self.buffer);
        let all = self.count.map_or(String::new(), |count| format!(" of {count}"));
        Ok(format!(
            "data.train is a stream, shuffled in a buffer of {buffer} examples: what is said of it is of its first {looked_at}{all}"
        ))
    }

    /// The examples in the order of the file. The first error is the last.
    fn examples<'a>(&'a self, task: &'a dyn Task) -> Result<Pass<'a>, DataError> {
        self.unchanged()?;
        let rows = each_row(&self.format, &self.file.path, &self.columns)?;
        Pass::of(self, Rows::Here(Box::new(rows)), task)
    }

    /// Whether the file is still what its sum is of.
    ///
    /// # Errors
    /// `Changed`.
    fn unchanged(&self) -> Result<(), DataError> {
        let what = |why: SourceError| DataError::Changed { path: self.file.path.clone(), what: why.to_string() };
        self.file.unchanged().map_err(what)
    }

    /// What was counted as rows were read so far, of the pass over the file that went furthest.
    pub(super) fn card(&self) -> StreamCard {
        self.card.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
