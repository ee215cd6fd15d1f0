//! Tokens that are hidden from a model, which is to tell them: masked language modelling.

use crate::batch::IGNORE;
use crate::example::{Example, Field, LABELS};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// Which tokens are hidden, as [Devlin et al. 2018](https://arxiv.org/abs/1810.04805): a share of those that are no special ones; of
/// ten of them eight become the mask, one any token, and one stays. They depend on nothing but the seed, the epoch and the example, so
/// that a resumed training hides the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Masking {
    /// The seed.
    pub seed: u64,
    /// The share that is hidden, of 2^32.
    pub share: u32,
    /// The id of the mask.
    pub mask: i64,
    /// Ids that are never hidden, in order.
    pub special: Vec<i64>,
    /// Ids of the vocabulary are below this.
    pub vocabulary: u32,
    /// How many examples there are before those of the data set, where it is but a part.
    pub before: u64,
}

/// The epoch of evaluations, in which every token is hidden as before.
pub(crate) const EVALUATION: u64 = u64::MAX;

/// What tells draws of this from others with the same seed.
const OWN: u64 = 0x6d61_736b;

impl Masking {
    /// A share of all tokens.
    #[must_use]
    pub fn share_of(share: f64) -> u32 {
        (share * (u64::from(u32::MAX) + 1) as f64).min(f64::from(u32::MAX)) as u32
    }

    /// The example at a place of its data set as an epoch hides its tokens; its labels are those that are hidden, and
    /// [`IGNORE`] elsewhere.
    pub(crate) fn hidden(&self, example: &Example, row: usize, epoch: u64) -> Example {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed ^ OWN);
        random.set_stream((epoch << 40) ^ self.before.wrapping_add(row as u64 + 1));
        let (mut seen, mut labels) = (Vec::new(), Vec::new());
        for id in example.tokens("input_ids").unwrap_or_default() {
            // As many numbers are drawn for every token, so that none depends on the others.
            let [hide, how, other] = [0; 3].map(|_| random.next_u32());
            let hide = hide < self.share && self.special.binary_search(id).is_err();
            seen.push(match how % 10 {
                _ if !hide => *id,
                0 => i64::from(((u64::from(other) * u64::from(self.vocabulary)) >> 32) as u32),
                1 => *id,
                _ => self.mask,
            });
            labels.push(if hide { *id } else { IGNORE });
        }
        let field = |(name, field): &(&'static str, Field)| {
            let field = match (*name, field) {
                ("input_ids", Field::Tokens { pad, .. }) => Field::Tokens { ids: seen.clone(), pad: *pad },
                (LABELS, _) => Field::Tokens { ids: labels.clone(), pad: IGNORE },
                (_, field) => field.clone(),
            };
            (*name, field)
        };
        Example { fields: example.fields.iter().map(field).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(ids: Vec<i64>) -> Example {
        let labels = Field::Tokens { ids: ids.clone(), pad: IGNORE };
        Example { fields: vec![("input_ids", Field::Tokens { ids, pad: 0 }), (LABELS, labels)] }
    }

    fn masking() -> Masking {
        Masking { seed: 7, share: Masking::share_of(0.15), mask: 99, special: vec![0, 1], vocabulary: 50, before: 0 }
    }

    #[test]
    fn a_share_of_the_tokens_is_hidden_and_of_ten_eight_one_and_one() {
        let ids: Vec<i64> = (0..20_000).map(|i| i % 40).collect();
        let made = masking().hidden(&example(ids.clone()), 3, 0);
        let (seen, labels) = (made.tokens("input_ids").unwrap(), made.tokens(LABELS).unwrap());
        let hidden: Vec<usize> = (0..ids.len()).filter(|at| labels[*at] != IGNORE).collect();
        let share = hidden.len() as f64 / (ids.len() as f64 * 38.0 / 40.0);
        assert!((share - 0.15).abs() < 0.01, "{share}");
        assert!(hidden.iter().all(|at| labels[*at] == ids[*at] && ids[*at] > 1));
        assert!((0..ids.len()).filter(|at| labels[*at] == IGNORE).all(|at| seen[at] == ids[at]));
        let of = |is: &dyn Fn(usize) -> bool| hidden.iter().filter(|at| is(**at)).count() as f64 / hidden.len() as f64;
        let masks = of(&|at| seen[at] == 99);
        let kept = of(&|at| seen[at] == ids[at]);
        assert!((masks - 0.8).abs() < 0.03 && (kept - 0.102).abs() < 0.02, "{masks} {kept}");
    }

    #[test]
    fn every_epoch_and_example_has_its_own_and_keeps_them() {
        let (one, masking) = (example((2..300).collect()), masking());
        assert_eq!(masking.hidden(&one, 3, 5), masking.hidden(&one, 3, 5));
        for (row, epoch) in [(4, 5), (3, 6), (3, EVALUATION)] {
            assert_ne!(masking.hidden(&one, 3, 5), masking.hidden(&one, row, epoch));
        }
        assert_eq!(masking.hidden(&one, 8, 5), Masking { before: 6, ..masking.clone() }.hidden(&one, 2, 5));
        assert_eq!((Masking::share_of(0.5), Masking::share_of(1.0)), (1 << 31, u32::MAX));
    }
}
