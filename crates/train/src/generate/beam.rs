//! Beam search, as transformers has it: several beginnings are followed at once, and the best whole text is taken by its
//! log-likelihood over a power of its length.

use super::{Open, Rules, Search};

/// What a text that is out of the question is worth.
const NEVER: f64 = -1e9;

/// A search for a text.
pub(super) struct Beam<'a> {
    rules: Rules<'a>,
    open: Vec<Open>,
    /// The log-likelihood of each open row.
    scores: Vec<f64>,
    /// The best texts that are whole, the best one first.
    whole: Vec<Whole>,
    /// Whether an open row may become better than those.
    may_improve: bool,
}

#[derive(Clone)]
struct Whole {
    ids: Vec<i64>,
    score: f64,
    is_one: bool,
}

/// An open row with a token more.
struct Candidate {
    from: usize,
    token: i64,
    score: f64,
}

impl<'a> Beam<'a> {
    pub(super) fn new(prompt: &[i64], rules: Rules<'a>) -> Beam<'a> {
        Beam {
            rules,
            open: vec![Open { ids: prompt.to_vec(), from: 0 }],
            scores: vec![0.0],
            whole: vec![Whole { ids: prompt.to_vec(), score: NEVER, is_one: false }; rules.settings.num_beams],
            may_improve: true,
        }
    }

    /// The best continuations of all open rows, the best first: as many more than beams as may end at once.
    fn candidates(&self, logits: &[&[f32]]) -> Vec<Candidate> {
        let kept = (1 + self.rules.ends.len()).max(2) * self.rules.settings.num_beams;
        let mut all = Vec::new();
        for (from, (open, logits)) in self.open.iter().zip(logits).enumerate() {
            let mut scores = log_softmax(logits);
            self.rules.penalize(&open.ids, &mut scores);
            let before = self.scores.get(from).copied().unwrap_or(NEVER);
            let score = |score: &f32| if score.is_nan() { f64::NEG_INFINITY } else { f64::from(*score) + before };
            let mut of_row: Vec<(usize, f64)> = scores.iter().map(score).enumerate().collect();
            if of_row.len() > kept {
                of_row.select_nth_unstable_by(kept, |a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
                of_row.truncate(kept);
            }
            all.extend(of_row.into_iter().map(|(token, score)| Candidate { from, token: token as i64, score }));
        }
        all.sort_by(|a, b| b.score.total_cmp(&a.score).then((a.from, a.token).cmp(&(b.from, b.token))));
        all.truncate(kept);
        all
    }
}

impl Search for Beam<'_> {
    fn open(&self) -> &[Open] {
        &self.open
    }

    fn advance(&mut self, logits: &[&[f32]]) {
        let (settings, rules) = (self.rules.settings, self.rules);
        let beams = settings.num_beams;
        let candidates = self.candidates(logits);
        let with = |one: &Candidate| {
            let mut ids = self.open.get(one.from).map(|open| open.ids.clone()).unwrap_or_default();
            ids.push(one.token);
            ids
        };
        let rows: Vec<Vec<i64>> = candidates.iter().map(with).collect();
        let done: Vec<bool> = rows.iter().map(|ids| rules.is_done(ids)).collect();
        let length = rows.first().map_or(0, |ids| ids.len() - rules.prompt.min(ids.len()));
        let over_length = |score: f64, length: usize| score / (length as f64).powf(settings.length_penalty);

        let full = settings.early_stopping && self.whole.iter().all(|whole| whole.is_one);
        let mut whole = std::mem::take(&mut self.whole);
        let ended = candidates.iter().zip(&rows).zip(&done).take(beams).filter(|(_, done)| **done);
        if !full && self.may_improve {
            whole.extend(ended.map(|((one, ids), _)| Whole {
                ids: ids.clone(),
                score: over_length(one.score, length),
                is_one: true,
            }));
            whole.sort_by(|a, b| b.score.total_cmp(&a.score));
            whole.truncate(beams);
        }

        let all_done = done.iter().all(|done| *done);
        let going = candidates.iter().zip(rows).zip(&done).filter(|(_, done)| !**done).take(beams);
        let (scores, open): (Vec<f64>, Vec<Open>) =
            going.map(|((one, ids), _)| (one.score, Open { ids, from: one.from })).unzip();
        let best = scores.first().map_or(NEVER, |score| over_length(*score, length));
        let worst = match whole.iter().all(|whole| whole.is_one) {
            true => whole.last().map_or(NEVER, |whole| whole.score),
            false => NEVER,
        };
        self.may_improve &= best > worst;
        let full = settings.early_stopping && whole.iter().all(|whole| whole.is_one);
        let over = all_done || full || !self.may_improve;
        self.whole = whole;
        (self.scores, self.open) = if over { Default::default() } else { (scores, open) };
    }

    fn found(&self) -> &[i64] {
        self.whole.first().map_or(&[], |best| self.rules.new_tokens(&best.ids))
    }
}

/// Logarithms of the probabilities.
fn log_softmax(logits: &[f32]) -> Vec<f32> {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let most = if most.is_finite() { f64::from(most) } else { 0.0 };
    let sum = logits.iter().map(|x| (f64::from(*x) - most).exp()).sum::<f64>().ln() + most;
    logits.iter().map(|x| (f64::from(*x) - sum) as f32).collect()
}
