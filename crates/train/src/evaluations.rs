//! Evaluations on the way: which parameters are the best, and when more steps are in vain.

use crate::history::{Best, History, Waiting};
use crate::{Every, Score, Scores, Step, TrainError};
use std::time::Duration;

/// When a training is evaluated, and what follows from it.
pub struct Evaluations<'a> {
    /// How often, by steps or epochs: what follows must not depend on the clock. The last step is evaluated in any case.
    pub every: Every,
    /// The metric by which the best parameters are kept.
    pub best: Option<String>,
    /// When to stop early.
    pub patience: Option<Patience>,
    /// The scores of the parameters; none where the user wants to stop meanwhile.
    pub evaluate: &'a mut dyn FnMut(&Step) -> Result<Option<Scores>, TrainError>,
    /// The best parameters so far with their step, where this process has seen them.
    pub kept: Option<(u64, Vec<f32>)>,
}

/// When a training that gets no better ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Patience {
    /// The metric that is watched.
    pub metric: String,
    /// Evaluations in a row that are no better than the best before.
    pub evaluations: u64,
    /// What a better one is better by, at least.
    pub min_delta: f64,
}

/// What became of an evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Evaluated {
    /// None is due.
    NotDue,
    /// The user wants to stop: it is still due.
    Interrupted,
    /// It is in the history.
    Done {
        /// Whether the parameters are the best so far.
        best: bool,
    },
}

impl Evaluations<'_> {
    /// Evaluates behind a step, where that is due and not done.
    ///
    /// # Errors
    /// What the evaluation says.
    pub(crate) fn behind(
        &mut self,
        step: &Step,
        history: &mut History,
        per_epoch: u64,
        total: u64,
    ) -> Result<Evaluated, TrainError> {
        let due = self.every.is_due(step.taken, per_epoch, Duration::ZERO) || step.taken == total;
        if !due || step.taken == 0 || history.evaluated == step.taken {
            return Ok(Evaluated::NotDue);
        }
        let Some(scores) = (self.evaluate)(step)? else { return Ok(Evaluated::Interrupted) };
        history.evaluated = step.taken;
        let score = |name: &str| scores.scores.iter().find(|s| s.name == name);
        if let Some(patience) = &self.patience
            && let Some(score) = score(&patience.metric)
        {
            history.waiting = Some(match history.waiting {
                Some(before) if !improves(score, before.score, patience.min_delta) => {
                    Waiting { evaluations: before.evaluations + 1, ..before }
                }
                _ => Waiting { score: score.value, evaluations: 0 },
            });
        }
        let best = self.best.as_deref().and_then(score);
        let best = best.filter(|score| history.best.is_none_or(|best| improves(score, best.score, 0.0)));
        if let Some(score) = best {
            history.best = Some(Best { step: step.taken, score: score.value });
            self.kept = Some((step.taken, step.learnt()?));
        }
        Ok(Evaluated::Done { best: best.is_some() })
    }

    /// Whether more steps are in vain.
    pub(crate) fn is_over(&self, history: &History) -> bool {
        let patience = self.patience.as_ref().map_or(u64::MAX, |patience| patience.evaluations);
        history.waiting.is_some_and(|waiting| waiting.evaluations >= patience)
    }
}

/// Whether a score is better than one before, by more than `delta`. A number is better than none.
fn improves(score: &Score, before: f64, delta: f64) -> bool {
    score.better.is_worse(before, score.value, delta)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::quadratic;
    use crate::{Better, Count};

    fn scores(name: &str, value: f64, better: Better) -> Scores {
        Scores { scores: vec![Score { name: name.into(), value, better }], count: Count::Examples(1) }
    }

    /// What becomes of evaluations behind every second step with these scores, and the history.
    fn watched(values: &[f64], better: Better, min_delta: f64) -> (Vec<Evaluated>, History, Option<u64>) {
        let (mut step, _) = quadratic(&[1.0], &[]);
        let (mut history, mut given) = (History::default(), values.iter());
        let mut evaluate = |_: &Step| Ok(given.next().map(|value| scores("m", *value, better)));
        let patience = Some(Patience { metric: "m".into(), evaluations: 2, min_delta });
        let (every, best) = (Every::Steps(2), Some("m".into()));
        let mut watch = Evaluations { every, best, patience, evaluate: &mut evaluate, kept: None };
        let (mut found, mut over) = (Vec::new(), None);
        for taken in 0..=2 * values.len() as u64 {
            step.taken = taken;
            found.push(watch.behind(&step, &mut history, 100, 1000).expect("evaluates"));
            assert_eq!(watch.behind(&step, &mut history, 100, 1000).ok(), Some(Evaluated::NotDue), "only once");
            if watch.is_over(&history) {
                over.get_or_insert(taken);
            }
        }
        assert_eq!(watch.kept.map(|k| k.0), history.best.map(|b| b.step));
        (found, history, over)
    }

    #[test]
    fn the_best_is_kept_and_what_gets_no_better_ends() {
        let done = |best| Evaluated::Done { best };
        let (found, history, over) = watched(&[0.5, 0.7, 0.7, f64::NAN, 0.9], Better::Higher, 0.0);
        let of_steps: Vec<Evaluated> = found.iter().copied().step_by(2).skip(1).collect();
        assert_eq!(of_steps, [done(true), done(true), done(false), done(false), done(true)]);
        assert!(
            found.iter().step_by(2).take(1).chain(found.iter().skip(1).step_by(2)).all(|f| *f == Evaluated::NotDue)
        );
        assert_eq!((history.best, over), (Some(Best { step: 10, score: 0.9 }), Some(8)));
        let (_, history, over) = watched(&[2.0, 1.5, 1.0], Better::Lower, 0.0);
        assert_eq!((history.best.map(|b| b.step), over), (Some(6), None));
    }

    #[test]
    fn steps_that_are_too_small_count_as_none_together_as_well() {
        let (_, history, over) = watched(&[1.0, 0.95, 0.85, 0.84], Better::Lower, 0.1);
        assert_eq!((history.waiting, over), (Some(Waiting { score: 0.85, evaluations: 1 }), None));
        assert_eq!(history.best, Some(Best { step: 8, score: 0.84 }), "the best is the best");
    }

    #[test]
    fn the_last_step_is_evaluated_and_one_that_is_interrupted_is_still_due() {
        let (mut step, _) = quadratic(&[1.0], &[]);
        let mut history = History::default();
        let mut given = [None, Some(scores("m", 1.0, Better::Lower))].into_iter();
        let mut evaluate = |_: &Step| Ok(given.next().flatten());
        let (every, best) = (Every::Epochs(1.0), None);
        let mut watch = Evaluations { every, best, patience: None, evaluate: &mut evaluate, kept: None };
        step.taken = 7;
        let mut again = || watch.behind(&step, &mut history, 5, 7).expect("evaluates");
        assert_eq!(
            [again(), again(), again()],
            [Evaluated::Interrupted, Evaluated::Done { best: false }, Evaluated::NotDue]
        );
    }
}
