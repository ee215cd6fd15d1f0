//! Several examples in one row of tokens, so that few tokens of a batch are padding.

use crate::batch::IGNORE;
use crate::example::{Example, Field, LABELS};
use std::collections::BTreeMap;

/// The field that says which example of its row a token belongs to, from 0; padding belongs to the last one.
pub const EXAMPLE_IDS: &str = "example_ids";

/// The field of places: in a row of several examples those in each of them.
pub const POSITION_IDS: &str = "position_ids";

/// Examples of tokens in rows of at most `room` of them, longer ones in rows of their own: the longest first, each into the
/// fullest row that has room (best fit decreasing). Rows come in the order of their first examples, and examples in theirs.
/// `is_causal` says that a label is told by the token before it, of which the first token of an example has none: its label is
/// [`IGNORE`] then. Every row has the fields [`EXAMPLE_IDS`] and [`POSITION_IDS`] beside those of its examples.
#[must_use]
pub fn pack(examples: &[Example], room: usize, is_causal: bool) -> Vec<Example> {
    let together = best_fit(&examples.iter().map(Example::length).collect::<Vec<_>>(), room);
    let row = |members: Vec<usize>| {
        let members: Vec<&Example> = members.into_iter().filter_map(|at| examples.get(at)).collect();
        one_row(&members, is_causal)
    };
    together.into_iter().map(row).collect()
}

/// Which of these lengths share a row of `room`.
fn best_fit(lengths: &[usize], room: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(lengths[*at]));
    let mut rows: Vec<Vec<usize>> = Vec::new();
    let mut open: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for at in order {
        let length = lengths[at];
        let fullest = open.range(length.max(1)..).next().map(|(left, _)| *left);
        let row = fullest.and_then(|left| {
            let row = open.get_mut(&left).and_then(Vec::pop);
            if open.get(&left).is_some_and(Vec::is_empty) {
                open.remove(&left);
            }
            row.map(|row| (row, left - length))
        });
        let (row, left) = row.unwrap_or_else(|| {
            rows.push(Vec::new());
            (rows.len() - 1, room.saturating_sub(length))
        });
        rows[row].push(at);
        if left > 0 {
            open.entry(left).or_default().push(row);
        }
    }
    rows.iter_mut().for_each(|row| row.sort_unstable());
    rows.sort_by_key(|row| row.first().copied());
    rows
}

/// Examples one behind the other.
fn one_row(members: &[&Example], is_causal: bool) -> Example {
    let Some(first) = members.first() else { return Example::default() };
    let joined = |(i, (name, field)): (usize, &(&'static str, Field))| {
        let Field::Tokens { pad, .. } = field else { return (*name, field.clone()) };
        let mut ids = Vec::new();
        for (at, member) in members.iter().enumerate() {
            let start = ids.len();
            if let Some((_, Field::Tokens { ids: own, .. })) = member.fields.get(i) {
                ids.extend_from_slice(own);
            }
            if let Some(label) = ids.get_mut(start).filter(|_| is_causal && at > 0 && *name == LABELS) {
                *label = IGNORE;
            }
        }
        (*name, Field::Tokens { ids, pad: *pad })
    };
    let mut fields: Vec<(&'static str, Field)> = first.fields.iter().enumerate().map(joined).collect();
    let lengths = || members.iter().map(|member| member.length());
    let examples: Vec<i64> = lengths().enumerate().flat_map(|(at, length)| vec![at as i64; length]).collect();
    let places: Vec<i64> = lengths().flat_map(|length| 0..length as i64).collect();
    for (name, ids) in [(EXAMPLE_IDS, examples), (POSITION_IDS, places)] {
        let pad = ids.last().copied().unwrap_or(0);
        fields.push((name, Field::Tokens { ids, pad }));
    }
    Example { fields }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{PadTo, collate};

    fn example(ids: &[i64]) -> Example {
        let tokens = |pad| Field::Tokens { ids: ids.to_vec(), pad };
        Example { fields: vec![("input_ids", tokens(9)), (LABELS, tokens(IGNORE))] }
    }

    #[test]
    fn the_longest_come_first_each_into_the_fullest_row_that_has_room() {
        let of = |lengths: &[usize], room| best_fit(lengths, room);
        assert_eq!(of(&[3, 8, 2, 5, 1], 8), [vec![0, 3], vec![1], vec![2, 4]]);
        // The 4 goes to the 5, where nothing is left, and not to the 3.
        assert_eq!(of(&[6, 4, 5, 3], 9), [vec![0, 3], vec![1, 2]]);
        assert_eq!(of(&[3, 12, 3], 8), [vec![0, 2], vec![1]], "a longer one has a row of its own");
        assert_eq!(of(&[1, 1, 0], 0), [vec![0], vec![1], vec![2]]);
        let lengths: Vec<usize> = (0..500).map(|i| 1 + i * 37 % 61).collect();
        let rows = of(&lengths, 64);
        let filled = |row: &Vec<usize>| row.iter().map(|at| lengths[*at]).sum::<usize>();
        assert!(rows.iter().all(|row| filled(row) <= 64));
        let all: usize = lengths.iter().sum();
        assert!(rows.len() <= all.div_ceil(64) + 1, "{} rows of {all} tokens", rows.len());
    }

    #[test]
    fn a_row_says_where_examples_begin_and_padding_belongs_to_the_last() {
        let rows = pack(&[example(&[4, 5, 6]), example(&[7, 8]), example(&[1, 2, 3, 4, 5, 6])], 6, true);
        let of = |row: usize, name: &str| rows[row].tokens(name).map(<[i64]>::to_vec).unwrap_or_default();
        assert_eq!((rows.len(), of(0, "input_ids")), (2, vec![4, 5, 6, 7, 8]));
        assert_eq!((of(0, LABELS), of(1, LABELS)), (vec![4, 5, 6, IGNORE, 8], vec![1, 2, 3, 4, 5, 6]));
        assert_eq!((of(0, EXAMPLE_IDS), of(0, POSITION_IDS)), (vec![0, 0, 0, 1, 1], vec![0, 1, 2, 0, 1]));
        let batch = collate(&rows.iter().collect::<Vec<_>>(), &PadTo::default()).expect("a batch");
        let tensor = |name: &str| batch.get(name).and_then(|t| t.to_vec::<i64>().ok()).expect("a tensor");
        assert_eq!(tensor(EXAMPLE_IDS)[..8], [0, 0, 0, 1, 1, 1, 1, 1]);
        assert_eq!(tensor(POSITION_IDS)[..8], [0, 1, 2, 0, 1, 1, 1, 1]);
        assert_eq!(tensor("attention_mask")[..8], [1, 1, 1, 1, 1, 0, 0, 0]);
        assert_eq!(batch.tensors.iter().filter(|(name, _)| name == POSITION_IDS).count(), 1);
        let masked = pack(&[example(&[4, 5, 6]), example(&[7, 8])], 6, false);
        assert_eq!(masked[0].tokens(LABELS), Some(&[4, 5, 6, 7, 8][..]));
    }
}
