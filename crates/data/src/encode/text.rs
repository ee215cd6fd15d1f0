//! One text per row.

use super::{Encode, Encodings};
use crate::each::each;
use crate::error::DataError;
use crate::example::{Example, Field};
use crate::row::Row;
use crate::tokenize::Tokenizer;
use lorac_config::{Check, Problems};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The column of the texts. Each becomes `input_ids` and `token_type_ids`, with special tokens and cut to the tokenizer's
/// maximum. Errors: `Encode`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Text {
    /// Column of the text
    pub column: String,
}

impl Check for Text {
    fn check(&self, _: &mut Problems) {}
}

impl Encode for Text {
    fn columns(&self) -> Vec<&str> {
        vec![&self.column]
    }

    fn one_per_row(&self) -> bool {
        true
    }

    fn encode(&self, rows: &[Row], tokenizer: Option<&Tokenizer>) -> Result<Encodings, DataError> {
        let tokenizer = tokenizer.ok_or(DataError::NoTokenizer { inputs: "text" })?;
        each(rows, |row| row.text(&self.column).map(drop))?;
        let texts: Vec<&str> = rows.iter().map(|row| row.text(&self.column)).collect::<Result<_, _>>()?;
        let example = |encoded: crate::Encoded| Example {
            fields: vec![
                ("input_ids", Field::Tokens { ids: encoded.ids, pad: tokenizer.pad_id() }),
                ("token_type_ids", Field::Tokens { ids: encoded.type_ids, pad: 0 }),
            ],
        };
        let encoded = tokenizer.encode(&texts)?;
        let cut = encoded.iter().filter(|one| one.cut).count();
        Ok(Encodings { examples: encoded.into_iter().map(example).collect(), cut, left_out: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::Cell;
    use crate::tokenize::tests::letters;
    use std::path::Path;

    fn row(cell: Cell) -> Row {
        Row::new(Path::new("f").into(), 1, vec!["review".to_owned()].into(), vec![cell])
    }

    #[test]
    fn texts_become_ids_and_types() {
        let text = Text { column: "review".into() };
        let rows = [row(Cell::Text("ab".into())), row(Cell::Text("cabbage".into()))];
        let Encodings { examples, cut, .. } = text.encode(&rows, Some(&letters())).unwrap();
        assert_eq!(cut, 1);
        let tokens = |i: usize, name| examples[i].tokens(name).unwrap();
        assert_eq!((tokens(0, "input_ids"), tokens(1, "input_ids")), (&[8, 0, 1, 8][..], &[8, 2, 0, 8][..]));
        assert_eq!(tokens(0, "token_type_ids"), [0; 4]);
        assert!(matches!(examples[0].fields[0].1, Field::Tokens { pad: 9, .. }));
    }

    #[test]
    fn what_is_not_text_is_refused() {
        let text = Text { column: "review".into() };
        let number = text.encode(&[row(Cell::Integer("1".into()))], Some(&letters()));
        assert!(matches!(number, Err(DataError::WrongType { have: "an integer", .. })));
        assert!(matches!(text.encode(&[], None), Err(DataError::NoTokenizer { inputs: "text" })));
    }
}
