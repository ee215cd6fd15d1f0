//! A part of the examples that is held out to evaluate on.

use crate::error::DataError;
use crate::shuffle::shuffle;

/// How many of `have` a part is: a share of them below 1, rounded to the nearest, or that many from 1 on.
#[must_use]
pub fn part_size(part: f64, have: usize) -> usize {
    if part < 1.0 { (part * have as f64).round() as usize } else { part as usize }
}

/// Which of `have` examples are held out: exactly `part` of them, picked at random by the seed alone.
///
/// With `classes`, the class of each example, the part has of every class its share of all: `part * count / have`, rounded
/// down, and one more of those classes whose remainders are the largest, of equal ones the first.
///
/// # Errors
/// `EmptyPart` where nothing would be held out, or everything; `LengthMismatch` unless there is one class per example.
pub fn hold_out_part(have: usize, part: usize, classes: Option<&[usize]>, seed: u64) -> Result<Vec<bool>, DataError> {
    if part == 0 || part >= have {
        return Err(DataError::EmptyPart { part, have });
    }
    let mut order: Vec<usize> = (0..have).collect();
    shuffle(&mut order, seed);
    let mut held = vec![false; have];
    let Some(classes) = classes else {
        order.iter().take(part).for_each(|at| held[*at] = true);
        return Ok(held);
    };
    if classes.len() != have {
        return Err(DataError::LengthMismatch { what: "classes of examples", want: have, have: classes.len() });
    }
    let mut left = quotas(part, &counts(classes));
    for at in order {
        if let Some(left) = left.get_mut(classes[at]).filter(|left| **left > 0) {
            *left -= 1;
            held[at] = true;
        }
    }
    Ok(held)
}

fn counts(classes: &[usize]) -> Vec<usize> {
    let mut counts = vec![0; classes.iter().max().map_or(0, |most| most + 1)];
    classes.iter().for_each(|class| counts[*class] += 1);
    counts
}

/// How many of each class make up a part of so many, by the largest remainders.
fn quotas(part: usize, counts: &[usize]) -> Vec<usize> {
    let have: u128 = counts.iter().map(|count| *count as u128).sum::<u128>().max(1);
    let exact = |count: &usize| part as u128 * *count as u128;
    let mut quotas: Vec<usize> = counts.iter().map(|count| (exact(count) / have) as usize).collect();
    let missing = part - quotas.iter().sum::<usize>().min(part);
    let mut by_remainder: Vec<usize> = (0..counts.len()).collect();
    by_remainder.sort_by_key(|class| std::cmp::Reverse(exact(&counts[*class]) % have));
    by_remainder.into_iter().take(missing).for_each(|class| quotas[class] += 1);
    quotas
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(held: &[bool]) -> usize {
        held.iter().filter(|held| **held).count()
    }

    #[test]
    fn a_part_is_a_share_or_a_number() {
        let sizes = [(0.1, 120), (0.1, 25), (0.15, 10), (0.01, 10), (7.0, 100), (1.0, 5)];
        assert_eq!(sizes.map(|(part, have)| part_size(part, have)), [12, 3, 2, 0, 7, 1]);
    }

    #[test]
    fn the_same_seed_holds_out_the_same_and_another_another() {
        let of = |seed| hold_out_part(100, 10, None, seed).unwrap();
        assert_eq!((of(1), count(&of(1))), (of(1), 10));
        assert_ne!(of(1), of(2));
        for part in [0, 100, 101] {
            assert!(matches!(hold_out_part(100, part, None, 0), Err(DataError::EmptyPart { have: 100, .. })));
        }
    }

    #[test]
    fn a_stratified_part_has_its_share_of_every_class() {
        let classes: Vec<usize> = (0..100)
            .map(|i| {
                if i < 71 {
                    0
                } else if i < 96 {
                    2
                } else {
                    3
                }
            })
            .collect();
        let held = hold_out_part(100, 10, Some(&classes), 4).unwrap();
        let of = |class| classes.iter().zip(&held).filter(|(c, held)| **c == class && **held).count();
        // 7.1, 0, 2.5 and 0.4 of 10: the largest remainder is that of class 2.
        assert_eq!([0, 1, 2, 3].map(of), [7, 0, 3, 0]);
        assert_eq!(quotas(5, &[3, 3, 3]), [2, 2, 1]);
        assert_eq!(quotas(usize::MAX / 2, &[usize::MAX / 2, usize::MAX / 2]).iter().sum::<usize>(), usize::MAX / 2);
        assert!(matches!(hold_out_part(3, 1, Some(&[0]), 0), Err(DataError::LengthMismatch { .. })));
    }
}
