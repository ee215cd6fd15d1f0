//! The texts that a run's model is judged by: what writes them, compiled before anything is trained.

use super::targets::adaptations;
use crate::base;
use crate::engine::Engine;
use crate::error::Error;
use crate::pipeline::Loaded;
use crate::source::Resolved;
use crate::task::TaskChoice;
use crate::writing::{Asked, Parts, Texts, compile};
use lorac_data::Tokenizer;
use lorac_ir::Graph;
use lorac_onnx::Model;
use lorac_passes::{Caches, MethodChoice, Training, UpdateSpec};
use lorac_train::Feeds;

/// What a plan has made already.
pub(super) struct Planned<'a> {
    pub(super) loaded: &'a Loaded,
    pub(super) source: &'a Resolved,
    pub(super) model: &'a Model,
    pub(super) base: &'a Graph,
    pub(super) feeds: &'a Feeds,
    pub(super) caches: &'a Caches,
    pub(super) task: &'a TaskChoice,
    pub(super) methods: &'a [MethodChoice],
    pub(super) training: &'a Training,
    pub(super) engine: &'a Engine,
    pub(super) tokenizer: &'a Tokenizer,
    /// Tokens that end a text.
    pub(super) ends: &'a [i64],
}

/// What writes the texts that the task is judged by; none where no metric is of texts.
///
/// # Errors
/// Held-out examples of which none asks anything, and a model that does not score next tokens.
pub(super) fn texts(of: &Planned, asked: Vec<Asked>) -> Result<Option<Texts>, Error> {
    let p = &of.loaded.pipeline;
    let Some(settings) = of.task.generation() else { return Ok(None) };
    if asked.is_empty() {
        return Err(nothing_asked());
    }
    let writer = compile(Parts {
        model: of.model,
        base: of.base,
        feeds: of.feeds,
        caches: of.caches,
        names: &p.data.inputs,
        objective: &**of.task,
        adaptations: &|graph| adaptations(of.loaded, of.methods, graph).ok(),
        update: UpdateSpec::of(&*p.train.optimizer),
        layout: Some(&of.training.layout),
        backend: of.engine.backend.as_ref(),
        cached: &|| base::with_caches(of.source),
        settings: settings.clone(),
        ends: of.ends.to_vec(),
        tokenizer: of.tokenizer.clone(),
        rows: p.train.eval_batch,
        multiple: p.data.pad_to_multiple,
        start: of.task.decoder_start(),
    })?;
    Ok(Some(Texts { writer, asked }))
}

/// The error of metrics of texts of which none is asked for by the data.
pub(crate) fn nothing_asked() -> Error {
    Error::Usage("no held-out example has a prompt that a model could go on from: metrics of texts need them".into())
}
