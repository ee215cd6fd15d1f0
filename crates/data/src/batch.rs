//! Examples side by side: named tensors.

use crate::error::DataError;
use crate::example::{Example, Field};
use crate::packing::POSITION_IDS;
use lorac_ir::Tensor;

/// What counts for nothing where labels are counted: the ignored class of PyTorch, and by custom of ONNX's
/// SoftmaxCrossEntropyLoss.
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

impl PadTo {
    /// The length of a batch whose longest example has `longest` tokens, which are at most `max`.
    #[must_use]
    pub fn length(&self, longest: usize) -> usize {
        let least = longest.max(self.min).max(1);
        least.checked_next_multiple_of(self.multiple.max(1)).unwrap_or(least).min(self.max.max(1))
    }
}

/// Named tensors over the same rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Tensors by name: of tokens i64 `[rows, length]`, of integers i64 `[rows]`, of other numbers f32 `[rows]`, of several of
    /// them f32 `[rows, numbers]`, of arrays of their type `[rows, ..]`, of images f32 `[rows, channels, height, width]`.
    pub tensors: Vec<(String, Tensor)>,
    /// Rows, filling ones included; of examples of several texts, rows of texts.
    pub rows: usize,
    /// Examples, which come first: rows that stand for one, or of several texts the rows of each.
    pub real_rows: usize,
    /// Tokens of the real rows, padding excluded.
    pub tokens: usize,
}

impl Batch {
    /// The tensor of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.iter().find(|(known, _)| known == name).map(|(_, tensor)| tensor)
    }
}

/// Puts examples side by side: a tensor for each of their fields, tokens padded on the right as `pad` says, those of answers by
/// themselves. Of examples of several texts, tensors of tokens have as many rows for each, the first texts of all examples before their second ones.
///
/// Where there are tokens, two more tensors say what they are, both i64 `[rows, length]`: `attention_mask` is 1 on a token
/// and 0 on padding, and `position_ids` is the token's place in its row, which padding keeps, unless examples have a field of this
/// name. Every row has a 1 in its
/// mask, since a softmax over nothing is NaN. Where there are answers, `decoder_attention_mask` says the same of their tokens.
///
/// Rows that only fill the batch have padding for tokens, [`IGNORE`] for integers, NaN for other numbers, and zeros for arrays and
/// images.
///
/// # Errors
/// `LengthMismatch` when there is no example, or when the fields of an example have different numbers of tokens;
/// `FieldMismatch` when examples have different fields; `TooLong` when an example exceeds `pad.max`; `Tensor` when the
/// batch is too large.
pub fn collate(examples: &[&Example], pad: &PadTo) -> Result<Batch, DataError> {
    let Some(first) = examples.first() else {
        return Err(DataError::LengthMismatch { what: "rows of a batch", want: 1, have: 0 });
    };
    examples.iter().enumerate().try_for_each(|(row, example)| check(row, example, first, pad))?;
    let longest = examples.iter().map(|example| example.length()).max().unwrap_or(0);
    let (rows, length) = (examples.len().max(pad.rows), pad.length(longest));
    let texts = texts_of(first).unwrap_or(1);
    let answers: Option<Vec<usize>> = examples.iter().map(|example| example.answer_length()).collect();
    let answer = answers.as_ref().map_or(0, |all| pad.length(all.iter().copied().max().unwrap_or(0)));

    let mut tensors = Vec::with_capacity(first.fields.len() + 2);
    for (i, (name, field)) in first.fields.iter().enumerate() {
        let cells = examples.iter().filter_map(|example| example.fields.get(i)).map(|(_, field)| field);
        let length = if matches!(field, Field::Answer { .. }) { answer } else { length };
        tensors.push(((*name).to_owned(), column(field, cells, rows, length)?));
    }
    if let Some(all) = answers {
        let attended = (0..rows).map(|row| all.get(row).map_or(1, |length| (*length).max(1)));
        let mask: Vec<i64> = attended.flat_map(|n| (0..answer).map(move |place| i64::from(place < n))).collect();
        tensors.push(("decoder_attention_mask".to_owned(), Tensor::from_slice(&[rows, answer], &mask)?));
    }
    if first.fields.iter().any(|(_, field)| matches!(field, Field::Tokens { .. } | Field::Texts { .. })) {
        // A row without tokens, or without an example, attends to its first place.
        let of_examples: Vec<Vec<usize>> = examples.iter().map(|example| example.row_lengths()).collect();
        let attended = |(text, row): (usize, usize)| {
            let length = of_examples.get(row).and_then(|lengths| lengths.get(text));
            length.map_or(1, |length| (*length).max(1))
        };
        let all: Vec<usize> = (0..texts).flat_map(|text| (0..rows).map(move |row| (text, row))).map(attended).collect();
        let places = || all.iter().flat_map(|attended| (0..length).map(move |place| (*attended, place)));
        let mask: Vec<i64> = places().map(|(attended, place)| i64::from(place < attended)).collect();
        let positions: Vec<i64> = places().map(|(attended, place)| place.min(attended - 1) as i64).collect();
        let given = |name: &str| first.fields.iter().any(|(known, _)| *known == name);
        for (name, numbers) in [("attention_mask", mask), (POSITION_IDS, positions)] {
            if given(name) {
                continue;
            }
            tensors.push((name.to_owned(), Tensor::from_slice(&[texts * rows, length], &numbers)?));
        }
    }
    let tokens = examples.iter().map(|example| example.tokens_of_all()).sum();
    Ok(Batch { tensors, rows: texts * rows, real_rows: examples.len(), tokens })
}

/// How many texts an example has, where it has several.
fn texts_of(example: &Example) -> Option<usize> {
    example.fields.iter().find_map(|(_, field)| match field {
        Field::Texts { ids, .. } => Some(ids.len()),
        _ => None,
    })
}

fn check(row: usize, example: &Example, first: &Example, pad: &PadTo) -> Result<(), DataError> {
    let kinds = |example: &Example| -> Vec<_> {
        example.fields.iter().map(|(name, field)| (*name, std::mem::discriminant(field))).collect()
    };
    if kinds(example) != kinds(first) {
        let names = |example: &Example| example.fields.iter().map(|(name, _)| (*name).to_owned()).collect();
        return Err(DataError::FieldMismatch { row, want: names(first), have: names(example) });
    }
    let (want, answer) = (example.length(), example.answer_length().unwrap_or(0));
    if want.max(answer) > pad.max {
        return Err(DataError::TooLong { row, have: want.max(answer), max: pad.max });
    }
    let lengths = example.row_lengths();
    let array = |field: &Field| match field {
        Field::Array(tensor) => Some(tensor.fact()),
        Field::Image(picture) => Some(picture.pixels.fact()),
        _ => None,
    };
    for ((name, field), (_, like)) in example.fields.iter().zip(&first.fields) {
        let (have, want) = (array(field), array(like));
        if have != want
            && let (Some(have), Some(want)) = (have, want)
        {
            let (want, have) = (want.to_string(), have.to_string());
            let field = name.strip_prefix("array.").unwrap_or(name).to_owned();
            return Err(DataError::ArrayMismatch { row, field, want, have });
        }
    }
    for ((_, field), (_, like)) in example.fields.iter().zip(&first.fields) {
        if let (Field::Texts { ids, .. }, Field::Texts { ids: like, .. }) = (field, like) {
            if ids.len() != like.len() {
                let (want, have) = (like.len(), ids.len());
                return Err(DataError::LengthMismatch { what: "texts of a row", want, have });
            }
            if let Some((one, want)) = ids.iter().zip(&lengths).find(|(one, length)| one.len() != **length) {
                let (want, have) = (*want, one.len());
                return Err(DataError::LengthMismatch { what: "tokens of a row's field", want, have });
            }
        }
        if let (Field::Reals(have), Field::Reals(want)) = (field, like)
            && have.len() != want.len()
        {
            let (want, have) = (want.len(), have.len());
            return Err(DataError::LengthMismatch { what: "numbers of a row's field", want, have });
        }
        let (ids, want) = match field {
            Field::Tokens { ids, .. } => (ids, want),
            Field::Answer { ids, .. } => (ids, answer),
            _ => continue,
        };
        if ids.len() != want {
            return Err(DataError::LengthMismatch { what: "tokens of a row's field", want, have: ids.len() });
        }
    }
    Ok(())
}

/// The tensor of one field, `cells` of the kind of `like`.
fn column<'a>(
    like: &Field,
    cells: impl Iterator<Item = &'a Field>,
    rows: usize,
    length: usize,
) -> Result<Tensor, DataError> {
    if let Field::Texts { ids, pad } = like {
        return side_by_side(cells, ids.len(), *pad, rows, length);
    }
    if let Field::Array(first) = like {
        let mut bytes = Vec::with_capacity(rows * first.bytes().len());
        cells.for_each(|cell| {
            if let Field::Array(tensor) = cell {
                bytes.extend_from_slice(tensor.bytes());
            }
        });
        bytes.resize(rows * first.bytes().len(), 0);
        let dims = [&[rows][..], first.dims()].concat();
        return Ok(Tensor::new(first.dtype(), dims, bytes.into())?);
    }
    if let Field::Image(first) = like {
        let mut numbers = Vec::with_capacity(rows * first.pixels.len());
        cells.for_each(|cell| {
            if let Field::Image(picture) = cell {
                picture.write(&mut numbers);
            }
        });
        numbers.resize(rows * first.pixels.len(), 0.0);
        return Ok(Tensor::from_slice(&[&[rows][..], first.pixels.dims()].concat(), &numbers)?);
    }
    let (mut ints, mut reals) = (Vec::new(), Vec::new());
    for (row, cell) in cells.enumerate() {
        match cell {
            Field::Tokens { ids, pad } | Field::Answer { ids, pad } => {
                ints.extend_from_slice(ids);
                ints.resize((row + 1) * length, *pad);
            }
            Field::Texts { .. } | Field::Array(_) | Field::Image(_) => {}
            Field::Int(number) => ints.push(*number),
            Field::Real(number) => reals.push(*number),
            Field::Reals(numbers) => reals.extend_from_slice(numbers),
        }
    }
    Ok(match like {
        Field::Tokens { pad, .. } | Field::Answer { pad, .. } => {
            ints.resize(rows * length, *pad);
            Tensor::from_slice(&[rows, length], &ints)?
        }
        Field::Texts { .. } | Field::Array(_) | Field::Image(_) => Tensor::from_slice(&[0, length], &ints)?,
        Field::Int(_) => {
            ints.resize(rows, IGNORE);
            Tensor::from_slice(&[rows], &ints)?
        }
        Field::Real(_) => {
            reals.resize(rows, f32::NAN);
            Tensor::from_slice(&[rows], &reals)?
        }
        Field::Reals(numbers) => {
            reals.resize(rows * numbers.len(), f32::NAN);
            Tensor::from_slice(&[rows, numbers.len()], &reals)?
        }
    })
}

/// The tensor of examples of so many `texts`, all first ones before all second ones.
fn side_by_side<'a>(
    cells: impl Iterator<Item = &'a Field>,
    texts: usize,
    pad: i64,
    rows: usize,
    length: usize,
) -> Result<Tensor, DataError> {
    let mut all = vec![pad; texts * rows * length];
    for (row, cell) in cells.enumerate() {
        let Field::Texts { ids, .. } = cell else { continue };
        for (text, ids) in ids.iter().enumerate() {
            let start = (text * rows + row) * length;
            if let Some(place) = all.get_mut(start..start + ids.len()) {
                place.copy_from_slice(ids);
            }
        }
    }
    Ok(Tensor::from_slice(&[texts * rows, length], &all)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example::LABELS;

    fn example(ids: &[i64], label: Field) -> Example {
        let types = ids.iter().map(|id| id % 2).collect();
        let fields = vec![
            ("input_ids", Field::Tokens { ids: ids.to_vec(), pad: 9 }),
            ("token_type_ids", Field::Tokens { ids: types, pad: 0 }),
            (LABELS, label),
        ];
        Example { fields }
    }

    fn ints(batch: &Batch, name: &str) -> Vec<i64> {
        batch.get(name).unwrap().to_vec().unwrap()
    }

    #[test]
    fn rows_are_padded_on_the_right() {
        let (a, b) = (example(&[5, 6, 7], Field::Int(1)), example(&[8], Field::Int(0)));
        let pad = PadTo { multiple: 4, rows: 3, ..PadTo::default() };
        let batch = collate(&[&a, &b], &pad).unwrap();
        assert_eq!(ints(&batch, "input_ids"), [5, 6, 7, 9, 8, 9, 9, 9, 9, 9, 9, 9]);
        assert_eq!(ints(&batch, "attention_mask"), [1, 1, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(ints(&batch, "token_type_ids"), [1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(ints(&batch, "position_ids"), [0, 1, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(ints(&batch, LABELS), [1, 0, IGNORE]);
        assert_eq!((batch.rows, batch.real_rows, batch.tokens), (3, 2, 4));
        assert_eq!(
            (batch.get("input_ids").unwrap().dims(), batch.get(LABELS).unwrap().dims()),
            (&[3, 4][..], &[3][..])
        );
    }

    #[test]
    fn several_texts_of_an_example_are_rows_the_first_ones_before_the_second_ones() {
        let one = |texts: &[&[i64]], score| {
            let ids = texts.iter().map(|ids| ids.to_vec()).collect();
            Example { fields: vec![("input_ids", Field::Texts { ids, pad: 9 }), (LABELS, Field::Real(score))] }
        };
        let (a, b) = (one(&[&[1, 2, 3], &[4]], 1.0), one(&[&[5], &[6, 7]], 0.5));
        let batch = collate(&[&a, &b], &PadTo { multiple: 1, rows: 3, ..PadTo::default() }).unwrap();
        assert_eq!(batch.get("input_ids").unwrap().dims(), [6, 3]);
        assert_eq!(ints(&batch, "input_ids"), [1, 2, 3, 5, 9, 9, 9, 9, 9, 4, 9, 9, 6, 7, 9, 9, 9, 9]);
        assert_eq!(ints(&batch, "attention_mask"), [1, 1, 1, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 1, 0, 1, 0, 0]);
        assert_eq!((batch.rows, batch.real_rows, batch.tokens), (6, 2, 7));
        let scores: Vec<f32> = batch.get(LABELS).unwrap().to_vec().unwrap();
        assert!(scores[..2] == [1.0, 0.5] && scores[2].is_nan() && scores.len() == 3, "{scores:?}");
        let three = one(&[&[1], &[2], &[3]], 1.0);
        assert!(matches!(
            collate(&[&a, &three], &PadTo::default()),
            Err(DataError::LengthMismatch { what: "texts of a row", want: 2, have: 3 })
        ));
    }

    #[test]
    fn answers_are_padded_by_themselves() {
        let one = |ids: &[i64], answer: &[i64]| {
            let of = |pad| Field::Answer { ids: answer.to_vec(), pad };
            let ids = Field::Tokens { ids: ids.to_vec(), pad: 9 };
            Example { fields: vec![("input_ids", ids), ("decoder_input_ids", of(7)), (LABELS, of(IGNORE))] }
        };
        let (a, b) = (one(&[1, 2, 3, 4], &[5]), one(&[1], &[5, 6]));
        let batch = collate(&[&a, &b], &PadTo { multiple: 1, rows: 3, ..PadTo::default() }).unwrap();
        assert_eq!(batch.get("input_ids").unwrap().dims(), [3, 4]);
        assert_eq!(ints(&batch, "decoder_input_ids"), [5, 7, 5, 6, 7, 7]);
        assert_eq!(ints(&batch, LABELS), [5, IGNORE, 5, 6, IGNORE, IGNORE]);
        assert_eq!(ints(&batch, "decoder_attention_mask"), [1, 0, 1, 1, 1, 0]);
        assert_eq!((batch.rows, batch.real_rows, batch.tokens), (3, 2, 8));
        let pad = PadTo { max: 1, ..PadTo::default() };
        assert!(matches!(collate(&[&b], &pad), Err(DataError::TooLong { row: 0, have: 2, max: 1 })));
        let mut torn = b.clone();
        torn.fields[2].1 = Field::Answer { ids: vec![5], pad: IGNORE };
        let error = collate(&[&torn], &PadTo::default());
        assert!(matches!(error, Err(DataError::LengthMismatch { want: 2, have: 1, .. })));
    }

    #[test]
    fn arrays_lie_side_by_side_and_are_of_one_shape() {
        let one = |x: &[u8]| Example { fields: vec![("x", Field::Array(Tensor::vector(x))), (LABELS, Field::Int(1))] };
        let batch = collate(&[&one(&[1, 2]), &one(&[3, 4])], &PadTo { rows: 3, ..PadTo::default() }).unwrap();
        let x = batch.get("x").unwrap();
        assert_eq!((x.dims(), x.to_vec::<u8>().unwrap()), (&[3, 2][..], vec![1, 2, 3, 4, 0, 0]));
        assert_eq!((batch.tokens, batch.get("attention_mask")), (0, None));
        let error = collate(&[&one(&[1, 2]), &one(&[3])], &PadTo::default()).unwrap_err().to_string();
        assert_eq!(error, "row 1 of the batch has u8[1] for `x`, but the first has u8[2]");
    }

    #[test]
    fn labels_of_tokens_are_ignored_on_padding() {
        let label = |ids: &[i64]| Field::Tokens { ids: ids.to_vec(), pad: IGNORE };
        let (a, b) = (example(&[5, 6, 7], label(&[5, 6, 7])), example(&[8], label(&[8])));
        let batch = collate(&[&a, &b], &PadTo { multiple: 1, rows: 3, ..PadTo::default() }).unwrap();
        assert_eq!(ints(&batch, LABELS), [5, 6, 7, 8, -100, -100, -100, -100, -100]);
    }

    #[test]
    fn numbers_need_no_tokens() {
        let one = |x| Example { fields: vec![("x", Field::Real(x)), (LABELS, Field::Real(-x))] };
        let batch = collate(&[&one(0.5), &one(2.0)], &PadTo { rows: 3, max: 0, ..PadTo::default() }).unwrap();
        let names: Vec<&str> = batch.tensors.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!((names, batch.tokens), (vec!["x", LABELS], 0));
        let numbers: Vec<f32> = batch.get(LABELS).unwrap().to_vec().unwrap();
        assert!(numbers[..2] == [-0.5, -2.0] && numbers[2].is_nan(), "{numbers:?}");
    }

    #[test]
    fn several_numbers_are_as_many_in_every_row() {
        let one = |x: &[f32]| Example { fields: vec![(LABELS, Field::Reals(x.to_vec()))] };
        let batch = collate(&[&one(&[0.0, 1.0]), &one(&[1.0, 1.0])], &PadTo { rows: 3, ..PadTo::default() }).unwrap();
        let labels = batch.get(LABELS).unwrap();
        let numbers: Vec<f32> = labels.to_vec().unwrap();
        assert_eq!((labels.dims(), &numbers[..4]), (&[3, 2][..], &[0.0, 1.0, 1.0, 1.0][..]));
        assert!(numbers[4..].iter().all(|x| x.is_nan()), "a filling row counts for nothing: {numbers:?}");
        let wrong = collate(&[&one(&[0.0, 1.0]), &one(&[1.0])], &PadTo::default());
        assert!(matches!(wrong, Err(DataError::LengthMismatch { want: 2, have: 1, .. })));
    }

    #[test]
    fn lengths_round_up_but_not_beyond_the_most() {
        let pad = PadTo { max: 20, ..PadTo::default() };
        assert_eq!([0, 1, 8, 9, 17].map(|longest| pad.length(longest)), [8, 8, 8, 16, 20]);
        assert_eq!(PadTo { min: 17, max: 64, ..pad }.length(1), 24);
        assert_eq!(PadTo { min: 99, ..pad }.length(1), 20);
        assert_eq!(PadTo { multiple: 0, ..pad }.length(3), 3);
        assert_eq!(PadTo { multiple: usize::MAX, ..pad }.length(3), 20);
    }

    #[test]
    fn a_row_without_tokens_still_attends_to_one() {
        let batch = collate(&[&example(&[], Field::Int(0))], &PadTo { multiple: 2, ..PadTo::default() }).unwrap();
        let tensors = ["input_ids", "attention_mask", "position_ids"].map(|name| ints(&batch, name));
        assert_eq!((tensors, batch.tokens), ([vec![9, 9], vec![1, 0], vec![0, 0]], 0));
    }

    #[test]
    fn mistakes_are_refused() {
        let three = example(&[1, 2, 3], Field::Int(0));
        let pad = PadTo { max: 2, ..PadTo::default() };
        assert!(matches!(collate(&[&three], &pad), Err(DataError::TooLong { row: 0, have: 3, max: 2 })));
        let pad = PadTo::default();
        assert!(matches!(collate(&[], &pad), Err(DataError::LengthMismatch { .. })));
        let odd = example(&[1, 2], Field::Tokens { ids: vec![1], pad: IGNORE });
        assert!(matches!(collate(&[&odd], &pad), Err(DataError::LengthMismatch { want: 2, have: 1, .. })));
        let real = example(&[1], Field::Real(0.0));
        assert!(matches!(collate(&[&three, &real], &pad), Err(DataError::FieldMismatch { row: 1, .. })));
        let bare = Example { fields: three.fields[..1].to_vec() };
        let error = collate(&[&three, &bare], &pad).unwrap_err().to_string();
        assert_eq!(
            error,
            "row 1 of the batch has the fields `input_ids`, but the first has `input_ids`, `token_type_ids`, `labels`"
        );
    }
}
