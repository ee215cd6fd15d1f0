//! Seeded permutations that are the same on every machine and in every release.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// Shuffles by Fisher-Yates; the order depends on `seed` and the length alone.
pub fn shuffle<T>(items: &mut [T], seed: u64) {
    shuffle_with(items, &mut generator(seed, 0));
}

/// A generator for one use of a seed; another `stream` is independent of it.
///
/// The key is laid out here, not by `seed_from_u64`, and numbers are drawn by [`below`], not by `rand`: both of theirs
/// may change between releases, and a checkpoint must find the same order again.
pub(crate) fn generator(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&stream.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}

pub(crate) fn shuffle_with<T>(items: &mut [T], rng: &mut ChaCha8Rng) {
    for i in (1..items.len()).rev() {
        items.swap(i, below(rng, i + 1));
    }
}

/// Uniform in `0..bound` without bias (Lemire 2019, "Fast Random Integer Generation in an Interval").
/// Requires: `bound > 0`.
pub(crate) fn below(rng: &mut ChaCha8Rng, bound: usize) -> usize {
    let bound = bound as u64;
    let reject_under = bound.wrapping_neg() % bound;
    loop {
        let product = u128::from(rng.next_u64()) * u128::from(bound);
        if product as u64 >= reject_under {
            return (product >> 64) as usize;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_fixed_for_good() {
        let mut items: Vec<usize> = (0..10).collect();
        shuffle(&mut items, 42);
        // Computed apart from this code, from the ChaCha8 of its paper.
        assert_eq!(items, [7, 6, 5, 1, 0, 4, 8, 9, 2, 3]);
    }

    #[test]
    fn seeds_and_streams_differ() {
        let order = |seed, stream| {
            let mut items: Vec<usize> = (0..50).collect();
            shuffle_with(&mut items, &mut generator(seed, stream));
            items
        };
        assert_ne!(order(0, 0), order(1, 0));
        assert_ne!(order(0, 0), order(0, 1));
        assert_ne!(order(0, 1), order(1, 0));
        assert_eq!(order(3, 4), order(3, 4));
    }

    #[test]
    fn every_order_is_equally_likely() {
        let mut seen = std::collections::BTreeMap::new();
        for seed in 0..6000 {
            let mut items = [0, 1, 2];
            shuffle(&mut items, seed);
            *seen.entry(items).or_insert(0) += 1;
        }
        assert_eq!(seen.len(), 6);
        // 1000 each; five standard deviations are about 144.
        assert!(seen.values().all(|count| (856..=1144).contains(count)), "{seen:?}");
    }
}
