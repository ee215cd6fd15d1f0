//! What of a row a model is fed: one file here for each way.

use crate::encoded::{Encoded, Measure};
use crate::error::DataError;
use crate::example::{Example, Field};
use crate::row::Row;
use crate::tokenize::Tokenizer;

mod question;
mod said;

pub use arrays::field_of;
pub use blocks::Rest;
pub use dialogue::{Form, LossOn};
pub use image::PIXELS;
pub use question::Question;
pub use words::Pieces;

lorac_config::choices! {
    /// What of a row a model is fed.
    pub enum Inputs: Encode {
        text: Text,
        pair: Pair,
        texts: Texts,
        blocks: Blocks,
        words: Words,
        dialogue: Dialogue,
        arrays: Arrays,
        image: Image,
        seq2seq: Seq2Seq,
    }
}

/// What rows became.
#[derive(Debug, Default)]
pub struct Encodings {
    /// The examples.
    pub examples: Vec<Example>,
    /// What tokenizing did to each of them; none where examples are not rows.
    pub measures: Vec<Measure>,
    /// Tokens that became part of no example.
    pub left_out: usize,
    /// Of rows of words: how many are no part of an example.
    pub words: LostWords,
    /// Rows that could not be encoded, by their positions, in order; their examples are empty.
    pub refused: Vec<(usize, DataError)>,
}

impl Encodings {
    /// One example for each text or pair of texts: `input_ids`, which `pad` fills up, and `token_type_ids`.
    fn of(encoded: Vec<Encoded>, pad: i64) -> Encodings {
        let measures = encoded.iter().map(|one| one.measure).collect();
        let example = |one: Encoded| Example {
            fields: vec![
                ("input_ids", Field::Tokens { ids: one.ids, pad }),
                ("token_type_ids", Field::Tokens { ids: one.type_ids, pad: 0 }),
            ],
        };
        Encodings { examples: encoded.into_iter().map(example).collect(), measures, ..Encodings::default() }
    }
}

/// Words that are no part of an example.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LostWords {
    /// Words that were cut off, with their labels.
    pub lost: usize,
    /// Words that have no token.
    pub empty: usize,
}

/// From rows to examples. Fields of targets are made elsewhere, unless they are one a token ([`LABELS`](crate::LABELS)).
pub trait Encode {
    /// The columns that it reads.
    fn columns(&self) -> Vec<&str>;

    /// Those among them that a row may lack.
    fn optional(&self) -> Vec<&str> {
        Vec::new()
    }

    /// Whether each row becomes one example. A selection is then one of rows, so that no more is encoded than is taken,
    /// and else one of examples.
    fn one_per_row(&self) -> bool;

    /// Whether every row that [`Encode::check_row`] finds right becomes an example, whatever tokens its texts become.
    fn takes_every_row(&self) -> bool {
        false
    }

    /// Whether it reads texts, which a tokenizer makes tokens of.
    fn reads_texts(&self) -> bool {
        true
    }

    /// Names of the fields that it makes of what is not text.
    fn fields(&self) -> Vec<&str> {
        Vec::new()
    }

    /// Whether a row can be encoded.
    ///
    /// # Errors
    /// `MissingField`, `WrongType`.
    fn check_row(&self, row: &Row) -> Result<(), DataError> {
        self.columns().into_iter().try_for_each(|column| row.text(column).map(drop))
    }

    /// Encodes the rows, texts by the tokenizer. The result does not depend on the number of cores.
    ///
    /// # Errors
    /// `MissingField` and `WrongType` of a row; `NoTokenizer`; what else the encoder's type lists.
    fn encode(&self, rows: &[Row], tokenizer: Option<&Tokenizer>) -> Result<Encodings, DataError>;

    /// What each row asks whoever writes texts; none of rows that ask nothing.
    ///
    /// # Errors
    /// As [`Encode::encode`]; a row that cannot be encoded asks nothing.
    fn questions(&self, rows: &[Row], _tokenizer: Option<&Tokenizer>) -> Result<Vec<Option<Question>>, DataError> {
        Ok(vec![None; rows.len()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn inputs_are_written_by_their_names() {
        let text: Inputs = serde_json::from_value(json!({ "text": "review" })).unwrap();
        assert_eq!(text, Inputs::Text(Text { column: "review".into() }));
        let blocks: Inputs = serde_json::from_value(json!({ "blocks": { "tokens": 64, "rest": "pad" } })).unwrap();
        assert_eq!(blocks, Inputs::Blocks(Blocks { tokens: Some(64), rest: Rest::Pad, ..Blocks::default() }));
        assert!(serde_json::from_value::<Inputs>(json!({ "blocks": { "length": 64 } })).is_err());
        for inputs in [&text, &blocks] {
            assert!(serde_json::to_value(inputs).unwrap().get(inputs.name()).is_some());
            assert!(Inputs::NAMES.contains(&inputs.name()));
        }
        assert_eq!((text.columns(), blocks.columns()), (vec!["review"], vec!["text"]));
    }
}
