//! What scores the parameters of a run: a program over the held-out examples, and one that writes texts.

use super::Plan;
use crate::error::Error;
use crate::progress::Progress;
use crate::stop::Stoppable;
use lorac_ir::Tensor;
use lorac_runtime::Program;
use lorac_train::{Decoder, Evaluate, Evaluation, TrainError, evaluate, theta_program};
use std::sync::atomic::AtomicBool;

/// The programs that score parameters.
pub(super) struct Evaluator {
    /// The loss and the predictions.
    pub(super) program: Box<dyn Program>,
    /// What writes texts, where any metric is of them.
    writer: Option<Decoder>,
}

impl Evaluator {
    /// The programs of a run, and what a user should know of them.
    ///
    /// # Errors
    /// What the engine refuses.
    pub(super) fn open(plan: &Plan, theta: &[f32]) -> Result<(Evaluator, Option<String>), Error> {
        let backend = plan.engine.backend.as_ref();
        let program = theta_program(backend, &plan.training.eval, theta)?;
        let opened =
            plan.texts.as_ref().map(|texts| texts.writer.open(backend, theta, texts.a_prompt())).transpose()?;
        let (writer, note) = opened.map_or((None, None), |(writer, note)| (Some(writer), note));
        Ok((Evaluator { program, writer }, note))
    }

    /// Evaluates these parameters from now on.
    ///
    /// # Errors
    /// What the engine says.
    pub(super) fn set_theta(&mut self, plan: &Plan, theta: &[f32]) -> Result<(), TrainError> {
        let (name, theta) = (&plan.training.names.theta, Tensor::vector(theta));
        self.program.set_state(name, &theta)?;
        if let (Some(writer), Some(texts)) = (&mut self.writer, &plan.texts) {
            let name = texts.writer.graph.given_name(lorac_passes::THETA);
            writer.set_state(&name, &theta)?;
        }
        Ok(())
    }

    /// Evaluates the model; ends early, with an error, where `stop` is set.
    ///
    /// # Errors
    /// What the engine says.
    pub(super) fn evaluation(
        &mut self,
        plan: &Plan,
        progress: &dyn Progress,
        what: &str,
        stop: &AtomicBool,
    ) -> Result<Evaluation, TrainError> {
        if plan.eval.is_empty() {
            return Ok(Evaluation::new(plan.task.prediction()));
        }
        let program = &mut Stoppable { program: self.program.as_mut(), stop };
        progress.begin(what, plan.eval.len() as u64);
        let job = Evaluate {
            data: &plan.eval,
            feeds: &plan.feeds,
            batch: plan.eval_batch,
            fill: plan.eval_fill > 0,
            kind: plan.task.prediction(),
            prediction: &plan.training.prediction,
            classes: plan.task.labels(),
            names: &plan.training.names,
        };
        let mut done = 0;
        let evaluation = evaluate(program, &job, |rows| {
            done += rows as u64;
            progress.at(done, "");
        });
        progress.end();
        let mut evaluation = evaluation?;
        if let (Some(writer), Some(texts)) = (&mut self.writer, &plan.texts) {
            evaluation.texts = texts.written(writer, progress, stop).1?;
        }
        Ok(evaluation)
    }
}
