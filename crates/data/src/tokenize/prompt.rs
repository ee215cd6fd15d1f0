//! Texts that are gone on from, and tokens back to texts.

use super::{MANY_CHARS, MOST_CHARS_PER_TOKEN, Tokenizer, content, part, refused};
use crate::encoded::{Encoded, Measure};
use crate::error::DataError;
use tokenizers::TruncationDirection;

/// So many texts are tokenized at the same time: an encoding takes many times the memory of its ids.
const AT_ONCE: usize = 256;

impl Tokenizer {
    /// The tokens of texts that are gone on from, cut to the maximum: with the special tokens that come before a text, where
    /// `special` says so, and without those that end one. A text without tokens becomes the token that begins texts, where
    /// the files say which one that is, else the one that pads.
    ///
    /// # Errors
    /// `Encode`, when the tokenizer has no token for a character and none for the unknown.
    pub fn encode_prompts<S: AsRef<str>>(&self, texts: &[S], special: bool) -> Result<Vec<Encoded>, DataError> {
        let whole = self.untruncated()?;
        let most = self.max_length.saturating_mul(MOST_CHARS_PER_TOKEN).saturating_add(MANY_CHARS) / self.shorter;
        let mut all = Vec::with_capacity(texts.len());
        for texts in texts.chunks(AT_ONCE) {
            let parts: Vec<&str> = texts.iter().map(|text| part(text.as_ref(), most, self.direction)).collect();
            let encodings = whole.encode_batch_fast(parts.clone(), special).map_err(refused)?;
            for ((text, part), encoding) in texts.iter().zip(parts).zip(encodings) {
                let around = encoding.get_special_tokens_mask();
                let ids = encoding.get_ids();
                // Of nothing but special tokens the first half begins a text.
                let end = around.iter().rposition(|around| *around == 0).map_or(ids.len().div_ceil(2), |last| last + 1);
                let mut ids: Vec<i64> = ids[..end].iter().map(|id| i64::from(*id)).collect();
                if ids.is_empty() {
                    ids.push(self.begin_of_text().unwrap_or(self.pad_id));
                }
                let lost = ids.len().saturating_sub(self.max_length);
                let ids = match self.direction {
                    TruncationDirection::Right => ids[..ids.len() - lost].to_vec(),
                    TruncationDirection::Left => ids.split_off(lost),
                };
                let measure = Measure {
                    tokens: ids.len(),
                    unknown: content(&encoding).filter(|id| self.unknown == Some(*id)).count().min(ids.len()),
                    lost,
                    more: part.len() < text.as_ref().len(),
                };
                all.push(Encoded { type_ids: vec![0; ids.len()], ids, measure });
            }
        }
        Ok(all)
    }

    /// The text of tokens. Special ones say nothing, and neither do ids that no token has.
    ///
    /// # Errors
    /// `Encode`, where the tokenizer's decoder fails.
    pub fn decode(&self, ids: &[i64]) -> Result<String, DataError> {
        let ids: Vec<u32> = ids.iter().filter_map(|id| u32::try_from(*id).ok()).collect();
        self.inner.decode(&ids, true).map_err(refused)
    }

    /// The id of the token that begins texts, where the files say which one that is.
    fn begin_of_text(&self) -> Option<i64> {
        self.chat.tokens.get("bos_token").and_then(|token| self.inner.token_to_id(token)).map(i64::from)
    }
}

#[cfg(test)]
mod tests {
    use crate::Truncate;
    use crate::tokenize::tests::letters_of;

    #[test]
    fn a_prompt_is_open_at_its_end() {
        let tokenizer = letters_of(4);
        let ids = |texts: &[&str], special| {
            let made = tokenizer.encode_prompts(texts, special).unwrap();
            made.into_iter().map(|one| (one.ids, one.measure.lost)).collect::<Vec<_>>()
        };
        assert_eq!(ids(&["ab", ""], true), [(vec![8, 0, 1], 0), (vec![8], 0)]);
        assert_eq!(ids(&["ab", "", "abcdef"], false), [(vec![0, 1], 0), (vec![9], 0), (vec![0, 1, 2, 3], 2)]);
        let left = tokenizer.clone().truncated(Truncate::Left).unwrap();
        assert_eq!(left.encode_prompts(&["abcdef"], true).unwrap()[0].ids, [2, 3, 4, 5]);
    }

    #[test]
    fn ids_that_no_token_has_say_nothing() {
        let tokenizer = letters_of(4);
        assert_eq!(tokenizer.decode(&[0, -1, 1, 77, i64::MAX]).unwrap().replace(' ', ""), "ab");
        assert_eq!(tokenizer.decode(&[]).unwrap(), "");
    }
}
