//! Several texts per row, each by itself.

use super::{Encode, Encodings};
use crate::each::each;
use crate::encoded::{Encoded, Measure};
use crate::error::DataError;
use crate::example::{Example, Field};
use crate::row::Row;
use crate::template::Template;
use crate::tokenize::Tokenizer;
use lorac_config::{Check, Problems};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The columns of texts, or [`Template`]s, two at least. Each text is encoded by itself, as the encoder of one text does it: the
/// example has `input_ids` and `token_type_ids` of all of them. Errors: `Encode`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Texts {
    /// Columns of the texts, or templates
    pub columns: Vec<String>,
}

impl Texts {
    fn templates(&self) -> Result<Vec<Template<'_>>, DataError> {
        self.columns.iter().map(|column| Ok(Template::parse(column)?)).collect()
    }
}

impl Check for Texts {
    fn check(&self, problems: &mut Problems) {
        for (i, column) in self.columns.iter().enumerate() {
            if let Err(error) = Template::parse(column) {
                problems.within("columns", |p| p.report(&i.to_string(), "pipeline::template", error));
            }
        }
    }
}

impl Encode for Texts {
    fn columns(&self) -> Vec<&str> {
        let of = |text| Template::parse(text).map_or_else(|_| Vec::new(), |template| template.columns());
        self.columns.iter().flat_map(|column| of(column)).collect()
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
        let tokenizer = tokenizer.ok_or(DataError::NoTokenizer { inputs: "texts" })?;
        let mut of_rows: Vec<Vec<Encoded>> = vec![Vec::with_capacity(self.columns.len()); rows.len()];
        for template in self.templates()? {
            let texts = each(rows, |row| template.fill(row))?;
            for (of_row, encoded) in of_rows.iter_mut().zip(tokenizer.encode(&texts)?) {
                of_row.push(encoded);
            }
        }
        let measures = of_rows.iter().map(|texts| together(texts)).collect();
        let example = |texts: Vec<Encoded>| {
            let (ids, types) = texts.into_iter().map(|one| (one.ids, one.type_ids)).unzip();
            let fields = vec![
                ("input_ids", Field::Texts { ids, pad: tokenizer.pad_id() }),
                ("token_type_ids", Field::Texts { ids: types, pad: 0 }),
            ];
            Example { fields }
        };
        let examples = of_rows.into_iter().map(example).collect();
        Ok(Encodings { examples, measures, ..Encodings::default() })
    }
}

/// What tokenizing did to all texts of a row.
fn together(texts: &[Encoded]) -> Measure {
    let mut all = Measure::default();
    for Encoded { measure, .. } in texts {
        all.tokens += measure.tokens;
        all.unknown += measure.unknown;
        all.lost += measure.lost;
        all.more |= measure.more;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::Cell;
    use crate::tokenize::tests::letters;
    use std::path::Path;

    #[test]
    fn every_text_of_a_row_is_encoded_by_itself() {
        let texts = Texts { columns: ["a", "{b}{c}", "c"].map(String::from).to_vec() };
        assert_eq!(texts.columns(), ["a", "b", "c", "c"]);
        let columns: std::sync::Arc<[String]> = ["a", "b", "c"].map(str::to_owned).to_vec().into();
        let cells = ["ab", "c", "defg"].map(|text| Cell::Text(text.into())).to_vec();
        let row = Row::new(Path::new("f").into(), 1, columns, cells);
        let made = texts.encode(std::slice::from_ref(&row), Some(&letters())).unwrap();
        let want = vec![vec![8, 0, 1, 8], vec![8, 2, 3, 8], vec![8, 3, 4, 8]];
        assert_eq!(made.examples[0].field("input_ids"), Some(&Field::Texts { ids: want, pad: 9 }));
        assert_eq!((made.examples[0].length(), made.examples[0].tokens_of_all()), (4, 12));
        assert_eq!(made.measures, [Measure { tokens: 6, lost: 5, ..Measure::default() }]);
        let missing = Texts { columns: vec!["a".into(), "d".into()] };
        assert!(matches!(missing.check_row(&row), Err(DataError::MissingField { .. })));
        assert!(matches!(texts.encode(&[], None), Err(DataError::NoTokenizer { inputs: "texts" })));
    }
}
