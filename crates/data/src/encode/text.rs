//! One text per row.

use super::{Encode, Encodings};
use crate::each::each;
use crate::error::DataError;
use crate::row::Row;
use crate::template::Template;
use crate::tokenize::Tokenizer;
use lorac_config::{Check, Problems};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The column of the texts, or a [`Template`] of several. Each becomes `input_ids` and `token_type_ids`, with special tokens and cut to the tokenizer's
/// maximum. Errors: `Encode`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Text {
    /// Column of the text, or a template: "{title}. {body}"
    pub column: String,
}

impl Check for Text {
    fn check(&self, problems: &mut Problems) {
        if let Err(error) = Template::parse(&self.column) {
            problems.report("", "pipeline::template", error);
        }
    }
}

impl Encode for Text {
    fn columns(&self) -> Vec<&str> {
        Template::parse(&self.column).map_or_else(|_| Vec::new(), |template| template.columns())
    }

    fn one_per_row(&self) -> bool {
        true
    }

    fn takes_every_row(&self) -> bool {
        true
    }

    fn check_row(&self, row: &Row) -> Result<(), DataError> {
        Template::parse(&self.column)?.fill(row).map(drop)
    }

    fn encode(&self, rows: &[Row], tokenizer: Option<&Tokenizer>) -> Result<Encodings, DataError> {
        let tokenizer = tokenizer.ok_or(DataError::NoTokenizer { inputs: "text" })?;
        let template = Template::parse(&self.column)?;
        let texts = each(rows, |row| template.fill(row))?;
        Ok(Encodings::of(tokenizer.encode(&texts)?, tokenizer.pad_id()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoded::Measure;
    use crate::example::Field;
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
        let Encodings { examples, measures, .. } = text.encode(&rows, Some(&letters())).unwrap();
        let cut = Measure { tokens: 2, lost: 5, ..Measure::default() };
        assert_eq!(measures, [Measure { tokens: 2, ..Measure::default() }, cut]);
        let tokens = |i: usize, name| examples[i].tokens(name).unwrap();
        assert_eq!((tokens(0, "input_ids"), tokens(1, "input_ids")), (&[8, 0, 1, 8][..], &[8, 2, 0, 8][..]));
        assert_eq!(tokens(0, "token_type_ids"), [0; 4]);
        assert!(matches!(examples[0].fields[0].1, Field::Tokens { pad: 9, .. }));
    }

    #[test]
    fn a_text_may_be_made_of_several_columns() {
        let text = Text { column: "{a}{n}{a}".into() };
        assert_eq!(text.columns(), ["a", "n", "a"]);
        let columns = ["a", "n"].map(str::to_owned).to_vec().into();
        let row = Row::new(Path::new("f").into(), 1, columns, vec![Cell::Text("b".into()), Cell::Text("".into())]);
        let made = text.encode(std::slice::from_ref(&row), Some(&letters())).unwrap();
        assert_eq!(made.examples[0].tokens("input_ids"), Some(&[8, 1, 1, 8][..]));
        assert!(text.check_row(&row).is_ok());
        assert!(Text { column: "{b}".into() }.check_row(&row).is_err());
    }

    #[test]
    fn what_is_not_text_is_refused() {
        let text = Text { column: "review".into() };
        let number = text.encode(&[row(Cell::Integer("1".into()))], Some(&letters()));
        assert!(matches!(number, Err(DataError::WrongType { have: "an integer", .. })));
        assert!(matches!(text.encode(&[], None), Err(DataError::NoTokenizer { inputs: "text" })));
    }
}
