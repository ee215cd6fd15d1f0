//! Whether what a split feeds fits the tables of the model.

use crate::error::Error;
use lorac_data::{Dataset, Field};
use lorac_ir::Graph;
use lorac_passes::{InputStats, LimitExceeded, input_limits};

/// Holds the examples of `split`, whose rows are as long as `key` says, against the tables of `graph`, which is inferred.
pub(super) fn check(graph: &Graph, data: &Dataset, split: &str, key: &str) -> Result<(), Error> {
    match input_limits(graph).and_then(|limits| limits.exceeded(&stats(data))) {
        None => Ok(()),
        Some(token @ LimitExceeded::Token { .. }) => Err(Error::Usage(format!(
            "tokenizer and model do not belong together: {split} has {token} (see the keys tokenizer and model)"
        ))),
        Some(length) => Err(Error::Usage(format!("{split} has {length}: lower {key}, or choose another model"))),
    }
}

fn stats(data: &Dataset) -> InputStats {
    let unpadded_len = data.lengths().into_iter().max().unwrap_or(0);
    let padded_len = data.pad.length(unpadded_len).max(unpadded_len);
    let mut largest_id = 0;
    for example in &data.examples {
        if let Some(Field::Tokens { ids, pad }) = example.field("input_ids") {
            let padding = (ids.len() < padded_len).then_some(*pad);
            largest_id = ids.iter().copied().chain(padding).fold(largest_id, i64::max);
        }
    }
    InputStats { largest_id, padded_len, unpadded_len }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lorac_data::{Example, PadTo};

    #[test]
    fn padding_counts_where_there_is_any() {
        let example =
            |len: usize| Example { fields: vec![("input_ids", Field::Tokens { ids: vec![3; len], pad: 100 })] };
        let of = |lens: [usize; 2]| {
            let pad = PadTo { max: 512, ..PadTo::default() };
            stats(&Dataset { examples: lens.map(example).to_vec(), pad })
        };
        assert_eq!(of([8, 8]), InputStats { largest_id: 3, padded_len: 8, unpadded_len: 8 });
        assert_eq!(of([9, 2]), InputStats { largest_id: 100, padded_len: 16, unpadded_len: 9 });
    }
}
