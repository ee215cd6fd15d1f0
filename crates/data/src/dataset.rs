//! The examples of a split, ready to be drawn from.

use crate::batch::{Batch, PadTo, collate};
use crate::error::DataError;
use crate::example::{Example, Field};
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
        let longest = examples.iter().map(Example::longest).max().unwrap_or(0);
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
        self.examples.iter().map(Example::longest).collect()
    }

    /// One example alone that no example of the data set is longer than: with the fields of that with the longest input, but for
    /// the longest answer, either of at least so many tokens; without examples none.
    #[must_use]
    pub fn widest(&self, least: usize) -> Dataset {
        let of = |length: fn(&Example) -> usize| self.examples.iter().max_by_key(|example| length(example));
        let (input, answer) = (of(Example::length), of(|example| example.answer_length().unwrap_or(0)));
        let least = least.min(self.pad.max);
        let fill = |ids: &[i64], pad: i64| {
            let mut ids = ids.to_vec();
            ids.resize(ids.len().max(least), pad);
            ids
        };
        let widened = |(name, field): &(&'static str, Field)| {
            let field = match answer.and_then(|answer| answer.field(name)) {
                Some(longest @ Field::Answer { .. }) => longest,
                _ => field,
            };
            let wide = match field {
                Field::Tokens { ids, pad } => Field::Tokens { ids: fill(ids, *pad), pad: *pad },
                Field::Answer { ids, pad } => Field::Answer { ids: fill(ids, *pad), pad: *pad },
                Field::Texts { ids, pad } => {
                    Field::Texts { ids: ids.iter().map(|ids| fill(ids, *pad)).collect(), pad: *pad }
                }
                other => other.clone(),
            };
            (*name, wide)
        };
        let examples = input.map(|input| Example { fields: input.fields.iter().map(widened).collect() });
        Dataset { examples: examples.into_iter().collect(), pad: self.pad, masking: self.masking.clone() }
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

#[cfg(test)]
mod tests {
    use super::*;

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
    fn the_widest_has_the_longest_input_and_the_longest_answer() {
        let example = |(input, answer): (usize, usize)| {
            let answer = Field::Answer { ids: vec![2; answer], pad: -100 };
            let tokens = Field::Tokens { ids: vec![1; input], pad: 0 };
            Example { fields: vec![("input_ids", tokens), ("decoder_input_ids", answer.clone()), ("labels", answer)] }
        };
        let data = Dataset::new([(9, 2), (3, 12), (5, 5)].map(example).to_vec(), PadTo { max: 14, ..PadTo::default() });
        let lengths = |least: usize| {
            let wide = data.widest(least);
            let batch = wide.batch(&[0, 0], 0).expect("a batch");
            let dims = |name: &str| batch.get(name).map(|t| t.dims().to_vec()).expect("a tensor");
            (wide.examples[0].length(), wide.examples[0].answer_length(), dims("input_ids"), dims("labels"))
        };
        assert_eq!(lengths(0), (9, Some(12), vec![2, 14], vec![2, 14]));
        assert_eq!(lengths(10), (10, Some(12), vec![2, 14], vec![2, 14]));
        assert_eq!(lengths(100), (14, Some(14), vec![2, 14], vec![2, 14]), "no longer than any may be");
        assert!(Dataset::default().widest(9).is_empty());
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
