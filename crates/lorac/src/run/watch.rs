//! Evaluations while a training goes on.

use super::evaluator::Evaluator;
use super::logs::Logs;
use super::{Plan, describe, scored};
use crate::output::MetricsEval;
use crate::pipeline::Loaded;
use crate::progress::{Progress, Silent};
use lorac_train::{Scores, Step, TrainError};
use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};

/// What scores the parameters of a step with `evaluator`, and tells of it; it gives nothing where `stop` is set meanwhile.
pub(super) fn evaluating<'a>(
    plan: &'a Plan,
    loaded: &'a Loaded,
    evaluator: &'a mut Evaluator,
    logs: &'a RefCell<Logs>,
    progress: &'a dyn Progress,
    stop: &'a AtomicBool,
) -> impl FnMut(&Step) -> Result<Option<Scores>, TrainError> + 'a {
    move |step| {
        evaluator.set_theta(plan, &step.learnt()?)?;
        let found = evaluator.evaluation(plan, &Silent, "", stop);
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let found = found?;
        let scores = scored(&found, plan, loaded);
        progress.line(&format!("step {:<5}{}", step.taken, describe(&scores)));
        let said = logs.borrow_mut().eval(&MetricsEval::new("train", step.taken, &scores).showing(&found.texts));
        said.iter().for_each(|why| progress.warning(why));
        Ok(Some(scores))
    }
}
