//! Texts that a model writes, token by token: the likeliest token each time, or beam search.
//!
//! What scores tokens ([`NextToken`]) knows nothing of searches, and a search sees nothing but scores: the same tokens come
//! out whether a model has caches or sees every row anew.

mod beam;
mod decoder;
mod encoder;
mod greedy;
mod settings;

pub use decoder::{CachePair, Decoder, DecoderPorts};
pub use encoder::Encoder;
pub use settings::Generate;

use crate::TrainError;
use beam::Beam;
use greedy::Greedy;

/// What scores the tokens that may follow.
pub trait NextToken {
    /// Whether rows that are scored together must have the same number of tokens.
    fn equal_lengths(&self) -> bool;

    /// The scores of every token of the vocabulary behind each of the rows.
    ///
    /// # Errors
    /// What the engine says.
    fn score(&mut self, rows: &[Going]) -> Result<Scored, TrainError>;

    /// Lets go of what it holds of the rows before: the next ones begin.
    fn forget(&mut self) {}
}

/// A row that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Going<'a> {
    /// Its tokens.
    pub ids: &'a [i64],
    /// The row of the call before that it goes on from, with one token more; none of a row that begins.
    pub from: Option<usize>,
    /// What an encoder reads for it, of a model that has one.
    pub source: Option<&'a [i64]>,
}

/// Logits, a row behind each of the rows that were asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scored {
    /// The rows one after another.
    pub logits: Vec<f32>,
    /// Numbers of a row: tokens of the vocabulary.
    pub width: usize,
}

/// What is to be written.
pub struct Writing<'a> {
    /// The tokens that each text goes on from.
    pub prompts: &'a [Vec<i64>],
    /// What an encoder reads for each of them; empty of a model without one.
    pub sources: &'a [Vec<i64>],
    /// How.
    pub settings: &'a Generate,
    /// Tokens that end a text, and are no part of it.
    pub ends: &'a [i64],
    /// The most tokens of a row that the model takes.
    pub length: usize,
    /// Rows that are scored at the same time.
    pub rows: usize,
    /// Whether a text, by its new tokens, ends with the last of them; that stays part of it.
    pub is_over: &'a dyn Fn(&[i64]) -> bool,
}

/// Writes a text behind each prompt: its new tokens, without the one that ends it. `on_text` hears of those that are done.
///
/// A prompt that is longer than the model takes loses its beginning. The result does not depend on how many rows are
/// scored at the same time, but for the last digits of scores.
///
/// # Errors
/// What the engine says.
pub fn generate(
    next: &mut dyn NextToken,
    job: &Writing,
    mut on_text: impl FnMut(usize),
) -> Result<Vec<Vec<i64>>, TrainError> {
    let prompts: Vec<&[i64]> =
        job.prompts.iter().map(|ids| &ids[ids.len().saturating_sub(job.length.max(1))..]).collect();
    let mut order: Vec<usize> = (0..prompts.len()).collect();
    let source = |at: usize| job.sources.get(at).map(Vec::as_slice);
    order.sort_by_key(|at| (prompts[*at].len(), source(*at).map_or(0, <[i64]>::len), *at));
    let most = (job.rows / job.settings.num_beams.max(1)).max(1);
    let together = |a: &usize, b: &usize| !next.equal_lengths() || prompts[*a].len() == prompts[*b].len();
    let groups: Vec<Vec<usize>> =
        order.chunk_by(together).flat_map(|group| group.chunks(most)).map(<[usize]>::to_vec).collect();
    let mut texts = vec![Vec::new(); prompts.len()];
    for group in groups {
        let searches = group.iter().map(|at| (search(prompts[*at], job), source(*at))).collect();
        let found = together_to_the_end(next, searches);
        next.forget();
        for (at, text) in group.iter().zip(found?) {
            texts[*at] = text;
        }
        on_text(group.len());
    }
    Ok(texts)
}

/// A search for one text.
trait Search {
    /// The rows whose next token is to be scored; none where the search is over.
    fn open(&self) -> &[Open];

    /// Goes on by the logits behind each open row.
    fn advance(&mut self, logits: &[&[f32]]);

    /// The new tokens that were found.
    fn found(&self) -> &[i64];
}

/// A row of a search.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Open {
    ids: Vec<i64>,
    /// The row that it goes on from, among those that were open before.
    from: usize,
}

/// What every search must know.
#[derive(Clone, Copy)]
struct Rules<'a> {
    settings: &'a Generate,
    ends: &'a [i64],
    is_over: &'a dyn Fn(&[i64]) -> bool,
    /// Tokens of the prompt.
    prompt: usize,
    /// The most tokens, those of the prompt included.
    most: usize,
}

impl Rules<'_> {
    /// Whether a row that has just got its last token is done.
    fn is_done(&self, ids: &[i64]) -> bool {
        ids.len() >= self.most || self.has_ended(ids) || (self.is_over)(&ids[self.prompt..])
    }

    fn has_ended(&self, ids: &[i64]) -> bool {
        ids.len() > self.prompt && ids.last().is_some_and(|id| self.ends.contains(id))
    }

    /// The new tokens of a row, without the one that ends it.
    fn new_tokens<'i>(&self, ids: &'i [i64]) -> &'i [i64] {
        let new = &ids[self.prompt.min(ids.len())..];
        if self.has_ended(ids) { &new[..new.len() - 1] } else { new }
    }

    /// Changes scores of tokens behind a row as the settings say.
    fn penalize(&self, ids: &[i64], scores: &mut [f32]) {
        let penalty = self.settings.repetition_penalty as f32;
        if penalty != 1.0 {
            let mut seen: Vec<usize> = ids.iter().filter_map(|id| usize::try_from(*id).ok()).collect();
            seen.sort_unstable();
            seen.dedup();
            for id in seen {
                if let Some(score) = scores.get_mut(id) {
                    *score = if *score < 0.0 { *score * penalty } else { *score / penalty };
                }
            }
        }
        let n = self.settings.no_repeat_ngram_size;
        if n > 0 && ids.len() + 1 >= n {
            let last = &ids[ids.len() + 1 - n..];
            for ngram in ids.windows(n).filter(|ngram| ngram[..n - 1] == *last) {
                let next = usize::try_from(ngram[n - 1]).ok().and_then(|id| scores.get_mut(id));
                next.into_iter().for_each(|score| *score = f32::NEG_INFINITY);
            }
        }
    }
}

fn search<'a>(prompt: &[i64], job: &Writing<'a>) -> Box<dyn Search + 'a> {
    let settings = job.settings;
    // The last token need not be fed.
    let most =
        prompt.len().saturating_add(settings.max_new_tokens.max(1)).min(job.length.max(prompt.len()).saturating_add(1));
    let rules = Rules { settings, ends: job.ends, is_over: job.is_over, prompt: prompt.len(), most };
    match settings.num_beams {
        0 | 1 => Box::new(Greedy::new(prompt, rules)),
        _ => Box::new(Beam::new(prompt, rules)),
    }
}

/// A search, with what an encoder reads for it.
type Sourced<'a> = (Box<dyn Search + 'a>, Option<&'a [i64]>);

/// Lets searches go on side by side until all are over.
fn together_to_the_end(next: &mut dyn NextToken, mut searches: Vec<Sourced<'_>>) -> Result<Vec<Vec<i64>>, TrainError> {
    // Where the rows of each search began in the call before.
    let mut begins: Option<Vec<usize>> = None;
    loop {
        let (mut rows, mut now) = (Vec::new(), Vec::with_capacity(searches.len()));
        for (at, (search, source)) in searches.iter().enumerate() {
            now.push(rows.len());
            let begin = begins.as_ref().and_then(|begins| begins.get(at));
            let going = |open| {
                let Open { ids, from }: &Open = open;
                Going { ids, from: begin.map(|begin| begin + from), source: *source }
            };
            rows.extend(search.open().iter().map(going));
        }
        if rows.is_empty() {
            return Ok(searches.iter().map(|(search, _)| search.found().to_vec()).collect());
        }
        let Scored { logits, width } = next.score(&rows)?;
        let count = rows.len();
        let scored: Vec<&[f32]> = logits.chunks_exact(width.max(1)).take(count).collect();
        for ((search, _), begin) in searches.iter_mut().zip(&now) {
            let open = search.open().len();
            if open > 0 {
                search.advance(scored.get(*begin..begin + open).unwrap_or_default());
            }
        }
        begins = Some(now);
    }
}

#[cfg(test)]
mod tests;
