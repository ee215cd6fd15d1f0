//! Which part of a data set is taken.

use crate::error::DataError;
use crate::shuffle::shuffle;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_of_one_shuffle_are_disjoint_and_complete() {
        let all: Vec<usize> = (0..20).collect();
        let cut = |skip, take| select(all.clone(), &Selection { shuffle_seed: Some(3), skip, take }).unwrap();
        let (head, tail) = (cut(0, Some(12)), cut(12, None));
        assert_eq!((head.len(), tail.len()), (12, 8));
        let mut both = [head.clone(), tail].concat();
        both.sort();
        assert_eq!(both, all);
        assert_ne!(head, all[..12]);
    }

    #[test]
    fn without_a_seed_the_order_stays() {
        let cut = Selection { shuffle_seed: None, skip: 1, take: Some(2) };
        assert_eq!(select(vec!["a", "b", "c", "d"], &cut).unwrap(), ["b", "c"]);
    }

    #[test]
    fn an_empty_cut_is_refused() {
        for (skip, take) in [(3, None), (usize::MAX, None), (0, Some(0))] {
            let cut = Selection { shuffle_seed: None, skip, take };
            assert!(matches!(select(vec!["a", "b", "c"], &cut), Err(DataError::EmptySelection { have: 3, .. })));
        }
    }
}
