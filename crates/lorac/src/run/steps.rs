//! How many examples a step has and how many of them are computed at once, within the memory that there is.

use super::compiler::Compiler;
use super::emit::Emitter;
use super::free::free_memory;
use super::input_limits::BatchShape;
use super::memory::{Within, of_tokens, padded};
use super::packed;
use super::slices::StepShape;
use super::stream::RowStream;
use super::task::target_input;
use crate::error::Error;
use crate::pipeline::{BatchChoice, Loaded, MemoryLimit, SliceChoice, Train};
use crate::task::Task;
use lorac_config::Problem;
use lorac_data::Dataset;
use lorac_passes::{Adaptation, Training};
use lorac_runtime::Device;
use lorac_train::Feeds;

/// What the examples of a step depend on.
pub(super) struct Steps<'a> {
    pub(super) loaded: &'a Loaded,
    pub(super) task: &'a dyn Task,
    pub(super) shape: &'a BatchShape,
    pub(super) compiler: &'a Compiler<'a>,
    pub(super) adaptations: &'a [Adaptation<'a>],
    /// What the model is fed with, but for its targets.
    pub(super) feeds: &'a Feeds,
    /// Where the examples come from, where they are not all there.
    pub(super) stream: Option<&'a RowStream>,
    /// An example that none is longer than.
    pub(super) row: &'a Dataset,
    /// Whether what is trained is so little that slices may be chosen unasked.
    pub(super) cheap: bool,
}

/// A step that is compiled.
pub(super) struct Shaped {
    /// Its examples.
    pub(super) steps: StepShape,
    /// Its graphs.
    pub(super) training: Training,
    /// What they are fed with.
    pub(super) feeds: Feeds,
    /// What the user should know.
    pub(super) notes: Vec<String>,
    /// Rows of an evaluation at once.
    pub(super) eval_batch: usize,
    /// Examples of a batch, where that was left to lorac.
    pub(super) chosen: Option<usize>,
}

impl Steps<'_> {
    /// The step of a training, with `eval_batch` examples in an evaluation of the longest of `held`, or fewer within `train.memory`.
    /// Of `train.batch: auto` it has as many examples as `told` says, which those of a checkpoint had, or as many as fit.
    ///
    /// # Errors
    /// What a pass cannot do, a model that takes other batches, and a limit that the fewest exceed.
    pub(super) fn shaped(
        &self,
        told: Option<usize>,
        (held, eval_batch): (&Dataset, usize),
        emitter: &mut Emitter,
    ) -> Result<Shaped, Error> {
        let p = &self.loaded.pipeline.train;
        let (mut notes, mut train) = (Vec::new(), p.clone());
        if p.batch == BatchChoice::Auto {
            let (batch, why) = match told {
                Some(batch) => (batch, "as in the checkpoint".to_string()),
                None => self.choose(emitter)?,
            };
            train.batch = BatchChoice::Examples(batch);
            notes.push(format!("train.batch is auto: {batch} examples, {why}"));
        }
        let chosen = train.batch.given().filter(|_| p.batch == BatchChoice::Auto);
        let mut steps = self.of(&train)?;
        let (mut training, feeds) = self.compile(&steps, emitter)?;
        let mut shaped_eval = eval_batch;
        if let Some(limit) = p.memory {
            let within = Within { loaded: self.loaded, limit, feeds: &feeds };
            let whole = self.task.whole_batch() || self.shape.fixed_rows().is_some();
            let fewest = |most: usize| if whole { most } else { 1 };
            let all = self.at_once(&steps);
            let rows = within.rows(&training.step, self.row, fewest(all), all)?;
            if rows < all {
                steps = steps.within(rows, self.row);
                training = self.compile(&steps, emitter)?.0;
            }
            shaped_eval = within.rows(&training.eval, held, fewest(eval_batch), eval_batch)?;
            let of = of_tokens(padded(self.row));
            notes.push(format!("within {limit}, {rows} rows{of} are computed at once, and {shaped_eval} evaluated"));
        }
        Ok(Shaped { steps, training, feeds, notes, eval_batch: shaped_eval, chosen })
    }

    fn of(&self, train: &Train) -> Result<StepShape, Error> {
        let Steps { loaded, task, shape, compiler, cheap, .. } = *self;
        let steps = StepShape::of(train, shape, compiler.train, self.device(), cheap);
        let steps = match self.stream {
            Some(_) => steps.of_stream(train, shape, compiler.train.pad.length(shape.max_length)),
            None => steps,
        };
        if task.whole_batch() { steps.whole(loaded, shape, task.fills()) } else { Ok(steps) }
    }

    fn device(&self) -> Device {
        self.compiler.engine.backend.device()
    }

    fn compile(&self, steps: &StepShape, emitter: &mut Emitter) -> Result<(Training, Feeds), Error> {
        let training = self.compiler.compile(self.adaptations, steps, emitter)?;
        let mut feeds = self.feeds.clone();
        feeds.inputs.push(target_input(self.task.prediction(), &training.names.targets));
        if self.loaded.pipeline.data.pack {
            packed::has_attention(self.loaded, training.isolated.as_ref().filter(|_| !feeds.has_pairs()))?;
            feeds.inputs.extend(packed::inputs(&training.names));
        }
        Ok((training, feeds))
    }

    /// Rows of the longest example that are computed at once.
    fn at_once(&self, steps: &StepShape) -> usize {
        self.shape.fixed_rows().unwrap_or_else(|| steps.rows(self.row))
    }

    /// The largest power of two of examples, up to [`BatchChoice::MOST`] and as many as there are, that are computed at once, unless
    /// `train.slice` says how many are, within `train.memory`, or else within half of what is free; and why it is that.
    fn choose(&self, emitter: &mut Emitter) -> Result<(usize, String), Error> {
        if let Some(batch) = self.shape.fixed_rows() {
            return Ok((batch, "as many as the model takes at once".into()));
        }
        let (limit, of) = self.limit()?;
        // How many there are of a long stream, nobody knows yet.
        let there = self.stream.map_or(Some(self.compiler.train.len()), |stream| stream.count);
        let there = there.unwrap_or(BatchChoice::MOST);
        let least = if self.task.whole_batch() { 2 } else { 1 };
        let most = power_of_two(there.min(BatchChoice::MOST)).max(least);
        let mut batch = most;
        loop {
            let steps = self.of(&at_once(&self.loaded.pipeline.train, batch))?;
            let (training, feeds) = self.compile(&steps, emitter)?;
            let within = Within { loaded: self.loaded, limit, feeds: &feeds };
            let fits = within.fitting(&training.step, self.row, self.at_once(&steps))?;
            if fits == self.at_once(&steps) {
                break;
            }
            if batch <= least {
                let needed = within.bytes(&training.step, self.row, self.at_once(&steps))?;
                return Err(self.exceeded(&within, needed, batch, &of));
            }
            // A graph of fewer examples may be another, and take less than this one for as many.
            batch = (batch / 2).min(power_of_two(2 * fits)).max(least);
        }
        let why = match (batch == most, there < BatchChoice::MOST) {
            (false, _) => {
                format!("the largest power of two of rows{} that fits into {of}", of_tokens(padded(self.row)))
            }
            (true, true) => "the largest power of two of those that there are".into(),
            (true, false) => "the most that auto chooses".into(),
        };
        Ok((batch, why))
    }

    /// What a step may take, and what that is in words.
    fn limit(&self) -> Result<(MemoryLimit, String), Error> {
        if let Some(limit) = self.loaded.pipeline.train.memory {
            return Ok((limit, format!("train.memory, {limit}")));
        }
        let free = if self.device() == Device::Cpu { free_memory() } else { None };
        let Some(free) = free else {
            let message = "`batch` is auto, and nothing says how much memory is free".to_string();
            let help = "say how much a step may take, as in train.memory: 8GiB, or how many examples it has";
            return Err(self.wrong(message, help));
        };
        let limit = MemoryLimit { bytes: free / 2 };
        Ok((limit, format!("half of the memory that is free, {} MiB", limit.bytes >> 20)))
    }

    fn exceeded(&self, within: &Within, needed: u64, batch: usize, of: &str) -> Error {
        if self.loaded.pipeline.train.memory.is_some() {
            return within.exceeded(needed, batch, padded(self.row));
        }
        let (mib, tokens) = (needed.div_ceil(1 << 20), of_tokens(padded(self.row)));
        let message = format!("{batch} rows{tokens} take about {mib} MiB, more than {of}");
        self.wrong(message, "free some memory, say how much a step may take (train.memory), or choose a smaller model")
    }

    fn wrong(&self, message: String, help: &str) -> Error {
        let (path, help) = ("train.batch".into(), Some(help.to_string()));
        Box::new(self.loaded.errors_at(vec![Problem { path, code: "pipeline::memory", message, help }])).into()
    }
}

/// The largest power of two that is no more; 1 of nothing.
fn power_of_two(of: usize) -> usize {
    1 << of.max(1).ilog2()
}

/// The same training with so many examples a batch, all of which are computed at once unless it says how many are.
fn at_once(train: &Train, batch: usize) -> Train {
    let slice = match train.slice {
        SliceChoice::Auto => SliceChoice::Rows(batch),
        rows => rows,
    };
    Train { batch: BatchChoice::Examples(batch), slice, ..train.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_of_two_are_rounded_down() {
        assert_eq!([0, 1, 2, 3, 63, 64].map(power_of_two), [1, 1, 2, 2, 32, 64]);
    }

    #[test]
    fn a_batch_is_computed_at_once_unless_slices_are_asked_for() {
        let of = |slice| at_once(&Train { slice, ..Train::default() }, 8);
        assert_eq!(
            (of(SliceChoice::Auto).slice, of(SliceChoice::Rows(3)).slice),
            (SliceChoice::Rows(8), SliceChoice::Rows(3))
        );
        assert_eq!(of(SliceChoice::Auto).batch, BatchChoice::Examples(8));
    }
}
