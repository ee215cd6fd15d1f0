//! One example: named numbers and rows of tokens.

use crate::image::Picture;
use lorac_ir::Tensor;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

/// The field of targets: what an example is to be answered with, and not part of the question.
pub const LABELS: &str = "labels";

/// What an example has under a name.
#[derive(Debug, Clone, PartialEq)]
pub enum Field {
    /// A number for each token; a batch pads it on the right with `pad`.
    Tokens {
        /// The numbers, without padding.
        ids: Vec<i64>,
        /// What pads them.
        pad: i64,
    },
    /// Several texts, as many in every example: a batch has a row for each, all first texts before all second ones. Each is
    /// padded on the right with `pad`.
    Texts {
        /// The numbers of each text, without padding.
        ids: Vec<Vec<i64>>,
        /// What pads them.
        pad: i64,
    },
    /// A number for each token of the text that answers, of a length of its own; a batch pads it on the right with `pad`.
    Answer {
        /// The numbers, without padding.
        ids: Vec<i64>,
        /// What pads them.
        pad: i64,
    },
    /// An integer, such as the index of a class.
    Int(i64),
    /// A number, such as the target of a regression.
    Real(f32),
    /// Numbers, as many in every example: 1 for every class that it has, 0 for the others.
    Reals(Vec<f32>),
    /// An array of one shape and type in every example.
    Array(Tensor),
    /// An image, as large as those of every example.
    Image(Picture),
}

/// Named fields. Examples of one data set have the same names in the same order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Example {
    /// Names and what stands under them: `input_ids`, `token_type_ids`, [`LABELS`].
    pub fields: Vec<(&'static str, Field)>,
}

impl Example {
    /// What stands under a name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|(known, _)| *known == name).map(|(_, field)| field)
    }

    /// The numbers that stand under a name, one a token; `None` where there are none.
    #[must_use]
    pub fn tokens(&self, name: &str) -> Option<&[i64]> {
        match self.field(name) {
            Some(Field::Tokens { ids, .. } | Field::Answer { ids, .. }) => Some(ids),
            _ => None,
        }
    }

    /// The number of tokens of the text that answers; none where there is no such text.
    #[must_use]
    pub fn answer_length(&self) -> Option<usize> {
        self.fields.iter().find_map(|(_, field)| match field {
            Field::Answer { ids, .. } => Some(ids.len()),
            _ => None,
        })
    }

    /// The number of tokens, of several texts that of the longest; 0 where there are none.
    #[must_use]
    pub fn length(&self) -> usize {
        let length = |(_, field): &(_, Field)| match field {
            Field::Tokens { ids, .. } => Some(ids.len()),
            Field::Texts { ids, .. } => ids.iter().map(Vec::len).max(),
            _ => None,
        };
        self.fields.iter().find_map(length).unwrap_or(0)
    }

    /// The number of tokens of the longest text, of one that answers too; 0 where there are none.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.length().max(self.answer_length().unwrap_or(0))
    }

    /// The number of tokens of all texts, of one that answers too; 0 where there are none.
    #[must_use]
    pub fn tokens_of_all(&self) -> usize {
        self.row_lengths().into_iter().chain(self.answer_length()).sum()
    }

    /// The number of tokens of every row that the example has in a batch: one of 0 where there are none.
    #[must_use]
    pub fn row_lengths(&self) -> Vec<usize> {
        let lengths = |(_, field): &(_, Field)| match field {
            Field::Tokens { ids, .. } => Some(vec![ids.len()]),
            Field::Texts { ids, .. } => Some(ids.iter().map(Vec::len).collect()),
            _ => None,
        };
        self.fields.iter().find_map(lengths).unwrap_or_else(|| vec![0])
    }
}

impl AsRef<Example> for Example {
    fn as_ref(&self) -> &Example {
        self
    }
}

/// Drops the training examples that the evaluation has too, since what is held out must not have been seen; returns how
/// many. Examples are the same when all fields but [`LABELS`] are.
pub fn hold_out<T: AsRef<Example>>(train: &mut Vec<T>, eval: &[T]) -> usize {
    let held: HashSet<Vec<(&str, Bits<'_>)>> = eval.iter().map(|example| question(example.as_ref())).collect();
    let before = train.len();
    train.retain(|example| !held.contains(&question(example.as_ref())));
    before - train.len()
}

/// Examples that are held out, to be asked of others one by one.
#[derive(Debug, Clone, Default)]
pub struct HeldOut {
    examples: Vec<Example>,
    /// Their places by a sum of what is not [`LABELS`].
    places: HashMap<u64, Vec<usize>>,
}

impl HeldOut {
    /// These.
    #[must_use]
    pub fn of(examples: Vec<Example>) -> Self {
        let mut places: HashMap<u64, Vec<usize>> = HashMap::new();
        for (at, example) in examples.iter().enumerate() {
            places.entry(sum(&question(example))).or_default().push(at);
        }
        Self { examples, places }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.examples.is_empty()
    }

    /// Whether one of them is the same but for [`LABELS`].
    #[must_use]
    pub fn has(&self, example: &Example) -> bool {
        if self.is_empty() {
            return false;
        }
        let own = question(example);
        let places = self.places.get(&sum(&own)).map_or(&[][..], Vec::as_slice);
        places.iter().filter_map(|at| self.examples.get(*at)).any(|held| question(held) == own)
    }
}

fn sum(question: &[(&str, Bits<'_>)]) -> u64 {
    let mut hasher = DefaultHasher::new();
    question.hash(&mut hasher);
    hasher.finish()
}

/// How many examples are the same as an earlier one but for [`LABELS`], and how many of those have other ones.
pub fn duplicates<'e>(examples: impl Iterator<Item = &'e Example>) -> (usize, usize) {
    let mut first: HashMap<Vec<(&str, Bits<'_>)>, Option<Bits<'_>>> = HashMap::new();
    let (mut repeated, mut other) = (0, 0);
    for example in examples {
        let labels = example.field(LABELS).map(bits);
        match first.entry(question(example)) {
            Entry::Vacant(entry) => drop(entry.insert(labels)),
            Entry::Occupied(entry) => {
                repeated += 1;
                other += usize::from(*entry.get() != labels);
            }
        }
    }
    (repeated, other)
}

/// A field to the bit.
#[derive(PartialEq, Eq, Hash)]
enum Bits<'a> {
    Tokens(&'a [i64]),
    Texts(&'a [Vec<i64>]),
    Int(i64),
    Real(u32),
    Reals(Vec<u32>),
    Array(&'a [usize], &'a [u8]),
}

fn question(example: &Example) -> Vec<(&str, Bits<'_>)> {
    example.fields.iter().filter(|(name, _)| *name != LABELS).map(|(name, field)| (*name, bits(field))).collect()
}

fn bits(field: &Field) -> Bits<'_> {
    match field {
        Field::Tokens { ids, .. } | Field::Answer { ids, .. } => Bits::Tokens(ids),
        Field::Texts { ids, .. } => Bits::Texts(ids),
        Field::Int(number) => Bits::Int(*number),
        Field::Real(number) => Bits::Real(number.to_bits()),
        Field::Reals(numbers) => Bits::Reals(numbers.iter().map(|number| number.to_bits()).collect()),
        Field::Array(tensor) | Field::Image(Picture { pixels: tensor, .. }) => {
            Bits::Array(tensor.dims(), tensor.bytes())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(ids: &[i64], types: &[i64], label: i64) -> Example {
        let tokens = |ids: &[i64]| Field::Tokens { ids: ids.to_vec(), pad: 0 };
        let fields = vec![("input_ids", tokens(ids)), ("token_type_ids", tokens(types)), (LABELS, Field::Int(label))];
        Example { fields }
    }

    #[test]
    fn the_length_is_that_of_the_tokens() {
        let one = example(&[4, 5, 6], &[0, 0, 1], 1);
        assert_eq!((one.length(), one.tokens("token_type_ids"), one.tokens(LABELS)), (3, Some(&[0, 0, 1][..]), None));
        assert_eq!(Example { fields: vec![("x", Field::Real(0.5))] }.length(), 0);
        let mut answered = one;
        answered.fields.push(("decoder_input_ids", Field::Answer { ids: vec![1; 5], pad: 0 }));
        assert_eq!((answered.length(), answered.longest()), (3, 5));
    }

    #[test]
    fn held_out_examples_are_dropped_whatever_their_labels() {
        let mut train = vec![
            example(&[1, 2], &[0, 0], 0),
            example(&[1], &[0], 0),
            example(&[1, 2], &[0, 1], 0),
            example(&[1, 2], &[0, 0], 1),
        ];
        let eval = [example(&[1, 2], &[0, 0], 5), example(&[9], &[0], 0)];
        let held = HeldOut::of(eval.to_vec());
        assert_eq!(train.iter().map(|example| held.has(example)).collect::<Vec<_>>(), [true, false, false, true]);
        assert!(!HeldOut::default().has(&train[0]));
        assert_eq!(hold_out(&mut train, &eval), 2);
        assert_eq!(train, [example(&[1], &[0], 0), example(&[1, 2], &[0, 1], 0)]);
        assert_eq!(hold_out(&mut train, &[]), 0);
        let again = [example(&[1], &[0], 0), example(&[2], &[0], 1), example(&[1], &[0], 0), example(&[1], &[0], 1)];
        assert_eq!(duplicates(again.iter()), (2, 1));
    }
}
