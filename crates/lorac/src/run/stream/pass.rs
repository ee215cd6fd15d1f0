//! One pass over the file of a stream: its rows become examples, and what becomes of each is counted.

use super::RowStream;
use crate::output::StreamCard;
use crate::run::card::Seen;
use crate::run::data::{none_refused, refused};
use crate::task::{LABELS, Targets, Task};
use lorac_data::{DataError, EachRow, Encodings, Example, Field, IGNORE, Row, Skipped, Tokenizer, Truncate};
use std::sync::PoisonError;

/// Rows that are encoded together, on all cores.
pub(super) const CHUNK: usize = 1024;

/// A row as it is read: nothing in place of one that the filter drops.
pub(super) type Read = Result<Option<Row>, DataError>;

/// Where the rows of a pass come from.
pub(super) enum Rows<'a> {
    /// They are read when they are asked for.
    Here(Box<EachRow>),
    /// Another thread reads them.
    Elsewhere(Box<dyn Iterator<Item = Read> + 'a>),
}

impl Iterator for Rows<'_> {
    type Item = Read;

    fn next(&mut self) -> Option<Read> {
        match self {
            Rows::Here(rows) => rows.next(),
            Rows::Elsewhere(rows) => rows.next(),
        }
    }
}

/// The examples of one epoch in the order of the file.
pub(super) struct Pass<'a> {
    stream: &'a RowStream,
    rows: Rows<'a>,
    targets: Box<dyn Targets + 'a>,
    skipped: Skipped,
    /// What is counted.
    card: StreamCard,
    ready: std::vec::IntoIter<(Example, Seen)>,
    /// Rows still to be passed over.
    pass: usize,
    /// Rows still to be taken.
    left: usize,
    ended: bool,
}

impl<'a> Pass<'a> {
    /// A pass over rows from the first on.
    pub(super) fn of(stream: &'a RowStream, rows: Rows<'a>, task: &'a dyn Task) -> Result<Self, DataError> {
        Ok(Pass {
            stream,
            rows,
            targets: task.targets(&stream.split)?,
            skipped: Skipped::new(stream.columns.max_errors),
            card: StreamCard::default(),
            ready: Vec::new().into_iter(),
            pass: stream.split.skip,
            left: stream.split.take.unwrap_or(usize::MAX),
            ended: false,
        })
    }

    /// The examples of the next rows, which may be none; nothing where all rows are read. The first error is the last.
    pub(super) fn some(&mut self) -> Option<Result<Vec<(Example, Seen)>, DataError>> {
        self.next_rows(|pass, rows| pass.encoded(rows))
    }

    /// How many examples the next rows are.
    pub(super) fn count_some(&mut self) -> Option<Result<usize, DataError>> {
        self.next_rows(|pass, rows| pass.counted(rows))
    }

    /// What is wrong with all rows so far, where they lack an optional column.
    pub(super) fn absent(&mut self) -> Option<DataError> {
        match &mut self.rows {
            Rows::Here(rows) => rows.absent(),
            Rows::Elsewhere(_) => None,
        }
    }

    /// What is counted so far.
    pub(super) fn card(&self) -> &StreamCard {
        &self.card
    }

    fn next_rows<T>(
        &mut self,
        of: impl FnOnce(&mut Self, Vec<Row>) -> Result<T, DataError>,
    ) -> Option<Result<T, DataError>> {
        if self.ended {
            return None;
        }
        let made = self.chunk().and_then(|rows| of(self, rows));
        // What was read is what the sum is of: otherwise an error, too, may be one of what stands there now.
        let made = self.stream.unchanged().and(made);
        self.ended |= made.is_err();
        self.tell();
        Some(made)
    }

    /// The next rows that are right.
    fn chunk(&mut self) -> Result<Vec<Row>, DataError> {
        let mut some = Vec::with_capacity(CHUNK);
        while some.len() < CHUNK && self.left > 0 {
            let row = self.rows.next();
            self.card.read += usize::from(row.is_some());
            match row {
                Some(Ok(Some(_))) if self.pass > 0 => {
                    self.pass -= 1;
                    self.card.unselected += 1;
                }
                Some(Ok(Some(row))) => {
                    self.left -= 1;
                    some.push(row);
                }
                Some(Ok(None)) => self.card.filtered += 1,
                Some(Err(error)) => self.skipped.leave_out(error)?,
                None => {
                    self.ended = true;
                    break;
                }
            }
        }
        self.ended |= self.left == 0;
        self.card.whole = self.ended;
        Ok(some)
    }

    /// The rows with a right target that can be encoded, and those of the targets that are not made of tokens.
    fn right(&mut self, rows: Vec<Row>) -> Result<(Vec<Row>, Vec<Option<Field>>), DataError> {
        let (targets, inputs) = (&*self.targets, &self.stream.inputs);
        let right = |row: &Row| {
            let field = targets.of_row(row)?;
            inputs.check_row(row).map(|()| field)
        };
        self.skipped.each(rows, right)
    }

    fn encoded(&mut self, rows: Vec<Row>) -> Result<Vec<(Example, Seen)>, DataError> {
        let (rows, fields) = self.right(rows)?;
        self.examples(&rows, fields)
    }

    /// As many as are encoded; no text becomes tokens where nothing depends on them.
    fn counted(&mut self, rows: Vec<Row>) -> Result<usize, DataError> {
        let (rows, fields) = self.right(rows)?;
        let stream = self.stream;
        let as_rows = stream.inputs.takes_every_row()
            && stream.truncate != Some(Truncate::Refuse)
            && stream.held.is_empty()
            && fields.iter().all(|field| field.as_ref().is_some_and(is_one));
        if !as_rows {
            return self.examples(&rows, fields).map(|examples| examples.len());
        }
        self.card.examples += rows.len();
        Ok(rows.len())
    }

    fn examples(&mut self, rows: &[Row], fields: Vec<Option<Field>>) -> Result<Vec<(Example, Seen)>, DataError> {
        let stream = self.stream;
        let made = stream.inputs.encode(rows, stream.tokenizer.as_ref())?;
        let Encodings { examples: encoded, measures, refused: mut wrong, .. } = made;
        if !self.skipped.allows() {
            none_refused(rows, std::mem::take(&mut wrong))?;
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
                let made = || self.targets.of_tokens(example.tokens("input_ids").unwrap_or_default());
                let field: Field = field.unwrap_or_else(made);
                example.fields.push((LABELS, field));
            }
            if !example.tokens(LABELS).is_none_or(|labels| labels.iter().any(|label| *label != IGNORE)) {
                self.card.unlearned += 1;
            } else if stream.held.has(&example) {
                self.card.held_out += 1;
            } else {
                self.card.encoded += 1;
                self.card.truncated.add(measure);
                examples.push((example, Seen::of(measure, &rows[at])));
            }
        }
        self.card.examples += examples.len();
        Ok(examples)
    }

    /// Says what is counted, where no pass has counted more.
    fn tell(&mut self) {
        (self.card.skipped, self.card.errors) = (self.skipped.count(), self.skipped.shown().to_vec());
        let mut said = self.stream.card.lock().unwrap_or_else(PoisonError::into_inner);
        said.further(&self.card);
    }
}

/// Whether a target is one of an example, and not of its tokens.
fn is_one(field: &Field) -> bool {
    matches!(field, Field::Int(_) | Field::Real(_) | Field::Reals(_))
}

impl Iterator for Pass<'_> {
    type Item = Result<Example, DataError>;

    fn next(&mut self) -> Option<Result<Example, DataError>> {
        loop {
            if let Some((example, _)) = self.ready.next() {
                return Some(Ok(example));
            }
            match self.some()? {
                Ok(examples) => self.ready = examples.into_iter(),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
