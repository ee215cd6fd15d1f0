//! A part of the examples to learn from that is held out, with its share of every class.

use crate::error::Error;
use crate::pipeline::Part;
use crate::task::LABELS;
use lorac_data::{DataError, Example, Field, IGNORE, hold_out_part, part_size};
use std::collections::{BTreeMap, BTreeSet};

/// Takes a part of the training examples away, in their order.
///
/// # Errors
/// Classes that the examples do not have, a part of nothing or of all.
pub(super) fn split_off<T: AsRef<Example>>(train: &mut Vec<T>, part: Part, seed: u64) -> Result<Vec<T>, Error> {
    let size = part_size(part.split, train.len());
    let strata = part.stratify.then(|| strata(train, size)).transpose()?;
    let held = hold_out_part(train.len(), size, strata.as_deref(), seed)?;
    let (mut eval, mut left) = (Vec::with_capacity(size), Vec::with_capacity(train.len() - size));
    for (item, held) in train.drain(..).zip(held) {
        if held { &mut eval } else { &mut left }.push(item);
    }
    *train = left;
    Ok(eval)
}

/// What each example shares with those of its stratum: its class, or all its labels together. Sets of labels of which a part
/// of so many would have less than a whole example share one stratum.
fn strata<T: AsRef<Example>>(items: &[T], part: usize) -> Result<Vec<usize>, DataError> {
    let own: Vec<Stratum> = items.iter().map(|item| stratum(item.as_ref())).collect::<Result<_, _>>()?;
    let mut counts: BTreeMap<&Stratum, usize> = BTreeMap::new();
    own.iter().for_each(|one| *counts.entry(one).or_default() += 1);
    let is_rare = |(one, count): &(&&Stratum, &usize)| matches!(one, Stratum::Set(_)) && *count * part < items.len();
    let rare: BTreeSet<&Stratum> = counts.iter().filter(is_rare).map(|(one, _)| *one).collect();
    let numbers: BTreeMap<&Stratum, usize> =
        counts.keys().copied().filter(|one| !rare.contains(one)).zip(1..).collect();
    Ok(own.iter().map(|one| numbers.get(one).copied().unwrap_or(0)).collect())
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stratum {
    Class(i64),
    /// The labels that an example has, or those of its words, each once.
    Set(BTreeSet<i64>),
}

fn stratum(example: &Example) -> Result<Stratum, DataError> {
    match example.field(LABELS) {
        Some(Field::Int(class)) if *class >= 0 => Ok(Stratum::Class(*class)),
        Some(Field::Reals(has)) => {
            Ok(Stratum::Set((0..).zip(has).filter(|(_, has)| **has > 0.5).map(|(at, _)| at).collect()))
        }
        Some(Field::Tokens { ids, .. }) => Ok(Stratum::Set(ids.iter().copied().filter(|id| *id != IGNORE).collect())),
        _ => Err(DataError::NoClasses),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Item(Example);

    impl AsRef<Example> for Item {
        fn as_ref(&self) -> &Example {
            &self.0
        }
    }

    fn items(targets: impl IntoIterator<Item = Field>) -> Vec<Item> {
        targets.into_iter().map(|field| Item(Example { fields: vec![(LABELS, field)] })).collect()
    }

    #[test]
    fn a_part_is_taken_away_with_its_share_of_every_class() {
        let mut train = items((0..40).map(|i| Field::Int(i64::from(i % 4 == 0))));
        let eval = split_off(&mut train, Part { split: 0.2, stratify: true }, 3).expect("a part");
        let ones = |items: &[Item]| items.iter().filter(|i| i.as_ref().field(LABELS) == Some(&Field::Int(1))).count();
        assert_eq!((train.len(), eval.len(), ones(&train), ones(&eval)), (32, 8, 8, 2));
        let mut real = items([Field::Real(1.0), Field::Real(2.0)]);
        let error = split_off(&mut real, Part { split: 0.5, stratify: true }, 0).map(drop).expect_err("no classes");
        assert_eq!(error.code(), "data::no_classes");
    }

    #[test]
    fn a_part_has_its_share_of_every_set_of_labels() {
        // Of two labels: both in 10, the first alone in 20, none in 10; a third one is in one of those with the first.
        let has = |i: usize| match i {
            0..10 => vec![1.0, 1.0, 0.0],
            10..29 => vec![1.0, 0.0, 0.0],
            29 => vec![1.0, 0.0, 1.0],
            _ => vec![0.0; 3],
        };
        let count =
            |items: &[Item], want: &Field| items.iter().filter(|i| i.as_ref().field(LABELS) == Some(want)).count();
        for seed in 0..20 {
            let mut train = items((0..40).map(|i| Field::Reals(has(i))));
            let eval = split_off(&mut train, Part { split: 8.0, stratify: true }, seed).expect("a part");
            // 2, 3.8, 0.2 and 2 of 8.
            let of = [0, 10, 29, 30].map(|i| count(&eval, &Field::Reals(has(i))));
            assert_eq!((of, train.len()), ([2, 4, 0, 2], 32));
        }
        // Words of a sentence have their labels as often as they like, and what does not count is not a label.
        let tags = |i: usize| match i {
            0..10 => vec![IGNORE, 0, 1, 2, IGNORE],
            10..20 => vec![IGNORE, 1, 1, 2, 0, 0, IGNORE],
            _ => vec![IGNORE, 0, 0, IGNORE],
        };
        let field = |i: usize| Field::Tokens { ids: tags(i), pad: IGNORE };
        let mut train = items((0..40).map(field));
        let eval = split_off(&mut train, Part { split: 0.2, stratify: true }, 0).expect("a part");
        assert_eq!((count(&eval, &field(30)), eval.len()), (4, 8));
    }

    #[test]
    fn rare_sets_of_labels_are_one_stratum_from_which_any_may_be_held_out() {
        let own = |i: usize| Field::Reals((0..20).map(|at| f32::from(u8::from(at == i))).collect());
        let mut seen = BTreeSet::new();
        for seed in 0..30 {
            let mut train = items((0..20).map(own));
            let eval = split_off(&mut train, Part { split: 0.1, stratify: true }, seed).expect("a part");
            assert_eq!(eval.len(), 2);
            seen.extend((0..20).filter(|i| eval.iter().any(|item| item.as_ref().field(LABELS) == Some(&own(*i)))));
        }
        assert!(seen.len() > 15, "not always the first ones: {seen:?}");
    }
}
