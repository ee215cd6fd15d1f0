//! Rows of tokens, padded to a rectangle.

use crate::error::DataError;
use crate::tokenize::Encoded;

/// The label of a row that only fills a batch: the ignored class of PyTorch and of ONNX's SoftmaxCrossEntropyLoss
/// by custom.
pub const IGNORE: i64 = -100;

/// The shape to pad to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PadTo {
    /// The length is a multiple of this, unless that would exceed `max`.
    pub multiple: usize,
    /// The length is at least this, unless that would exceed `max`.
    pub min: usize,
    /// The length is at most this: the tokenizer's maximum.
    pub max: usize,
    /// The batch has at least this many rows; 0 adds none.
    pub rows: usize,
}

impl Default for PadTo {
    fn default() -> Self {
        Self { multiple: 8, min: 1, max: usize::MAX, rows: 0 }
    }
}

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
    let wanted = longest.max(pad.min).max(1);
    let len = wanted.checked_next_multiple_of(pad.multiple.max(1)).unwrap_or(wanted).min(pad.max.max(1));
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

    fn encoded(ids: &[i64]) -> Encoded {
        Encoded { ids: ids.to_vec(), type_ids: ids.iter().map(|id| id % 2).collect() }
    }

    #[test]
    fn rows_are_padded_on_the_right() {
        let (a, b) = (encoded(&[5, 6, 7]), encoded(&[8]));
        let pad = PadTo { multiple: 4, rows: 3, ..PadTo::default() };
        let batch = collate(&[&a, &b], &[1, 0], 9, &pad).unwrap();
        assert_eq!(batch.input_ids, [5, 6, 7, 9, 8, 9, 9, 9, 9, 9, 9, 9]);
        assert_eq!(batch.attention_mask, [1, 1, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(batch.token_type_ids, [1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(batch.labels, [1, 0, IGNORE]);
        assert_eq!((batch.rows, batch.len, batch.real_rows, batch.tokens), (3, 4, 2, 4));
    }

    #[test]
    fn lengths_round_up_but_not_beyond_the_most() {
        let len = |tokens: usize, pad: PadTo| collate(&[&encoded(&vec![1; tokens])], &[0], 0, &pad).unwrap().len;
        let pad = PadTo { max: 20, ..PadTo::default() };
        assert_eq!(len(8, pad), 8);
        assert_eq!(len(9, pad), 16);
        assert_eq!(len(17, pad), 20);
        assert_eq!(len(1, PadTo { min: 17, max: 64, ..pad }), 24);
        assert_eq!(len(1, PadTo { min: 99, ..pad }), 20);
        assert_eq!(len(3, PadTo { multiple: 0, ..pad }), 3);
        assert_eq!(len(3, PadTo { multiple: usize::MAX, ..pad }), 20);
    }

    #[test]
    fn a_row_without_tokens_still_attends_to_one() {
        let batch = collate(&[&encoded(&[])], &[0], 3, &PadTo { multiple: 2, ..PadTo::default() }).unwrap();
        assert_eq!((batch.input_ids, batch.attention_mask, batch.tokens), (vec![3, 3], vec![1, 0], 0));
    }

    #[test]
    fn mistakes_are_refused() {
        let three = encoded(&[1, 2, 3]);
        let pad = PadTo { max: 2, ..PadTo::default() };
        assert!(matches!(collate(&[&three], &[0], 0, &pad), Err(DataError::TooLong { row: 0, have: 3, max: 2 })));
        let pad = PadTo::default();
        assert!(matches!(collate(&[], &[], 0, &pad), Err(DataError::LengthMismatch { .. })));
        assert!(matches!(
            collate(&[&three], &[0, 1], 0, &pad),
            Err(DataError::LengthMismatch { want: 1, have: 2, .. })
        ));
        let odd = Encoded { ids: vec![1, 2], type_ids: vec![0] };
        assert!(matches!(collate(&[&odd], &[0], 0, &pad), Err(DataError::LengthMismatch { want: 2, have: 1, .. })));
    }
}
