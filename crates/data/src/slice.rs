//! Batches in slices, which are computed one after the other.

use crate::dataset::Dataset;
use crate::example::Example;

/// The most that is computed at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slicing {
    /// Rows.
    pub rows: usize,
    /// Tokens, padding included; one row may have more.
    pub tokens: usize,
}

impl Slicing {
    /// Everything at once.
    pub const WHOLE: Slicing = Slicing { rows: usize::MAX, tokens: usize::MAX };
}

impl Dataset {
    /// The examples `batch` in slices that hold no more than `most`, at least one each: in the order of the batch where one
    /// holds all, else by length, since each slice is padded to its own longest.
    #[must_use]
    pub fn slices(&self, batch: &[usize], most: &Slicing) -> Vec<Vec<usize>> {
        let length = |row: usize| self.examples.get(row).map_or(0, |example| self.pad.length(example.longest()));
        let fits = |rows: usize, length: usize| rows <= most.rows && rows.saturating_mul(length) <= most.tokens;
        let longest = batch.iter().map(|row| length(*row)).max().unwrap_or(0);
        if fits(batch.len(), longest) {
            return vec![batch.to_vec()];
        }
        let mut order = batch.to_vec();
        order.sort_by_key(|row| self.examples.get(*row).map_or(0, Example::longest));
        let mut slices: Vec<Vec<usize>> = Vec::new();
        for row in order {
            match slices.last_mut() {
                Some(slice) if fits(slice.len() + 1, length(row)) => slice.push(row),
                _ => slices.push(vec![row]),
            }
        }
        slices
    }

    /// The longest examples, so many, the longest first.
    #[must_use]
    pub fn longest(&self, rows: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_by_key(|i| std::cmp::Reverse(self.examples[*i].longest()));
        order.truncate(rows);
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::PadTo;
    use crate::example::Field;

    fn data(lengths: &[usize]) -> Dataset {
        let example =
            |len: &usize| Example { fields: vec![("input_ids", Field::Tokens { ids: vec![1; *len], pad: 0 })] };
        Dataset::new(lengths.iter().map(example).collect(), PadTo { multiple: 4, ..PadTo::default() })
    }

    #[test]
    fn slices_hold_rows_of_like_length_up_to_the_most() {
        let data = data(&[9, 2, 16, 4, 3, 1]);
        let slices = |batch: &[usize], rows, tokens| data.slices(batch, &Slicing { rows, tokens });
        assert_eq!(slices(&[0, 1, 2, 3, 4, 5], usize::MAX, 16), [vec![5, 1, 4, 3], vec![0], vec![2]]);
        assert_eq!(slices(&[0, 1, 2, 3, 4, 5], usize::MAX, 32), [vec![5, 1, 4, 3], vec![0, 2]]);
        assert_eq!(slices(&[0, 1, 2, 3], 3, usize::MAX), [vec![1, 3, 0], vec![2]]);
        assert_eq!(slices(&[2, 0], usize::MAX, 3), [vec![0], vec![2]], "one row may have more");
    }

    #[test]
    fn a_batch_that_fits_keeps_its_order() {
        let data = data(&[9, 2, 16]);
        assert_eq!(data.slices(&[2, 1, 0], &Slicing::WHOLE), [vec![2, 1, 0]]);
        assert_eq!(data.slices(&[2, 1, 0], &Slicing { rows: 3, tokens: 48 }), [vec![2, 1, 0]]);
        assert_eq!(data.slices(&[2, 1, 0], &Slicing { rows: 3, tokens: 47 }).len(), 2);
        assert_eq!(data.slices(&[], &Slicing::WHOLE), [Vec::<usize>::new()]);
    }

    #[test]
    fn answers_count_as_inputs_do() {
        let example = |(input, answer): (usize, usize)| Example {
            fields: vec![
                ("input_ids", Field::Tokens { ids: vec![1; input], pad: 0 }),
                ("decoder_input_ids", Field::Answer { ids: vec![1; answer], pad: 0 }),
            ],
        };
        let pad = PadTo { multiple: 4, ..PadTo::default() };
        let data = Dataset::new([(3, 16), (8, 2), (4, 4)].map(example).to_vec(), pad);
        assert_eq!(data.slices(&[0, 1, 2], &Slicing { rows: 9, tokens: 16 }), [vec![2, 1], vec![0]]);
        assert_eq!(data.longest(2), [0, 1]);
    }

    #[test]
    fn the_longest_are_those_of_the_longest_batch() {
        let data = data(&[2, 9, 4, 9, 1]);
        assert_eq!((data.longest(3), data.longest(9).len()), (vec![1, 3, 2], 5));
    }
}
