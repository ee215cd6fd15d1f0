//! From texts to token ids, by a `tokenizer.json`.

mod pair;
mod prompt;
mod spans;
mod words;

pub(crate) use spans::{EncodedSpans, Spans};
pub use words::EncodedWords;

use crate::chat_settings::ChatSettings;
use crate::encoded::{Encoded, Measure, Truncate};
use crate::error::DataError;
use crate::file;
use crate::growth;
use crate::tokenizer_config::TokenizerConfig;
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;
use tokenizers::models::ModelWrapper;
use tokenizers::{Encoding, PostProcessor, TruncationDirection, TruncationParams, TruncationStrategy};

/// Tokens that pad when a file does not say which does, first found first.
const PAD_TOKENS: [&str; 3] = ["[PAD]", "<pad>", "<|endoftext|>"];

/// A tokenizer in the format of Hugging Face's `tokenizers`, special tokens included, texts cut to a length.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    pad_id: i64,
    vocab_size: usize,
    max_length: usize,
    direction: TruncationDirection,
    /// The token that stands for what the vocabulary does not have.
    unknown: Option<u32>,
    /// How much shorter the part of a text is that is looked at, so that it is not made longer than others.
    shorter: usize,
    notes: Vec<String>,
    /// How conversations become texts.
    chat: ChatSettings,
}

/// Longer files are no tokenizers.
const MOST_BYTES: u64 = 512 << 20;

impl Tokenizer {
    /// Reads a `tokenizer.json`. Texts will be cut to `max_length` tokens, special ones included, on the side the file
    /// cuts. The file's own length, padding and random segmentation (BPE dropout, unigram sampling) are put aside. A
    /// `tokenizer_config.json` beside it is followed as transformers does ([`Tokenizer::notes`]).
    ///
    /// # Errors
    /// `Io`, `NotRegular`, `BadTokenizer`, `GrowingTokenizer`, and `MaxLengthTooSmall` when special tokens fill `max_length`.
    pub fn from_file(path: &Path, max_length: usize) -> Result<Self, DataError> {
        Self::from_files(path, max_length, &|_| true)
    }

    /// The same; of the files beside it, those that `may_read` knows.
    ///
    /// # Errors
    /// As [`Tokenizer::from_file`].
    pub fn from_files(path: &Path, max_length: usize, may_read: &dyn Fn(&Path) -> bool) -> Result<Self, DataError> {
        let bad = |error: tokenizers::Error| DataError::BadTokenizer { path: path.to_owned(), what: error.to_string() };
        let mut bytes = file::read(path, MOST_BYTES)?;
        let config = TokenizerConfig::beside(path, may_read)?;
        let mut notes = Vec::new();
        if !config.is_empty() {
            let mut value: Value = serde_json::from_slice(&bytes).map_err(|e| bad(e.into()))?;
            if config.apply(&mut value) {
                bytes = value.to_string().into_bytes();
            }
            notes = config.unfollowed(&value, max_length);
        }
        let chat = ChatSettings::of(&config, path, may_read)?;
        let mut inner = tokenizers::Tokenizer::from_bytes(&bytes).map_err(bad)?;
        let unknown = unknown(&bytes, &inner);
        drop(bytes);
        let growth = growth::bound(&inner);
        let growth = growth.map_err(|what| DataError::GrowingTokenizer { path: path.to_owned(), what })?;
        let shorter = (growth / USUAL_GROWTH).max(1.0) as usize;
        inner.set_encode_special_tokens(config.splits_special_tokens());

        let configured = config.pad_token().and_then(|token| inner.token_to_id(token));
        let pad_id = match (configured, inner.get_padding()) {
            (Some(id), _) => id,
            (None, Some(padding)) => padding.pad_id,
            (None, None) => PAD_TOKENS.iter().find_map(|token| inner.token_to_id(token)).unwrap_or(0),
        };
        let vocab_size = inner.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1);
        let special = inner.get_post_processor().map_or(0, |processor| processor.added_tokens(false));
        // Also keeps with_truncation from subtracting below zero.
        if max_length <= special {
            return Err(DataError::MaxLengthTooSmall { max_length, special });
        }
        let direction = config.truncation_side().or(inner.get_truncation().map(|truncation| truncation.direction));
        let direction = direction.unwrap_or(TruncationDirection::Right);
        let truncation =
            TruncationParams { max_length, direction, stride: 0, strategy: TruncationStrategy::LongestFirst };
        inner.with_padding(None).with_truncation(Some(truncation)).map_err(bad)?;
        stop_sampling(&mut inner);
        Ok(Self { inner, pad_id: i64::from(pad_id), vocab_size, max_length, direction, unknown, shorter, notes, chat })
    }

    /// The same, cutting texts on another side than the file says. Where they are refused, they are still cut here: whoever
    /// sees that one was cut ([`Measure::is_cut`]) refuses it.
    ///
    /// # Errors
    /// `Encode`.
    pub fn truncated(mut self, truncate: Truncate) -> Result<Self, DataError> {
        self.direction = match truncate {
            Truncate::Right => TruncationDirection::Right,
            Truncate::Left => TruncationDirection::Left,
            Truncate::Refuse => self.direction,
        };
        let truncation =
            self.inner.get_truncation().map(|old| TruncationParams { direction: self.direction, ..old.clone() });
        self.inner.with_truncation(truncation).map_err(refused)?;
        Ok(self)
    }

    /// The same, cutting texts to another number of tokens, special ones included.
    ///
    /// # Errors
    /// `MaxLengthTooSmall` when special tokens fill it, `Encode`.
    pub fn with_max_length(mut self, max_length: usize) -> Result<Self, DataError> {
        let special = self.inner.get_post_processor().map_or(0, |processor| processor.added_tokens(false));
        if max_length <= special {
            return Err(DataError::MaxLengthTooSmall { max_length, special });
        }
        self.max_length = max_length;
        let truncation = self.inner.get_truncation().map(|old| TruncationParams { max_length, ..old.clone() });
        self.inner.with_truncation(truncation).map_err(refused)?;
        Ok(self)
    }

    /// The same, with settings for conversations that another file has.
    #[must_use]
    pub fn with_chat(self, chat: ChatSettings) -> Self {
        Self { chat, ..self }
    }

    /// How conversations become texts.
    #[must_use]
    pub fn chat(&self) -> &ChatSettings {
        &self.chat
    }

    /// The id of the end of text: that of `eos_token`, where the files say which one that is.
    #[must_use]
    pub fn end_of_text(&self) -> Option<i64> {
        self.chat.tokens.get("eos_token").and_then(|token| self.inner.token_to_id(token)).map(i64::from)
    }

    /// All that its tokens depend on, as text: the same for tokenizers that make the same of every text; none where it cannot be
    /// written.
    #[must_use]
    pub fn identity(&self) -> Option<String> {
        let Self { inner, pad_id, max_length, direction, unknown, shorter, chat, vocab_size: _, notes: _ } = self;
        let specials = inner.get_encode_special_tokens();
        let inner = inner.to_string(false).ok()?;
        Some(format!("{pad_id} {max_length} {direction:?} {unknown:?} {shorter} {specials}\n{chat:?}\n{inner}"))
    }

    /// What of a `tokenizer_config.json` is not followed, in words.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Tokenizes every text, on all cores; the result does not depend on how many there are. Of a long text no more is
    /// looked at than can be needed for the maximum.
    ///
    /// A text of which nothing is left, and to which no special token is added, becomes one padding token: a model
    /// that has nothing to attend to gives NaN.
    ///
    /// # Errors
    /// `Encode`, when the tokenizer has no token for a character and none for the unknown.
    pub fn encode<S: AsRef<str>>(&self, texts: &[S]) -> Result<Vec<Encoded>, DataError> {
        let enough = self.max_length.saturating_mul(CHARS_PER_TOKEN).saturating_add(FEW_CHARS) / self.shorter;
        let parts: Vec<&str> = texts.iter().map(|text| part(text.as_ref(), enough, self.direction)).collect();
        let encodings = self.inner.encode_batch_fast(parts.clone(), true).map_err(refused)?;
        let mut encoded: Vec<Encoded> = encodings.iter().map(|encoding| self.encoded(encoding)).collect();
        drop(encodings);
        // The tokenizer ends as soon as it has the maximum: how much more a text has is counted apart.
        let is_full = |at: &usize| {
            let Measure { tokens, lost, .. } = encoded[*at].measure;
            parts[*at].len() < texts[*at].as_ref().len() || tokens + lost >= self.max_length
        };
        let full: Vec<usize> = (0..texts.len()).filter(is_full).collect();
        if full.is_empty() {
            return Ok(encoded);
        }
        let whole = self.untruncated()?;
        for some in full.chunks(COUNTED_AT_ONCE) {
            let of: Vec<&str> = some.iter().map(|at| parts[*at]).collect();
            let counted = whole.encode_batch_fast(of, false).map_err(refused)?;
            for (at, all) in some.iter().zip(counted) {
                let (text, looked_at) = (texts[*at].as_ref(), parts[*at].len());
                self.count(&mut encoded[*at], &all, looked_at < text.len());
                self.look_further(&mut encoded[*at], &whole, text, looked_at)?;
            }
        }
        Ok(encoded)
    }

    /// Counts what is cut off, of `all` tokens of a text or of a part of it.
    fn count(&self, encoded: &mut Encoded, all: &Encoding, more: bool) {
        encoded.measure.lost = all.get_ids().len().saturating_sub(encoded.measure.tokens);
        encoded.measure.more = more;
    }

    /// Encodes more of a text of which so many bytes were, where those may be too few.
    fn look_further(
        &self,
        encoded: &mut Encoded,
        whole: &tokenizers::Tokenizer,
        text: &str,
        bytes: usize,
    ) -> Result<(), DataError> {
        let most = self.max_length.saturating_mul(MOST_CHARS_PER_TOKEN).saturating_add(MANY_CHARS) / self.shorter;
        let mut bytes = bytes;
        // What the cut changes is near the cut: as many tokens again lie between it and those that are kept.
        while bytes < text.len() && encoded.measure.lost <= self.max_length && bytes < most {
            bytes = bytes.saturating_mul(4).min(most);
            let part = part(text, bytes, self.direction);
            *encoded = self.encoded(&self.inner.encode_fast(part, true).map_err(refused)?);
            let all = whole.encode_fast(part, false).map_err(refused)?;
            self.count(encoded, &all, part.len() < text.len());
        }
        Ok(())
    }

    fn encoded(&self, encoding: &Encoding) -> Encoded {
        let widen = |ids: &[u32]| ids.iter().map(|id| i64::from(*id)).collect();
        let measure = Measure {
            tokens: content(encoding).count(),
            unknown: content(encoding).filter(|id| self.unknown == Some(*id)).count(),
            lost: encoding.get_overflowing().iter().map(|rest| content(rest).count()).sum(),
            more: false,
        };
        match encoding.get_ids() {
            [] => Encoded { ids: vec![self.pad_id], type_ids: vec![0], measure },
            ids => Encoded { ids: widen(ids), type_ids: widen(encoding.get_type_ids()), measure },
        }
    }

    /// The tokenizer without a maximum.
    fn untruncated(&self) -> Result<tokenizers::Tokenizer, DataError> {
        let mut whole = self.inner.clone();
        whole.with_truncation(None).map_err(refused)?;
        Ok(whole)
    }

    /// All tokens of every text, none cut off, no special token added.
    ///
    /// # Errors
    /// `Encode`, when the tokenizer has no token for a character and none for the unknown.
    pub fn encode_whole<S: AsRef<str>>(&self, texts: &[S]) -> Result<Vec<Vec<i64>>, DataError> {
        let whole = self.untruncated()?;
        // One text after the other: an encoding takes many times the memory of its ids, and texts may be whole books.
        let encode = |text: &S| {
            let bytes = text.as_ref().len();
            if self.shorter > 1 && bytes > MOST_WHOLE / self.shorter {
                let what = format!("the tokenizer can make a text of {bytes} bytes many times as long");
                return Err(DataError::Encode { what });
            }
            let encoding = whole.encode_fast(text.as_ref(), false).map_err(refused)?;
            Ok(encoding.get_ids().iter().map(|id| i64::from(*id)).collect())
        };
        texts.iter().map(encode).collect()
    }

    /// The id that pads: from the file's padding section, else that of `[PAD]`, `<pad>` or `<|endoftext|>`, else 0.
    #[must_use]
    pub fn pad_id(&self) -> i64 {
        self.pad_id
    }

    /// One more than the largest id, added tokens included: the rows an embedding needs at least.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The id of the mask: that of `mask_token`, where the files say which one that is, else of `[MASK]` or `<mask>`.
    #[must_use]
    pub fn mask_id(&self) -> Option<i64> {
        let named = self.chat.tokens.get("mask_token").and_then(|token| self.inner.token_to_id(token));
        named.or_else(|| ["[MASK]", "<mask>"].iter().find_map(|token| self.inner.token_to_id(token))).map(i64::from)
    }

    /// The id of a token by its text: as the vocabulary has it, or, where it has no such token, as a text that is one token.
    ///
    /// # Errors
    /// The tokens that the text is instead: none where the tokenizer does not know it.
    pub fn token(&self, text: &str) -> Result<i64, Vec<String>> {
        if let Some(id) = self.inner.token_to_id(text) {
            return Ok(i64::from(id));
        }
        let encoded = self.untruncated().and_then(|whole| whole.encode_fast(text, false).map_err(refused));
        match encoded.as_ref().map_or(&[][..], Encoding::get_ids) {
            [id] if self.unknown != Some(*id) => Ok(i64::from(*id)),
            ids if ids.iter().any(|id| self.unknown == Some(*id)) => Err(Vec::new()),
            ids => Err(ids.iter().filter_map(|id| self.inner.id_to_token(*id)).collect()),
        }
    }

    /// The ids of special tokens, in order.
    #[must_use]
    pub fn special_ids(&self) -> Vec<i64> {
        let added = self.inner.get_added_tokens_decoder();
        let special = added.iter().filter(|(_, token)| token.special).map(|(id, _)| i64::from(*id));
        let mut all: Vec<i64> = special.chain([self.pad_id]).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The most tokens a text becomes.
    #[must_use]
    pub fn max_length(&self) -> usize {
        self.max_length
    }
}

/// Texts of fewer bytes than this for every token of the maximum, and some, are tokenized whole.
const CHARS_PER_TOKEN: usize = 64;
const FEW_CHARS: usize = 16 << 10;

/// Texts whose tokens are counted at the same time: an encoding takes many times the memory of its ids.
const COUNTED_AT_ONCE: usize = 256;

/// Of longer texts, no more than this is ever looked at.
const MOST_CHARS_PER_TOKEN: usize = 256;
const MANY_CHARS: usize = 1 << 20;

/// Bytes that the replacements of tokenizers in use make of one.
const USUAL_GROWTH: f64 = 16.0;

/// Texts that may become longer than usual are encoded whole up to this length, divided by how much longer.
const MOST_WHOLE: usize = 16 << 20;

/// The end of a text that is kept, of about so many bytes: from a space on, where there is one near.
fn part(text: &str, bytes: usize, cut: TruncationDirection) -> &str {
    if bytes >= text.len() {
        return text;
    }
    let is_end = |at: usize| text.is_char_boundary(at);
    let spaces = |at: usize| text.as_bytes()[at].is_ascii_whitespace();
    match cut {
        TruncationDirection::Right => {
            let near = (bytes - bytes / 2..=bytes).rev().find(|at| is_end(*at) && spaces(*at));
            let end = near.or_else(|| (0..=bytes).rev().find(|at| is_end(*at))).unwrap_or(0);
            &text[..end]
        }
        TruncationDirection::Left => {
            let start = text.len() - bytes;
            let near = (start..start + bytes / 2).find(|at| is_end(*at) && spaces(*at));
            let start = near.or_else(|| (start..=text.len()).find(|at| is_end(*at))).unwrap_or(text.len());
            &text[start..]
        }
    }
}

/// The tokens of a text but the special ones that are put around it.
fn content(encoding: &Encoding) -> impl Iterator<Item = u32> + '_ {
    let special = encoding.get_special_tokens_mask();
    encoding.get_ids().iter().zip(special).filter(|(_, special)| **special == 0).map(|(id, _)| *id)
}

/// The token of a file that stands for what its vocabulary does not have, where it has one.
fn unknown(bytes: &[u8], inner: &tokenizers::Tokenizer) -> Option<u32> {
    #[derive(Deserialize)]
    struct File {
        model: Model,
    }
    #[derive(Deserialize)]
    struct Model {
        unk_token: Option<String>,
        unk_id: Option<u32>,
    }
    let File { model } = serde_json::from_slice(bytes).ok()?;
    model.unk_id.or_else(|| inner.token_to_id(&model.unk_token?))
}

fn refused(error: tokenizers::Error) -> DataError {
    DataError::Encode { what: error.to_string() }
}

/// Makes a model that segments at random segment one way.
fn stop_sampling(inner: &mut tokenizers::Tokenizer) {
    match inner.get_model() {
        ModelWrapper::BPE(bpe) if bpe.dropout.is_some() => {
            let mut bpe = bpe.clone();
            bpe.dropout = None;
            inner.with_model(bpe);
        }
        ModelWrapper::Unigram(unigram) if unigram.alpha.is_some() || unigram.nbest_size.is_some() => {
            let mut unigram = unigram.clone();
            (unigram.alpha, unigram.nbest_size) = (None, None);
            inner.with_model(unigram);
        }
        _ => {}
    }
}

#[cfg(test)]
pub(crate) mod tests;
