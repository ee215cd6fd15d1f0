//! The order of examples that are never there all at once.

use crate::sampler::WINDOW;
use crate::shuffle::{below, generator, shuffle_with};

/// Shuffles what comes through a buffer of so many: each item takes the place of one drawn at random, which goes on. The order
/// depends on the seed, the epoch and the items' number alone. With a buffer of all items every order is equally likely. The
/// first error is the last item.
pub fn shuffled<T, E>(
    items: impl Iterator<Item = Result<T, E>>,
    buffer: usize,
    seed: u64,
    epoch: u64,
) -> impl Iterator<Item = Result<T, E>> {
    let mut rng = generator(seed, epoch);
    let (mut items, mut held, mut ended) = (items.fuse(), Vec::with_capacity(buffer.clamp(1, 1 << 16)), false);
    std::iter::from_fn(move || {
        while !ended {
            match items.next() {
                Some(Ok(item)) if held.len() < buffer.max(1) => held.push(item),
                Some(Ok(item)) => {
                    let at = below(&mut rng, held.len());
                    return Some(Ok(std::mem::replace(&mut held[at], item)));
                }
                Some(Err(error)) => {
                    ended = true;
                    held.clear();
                    return Some(Err(error));
                }
                None => {
                    ended = true;
                    shuffle_with(&mut held, &mut rng);
                }
            }
        }
        held.pop().map(Ok)
    })
}

/// How a stream is cut into batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grouped {
    /// Items of a batch; the last one of an epoch may have fewer.
    pub batch: usize,
    /// Whether items of like length come into one batch: windows of 16 batches are sorted by length, and their batches
    /// shuffled, a short one staying last.
    pub by_length: bool,
    /// Seed of that order.
    pub seed: u64,
    /// Number of the epoch.
    pub epoch: u64,
}

/// Of a seed's streams, those that batches are shuffled by begin here.
const BATCHES: u64 = 1 << 63;

/// The items in batches. The first error is the last batch.
pub fn batched<T, E>(
    items: impl Iterator<Item = Result<T, E>>,
    grouped: Grouped,
    length: impl Fn(&T) -> usize,
) -> impl Iterator<Item = Result<Vec<T>, E>> {
    let Grouped { batch, by_length, seed, epoch } = grouped;
    let batch = batch.max(1);
    let window = if by_length { batch.saturating_mul(WINDOW) } else { batch };
    let mut rng = generator(seed, BATCHES | epoch);
    let (mut items, mut ready, mut ended) = (items, std::collections::VecDeque::new(), false);
    std::iter::from_fn(move || {
        if ready.is_empty() && !ended {
            let mut some = Vec::new();
            while some.len() < window {
                match items.next() {
                    Some(Ok(item)) => some.push(item),
                    Some(Err(error)) => {
                        ended = true;
                        return Some(Err(error));
                    }
                    None => {
                        ended = true;
                        break;
                    }
                }
            }
            if by_length {
                some.sort_by_key(&length);
            }
            let full = some.len() / batch;
            let mut some = some.into_iter();
            let mut batches: Vec<Vec<T>> = Vec::new();
            loop {
                let next: Vec<T> = some.by_ref().take(batch).collect();
                match next.is_empty() {
                    true => break,
                    false => batches.push(next),
                }
            }
            if by_length {
                shuffle_with(&mut batches[..full], &mut rng);
            }
            ready.extend(batches);
        }
        ready.pop_front().map(Ok)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(n: usize, buffer: usize, seed: u64, epoch: u64) -> Vec<usize> {
        shuffled((0..n).map(Ok::<_, ()>), buffer, seed, epoch).map(|item| item.expect("no error")).collect()
    }

    #[test]
    fn every_item_comes_once_and_not_far_from_where_it_stood() {
        let drawn = order(500, 40, 3, 0);
        let mut sorted = drawn.clone();
        sorted.sort();
        assert_eq!(sorted, (0..500).collect::<Vec<_>>());
        assert!(drawn.iter().enumerate().all(|(at, item)| *item <= at + 40), "nothing is drawn before it is there");
        assert_ne!(drawn, order(500, 40, 3, 1));
        assert_ne!(drawn, order(500, 40, 4, 0));
        assert_eq!(drawn, order(500, 40, 3, 0));
        assert_eq!(order(5, 1, 0, 0), [0, 1, 2, 3, 4], "a buffer of one shuffles nothing");
        assert_eq!(order(0, 9, 0, 0), [0; 0]);
        let firsts: std::collections::BTreeSet<usize> = (0..200).map(|seed| order(6, 100, seed, 0)[0]).collect();
        assert_eq!(firsts.len(), 6, "a buffer of all is a shuffle of all");
    }

    #[test]
    fn the_first_error_is_the_last_item() {
        let items = (0..10).map(|i| if i == 6 { Err("six") } else { Ok(i) });
        let drawn: Vec<_> = shuffled(items.clone(), 3, 0, 0).collect();
        assert_eq!((drawn.len(), drawn.last()), (4, Some(&Err("six"))));
        let grouped = Grouped { batch: 4, by_length: false, seed: 0, epoch: 0 };
        let batches: Vec<_> = batched(items, grouped, |_| 0).collect();
        assert_eq!(batches, [Ok(vec![0, 1, 2, 3]), Err("six")]);
    }

    #[test]
    fn no_more_is_held_than_the_buffer_and_a_window_of_batches() {
        let item = std::rc::Rc::new(());
        let items = (0..20_000).map(|_| Ok::<_, ()>(item.clone()));
        let grouped = Grouped { batch: 8, by_length: true, seed: 5, epoch: 0 };
        let (mut most, mut all) = (0, 0);
        for batch in batched(shuffled(items, 100, 0, 0), grouped, |_| 1) {
            most = most.max(std::rc::Rc::strong_count(&item) - 1);
            all += batch.map_or(0, |batch| batch.len());
        }
        assert!(all == 20_000 && most <= 100 + 8 * WINDOW + 1, "{most} of {all}");
    }

    #[test]
    fn batches_hold_items_of_like_length() {
        let lengths = (0..330usize).map(|i| Ok::<_, ()>(i * 37 % 101));
        let grouped = Grouped { batch: 8, by_length: true, seed: 5, epoch: 0 };
        let of = |grouped: Grouped| -> Vec<Vec<usize>> {
            batched(lengths.clone(), grouped, |n| *n).map(|batch| batch.expect("no error")).collect()
        };
        let waste = |batches: &[Vec<usize>]| -> usize {
            batches.iter().map(|b| b.iter().max().map_or(0, |m| b.iter().map(|n| m - n).sum())).sum()
        };
        let (plain, sorted) = (of(Grouped { by_length: false, ..grouped }), of(grouped));
        assert!(waste(&sorted) * 3 < waste(&plain), "{} {}", waste(&sorted), waste(&plain));
        assert_eq!((sorted.len(), sorted.last().map(Vec::len)), (42, Some(2)));
        assert!(!sorted.iter().take(WINDOW).map(|b| b[0]).is_sorted());
        assert_eq!(sorted, of(grouped));
        let mut all = sorted.concat();
        all.sort();
        let mut want = plain.concat();
        want.sort();
        assert_eq!(all, want);
    }
}
