//! Two texts per row.

use super::{Encode, Encodings};
use crate::each::each;
use crate::error::DataError;
use crate::row::Row;
use crate::template::Template;
use crate::tokenize::Tokenizer;
use lorac_config::{Check, Problems};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The columns of two texts, or [`Template`]s. They become `input_ids` and `token_type_ids` of one example, by the
/// tokenizer's template for pairs. Errors: `MaxLengthTooSmall`, `Encode`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    /// Column of the first text, or a template
    pub first: String,
    /// Column of the second text, or a template
    pub second: String,
}

impl Pair {
    fn templates(&self) -> Result<[Template<'_>; 2], DataError> {
        Ok([Template::parse(&self.first)?, Template::parse(&self.second)?])
    }
}

impl Check for Pair {
    fn check(&self, problems: &mut Problems) {
        for (key, text) in [("first", &self.first), ("second", &self.second)] {
            if let Err(error) = Template::parse(text) {
                problems.report(key, "pipeline::template", error);
            }
        }
    }
}

impl Encode for Pair {
    fn columns(&self) -> Vec<&str> {
        let of = |text| Template::parse(text).map_or_else(|_| Vec::new(), |template| template.columns());
        [of(&self.first), of(&self.second)].concat()
    }

    fn one_per_row(&self) -> bool {
        true
    }

    fn takes_every_row(&self) -> bool {
        true
    }

    fn check_row(&self, row: &Row) -> Result<(), DataError> {
        self.templates()?.iter().try_for_each(|template| template.fill(row).map(drop))
    }

    fn encode(&self, rows: &[Row], tokenizer: Option<&Tokenizer>) -> Result<Encodings, DataError> {
        let tokenizer = tokenizer.ok_or(DataError::NoTokenizer { inputs: "pair" })?;
        let [first, second] = self.templates()?;
        let pairs = each(rows, |row| Ok((first.fill(row)?, second.fill(row)?)))?;
        Ok(Encodings::of(tokenizer.encode_pairs(&pairs)?, tokenizer.pad_id()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::Cell;
    use crate::tokenize::tests::letters_of;
    use std::path::Path;

    #[test]
    fn a_row_becomes_one_example_of_two_texts() {
        let pair = Pair { first: "a".into(), second: "{b}{c}".into() };
        assert_eq!(pair.columns(), ["a", "b", "c"]);
        let columns: std::sync::Arc<[String]> = ["a", "b", "c"].map(str::to_owned).to_vec().into();
        let cells = ["ab", "c", "d"].map(|text| Cell::Text(text.into())).to_vec();
        let row = Row::new(Path::new("f").into(), 1, columns, cells);
        let made = pair.encode(std::slice::from_ref(&row), Some(&letters_of(6))).unwrap();
        assert_eq!(made.examples[0].tokens("input_ids").unwrap().len(), 6);
        assert!(made.measures[0].is_cut());
        let missing = Pair { first: "a".into(), second: "d".into() };
        assert!(matches!(missing.check_row(&row), Err(DataError::MissingField { .. })));
        assert!(matches!(pair.encode(&[], None), Err(DataError::NoTokenizer { inputs: "pair" })));
    }
}
