//! Targets of tasks whose rows have no label.

use super::Targets;
use lorac_data::{DataError, Field, IGNORE, Row};

/// What stands for labels where rows have none.
pub(super) enum Unlabelled {
    /// Every example counts: 1 for each, NaN for rows that fill a batch.
    Examples,
    /// Every token is its own label: the graph compares it with the logits of the token before, or a batch hides it.
    Tokens,
}

impl Targets for Unlabelled {
    fn columns(&self) -> Vec<&str> {
        Vec::new()
    }

    fn of_row(&self, _: &Row) -> Result<Option<Field>, DataError> {
        Ok(match self {
            Unlabelled::Examples => Some(Field::Real(1.0)),
            Unlabelled::Tokens => None,
        })
    }

    fn of_tokens(&self, ids: &[i64]) -> Field {
        match self {
            Unlabelled::Examples => Field::Real(1.0),
            Unlabelled::Tokens => Field::Tokens { ids: ids.to_vec(), pad: IGNORE },
        }
    }
}
