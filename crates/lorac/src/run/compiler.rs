//! What a plan compiles: the graphs of the training, and what is looked at before its first step.

use super::emit::Emitter;
use super::slices::StepShape;
use super::targets::adaptations;
use super::update;
use crate::engine::Engine;
use crate::error::Error;
use crate::pipeline::Loaded;
use crate::progress::Progress;
use lorac_data::{Batch, Dataset, Sampler};
use lorac_ir::{Graph, Tensor};
use lorac_passes::{
    Adaptation, Caches, DeltaForm, FirstLook, MethodChoice, Objective, Training, TrainingSpec, UpdateSpec, first_look,
    training_step,
};
use lorac_train::{Feeds, TrainError, directions_of_inputs, with_directions};
use std::collections::BTreeMap;

/// What every compilation of a training is made of.
pub(super) struct Compiler<'a> {
    pub(super) loaded: &'a Loaded,
    pub(super) base: &'a Graph,
    pub(super) objective: &'a dyn Objective,
    pub(super) engine: &'a Engine,
    pub(super) caches: &'a Caches,
    /// The examples to train on.
    pub(super) train: &'a Dataset,
}

/// A training, and how it came to be.
pub(super) struct Compiled {
    pub(super) training: Training,
    /// What is looked at before the first step, where params begin with what is found.
    pub(super) look: Option<FirstLook>,
    /// The methods, with the ranks that targets got where they are shared out.
    pub(super) methods: Vec<MethodChoice>,
    /// Those ranks, by the names of targets.
    pub(super) ranks: BTreeMap<String, usize>,
}

impl Compiler<'_> {
    fn spec<'s>(&'s self, adaptations: &'s [Adaptation<'s>], steps: &StepShape) -> TrainingSpec<'s> {
        let train = &self.loaded.pipeline.train;
        TrainingSpec {
            adaptations,
            objective: self.objective,
            update: UpdateSpec {
                optimizer: &*train.optimizer,
                clip: train.clip.limit(),
                groups: train.groups(),
                slices: steps.sliced,
                average: train.ema,
            },
            dialect: self.engine.backend.dialect(),
            tokens: Some(steps.tokens(self.train)).filter(|tokens| *tokens > 0),
            caches: self.caches.clone(),
            packed: self.loaded.pipeline.data.pack,
        }
    }

    /// The training's graphs, each pass of which `emitter` hears of.
    ///
    /// # Errors
    /// What a pass cannot do, and what of the update has no params.
    pub(super) fn compile(
        &self,
        adaptations: &[Adaptation],
        steps: &StepShape,
        emitter: &mut Emitter,
    ) -> Result<Training, Error> {
        let written = training_step(self.base, &self.spec(adaptations, steps), &mut |graph| emitter.write(graph));
        written.map_err(|e| update::error(self.loaded, e))
    }

    /// The training with what is looked at before its first step. Where ranks are shared out by what the first batches say, it is
    /// compiled anew with those that targets get.
    ///
    /// # Errors
    /// As [`Compiler::compile`], and what the engine says of the model on these batches.
    pub(super) fn looking(
        &self,
        (training, methods): (Training, Vec<MethodChoice>),
        steps: &StepShape,
        (feeds, order): (&Feeds, &Sampler),
        (emitter, progress): (&mut Emitter, &dyn Progress),
    ) -> Result<Compiled, Error> {
        let look = |training: &Training, methods: &[MethodChoice]| {
            let adaptations = adaptations(self.loaded, methods, self.base)?;
            let found = first_look(self.base, &self.spec(&adaptations, steps), training);
            found.map_err(|e| update::error(self.loaded, e))
        };
        let first = look(&training, &methods)?;
        let Some((inputs, first)) = first.as_ref().and_then(|first| Some((first.shares_ranks()?, first))) else {
            return Ok(Compiled { training, look: first, methods, ranks: BTreeMap::new() });
        };
        let batches = first_batches(self.train, steps, order, first.batches)?;
        let directions = directions_of_inputs(self.engine.backend.as_ref(), inputs, feeds, &batches)?;
        let mut got: BTreeMap<usize, BTreeMap<String, usize>> = BTreeMap::new();
        for (adaptation, delta) in &training.deltas {
            let DeltaForm::LowRank { a, .. } = &delta.form else { continue };
            let Some(&[rank, _]) = directions.get(a).map(Tensor::dims) else { continue };
            got.entry(*adaptation).or_default().insert(delta.target.name(), rank);
        }
        progress.line(&format!("ranks     are shared out by {} batches: {}", batches.len(), described(got.values())));
        let ranked = |(at, method): (usize, MethodChoice)| {
            let new = got.get(&at).and_then(|ranks| method.with_ranks(ranks));
            new.unwrap_or(method)
        };
        let methods: Vec<MethodChoice> = methods.into_iter().enumerate().map(ranked).collect();
        let mut training = self.compile(&adaptations(self.loaded, &methods, self.base)?, steps, emitter)?;
        training.params = with_directions(&training.params, &directions);
        let look = look(&training, &methods)?;
        Ok(Compiled { training, look, methods, ranks: got.into_values().flatten().collect() })
    }
}

/// The first batches of a training, in its slices.
///
/// # Errors
/// What cannot become a batch.
pub(super) fn first_batches(
    train: &Dataset,
    steps: &StepShape,
    order: &Sampler,
    count: usize,
) -> Result<Vec<Vec<Batch>>, Error> {
    let batch = |rows: Vec<usize>| {
        let slices = train.slices(&rows, &steps.most).into_iter();
        slices.map(|slice| train.batch_of(0, &slice, steps.fill)).collect::<Result<Vec<_>, _>>()
    };
    let batches = order.epoch(0).take(count).map(batch).collect::<Result<Vec<_>, _>>();
    Ok(batches.map_err(TrainError::from)?)
}

/// Which ranks there are now.
fn described<'a>(of: impl Iterator<Item = &'a BTreeMap<String, usize>>) -> String {
    let ranks: Vec<usize> = of.flat_map(BTreeMap::values).copied().collect();
    let none = ranks.iter().filter(|rank| **rank == 0).count();
    let (least, most) = (ranks.iter().filter(|rank| **rank > 0).min(), ranks.iter().max());
    let some =
        format!("{} matrices get ranks of {} to {}", ranks.len() - none, least.unwrap_or(&0), most.unwrap_or(&0));
    if none == 0 { some } else { format!("{some}, {none} get no branch") }
}
