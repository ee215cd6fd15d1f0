//! How many examples a step has, and how many of them are computed at once.

use super::input_limits::BatchShape;
use crate::error::Error;
use crate::pipeline::{Loaded, SliceChoice, Train};
use lorac_config::Problem;
use lorac_data::{Dataset, Slicing};
use lorac_ir::Graph;
use lorac_passes::Adaptation;
use lorac_runtime::Device;

/// Tokens, padding included, that processors compute fastest at once: with more, what lies between products no longer fits
/// the caches; with fewer, products get too small. docs/performance.md has the measurements.
const TOKENS: usize = 1024;

/// The model has so many times as many parameters as are trained, at least, where slices are chosen unasked: every slice
/// computes an update, of which only the last counts.
const WEIGHTS_PER_PARAM: usize = 16;

/// The examples of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepShape {
    /// How many.
    pub batch: usize,
    /// The most of them that are computed at once.
    pub most: Slicing,
    /// Rows that what is computed at once is filled up to.
    pub fill: usize,
    /// Whether any batch is computed in slices.
    pub sliced: bool,
}

impl StepShape {
    /// As the pipeline says, as far as the model takes it. `update_is_cheap` says whether slices may be chosen unasked.
    pub(super) fn of(train: &Train, shape: &BatchShape, data: &Dataset, device: Device, update_is_cheap: bool) -> Self {
        let batch = train.batch.most().saturating_mul(train.accumulate).min(data.len());
        let whole = Slicing::WHOLE;
        let mut most = match (shape.fixed_rows(), train.slice) {
            (Some(rows), _) => Slicing { rows, ..whole },
            (None, SliceChoice::Rows(rows)) => Slicing { rows, ..whole },
            (None, SliceChoice::Auto) if device == Device::Cpu && update_is_cheap => {
                Slicing { tokens: TOKENS, ..whole }
            }
            (None, SliceChoice::Auto) => whole,
        };
        if train.accumulate > 1 {
            most.rows = most.rows.min(train.batch.most());
        }
        let longest = data.lengths().into_iter().max().unwrap_or(0);
        if longest == 0 {
            // What has no tokens is computed whole, where nobody asks for less.
            most.tokens = usize::MAX;
        }
        let longest = data.pad.length(longest);
        // An example that is drawn more than once may be the longest.
        let sliced = batch > most.rows || batch.saturating_mul(longest) > most.tokens;
        let fill = shape.fixed_rows().unwrap_or(if sliced { 1 } else { batch });
        StepShape { batch, most, fill, sliced }
    }

    /// The same of examples that are not all there, the longest of which has so many tokens, padding included.
    pub(super) fn of_stream(self, train: &Train, shape: &BatchShape, longest: usize) -> Self {
        let batch = train.batch.most().saturating_mul(train.accumulate);
        let sliced = batch > self.most.rows || batch.saturating_mul(longest) > self.most.tokens;
        StepShape { batch, fill: shape.fixed_rows().unwrap_or(if sliced { 1 } else { batch }), sliced, ..self }
    }

    /// The same with no more at once than so many rows as long as the longest example.
    pub(super) fn within(self, rows: usize, data: &Dataset) -> Self {
        let longest = data.lengths().into_iter().max().unwrap_or(0);
        let tokens = self.most.tokens.min(rows.saturating_mul(data.pad.length(longest)));
        let sliced = self.sliced || rows < self.batch;
        let answers = data.examples.iter().any(|example| example.answer_length().is_some());
        // Rows are counted where examples have no tokens, and where more short ones have more tokens of inputs, or of answers,
        // than as many as the longest.
        let most = match longest == 0 || answers {
            true => Slicing { rows: self.most.rows.min(rows), ..self.most },
            false => Slicing { tokens, ..self.most },
        };
        StepShape { most, fill: if sliced && !self.sliced { 1 } else { self.fill }, sliced, ..self }
    }

    /// The most rows of the longest example that are computed at once.
    pub(super) fn rows(&self, data: &Dataset) -> usize {
        let longest = data.pad.length(data.lengths().into_iter().max().unwrap_or(0)).max(1);
        self.batch.min(self.most.rows).min((self.most.tokens / longest).max(1))
    }

    /// The same, of a task whose loss is that of a whole batch, and of so many examples, where they are counted.
    ///
    /// # Errors
    /// A model that takes batches of so many rows and no others.
    pub(super) fn whole(self, loaded: &Loaded, shape: &BatchShape, fills: bool) -> Result<Self, Error> {
        let whole = StepShape { most: Slicing::WHOLE, fill: if fills { self.batch } else { 0 }, sliced: false, ..self };
        let Some(rows) = shape.fixed_rows().filter(|rows| *rows != self.batch) else { return Ok(whole) };
        let message = format!(
            "the model takes {rows} examples at once and no others, and a step has {}: this task computes a step at once",
            self.batch
        );
        let help = Some(format!("train.batch: {rows}, or export the model with a batch of any size"));
        let problem = Problem { path: "train.batch".into(), code: "pipeline::range", message, help };
        Err(Box::new(loaded.errors_at(vec![problem])).into())
    }

    /// Tokens that are computed at once, as a mean and without padding.
    pub(super) fn tokens(&self, data: &Dataset) -> usize {
        data.tokens_per_step(self.batch.min(self.most.rows)).min(self.most.tokens)
    }

    /// What is said of slices, in words.
    pub(super) fn describe(&self) -> Option<String> {
        let most = match self.most {
            Slicing { rows, tokens: usize::MAX } => format!("{rows} rows"),
            Slicing { rows: usize::MAX, tokens } => format!("{tokens} tokens"),
            Slicing { rows, tokens } => format!("{rows} rows and {tokens} tokens"),
        };
        self.sliced.then(|| format!("the {} examples of a step are computed in slices of at most {most}", self.batch))
    }
}

/// Whether so little is trained that computing its update for every slice costs next to nothing.
pub(super) fn update_is_cheap(graph: &Graph, adaptations: &[Adaptation]) -> bool {
    let weights = graph.values().filter_map(|(id, _)| graph.weight(id));
    let all: usize = weights.map(lorac_ir::Tensor::len).sum();
    let of = |a: &Adaptation| a.method.param_count(graph, &a.targets);
    adaptations.iter().map(of).sum::<usize>().saturating_mul(WEIGHTS_PER_PARAM) <= all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::BatchChoice;
    use lorac_data::{Example, Field, PadTo};

    fn data(rows: usize, len: usize) -> Dataset {
        let example = || Example { fields: vec![("input_ids", Field::Tokens { ids: vec![1; len], pad: 0 })] };
        Dataset::new((0..rows).map(|_| example()).collect(), PadTo::default())
    }

    fn shape(train: Train, fixed: Option<usize>, data: &Dataset) -> StepShape {
        StepShape::of(&train, &BatchShape::with_rows(fixed), data, Device::Cpu, true)
    }

    #[test]
    fn a_batch_of_more_tokens_than_are_best_is_sliced() {
        let (short, long) = (data(100, 16), data(100, 128));
        let train = || Train { batch: BatchChoice::Examples(64), ..Train::default() };
        let whole = StepShape { batch: 64, most: Slicing { rows: usize::MAX, tokens: 1024 }, fill: 64, sliced: false };
        assert_eq!(shape(train(), None, &short), whole);
        let sliced = shape(train(), None, &long);
        assert_eq!(sliced, StepShape { fill: 1, sliced: true, ..whole });
        assert_eq!((sliced.tokens(&long), whole.tokens(&short)), (1024, 1024));
        let said = "the 64 examples of a step are computed in slices of at most 1024 tokens";
        assert_eq!((sliced.describe().as_deref(), whole.describe()), (Some(said), None));
        let on = |device, cheap| StepShape::of(&train(), &BatchShape::with_rows(None), &long, device, cheap).sliced;
        assert_eq!((on(Device::Cuda, true), on(Device::Cpu, false)), (false, false));
    }

    #[test]
    fn accumulated_batches_are_one_step_in_slices() {
        let data = data(100, 16);
        let found = shape(Train { batch: BatchChoice::Examples(8), accumulate: 4, ..Train::default() }, None, &data);
        assert_eq!((found.batch, found.most.rows, found.sliced), (32, 8, true));
        let slice = SliceChoice::Rows(3);
        let found =
            shape(Train { batch: BatchChoice::Examples(8), accumulate: 4, slice, ..Train::default() }, None, &data);
        assert_eq!((found.batch, found.most, found.tokens(&data)), (32, Slicing { rows: 3, ..Slicing::WHOLE }, 48));
        let all = shape(Train { batch: BatchChoice::Examples(64), accumulate: 4, ..Train::default() }, None, &data);
        assert_eq!((all.batch, all.most.rows), (100, 64), "no more than there are");
    }

    #[test]
    fn within_a_limit_less_is_computed_at_once() {
        let data = data(100, 16);
        let whole = shape(Train { batch: BatchChoice::Examples(32), ..Train::default() }, None, &data);
        assert_eq!((whole.sliced, whole.rows(&data)), (false, 32));
        let some = whole.within(5, &data);
        assert_eq!((some.batch, some.most.tokens, some.fill, some.sliced, some.rows(&data)), (32, 80, 1, true, 5));
    }

    #[test]
    fn within_a_limit_rows_are_counted_of_what_has_no_tokens_and_of_answers() {
        let train = Train { batch: BatchChoice::Examples(32), ..Train::default() };
        let of = |field: &dyn Fn() -> Vec<(&'static str, Field)>| {
            let examples = (0..40).map(|_| Example { fields: field() }).collect();
            Dataset::new(examples, PadTo::default())
        };
        let images = of(&|| vec![("x", Field::Real(1.0))]);
        let whole = StepShape::of(&train, &BatchShape::with_rows(None), &images, Device::Cpu, true);
        let some = whole.within(5, &images);
        assert_eq!((some.most, some.fill, some.rows(&images)), (Slicing { rows: 5, ..Slicing::WHOLE }, 1, 5));
        assert_eq!(
            some.describe().as_deref(),
            Some("the 32 examples of a step are computed in slices of at most 5 rows")
        );
        let tokens = |n: usize| Field::Tokens { ids: vec![1; n], pad: 0 };
        let answered = of(&|| vec![("input_ids", tokens(8)), ("labels", Field::Answer { ids: vec![1; 16], pad: 0 })]);
        let whole = StepShape::of(&train, &BatchShape::with_rows(None), &answered, Device::Cpu, true);
        let some = whole.within(5, &answered);
        assert_eq!((some.most, some.rows(&answered)), (Slicing { rows: 5, tokens: 1024 }, 5));
    }

    #[test]
    fn a_model_of_fixed_rows_is_fed_them() {
        let data = data(100, 16);
        let found = shape(Train { batch: BatchChoice::Examples(8), ..Train::default() }, Some(3), &data);
        assert_eq!((found.batch, found.most.rows, found.fill, found.sliced), (8, 3, 3, true));
        let found = shape(Train { batch: BatchChoice::Examples(2), ..Train::default() }, Some(3), &data);
        assert_eq!((found.batch, found.fill, found.sliced), (2, 3, false));
    }
}
