//! Rows of tokens, padded to a rectangle.

use crate::batch::{IGNORE, PadTo};
use crate::error::DataError;
use crate::tokenize::Encoded;

/// A rectangle of tokens, row after row. The three token fields hold `rows * len` numbers each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Token ids, padded on the right.
    pub input_ids: Vec<i64>,
    /// 1 on a token, 0 on padding. Every row has a 1, since a softmax over nothing is NaN.
    pub attention_mask: Vec<i64>,
    /// Segment ids, 0 on padding.
    pub token_type_ids: Vec<i64>,
    /// One label a row; [`IGNORE`] on rows that only fill the batch.
    pub labels: Vec<i64>,
    /// Rows, filling ones included.
    pub rows: usize,
    /// Tokens a row, padding included.
    pub len: usize,
    /// Rows that stand for an example; they come first.
    pub real_rows: usize,
    /// Tokens of the real rows, padding excluded.
    pub tokens: usize,
}

/// Pads `items` to the longest of them, rounded as `pad` says.
///
/// # Errors
/// `LengthMismatch` unless there is one label an item and at least one item; `TooLong` when an item exceeds `pad.max`.
pub fn collate(items: &[&Encoded], labels: &[usize], pad_id: i64, pad: &PadTo) -> Result<Batch, DataError> {
    if items.is_empty() {
        return Err(DataError::LengthMismatch { what: "rows of a batch", want: 1, have: 0 });
    }
    if items.len() != labels.len() {
        return Err(DataError::LengthMismatch { what: "labels of a batch", want: items.len(), have: labels.len() });
    }
    if let Some((row, item)) = items.iter().enumerate().find(|(_, item)| item.ids.len() > pad.max) {
        return Err(DataError::TooLong { row, have: item.ids.len(), max: pad.max });
    }
    let longest = items.iter().map(|item| item.ids.len()).max().unwrap_or(0);
    let len = pad.length(longest);
    let rows = items.len().max(pad.rows);

    let mut batch = Batch {
        input_ids: vec![pad_id; rows * len],
        attention_mask: vec![0; rows * len],
        token_type_ids: vec![0; rows * len],
        labels: vec![IGNORE; rows],
        rows,
        len,
        real_rows: items.len(),
        tokens: items.iter().map(|item| item.ids.len()).sum(),
    };
    for row in 0..rows {
        let start = row * len;
        let mut attended = 1;
        if let (Some(item), Some(label)) = (items.get(row), labels.get(row)) {
            let (ids, type_ids) = (&item.ids, &item.type_ids);
            if ids.len() != type_ids.len() {
                return Err(DataError::LengthMismatch {
                    what: "type ids of a row",
                    want: ids.len(),
                    have: type_ids.len(),
                });
            }
            batch.input_ids[start..start + ids.len()].copy_from_slice(ids);
            batch.token_type_ids[start..start + ids.len()].copy_from_slice(type_ids);
            batch.labels[row] = *label as i64;
            attended = ids.len().max(1);
        }
        batch.attention_mask[start..start + attended].fill(1);
    }
    Ok(batch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example::{Example, Field};
    use proptest::prelude::*;

    fn encoded(ids: &[i64]) -> Encoded {
        Encoded { ids: ids.to_vec(), type_ids: ids.iter().map(|id| id % 2).collect() }
    }

    /// What stood in the training crate.
    fn positions(batch: &Batch) -> Vec<i64> {
        let row = |mask: &[i64]| {
            let mut seen = 0;
            let place = |m: &i64| {
                seen += m;
                (seen - 1).max(0)
            };
            mask.iter().map(place).collect::<Vec<i64>>()
        };
        batch.attention_mask.chunks(batch.len.max(1)).flat_map(row).collect()
    }

    /// What stood in the training crate.
    fn tokens(batch: &Batch) -> Vec<i64> {
        let real = batch.real_rows * batch.len;
        let counted = batch.attention_mask.iter().enumerate().map(|(i, m)| i < real && *m != 0);
        batch.input_ids.iter().zip(counted).map(|(id, counted)| if counted { *id } else { IGNORE }).collect()
    }

    proptest! {
        #[test]
        fn batches_are_what_they_were(
            items in prop::collection::vec(prop::collection::vec(-5i64..50, 1..20), 1..6),
            pad_id in 0i64..50, multiple in 0usize..20, min in 0usize..30, max in 19usize..40, rows in 0usize..9,
        ) {
            let items: Vec<Encoded> = items.iter().map(|ids| encoded(ids)).collect();
            let labels: Vec<usize> = (0..items.len()).collect();
            let pad = PadTo { multiple, min, max, rows };
            let old = collate(&items.iter().collect::<Vec<_>>(), &labels, pad_id, &pad).unwrap();
            let example = |item: &Encoded, labels| Example {
                fields: vec![
                    ("input_ids", Field::Tokens { ids: item.ids.clone(), pad: pad_id }),
                    ("token_type_ids", Field::Tokens { ids: item.type_ids.clone(), pad: 0 }),
                    ("labels", labels),
                ],
            };
            let of_rows: Vec<Example> =
                items.iter().zip(&labels).map(|(item, label)| example(item, Field::Int(*label as i64))).collect();
            let of_tokens: Vec<Example> =
                items.iter().map(|item| example(item, Field::Tokens { ids: item.ids.clone(), pad: IGNORE })).collect();
            for (examples, labels) in [(of_rows, old.labels.clone()), (of_tokens, tokens(&old))] {
                let new = crate::collate(&examples.iter().collect::<Vec<_>>(), &pad).unwrap();
                for (name, want) in [
                    ("input_ids", &old.input_ids), ("attention_mask", &old.attention_mask), ("labels", &labels),
                    ("token_type_ids", &old.token_type_ids), ("position_ids", &positions(&old)),
                ] {
                    let have: Vec<i64> = new.get(name).unwrap().to_vec().unwrap();
                    prop_assert_eq!(&have, want);
                }
                prop_assert_eq!(new.get("input_ids").unwrap().dims(), [old.rows, old.len]);
                prop_assert_eq!((new.rows, new.real_rows, new.tokens), (old.rows, old.real_rows, old.tokens));
            }
        }
    }
}
