//! Texts of which parts count: tokens that know whether they overlap one.

use super::{MANY_CHARS, MOST_CHARS_PER_TOKEN, Tokenizer, part, refused};
use crate::encoded::Measure;
use crate::error::DataError;
use std::ops::Range;
use tokenizers::TruncationDirection;

/// So many texts are tokenized at the same time: an encoding takes many times the memory of its ids.
const AT_ONCE: usize = 256;

/// A text as tokens, cut to the maximum, without padding. Both lists are equally long.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct EncodedSpans {
    /// Token ids.
    pub(crate) ids: Vec<i64>,
    /// Whether each is part of a span.
    pub(crate) counted: Vec<bool>,
    /// What was cut off, and what is unknown.
    pub(crate) measure: Measure,
}

/// A text to tokenize.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Spans {
    /// The text.
    pub(crate) text: String,
    /// The bytes that count, in order.
    pub(crate) spans: Vec<Range<usize>>,
    /// Whether it is to end with the token of the end of text; whether that counts is what the last of its bytes does.
    pub(crate) end: bool,
}

impl Tokenizer {
    /// Tokenizes texts on all cores; a token counts where it overlaps one of the spans, as transformers has it for its mask
    /// of assistants' tokens. Special tokens are put around texts where `special` says so. The end of text, whose id is `end`,
    /// is not put behind one that has it.
    ///
    /// # Errors
    /// `Encode`, when the tokenizer has no token for a character and none for the unknown.
    pub(crate) fn encode_spans(
        &self,
        texts: &[Spans],
        special: bool,
        end: Option<i64>,
    ) -> Result<Vec<EncodedSpans>, DataError> {
        let whole = self.untruncated()?;
        let most = self.max_length.saturating_mul(MOST_CHARS_PER_TOKEN).saturating_add(MANY_CHARS) / self.shorter;
        let mut all = Vec::with_capacity(texts.len());
        for texts in texts.chunks(AT_ONCE) {
            let parts: Vec<&str> = texts.iter().map(|one| part(&one.text, most, self.direction)).collect();
            let encodings = whole.encode_batch(parts.clone(), special).map_err(refused)?;
            for ((one, part), encoding) in texts.iter().zip(parts).zip(encodings) {
                let before = match self.direction {
                    TruncationDirection::Right => 0,
                    TruncationDirection::Left => one.text.len() - part.len(),
                };
                let mut made = EncodedSpans::default();
                let around = encoding.get_special_tokens_mask();
                let content = around.iter().rposition(|around| *around == 0);
                let tokens = encoding.get_ids().iter().zip(encoding.get_offsets()).zip(around);
                for (at, ((id, (from, to)), around)) in tokens.enumerate() {
                    let overlaps = |span: &Range<usize>| from + before < span.end && to + before > span.start;
                    made.ids.push(i64::from(*id));
                    made.counted.push(match around {
                        0 => one.spans.iter().any(overlaps),
                        // What is put behind a text counts as its end does.
                        _ => content.is_some_and(|content| at > content) && last_counts(one),
                    });
                }
                if let Some(end) = end.filter(|end| one.end && made.ids.last() != Some(end)) {
                    made.ids.push(end);
                    made.counted.push(last_counts(one));
                }
                made.measure.more = part.len() < one.text.len();
                self.cut(&mut made);
                all.push(made);
            }
        }
        Ok(all)
    }

    /// Cuts to the maximum, on the tokenizer's side.
    fn cut(&self, made: &mut EncodedSpans) {
        let lost = made.ids.len().saturating_sub(self.max_length);
        let kept = match self.direction {
            TruncationDirection::Right => 0..made.ids.len() - lost,
            TruncationDirection::Left => lost..made.ids.len(),
        };
        made.ids = made.ids[kept.clone()].to_vec();
        made.counted = made.counted[kept].to_vec();
        let unknown = self.unknown.map(i64::from);
        let unknown = made.ids.iter().filter(|id| unknown == Some(**id)).count();
        made.measure = Measure { tokens: made.ids.len(), unknown, lost, more: made.measure.more };
    }
}

/// Whether the last byte of a text counts.
fn last_counts(one: &Spans) -> bool {
    one.spans.last().is_some_and(|span| span.end >= one.text.len())
}
