//! Which examples train and which judge.

use crate::error::DataError;
use crate::old::Example;
use crate::shuffle::shuffle;
use std::collections::HashSet;
use std::fmt::{self, Display, Formatter};

/// A cut of a data set: shuffle, then skip, then take.
///
/// Two selections of one data set with equal `shuffle_seed` and non-overlapping `skip..skip + take` share no row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Shuffle with this seed; the file's order when absent.
    pub shuffle_seed: Option<u64>,
    /// Leave out this many, after the shuffle.
    pub skip: usize,
    /// Take at most this many of the rest; all of it when absent.
    pub take: Option<usize>,
}

/// Cuts `examples` as `selection` says.
///
/// # Errors
/// `EmptySelection` when nothing is left.
pub fn select<T>(mut examples: Vec<T>, selection: &Selection) -> Result<Vec<T>, DataError> {
    let Selection { shuffle_seed, skip, take } = *selection;
    let have = examples.len();
    if let Some(seed) = shuffle_seed {
        shuffle(&mut examples, seed);
    }
    examples.drain(..skip.min(have));
    examples.truncate(take.unwrap_or(usize::MAX));
    if examples.is_empty() {
        return Err(DataError::EmptySelection { have, skip, take });
    }
    Ok(examples)
}

/// How much of a data set to hold out for evaluation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Holdout {
    /// This part, between 0 and 1, rounded to at least one example on either side.
    Fraction(f64),
    /// Exactly this many examples.
    Count(usize),
}

impl Display for Holdout {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fraction(fraction) => write!(f, "holding out a fraction of {fraction}"),
            Self::Count(count) => write!(f, "holding out {count}"),
        }
    }
}

/// Divides `0..n` at random into the indices to train on and those to evaluate on, both in shuffled order.
///
/// # Errors
/// `BadSplit` when either side would be empty or the fraction is not between 0 and 1.
pub fn split(n: usize, holdout: Holdout, seed: u64) -> Result<(Vec<usize>, Vec<usize>), DataError> {
    let count = match holdout {
        Holdout::Count(count) => count,
        Holdout::Fraction(fraction) if fraction > 0.0 && fraction < 1.0 => {
            ((n as f64 * fraction).round() as usize).clamp(1, n.saturating_sub(1).max(1))
        }
        Holdout::Fraction(_) => 0,
    };
    if count == 0 || count >= n {
        return Err(DataError::BadSplit { examples: n, holdout });
    }
    let mut eval: Vec<usize> = (0..n).collect();
    shuffle(&mut eval, seed);
    let train = eval.split_off(count);
    Ok((train, eval))
}

/// How many distinct texts stand in both sets, to the letter.
#[must_use]
pub fn overlap(a: &[Example], b: &[Example]) -> usize {
    texts(a).intersection(&texts(b)).count()
}

/// Drops the examples whose text also stands in `against`; returns how many were dropped.
pub fn dedup_against(examples: &mut Vec<Example>, against: &[Example]) -> usize {
    let (known, before) = (texts(against), examples.len());
    examples.retain(|example| !known.contains(example.text.as_str()));
    before - examples.len()
}

fn texts(examples: &[Example]) -> HashSet<&str> {
    examples.iter().map(|example| example.text.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples(texts: &[&str]) -> Vec<Example> {
        texts.iter().enumerate().map(|(i, text)| Example { text: (*text).into(), label: 0, row: i + 1 }).collect()
    }

    fn rows(examples: &[Example]) -> Vec<usize> {
        examples.iter().map(|example| example.row).collect()
    }

    #[test]
    fn cuts_of_one_shuffle_are_disjoint_and_complete() {
        let all = examples(&["x"; 20]);
        let cut = |skip, take| select(all.clone(), &Selection { shuffle_seed: Some(3), skip, take }).unwrap();
        let (head, tail) = (rows(&cut(0, Some(12))), rows(&cut(12, None)));
        assert_eq!((head.len(), tail.len()), (12, 8));
        let mut both = [head.clone(), tail].concat();
        both.sort();
        assert_eq!(both, rows(&all));
        assert_ne!(head, (1..=12).collect::<Vec<_>>());
    }

    #[test]
    fn without_a_seed_the_order_stays() {
        let cut = Selection { shuffle_seed: None, skip: 1, take: Some(2) };
        assert_eq!(rows(&select(examples(&["a", "b", "c", "d"]), &cut).unwrap()), [2, 3]);
    }

    #[test]
    fn an_empty_cut_is_refused() {
        for (skip, take) in [(3, None), (usize::MAX, None), (0, Some(0))] {
            let cut = Selection { shuffle_seed: None, skip, take };
            assert!(matches!(select(examples(&["a", "b", "c"]), &cut), Err(DataError::EmptySelection { have: 3, .. })));
        }
    }

    #[test]
    fn a_split_divides() {
        let (train, eval) = split(10, Holdout::Fraction(0.25), 1).unwrap();
        assert_eq!((train.len(), eval.len()), (7, 3));
        let mut both = [train, eval].concat();
        both.sort();
        assert_eq!(both, (0..10).collect::<Vec<_>>());
        assert_eq!(split(2, Holdout::Fraction(0.001), 1).unwrap().1.len(), 1);
        assert_eq!(split(5, Holdout::Count(4), 1).unwrap().0.len(), 1);
    }

    #[test]
    fn a_one_sided_split_is_refused() {
        for holdout in [0.0, 1.0, -0.5, f64::NAN].map(Holdout::Fraction) {
            assert!(split(10, holdout, 0).is_err(), "{holdout}");
        }
        for (n, holdout) in
            [(0, Holdout::Fraction(0.5)), (1, Holdout::Fraction(0.5)), (5, Holdout::Count(5)), (5, Holdout::Count(0))]
        {
            assert!(split(n, holdout, 0).is_err(), "{n} {holdout}");
        }
    }

    #[test]
    fn shared_texts_are_counted_once_and_dropped_each() {
        let (mut train, eval) = (examples(&["a", "b", "a", "c"]), examples(&["a", "a", "d"]));
        assert_eq!(overlap(&train, &eval), 1);
        assert_eq!(dedup_against(&mut train, &eval), 2);
        assert_eq!(rows(&train), [2, 4]);
        assert_eq!(overlap(&train, &eval), 0);
    }
}
