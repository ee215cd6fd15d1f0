//! The order in which examples are drawn.

use crate::error::DataError;
use crate::shuffle::{generator, shuffle_with};

/// Batches sorted together when grouping by length: enough to find like lengths, few enough to stay random.
pub(crate) const WINDOW: usize = 16;

/// Draws every example once an epoch, or as often as its weight says, in batches.
///
/// An epoch's order depends on the sampler's settings and the epoch's number alone, so a run is resumed in the middle
/// of epoch `e` by `epoch(e).skip(done)`.
#[derive(Debug, Clone)]
pub struct Sampler {
    n: usize,
    batch: usize,
    seed: Option<u64>,
    drop_last: bool,
    lengths: Option<Vec<usize>>,
    sources: Vec<Source>,
}

/// Examples that follow each other and are drawn equally often.
#[derive(Debug, Clone)]
struct Source {
    start: usize,
    len: usize,
    /// How often each of them is drawn for sure.
    times: usize,
    /// How many of them are drawn once more, others in each epoch.
    more: usize,
}

/// Of a seed's streams the epochs use those from 0 on, and what is drawn once more those from the last one down.
const LAST_STREAM: u64 = u64::MAX;

impl Sampler {
    /// A sampler that shuffles `0..n` anew each epoch. `drop_last` leaves out the last batch when it is short; which
    /// examples that concerns differs between epochs.
    ///
    /// # Errors
    /// `NoBatch` when an epoch would be empty.
    pub fn new(n: usize, batch: usize, seed: u64, drop_last: bool) -> Result<Self, DataError> {
        Self::checked(n, batch, Some(seed), drop_last)
    }

    /// A sampler for evaluation: `0..n` in order, the last batch as short as it comes.
    ///
    /// # Errors
    /// `NoBatch` when there are no examples or the batch size is 0.
    pub fn sequential(n: usize, batch: usize) -> Result<Self, DataError> {
        Self::checked(n, batch, None, false)
    }

    fn checked(n: usize, batch: usize, seed: Option<u64>, drop_last: bool) -> Result<Self, DataError> {
        if n == 0 || batch == 0 || (drop_last && n < batch) {
            return Err(DataError::NoBatch { examples: n, batch, drop_last });
        }
        Ok(Self { n, batch, seed, drop_last, lengths: None, sources: Vec::new() })
    }

    /// Puts examples of like length in one batch, which saves padding: windows of 16 shuffled batches are sorted by
    /// length, then the batches are shuffled, a short one staying last. A sequential sampler sorts everything.
    ///
    /// # Errors
    /// `LengthMismatch` unless there is one length per example.
    pub fn by_length(mut self, lengths: Vec<usize>) -> Result<Self, DataError> {
        if lengths.len() != self.n {
            return Err(DataError::LengthMismatch { what: "lengths of examples", want: self.n, have: lengths.len() });
        }
        self.lengths = Some(lengths);
        Ok(self)
    }

    /// Draws examples as often as the weight of their source says. `sources` are numbers of examples with their weights, in
    /// the order of the examples. With a weight of 2.5 an epoch has each example of the source twice, and half of them, picked
    /// anew in each epoch by the seed, once more: `round(0.5 * examples)` of them.
    ///
    /// # Errors
    /// `LengthMismatch` unless the sources have all examples; `NoBatch` when an epoch would be empty.
    pub fn weighted(mut self, sources: &[(usize, f64)]) -> Result<Self, DataError> {
        let all = sources.iter().map(|(len, _)| len).sum();
        if all != self.n {
            return Err(DataError::LengthMismatch { what: "examples of sources", want: self.n, have: all });
        }
        let mut start = 0;
        for (len, weight) in sources {
            let more = (weight.fract() * *len as f64).round() as usize;
            self.sources.push(Source { start, len: *len, times: weight.trunc() as usize, more });
            start += len;
        }
        let draws = self.draws();
        match draws == 0 || (self.drop_last && draws < self.batch) {
            true => Err(DataError::NoBatch { examples: draws, batch: self.batch, drop_last: self.drop_last }),
            false => Ok(self),
        }
    }

    /// How many examples an epoch has, those that are drawn several times counted as often.
    #[must_use]
    pub fn draws(&self) -> usize {
        let of = |s: &Source| s.len.saturating_mul(s.times).saturating_add(s.more);
        if self.sources.is_empty() { self.n } else { self.sources.iter().map(of).fold(0, usize::saturating_add) }
    }

    /// What an epoch draws, before it is shuffled.
    fn drawn(&self, e: u64) -> Vec<usize> {
        if self.sources.is_empty() {
            return (0..self.n).collect();
        }
        let mut rng = generator(self.seed.unwrap_or_default(), LAST_STREAM - e);
        let mut drawn = Vec::with_capacity(self.draws());
        for source in &self.sources {
            let all = source.start..source.start + source.len;
            (0..source.times).for_each(|_| drawn.extend(all.clone()));
            if source.more > 0 {
                let mut some: Vec<usize> = all.collect();
                shuffle_with(&mut some, &mut rng);
                some.truncate(source.more);
                some.sort();
                drawn.append(&mut some);
            }
        }
        drawn
    }

    /// How many batches an epoch has, at least one.
    #[must_use]
    pub fn batches_per_epoch(&self) -> usize {
        if self.drop_last { self.draws() / self.batch } else { self.draws().div_ceil(self.batch) }
    }

    /// The batches of epoch `e`, each a list of indices. All but the last are full.
    #[must_use]
    pub fn epoch(&self, e: u64) -> Epoch {
        let mut order = self.drawn(e);
        let mut rng = self.seed.map(|seed| generator(seed, e));
        if let Some(rng) = &mut rng {
            shuffle_with(&mut order, rng);
        }
        // Cut before sorting: after it, the examples left out would be the longest.
        order.truncate(self.batches_per_epoch() * self.batch);
        if let Some(lengths) = &self.lengths {
            let window = if rng.is_some() { self.batch.saturating_mul(WINDOW) } else { order.len().max(1) };
            order.chunks_mut(window).for_each(|window| window.sort_by_key(|i| lengths[*i]));
        }
        let mut batches: Vec<Vec<usize>> = order.chunks(self.batch).map(<[usize]>::to_vec).collect();
        if let (Some(rng), Some(_)) = (&mut rng, &self.lengths) {
            shuffle_with(&mut batches[..order.len() / self.batch], rng);
        }
        Epoch { batches: batches.into_iter() }
    }
}

/// The batches of one epoch.
#[derive(Debug, Clone)]
pub struct Epoch {
    batches: std::vec::IntoIter<Vec<usize>>,
}

impl Iterator for Epoch {
    type Item = Vec<usize>;

    fn next(&mut self) -> Option<Vec<usize>> {
        self.batches.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.batches.size_hint()
    }

    fn nth(&mut self, n: usize) -> Option<Vec<usize>> {
        self.batches.nth(n)
    }
}

impl ExactSizeIterator for Epoch {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn batches(sampler: &Sampler, e: u64) -> Vec<Vec<usize>> {
        sampler.epoch(e).collect()
    }

    #[test]
    fn epochs_and_seeds_differ_and_repeat() {
        let sampler = Sampler::new(40, 8, 1, false).unwrap();
        assert_eq!(batches(&sampler, 2), batches(&sampler, 2));
        assert_ne!(batches(&sampler, 2), batches(&sampler, 3));
        assert_ne!(batches(&sampler, 2), batches(&Sampler::new(40, 8, 2, false).unwrap(), 2));
    }

    #[test]
    fn weights_say_how_often_an_epoch_draws_an_example() {
        let sampler = Sampler::new(20, 4, 7, false).unwrap().weighted(&[(10, 2.0), (4, 0.5), (6, 1.5)]).unwrap();
        assert_eq!((sampler.draws(), sampler.batches_per_epoch()), (31, 8));
        let mut more = Vec::new();
        for e in 0..3 {
            let mut drawn = batches(&sampler, e).concat();
            drawn.sort();
            let times = |i: usize| drawn.iter().filter(|d| **d == i).count();
            assert!((0..10).all(|i| times(i) == 2), "{drawn:?}");
            assert_eq!(((10..14).map(times).sum::<usize>(), (14..20).map(times).sum::<usize>()), (2, 9));
            assert!((10..14).all(|i| times(i) < 2) && (14..20).all(|i| (1..3).contains(&times(i))), "{drawn:?}");
            assert_eq!(batches(&sampler, e), batches(&sampler.clone(), e));
            more.push((10..20).map(times).collect::<Vec<_>>());
        }
        assert!(more[0] != more[1] || more[1] != more[2], "what is drawn once more differs between epochs: {more:?}");
        let plain = Sampler::new(20, 4, 7, false).unwrap();
        assert_eq!(batches(&plain.clone().weighted(&[(20, 1.0)]).unwrap(), 3), batches(&plain, 3));
        let lengths = (0..20).collect();
        assert_eq!(batches(&sampler.by_length(lengths).unwrap(), 0).concat().len(), 31);
        assert!(matches!(plain.clone().weighted(&[(19, 1.0)]), Err(DataError::LengthMismatch { .. })));
        assert!(matches!(plain.weighted(&[(20, 0.01)]), Err(DataError::NoBatch { examples: 0, .. })));
    }

    #[test]
    fn sequential_is_in_order() {
        let sampler = Sampler::sequential(5, 2).unwrap();
        assert_eq!(batches(&sampler, 0), [vec![0, 1], vec![2, 3], vec![4]]);
        let sorted = sampler.by_length(vec![3, 1, 2, 1, 9]).unwrap();
        assert_eq!(batches(&sorted, 0), [vec![1, 3], vec![2, 0], vec![4]]);
    }

    #[test]
    fn samplers_without_a_batch_are_refused() {
        for (n, batch, drop_last) in [(0, 4, false), (4, 0, false), (3, 4, true)] {
            assert!(matches!(Sampler::new(n, batch, 0, drop_last), Err(DataError::NoBatch { .. })));
        }
        assert!(Sampler::new(3, 4, 0, false).is_ok());
        let sampler = Sampler::sequential(3, 1).unwrap();
        assert!(matches!(sampler.by_length(vec![1, 2]), Err(DataError::LengthMismatch { want: 3, have: 2, .. })));
    }

    #[test]
    fn grouping_by_length_saves_padding_and_keeps_the_batches_in_random_order() {
        let lengths: Vec<usize> = (0..512).map(|i| (i * 37) % 101 + 1).collect();
        let padding = |sampler: &Sampler| -> usize {
            let waste = |batch: &Vec<usize>| {
                let longest = batch.iter().map(|i| lengths[*i]).max().unwrap_or(0);
                batch.iter().map(|i| longest - lengths[*i]).sum::<usize>()
            };
            batches(sampler, 0).iter().map(waste).sum()
        };
        let plain = Sampler::new(512, 8, 5, false).unwrap();
        let grouped = plain.clone().by_length(lengths.clone()).unwrap();
        assert!(padding(&grouped) * 4 < padding(&plain), "{} {}", padding(&grouped), padding(&plain));
        let firsts: Vec<usize> = batches(&grouped, 0).iter().take(WINDOW).map(|batch| lengths[batch[0]]).collect();
        assert!(!firsts.is_sorted(), "{firsts:?}");
    }

    #[test]
    fn dropped_examples_are_not_the_longest() {
        let sampler = Sampler::new(39, 20, 0, true).unwrap().by_length((0..39).collect()).unwrap();
        let longest_kept = (0..50).filter(|e| sampler.epoch(*e).flatten().any(|i| i == 38)).count();
        assert!((10..40).contains(&longest_kept), "{longest_kept}");
    }

    proptest! {
        #[test]
        fn every_example_once(n in 1usize..300, batch in 1usize..40, seed: u64, e: u64, grouped: bool, drop_last: bool) {
            prop_assume!(!drop_last || n >= batch);
            let mut sampler = Sampler::new(n, batch, seed, drop_last).unwrap();
            if grouped {
                sampler = sampler.by_length((0..n).map(|i| i * 7 % 13).collect()).unwrap();
            }
            let epoch = batches(&sampler, e);
            prop_assert_eq!(epoch.len(), sampler.batches_per_epoch());
            let (last, full) = epoch.split_last().unwrap();
            prop_assert!(full.iter().all(|indices| indices.len() == batch));
            let last_fits = if drop_last { last.len() == batch } else { (1..=batch).contains(&last.len()) };
            prop_assert!(last_fits);
            let mut drawn: Vec<usize> = epoch.concat();
            drawn.sort();
            if drop_last {
                prop_assert_eq!(drawn.len(), n / batch * batch);
                prop_assert!(drawn.windows(2).all(|pair| pair[0] < pair[1]) && drawn.iter().all(|i| *i < n));
            } else {
                prop_assert_eq!(drawn, (0..n).collect::<Vec<_>>());
            }
        }

        #[test]
        fn a_resumed_epoch_goes_on_where_it_stopped(n in 1usize..100, done in 0usize..20, seed: u64) {
            let sampler = Sampler::new(n, 7, seed, false).unwrap();
            let resumed: Vec<_> = sampler.epoch(4).skip(done).collect();
            prop_assert_eq!(resumed, batches(&sampler, 4).into_iter().skip(done).collect::<Vec<_>>());
        }
    }
}
