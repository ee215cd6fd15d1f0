//! Two texts as the tokens of one example.

use super::{CHARS_PER_TOKEN, COUNTED_AT_ONCE, FEW_CHARS, MANY_CHARS, MOST_CHARS_PER_TOKEN, Tokenizer, part, refused};
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
        let mut encoded = Vec::with_capacity(pairs.len());
        for some in pairs.chunks(COUNTED_AT_ONCE) {
            // Each text whole: a tokenizer with a maximum ends somewhere behind it, and which text is the longer one is lost.
            let all = |text: fn(&(S, S)) -> &S| {
                let parts = some.iter().map(|pair| self.enough_of(&whole, text(pair).as_ref()));
                let parts: Vec<&str> = parts.collect::<Result<_, _>>()?;
                let encodings = whole.encode_batch_fast(parts.clone(), false).map_err(refused)?;
                Ok::<_, DataError>(encodings.into_iter().zip(parts).collect::<Vec<_>>())
            };
            for ((pair, (mut a, of_a)), (mut b, of_b)) in
                some.iter().zip(all(|pair| &pair.0)?).zip(all(|pair| &pair.1)?)
            {
                let (tokens, room) = (a.len() + b.len(), self.max_length - special);
                let kept = longest_first([a.len(), b.len()], room);
                for (encoding, kept) in [&mut a, &mut b].into_iter().zip(kept) {
                    encoding.truncate(kept, 0, self.direction);
                    // Of two texts the tokenizer would make an example of every part of one with every part of the other.
                    encoding.take_overflowing();
                }
                // A template says the types; where there is none, they are those of the two places.
                b.set_type_ids(vec![1; b.len()]);
                let mut one = self.encoded(&whole.post_process(a, Some(b), true).map_err(refused)?);
                one.measure.lost = tokens.saturating_sub(one.measure.tokens);
                one.measure.more = of_a.len() < pair.0.as_ref().len() || of_b.len() < pair.1.as_ref().len();
                encoded.push(one);
            }
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

/// How many tokens of two texts are kept where there is room for so many: what is cut is cut from the longer one, and from
/// both alike where both are longer than half of it.
fn longest_first([a, b]: [usize; 2], room: usize) -> [usize; 2] {
    if a + b <= room {
        return [a, b];
    }
    let (less, more) = (room / 2, room - room / 2);
    match a.min(b) {
        shorter if shorter <= less && a <= b => [shorter, room - shorter],
        shorter if shorter <= less => [room - shorter, shorter],
        _ if a > b => [more, less],
        _ => [less, more],
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
            let all = tokenizer.untruncated().unwrap();
            let count = |text: &str| all.encode_fast(text, false).unwrap().len();
            let [of_a, of_b] = longest_first([count(a), count(b)], 21);
            let want = |text: &str, n| tokenizer.encode_whole(&[text]).unwrap()[0][..n].to_vec();
            assert_eq!(one.ids, [vec![1], want(a, of_a), vec![2], want(b, of_b), vec![2]].concat());
            assert!(one.measure.more && one.measure.lost > 24);
        }
    }

    #[test]
    fn what_is_cut_is_cut_as_by_the_tokenizer_itself() {
        let params = |max_length| tokenizers::TruncationParams { max_length, ..Default::default() };
        let encoding = |n| tokenizers::Encoding::from_tokens(vec![tokenizers::Token::new(1, "x".into(), (0, 1)); n], 0);
        for room in 1..12 {
            for (a, b) in (0..14).flat_map(|a| (0..14).map(move |b| (a, b))) {
                let cut = tokenizers::truncate_encodings(encoding(a), Some(encoding(b)), &params(room)).unwrap();
                let want = [cut.0.len(), cut.1.unwrap().len()];
                assert_eq!(longest_first([a, b], room), want, "{a} and {b} in {room}");
            }
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
