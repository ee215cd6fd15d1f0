//! The examples of a split, ready to be drawn from.

use crate::batch::{Batch, PadTo, collate};
use crate::error::DataError;
use crate::example::Example;
use crate::masking::{EVALUATION, Masking};

/// Examples and the shape that their batches are padded to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Dataset {
    /// The examples, in the order that a [`Sampler`](crate::Sampler)'s indices mean.
    pub examples: Vec<Example>,
    /// Shape to pad batches to.
    pub pad: PadTo,
    /// Which tokens are hidden in batches, where some are.
    pub masking: Option<Masking>,
}

impl Dataset {
    /// A data set whose batches are padded as `pad` says, with room for its longest example.
    #[must_use]
    pub fn new(examples: Vec<Example>, pad: PadTo) -> Self {
        let longest = examples.iter().map(longest).max().unwrap_or(0);
        Self { examples, pad: PadTo { max: pad.max.max(longest), ..pad }, masking: None }
    }

    /// The batch of the examples at `rows`, filled up to `fill` rows. Where tokens are hidden, the same are every time.
    ///
    /// # Errors
    /// Those of [`collate`]; `NoExample` when there is none at one of `rows`.
    pub fn batch(&self, rows: &[usize], fill: usize) -> Result<Batch, DataError> {
        self.batch_of(EVALUATION, rows, fill)
    }

    /// The same in an epoch of a training, of which each hides tokens of its own.
    ///
    /// # Errors
    /// As [`Dataset::batch`].
    pub fn batch_of(&self, epoch: u64, rows: &[usize], fill: usize) -> Result<Batch, DataError> {
        let example = |row: &usize| {
            let have = self.examples.len();
            self.examples.get(*row).ok_or(DataError::NoExample { row: *row, have })
        };
        let examples: Vec<&Example> = rows.iter().map(example).collect::<Result<_, _>>()?;
        let pad = PadTo { rows: fill, ..self.pad };
        match &self.masking {
            None => collate(&examples, &pad),
            Some(masking) => {
                let hidden = examples.iter().zip(rows).map(|(example, row)| masking.hidden(example, *row, epoch));
                let hidden: Vec<Example> = hidden.collect();
                collate(&hidden.iter().collect::<Vec<_>>(), &pad)
            }
        }
    }

    /// The number of tokens of each example, of one with an answer that of the longer text.
    #[must_use]
    pub fn lengths(&self) -> Vec<usize> {
        self.examples.iter().map(longest).collect()
    }

    /// The number of examples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.examples.len()
    }

    /// Whether there are no examples.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.examples.is_empty()
    }

    /// Tokens of a step with batches of at most `batch` examples, as a mean and without padding.
    #[must_use]
    pub fn tokens_per_step(&self, batch: usize) -> usize {
        let tokens: usize = self.examples.iter().map(Example::tokens_of_all).sum();
        tokens * batch.min(self.len()) / self.len().max(1)
    }
}

fn longest(example: &Example) -> usize {
    example.length().max(example.answer_length().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example::Field;

    fn data(lengths: &[usize], pad: PadTo) -> Dataset {
        let example =
            |len: &usize| Example { fields: vec![("input_ids", Field::Tokens { ids: vec![1; *len], pad: 0 })] };
        Dataset::new(lengths.iter().map(example).collect(), pad)
    }

    #[test]
    fn a_step_sees_no_more_rows_than_there_are() {
        let data = data(&[2, 4, 9], PadTo::default());
        assert_eq!([1, 2, 3, 16].map(|batch| data.tokens_per_step(batch)), [5, 10, 15, 15]);
        assert_eq!(Dataset::default().tokens_per_step(4), 0);
    }

    #[test]
    fn batches_are_filled_and_the_longest_example_fits() {
        let data = data(&[2, 4, 9], PadTo { max: 4, ..PadTo::default() });
        let batch = data.batch(&[2, 0], 3).unwrap();
        assert_eq!((batch.rows, batch.real_rows, batch.tokens), (3, 2, 11));
        assert_eq!(batch.get("input_ids").unwrap().dims(), [3, 9]);
        assert_eq!(data.lengths(), [2, 4, 9]);
        assert!(matches!(data.batch(&[0, 3], 0), Err(DataError::NoExample { row: 3, have: 3 })));
    }
}
