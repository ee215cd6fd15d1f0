//! Sentences that are words already, to tokens that know their word.

use super::{Tokenizer, refused};
use crate::encoded::Measure;
use crate::error::DataError;
use tokenizers::{InputSequence, PreTokenizerWrapper};

/// The words of a text as tokens, without padding. All lists are equally long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedWords {
    /// Token ids.
    pub ids: Vec<i64>,
    /// Segment ids, which BERT calls token types.
    pub type_ids: Vec<i64>,
    /// The word of each token, counted from 0; none of special tokens.
    pub words: Vec<Option<usize>>,
    /// What was cut off, and what is unknown.
    pub measure: Measure,
    /// Words whose tokens were all cut off.
    pub lost: usize,
    /// Words that have no token.
    pub empty: usize,
}

impl Tokenizer {
    /// Tokenizes sentences of words, each word for itself and special tokens around the sentence, cut to the maximum: what
    /// transformers does with `is_split_into_words`. A tokenizer of GPT-2's kind begins every word with a space.
    ///
    /// # Errors
    /// `Encode`, when the tokenizer has no token for a character and none for the unknown.
    pub fn encode_words(&self, sentences: &[Vec<String>]) -> Result<Vec<EncodedWords>, DataError> {
        let mut inner = self.inner.clone();
        if let Some(PreTokenizerWrapper::ByteLevel(mut level)) = inner.get_pre_tokenizer().cloned() {
            level.add_prefix_space = true;
            inner.with_pre_tokenizer(Some(level));
        }
        let inputs: Vec<InputSequence> = sentences.iter().map(|words| words.as_slice().into()).collect();
        let encodings = inner.encode_batch(inputs, true).map_err(refused)?;
        let sentence = |(encoding, all): (tokenizers::Encoding, &Vec<String>)| {
            let widen = |ids: &[u32]| ids.iter().map(|id| i64::from(*id)).collect();
            let words: Vec<Option<usize>> =
                encoding.get_word_ids().iter().map(|word| word.map(|w| w as usize)).collect();
            let mut kept = vec![false; all.len()];
            let mut cut = vec![false; all.len()];
            words.iter().flatten().filter_map(|w| kept.get_mut(*w).map(|kept| *kept = true)).count();
            let overflowing = encoding.get_overflowing().iter().flat_map(|more| more.get_word_ids().iter().flatten());
            overflowing.filter_map(|w| cut.get_mut(*w as usize).map(|cut| *cut = true)).count();
            let lost = kept.iter().zip(&cut).filter(|(kept, cut)| !**kept && **cut).count();
            let empty = kept.iter().zip(&cut).filter(|(kept, cut)| !**kept && !**cut).count();
            let measure = self.encoded(&encoding).measure;
            match encoding.get_ids() {
                [] => {
                    EncodedWords { ids: vec![self.pad_id], type_ids: vec![0], words: vec![None], measure, lost, empty }
                }
                ids => EncodedWords {
                    ids: widen(ids),
                    type_ids: widen(encoding.get_type_ids()),
                    words,
                    measure,
                    lost,
                    empty,
                },
            }
        };
        Ok(encodings.into_iter().zip(sentences).map(sentence).collect())
    }
}
