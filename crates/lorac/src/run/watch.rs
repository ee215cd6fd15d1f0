//! Evaluations while a training goes on.

use super::logs::Logs;
use super::{Plan, describe, evaluation, scored};
use crate::output::MetricsEval;
use crate::pipeline::Loaded;
use crate::progress::{Progress, Silent};
use lorac_ir::Tensor;
use lorac_runtime::Program;
use lorac_train::{Scores, Step, TrainError};
use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};

/// What scores the parameters of a step with `evaluator`, and tells of it; it gives nothing where `stop` is set meanwhile.
pub(super) fn evaluating<'a>(
    plan: &'a Plan,
    loaded: &'a Loaded,
    evaluator: &'a mut dyn Program,
    logs: &'a RefCell<Logs>,
    progress: &'a dyn Progress,
    stop: &'a AtomicBool,
) -> impl FnMut(&Step) -> Result<Option<Scores>, TrainError> + 'a {
    move |step| {
        evaluator.set_state(&plan.training.names.theta, &Tensor::vector(&step.learnt()?))?;
        let found = evaluation(plan, evaluator, &Silent, "", stop);
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let scores = scored(&found?, plan, loaded);
        progress.line(&format!("step {:<5}{}", step.taken, describe(&scores)));
        let said = logs.borrow_mut().eval(&MetricsEval::new("train", step.taken, &scores));
        said.iter().for_each(|why| progress.warning(why));
        Ok(Some(scores))
    }
}
