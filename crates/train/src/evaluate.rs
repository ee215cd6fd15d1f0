//! A program over a whole set of held-out examples.

use crate::metric::{Evaluation, Prediction};
use crate::similar::Vectors;
use crate::{Feeds, TrainError};
use lorac_data::{Batch, Dataset, IGNORE, LABELS, Sampler};
use lorac_ir::{DType, Tensor};
use lorac_passes::Names;
use lorac_runtime::Program;

/// What an evaluation reads.
pub struct Evaluate<'a> {
    /// The examples, in order.
    pub data: &'a Dataset,
    /// The model's names for a batch.
    pub feeds: &'a Feeds,
    /// Rows of a batch, filled up.
    pub batch: usize,
    /// Whether the last one is filled up as well.
    pub fill: bool,
    /// What is predicted.
    pub kind: Prediction,
    /// The output that holds it; not read where nothing but the loss is.
    pub prediction: &'a str,
    /// Names of the classes or labels, each at its index; empty where they have none.
    pub classes: &'a [String],
    /// Names of the program's inputs and outputs that are not the model's.
    pub names: &'a Names,
}

/// Runs a program with the outputs of the loss's sum and count and the prediction over all examples. `on_batch` is told
/// how many were in each batch.
///
/// # Errors
/// What the engine says.
pub fn evaluate(
    program: &mut dyn Program,
    job: &Evaluate,
    mut on_batch: impl FnMut(usize),
) -> Result<Evaluation, TrainError> {
    let mut found = Evaluation { classes: job.classes.to_vec(), ..Evaluation::new(job.kind) };
    let predicts = job.kind.is_read();
    let mut fetch = vec![job.names.loss_sum.as_str(), job.names.loss_count.as_str()];
    fetch.extend(predicts.then_some(job.prediction));
    let mut vectors = Vectors::default();
    for rows in Sampler::sequential(job.data.len(), job.batch)?.epoch(0) {
        let batch = job.data.batch(&rows, if job.fill { job.batch } else { 0 })?;
        let tensors = job.feeds.for_program(program, &batch)?;
        let refs: Vec<(&str, &Tensor)> = tensors.iter().map(|(n, t)| (n.as_str(), t)).collect();
        let out = program.run(&refs, &fetch)?;
        let number = |i: usize| out.get(i).and_then(|t| t.to_f64()?.first().copied()).unwrap_or(f64::NAN);
        found.loss_sum += number(0);
        found.loss_count += number(1);
        if let Some(prediction) = out.get(2).filter(|_| predicts) {
            match job.kind {
                Prediction::Embeddings => vectors.add(&reals(prediction)?, &batch),
                _ => add(&mut found, prediction, &batch)?,
            }
        }
        on_batch(batch.real_rows);
    }
    if job.kind == Prediction::Embeddings {
        vectors.finish(&mut found, &job.data.examples);
    }
    Ok(found)
}

/// Adds what is predicted for the examples of a batch, and what was to be.
fn add(found: &mut Evaluation, prediction: &Tensor, batch: &Batch) -> Result<(), TrainError> {
    let predictions = reals(prediction)?;
    let targets = batch.get(LABELS).and_then(Tensor::to_f64).unwrap_or_default();
    let rows = match found.kind {
        Prediction::Labels => batch.rows,
        _ => targets.len(),
    };
    let width = predictions.len() / rows.max(1);
    // Filling examples come last.
    for example in 0..batch.real_rows {
        let of = |numbers: usize| {
            let each = numbers / batch.rows.max(1);
            example * each..(example + 1) * each
        };
        let (predictions, targets) = (&predictions[of(rows * width)], &targets[of(targets.len())]);
        let before = found.predictions.len();
        if found.kind == Prediction::Labels {
            found.predictions.extend(predictions);
            found.targets.extend(targets);
        } else {
            let counted = |target: &f64| *target != IGNORE as f64 || found.kind == Prediction::Values;
            for (row, target) in predictions.chunks_exact(width.max(1)).zip(targets).filter(|(_, t)| counted(t)) {
                found.predictions.extend(row);
                found.targets.push(*target);
            }
        }
        found.counts.push((found.predictions.len() - before) / width.max(1));
    }
    found.width = width;
    Ok(())
}

fn reals(tensor: &Tensor) -> Result<Vec<f32>, TrainError> {
    Ok(match tensor.dtype() {
        DType::F32 => tensor.to_vec()?,
        _ => tensor.to_f64().unwrap_or_default().into_iter().map(|x| x as f32).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Count;
    use crate::testing::{Calls, Fake, examples, feeds, scorer};
    use lorac_data::{Field, IGNORE};
    use lorac_passes::{LOSS_COUNT, LOSS_SUM};
    use lorac_runtime::RuntimeError;

    /// The evaluation of five examples in batches of two, the last of which is half empty, and the rows it told of.
    fn evaluated(mut program: Fake, kind: Prediction, targets: [Field; 5]) -> (Evaluation, Vec<usize>, Calls) {
        let dtype = if matches!(targets[0], Field::Real(_)) { DType::F32 } else { DType::I64 };
        let (data, feeds, mut rows) = (examples(targets), feeds(dtype), Vec::new());
        let names = ["a", "b"].map(String::from);
        let job = Evaluate {
            data: &data,
            feeds: &feeds,
            batch: 2,
            fill: true,
            kind,
            prediction: "logits",
            classes: &names,
            names: &Names::default(),
        };
        let found = evaluate(&mut program, &job, |n| rows.push(n)).expect("evaluates");
        (found, rows, program.calls())
    }

    /// The number of every row's example, times `width`; -1 in filling rows.
    fn first_ids(ids: &Tensor, width: usize) -> Vec<f64> {
        let ids = ids.to_f64().expect("numbers");
        let rows = ids.chunks(ids.len() / 2).map(|row| row[0]);
        rows.flat_map(|id| (0..width).map(move |k| id + k as f64 / 4.0)).collect()
    }

    #[test]
    fn classes_have_a_row_of_logits_and_a_target_for_every_example() {
        let program =
            scorer(DType::I64, |ids| Tensor::from_f64(DType::F32, &[2, 3], &first_ids(ids, 3)).expect("fits"));
        let targets = [2, 0, 1, 1, 2].map(Field::Int);
        let (found, rows, calls) = evaluated(program, Prediction::Classes, targets);
        assert_eq!(rows, [2, 2, 1]);
        assert_eq!((found.width, found.predictions.len(), &found.counts), (3, 15, &vec![1; 5]));
        assert_eq!(found.classes, ["a", "b"]);
        let read: Vec<(Vec<f32>, f64)> = found.rows().map(|(row, target)| (row.to_vec(), target)).collect();
        let want = [2.0, 0.0, 1.0, 1.0, 2.0].iter().enumerate();
        let want: Vec<_> = want.map(|(i, t)| ([0.0, 0.25, 0.5].map(|x| i as f32 + x).to_vec(), *t)).collect();
        assert_eq!(read, want, "in order, and nothing of the filling row");
        assert_eq!((found.loss_sum, found.loss_count, found.count()), (2.5, 5.0, Count::Examples(5)));
        assert!(calls.all().iter().all(|c| c.fetch == [LOSS_SUM, LOSS_COUNT, "logits"]));
        assert_eq!(calls.fed(LABELS)[2].to_vec::<i64>().expect("i64"), [2, IGNORE]);
    }

    #[test]
    fn tags_have_a_row_of_logits_for_every_token_with_a_target() {
        // The i-th example has i % 3 + 1 tokens; the last token of the third is the rest of a word.
        let tags: [&[i64]; 5] = [&[1], &[0, 2], &[2, 1, IGNORE], &[IGNORE], &[0, 0]];
        let program = scorer(DType::I64, |ids| {
            let rows = ids.to_f64().expect("numbers").into_iter().flat_map(|id| [id, id + 0.25, id + 0.5]);
            let dims = [ids.dims(), &[3]].concat();
            Tensor::from_f64(DType::F32, &dims, &rows.collect::<Vec<_>>()).expect("fits")
        });
        let targets = tags.map(|ids| Field::Tokens { ids: ids.to_vec(), pad: IGNORE });
        let (found, ..) = evaluated(program, Prediction::Tags, targets);
        assert_eq!((found.width, found.counts.as_slice()), (3, &[1, 2, 2, 0, 2][..]));
        assert_eq!(found.targets, [1., 0., 2., 2., 1., 0., 0.]);
        let firsts: Vec<Vec<f32>> = found.examples().map(|e| e.iter().map(|(row, _)| row[0]).collect()).collect();
        assert_eq!(firsts, [vec![0.], vec![1., 1.], vec![2., 2.], vec![], vec![4., 4.]]);
        assert_eq!(found.count(), Count::Tokens(7));
    }

    #[test]
    fn labels_have_a_target_for_every_logit() {
        let targets = [1., 0., f32::NAN, f32::NAN, f32::NAN, f32::NAN];
        let targets = Tensor::from_slice(&[2, 3], &targets).expect("fits");
        let batch = Batch { tensors: vec![(LABELS.into(), targets)], rows: 2, real_rows: 1, tokens: 0 };
        let mut found = Evaluation::new(Prediction::Labels);
        let logits = Tensor::from_slice(&[2, 3], &[0.5f32, 1., 2., 3., 4., 5.]).expect("fits");
        add(&mut found, &logits, &batch).expect("adds");
        assert_eq!((found.width, &found.counts, found.count()), (3, &vec![1], Count::Examples(1)));
        let (row, targets) = found.labels().next().expect("a row");
        assert_eq!((row, &targets[..2]), (&[0.5f32, 1., 2.][..], &[1., 0.][..]));
        assert!(targets[2].is_nan() && found.labels().count() == 1);
    }

    #[test]
    fn values_are_one_a_row_and_of_any_float_type() {
        for dims in [&[2][..], &[2, 1]] {
            let program =
                scorer(DType::F32, move |ids| Tensor::from_f64(DType::F16, dims, &first_ids(ids, 1)).expect("fits"));
            let targets = [0.5, 1.5, 2.5, 3.5, 4.5].map(Field::Real);
            let (found, ..) = evaluated(program, Prediction::Values, targets);
            assert_eq!(found.predictions, [0.0, 1.0, 2.0, 3.0, 4.0]);
            assert_eq!((found.width, found.targets), (1, vec![0.5, 1.5, 2.5, 3.5, 4.5]));
        }
    }

    #[test]
    fn of_tokens_only_the_loss_is_asked_for() {
        let tokens = |n: i64| Field::Tokens { ids: vec![n; n as usize % 3 + 1], pad: IGNORE };
        let program = scorer(DType::I64, |_| unreachable!("a prediction of tokens stays on the device"));
        let (found, _, calls) = evaluated(program, Prediction::Tokens, [0, 1, 2, 3, 4].map(tokens));
        // 1 + 2 + 3 + 1 + 2 tokens; padding and the filling row count for nothing.
        assert_eq!((found.loss_sum, found.loss_count, found.count()), (4.5, 9.0, Count::Tokens(9)));
        assert!(found.predictions.is_empty() && found.targets.is_empty());
        assert!(calls.all().iter().all(|c| c.fetch == [LOSS_SUM, LOSS_COUNT]));
    }

    #[test]
    fn an_error_of_the_engine_ends_the_evaluation() {
        let (data, feeds, mut runs) = (examples([0, 1, 2].map(Field::Int)), feeds(DType::I64), 0);
        let inputs = [("ids", DType::I64), (LABELS, DType::I64)];
        let mut program = Fake::new(&inputs, &[LOSS_SUM, LOSS_COUNT], Vec::new(), move |_, _| {
            runs += 1;
            match runs {
                1 => Ok([LOSS_SUM, LOSS_COUNT].map(|name| (name.to_string(), Tensor::scalar(1.0f32))).to_vec()),
                _ => Err(RuntimeError::Run { backend: "fake".into(), node: None, why: "out of memory".into() }),
            }
        });
        let job = Evaluate {
            data: &data,
            feeds: &feeds,
            batch: 1,
            fill: true,
            kind: Prediction::Tokens,
            prediction: "",
            classes: &[],
            names: &Names::default(),
        };
        let mut rows = 0;
        let result = evaluate(&mut program, &job, |n| rows += n);
        assert!(matches!(result, Err(TrainError::Runtime(_))), "{result:?}");
        assert_eq!((rows, program.calls().all().len()), (1, 2));
    }
}
