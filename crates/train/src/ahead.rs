//! Batches that are made while the engine computes those before.

use crate::{Feeds, TrainError};
use lorac_data::{DataError, Dataset, Example, Masking, Sampler, Slicing};
use lorac_ir::Tensor;
use std::sync::mpsc::{Receiver, sync_channel};

/// A batch of a stream with the number of its epoch, from 0.
pub type Drawn = Result<(u64, Vec<Example>), DataError>;

/// Examples that are never there all at once.
pub trait Stream: Sync {
    /// The batches behind the first `taken`, each with its epoch, epoch after epoch. The same whenever it is asked. The first
    /// error is the last.
    fn batches(&self, taken: u64) -> Box<dyn Iterator<Item = Drawn> + '_>;

    /// How many batches an epoch has, where they are counted; else more than any training has.
    fn batches_per_epoch(&self) -> u64;
}

/// No batch has more examples.
const MOST_EXAMPLES: u64 = 1 << 20;

/// What batches are made of.
pub(crate) struct Maker<'a> {
    /// The examples; of a stream, some of them, whose padding is that of all.
    pub(crate) data: &'a Dataset,
    /// Where the examples come from, where they are not all there.
    pub(crate) stream: Option<&'a dyn Stream>,
    /// The model's names for a batch.
    pub(crate) feeds: &'a Feeds,
    /// Order of the examples.
    pub(crate) sampler: &'a Sampler,
    /// The most of a batch that is computed at once.
    pub(crate) slicing: Slicing,
    /// Rows that what is computed at once is filled up to.
    pub(crate) rows: usize,
    /// The inputs of the program.
    pub(crate) inputs: Vec<String>,
}

/// A batch as a program takes it.
#[derive(Debug, PartialEq)]
pub(crate) struct StepBatch {
    /// The epoch, from 0.
    pub(crate) epoch: u64,
    /// The tensors of its slices.
    pub(crate) slices: Vec<Vec<(String, Tensor)>>,
    /// Tokens of all of them, padding excluded.
    pub(crate) tokens: usize,
}

/// The batches of the steps behind `taken` up to `total`, in their order, as `consume` takes them; up to two are made ahead.
/// An error is the last.
pub(crate) fn ahead<T>(
    maker: &Maker,
    taken: u64,
    total: u64,
    consume: impl FnOnce(&Receiver<Result<StepBatch, TrainError>>) -> T,
) -> T {
    std::thread::scope(|scope| {
        let (send, receive) = sync_channel(1);
        scope.spawn(move || {
            let batches: Box<dyn Iterator<Item = _>> = match maker.stream {
                None => Box::new(maker.batches(taken, total)),
                Some(stream) => Box::new(maker.streamed(stream, taken, total)),
            };
            for made in batches {
                let failed = made.is_err();
                // Nobody takes more where the training has ended.
                if send.send(made).is_err() || failed {
                    return;
                }
            }
        });
        let result = consume(&receive);
        // Whoever waits to hand one over must not wait for ever.
        drop(receive);
        result
    })
}

impl Maker<'_> {
    fn batches(&self, taken: u64, total: u64) -> impl Iterator<Item = Result<StepBatch, TrainError>> {
        let per_epoch = self.sampler.batches_per_epoch().max(1) as u64;
        let first = taken / per_epoch;
        let skip = usize::try_from(taken % per_epoch).unwrap_or(usize::MAX);
        let epochs = (first..).flat_map(|epoch| self.sampler.epoch(epoch).map(move |rows| (epoch, rows)));
        let left = usize::try_from(total.saturating_sub(taken)).unwrap_or(usize::MAX);
        epochs.skip(skip).take(left).map(|(epoch, rows)| self.batch(epoch, &rows))
    }

    fn streamed(
        &self,
        stream: &dyn Stream,
        taken: u64,
        total: u64,
    ) -> impl Iterator<Item = Result<StepBatch, TrainError>> {
        (taken..total).zip(stream.batches(taken)).map(|(step, drawn)| {
            let (epoch, examples) = drawn?;
            let before = step.saturating_mul(MOST_EXAMPLES);
            let masking = self.data.masking.clone().map(|masking| Masking { before, ..masking });
            let data = Dataset { masking, ..Dataset::new(examples, self.data.pad) };
            self.of(&data, epoch, &(0..data.len()).collect::<Vec<_>>())
        })
    }

    fn batch(&self, epoch: u64, rows: &[usize]) -> Result<StepBatch, TrainError> {
        self.of(self.data, epoch, rows)
    }

    fn of(&self, data: &Dataset, epoch: u64, rows: &[usize]) -> Result<StepBatch, TrainError> {
        let mut batch = StepBatch { epoch, slices: Vec::new(), tokens: 0 };
        for slice in data.slices(rows, &self.slicing) {
            let slice = data.batch_of(epoch, &slice, self.rows)?;
            batch.tokens += slice.tokens;
            batch.slices.push(self.feeds.for_inputs(&self.inputs, &slice)?);
        }
        Ok(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{examples, feeds};
    use lorac_data::{Field, LABELS};
    use lorac_ir::DType;

    /// Of five examples, two in a batch.
    fn with_maker<T>(slicing: Slicing, fields: DType, f: impl FnOnce(&Maker) -> T) -> T {
        let data = examples((0..5).map(|i| Field::Real(i as f32)));
        let sampler = Sampler::new(5, 2, 3, false).expect("a sampler");
        let inputs = ["ids", LABELS].map(String::from).to_vec();
        let (feeds, rows) = (feeds(fields), 1);
        f(&Maker { data: &data, stream: None, feeds: &feeds, sampler: &sampler, slicing, rows, inputs })
    }

    #[test]
    fn batches_come_in_their_order_from_any_step_on() {
        with_maker(Slicing::WHOLE, DType::F32, |maker| {
            let all = |taken, total| {
                ahead(maker, taken, total, |batches| batches.iter().map(|b| b.expect("fits")).collect::<Vec<_>>())
            };
            let (whole, rest) = (all(0, 8), all(4, 8));
            assert_eq!(whole.iter().map(|b| b.epoch).collect::<Vec<_>>(), [0, 0, 0, 1, 1, 1, 2, 2]);
            assert_eq!(rest, whole[4..]);
            assert_eq!((all(8, 8), all(9, 8)), (Vec::new(), Vec::new()));
        });
    }

    /// Batches of one example each, three an epoch.
    struct Three(Dataset);

    impl Stream for Three {
        fn batches(&self, taken: u64) -> Box<dyn Iterator<Item = Drawn> + '_> {
            let one = |n: u64| (n / 3, vec![self.0.examples[(n % 3) as usize].clone()]);
            Box::new((taken..7).map(move |n| Ok(one(n))).chain([Err(DataError::NoClasses)]))
        }

        fn batches_per_epoch(&self) -> u64 {
            3
        }
    }

    #[test]
    fn a_stream_is_drawn_from_any_step_on_to_its_first_error() {
        with_maker(Slicing::WHOLE, DType::F32, |maker| {
            let stream = Three(maker.data.clone());
            let maker = Maker { stream: Some(&stream), inputs: maker.inputs.clone(), ..*maker };
            let all = |taken, total| ahead(&maker, taken, total, |batches| batches.iter().collect::<Vec<_>>());
            let epochs: Vec<u64> = all(2, 5).into_iter().map(|b| b.expect("fits").epoch).collect();
            assert_eq!(epochs, [0, 1, 1]);
            let to_the_end = all(5, 99);
            assert!(to_the_end.len() == 3 && matches!(to_the_end[2], Err(TrainError::Data(DataError::NoClasses))));
        });
    }

    #[test]
    fn slices_hold_rows_of_like_length() {
        with_maker(Slicing { rows: 1, ..Slicing::WHOLE }, DType::F32, |maker| {
            let batch = maker.batch(0, &[4, 0]).expect("fits");
            let ids = |slice: &Vec<(String, Tensor)>| slice[0].1.to_vec::<i64>().expect("i64")[0];
            // The fifth example has two tokens, the first has one.
            assert_eq!((batch.slices.iter().map(ids).collect::<Vec<_>>(), batch.tokens), (vec![0, 4], 3));
        });
    }

    #[test]
    fn who_takes_no_more_waits_for_nothing_and_an_error_is_the_last() {
        with_maker(Slicing::WHOLE, DType::F32, |maker| {
            assert!(ahead(maker, 0, u64::MAX, |batches| batches.recv().is_ok_and(|b| b.is_ok())));
        });
        with_maker(Slicing::WHOLE, DType::F32, |maker| {
            let unknown = Feeds {
                inputs: vec![crate::Binding { field: "x".into(), ..maker.feeds.inputs[0].clone() }],
                ..Feeds::default()
            };
            let maker = Maker { feeds: &unknown, inputs: maker.inputs.clone(), ..*maker };
            let all: Vec<_> = ahead(&maker, 0, 9, |batches| batches.iter().collect());
            assert!(matches!(all.as_slice(), [Err(TrainError::NoField { .. })]), "{all:?}");
        });
    }
}
