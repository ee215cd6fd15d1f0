//! Two texts as the tokens of one example.

use super::{CHARS_PER_TOKEN, FEW_CHARS, MANY_CHARS, MOST_CHARS_PER_TOKEN, Tokenizer, part, refused};
use crate::encoded::Encoded;
use crate::error::DataError;
use tokenizers::PostProcessor;

impl Tokenizer {
    /// Tokenizes pairs of texts as the file's template for pairs says, with the token types that it gives; where a pair is
    /// longer than the maximum, the longer text of it is cut, then both alike, as transformers does by default
    /// (`longest_first`).
    ///
    /// # Errors
    /// `MaxLengthTooSmall` when the special tokens of a pair fill the maximum; `Encode`, when the tokenizer has no token for a
    /// character and none for the unknown.
    pub fn encode_pairs<S: AsRef<str>>(&self, pairs: &[(S, S)]) -> Result<Vec<Encoded>, DataError> {
        let special = self.inner.get_post_processor().map_or(0, |processor| processor.added_tokens(true));
        // One token of each text is the least that says anything; tokenizing subtracts without looking.
        if self.max_length < special + 2 {
            return Err(DataError::MaxLengthTooSmall { max_length: self.max_length, special: special + 1 });
        }
        let whole = self.untruncated()?;
        let mut looked_at: Vec<(&str, &str)> = Vec::with_capacity(pairs.len());
        for (a, b) in pairs {
            looked_at.push((self.enough_of(&whole, a.as_ref())?, self.enough_of(&whole, b.as_ref())?));
        }
        let encodings = self.inner.encode_batch_fast(looked_at.clone(), true).map_err(refused)?;
        let mut encoded: Vec<Encoded> = encodings.iter().map(|encoding| self.encoded(encoding)).collect();
        drop(encodings);
        for (one, ((a, b), part)) in encoded.iter_mut().zip(pairs.iter().zip(looked_at)) {
            if one.ids.len() < self.max_length {
                continue;
            }
            let count = |text: &str| Ok::<usize, DataError>(whole.encode_fast(text, false).map_err(refused)?.len());
            one.measure.lost = (count(part.0)? + count(part.1)?).saturating_sub(one.measure.tokens);
            one.measure.more = part.0.len() < a.as_ref().len() || part.1.len() < b.as_ref().len();
        }
        Ok(encoded)
    }

    /// A text, or a part of it that has more tokens than twice the maximum: what the cut changes is near the cut.
    fn enough_of<'t>(&self, whole: &tokenizers::Tokenizer, text: &'t str) -> Result<&'t str, DataError> {
        let mut bytes = self.max_length.saturating_mul(CHARS_PER_TOKEN).saturating_add(FEW_CHARS) / self.shorter;
        let most = self.max_length.saturating_mul(MOST_CHARS_PER_TOKEN).saturating_add(MANY_CHARS) / self.shorter;
        while bytes < text.len() {
            let part = part(text, bytes, self.direction);
            if bytes >= most || whole.encode_fast(part, false).map_err(refused)?.len() > 2 * self.max_length {
                return Ok(part);
            }
            bytes = bytes.saturating_mul(4).min(most);
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenize::tests::{bert, load};
    use serde_json::json;

    fn template() -> serde_json::Value {
        let token = |id: &str, kind| json!({ "SpecialToken": { "id": id, "type_id": kind } });
        let text = |id: &str, kind| json!({ "Sequence": { "id": id, "type_id": kind } });
        let mut file = bert();
        file["post_processor"] = json!({
            "type": "TemplateProcessing",
            "single": [token("[CLS]", 0), text("A", 0), token("[SEP]", 0)],
            "pair": [token("[CLS]", 0), text("A", 0), token("[SEP]", 0), text("B", 1), token("[SEP]", 1)],
            "special_tokens": {
                "[CLS]": { "id": "[CLS]", "ids": [1], "tokens": ["[CLS]"] },
                "[SEP]": { "id": "[SEP]", "ids": [2], "tokens": ["[SEP]"] }
            }
        });
        file
    }

    fn pair(max_length: usize, a: &str, b: &str) -> Encoded {
        load(&template(), max_length).unwrap().encode_pairs(&[(a, b)]).unwrap().remove(0)
    }

    #[test]
    fn a_pair_has_the_template_and_the_types_of_its_texts() {
        let one = pair(16, "good film", "bad");
        assert_eq!((one.ids, one.type_ids), (vec![1, 4, 6, 2, 5, 2], vec![0, 0, 0, 0, 1, 1]));
        assert!(!one.measure.is_cut() && one.measure.tokens == 3);
        let empty = pair(16, "", "bad");
        assert_eq!(empty.ids, [1, 2, 5, 2]);
    }

    #[test]
    fn the_longer_text_is_cut_first() {
        let one = pair(8, "good", "bad bad bad bad bad bad bad");
        assert_eq!((one.ids, one.measure.lost), (vec![1, 4, 2, 5, 5, 5, 5, 2], 3));
        let both = pair(8, "good good good good", "bad bad bad bad bad");
        assert_eq!((both.ids, both.measure.lost), (vec![1, 4, 4, 2, 5, 5, 5, 2], 4));
        let exact = pair(8, "good good", "bad bad bad");
        assert_eq!((exact.ids.len(), exact.measure.is_cut()), (8, false));
    }

    #[test]
    fn of_long_texts_no_more_is_looked_at_than_is_needed() {
        let long = "good bad film ".repeat(20_000);
        for (a, b) in [(long.as_str(), "bad"), ("bad", &long), (&long, &long)] {
            let tokenizer = load(&template(), 24).unwrap();
            let one = tokenizer.encode_pairs(&[(a, b)]).unwrap().remove(0);
            let whole = tokenizer.inner.encode_fast((a, b), true).unwrap();
            let want: Vec<i64> = whole.get_ids().iter().map(|id| i64::from(*id)).collect();
            assert_eq!(one.ids, want);
            assert!(one.measure.more && one.measure.lost > 24);
        }
    }

    #[test]
    fn room_for_special_tokens_alone_is_refused() {
        let tokenizer = |max| load(&template(), max).unwrap();
        let wrong = tokenizer(4).encode_pairs(&[("a", "b")]);
        assert!(matches!(wrong, Err(DataError::MaxLengthTooSmall { max_length: 4, .. })));
        assert_eq!(tokenizer(5).encode_pairs(&[("good film", "bad bad")]).unwrap()[0].ids, [1, 4, 2, 5, 2]);
    }
}
