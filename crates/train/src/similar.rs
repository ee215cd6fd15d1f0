//! Vectors of texts, and which of them are like each other.

use crate::metric::Evaluation;
use lorac_data::{Batch, Example, Field, LABELS};
use lorac_ir::Tensor;
use std::collections::{HashMap, HashSet};
use std::panic::resume_unwind;

/// The vectors of all texts of a set of examples, divided by their lengths.
#[derive(Default)]
pub(crate) struct Vectors {
    /// Numbers of one.
    width: usize,
    /// The first text of every example.
    first: Vec<f32>,
    /// The other texts of every example, the second one first.
    others: Vec<Vec<f32>>,
    /// How alike the first two are said to be, NaN where nothing says it.
    scores: Vec<f64>,
}

impl Vectors {
    /// Adds what is predicted for a batch: the vectors of the first texts, then those of the second ones, and so on.
    pub(crate) fn add(&mut self, vectors: &[f32], batch: &Batch) {
        let scores = batch.get(LABELS).and_then(Tensor::to_f64).unwrap_or_default();
        let (examples, texts) = (scores.len().max(1), batch.rows / scores.len().max(1));
        self.width = vectors.len() / batch.rows.max(1);
        self.others.resize(texts.saturating_sub(1), Vec::new());
        let all: Vec<Vec<f32>> = vectors.chunks_exact(self.width.max(1)).map(unit).collect();
        for (text, rows) in all.chunks(examples).enumerate() {
            let real = rows.iter().take(batch.real_rows).flatten();
            match text.checked_sub(1) {
                None => self.first.extend(real),
                Some(text) => self.others[text].extend(real),
            }
        }
        self.scores.extend(scores.iter().take(batch.real_rows));
    }

    /// Says of every example how similar its first two texts are, and the place of the second among all other texts of all
    /// examples by their similarity to the first. Texts that are right answers of the same first text, or the same text again,
    /// take no place before it; any other that is as similar, or of no number, does: a model that makes one vector of all texts
    /// finds nothing.
    pub(crate) fn finish(self, found: &mut Evaluation, examples: &[Example]) {
        let (width, count) = (self.width.max(1), self.scores.len());
        let candidates: Vec<f32> = self.others.concat();
        let mut known = HashMap::new();
        let first = numbered(examples, 0, &mut known);
        let answers: Vec<usize> =
            (1..=self.others.len()).flat_map(|text| numbered(examples, text, &mut known)).collect();
        // Of every first text, what answers it.
        let mut right: HashMap<usize, HashSet<usize>> = HashMap::new();
        for (question, answer) in first.iter().zip(&answers) {
            right.entry(*question).or_default().insert(*answer);
        }
        let one = |example: usize| {
            let own = &self.first[example * width..(example + 1) * width];
            let to = |at: usize| dot(own, &candidates[at * width..(at + 1) * width]);
            let similarity = to(example);
            let own_answers = first.get(example).and_then(|question| right.get(question));
            let is_right = |at: usize| own_answers.is_some_and(|all| all.contains(&answers[at]));
            let is_closer = |at: usize| to(at).partial_cmp(&similarity).is_none_or(|order| order.is_ge());
            let before = (0..answers.len()).filter(|at| is_closer(*at) && !is_right(*at)).count();
            (similarity, 1 + before as u64)
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let each = count.div_ceil(cores).max(1);
        let places: Vec<usize> = (0..count).collect();
        let all: Vec<(f32, u64)> = std::thread::scope(|scope| {
            let parts: Vec<_> = places
                .chunks(each)
                .map(|part| scope.spawn(|| part.iter().map(|example| one(*example)).collect::<Vec<_>>()))
                .collect();
            parts.into_iter().flat_map(|part| part.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
        });
        found.width = 1;
        found.counts = vec![1; count];
        (found.predictions, found.ranks) = all.into_iter().unzip();
        found.targets = self.scores;
    }
}

/// The number of every example's text of this place: the same for the same text, wherever it stands.
fn numbered<'e>(examples: &'e [Example], text: usize, known: &mut HashMap<&'e [i64], usize>) -> Vec<usize> {
    let number = |example: &'e Example| {
        let ids = match example.field("input_ids") {
            Some(Field::Texts { ids, .. }) => ids.get(text).map_or(&[][..], Vec::as_slice),
            _ => &[],
        };
        let next = known.len();
        *known.entry(ids).or_insert(next)
    };
    examples.iter().map(number).collect()
}

/// A vector of length 1; what has no length is left as it is.
fn unit(vector: &[f32]) -> Vec<f32> {
    let length = dot(vector, vector).sqrt();
    let length = if length > 0.0 { length } else { 1.0 };
    vector.iter().map(|x| x / length).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    // Eight sums side by side, as one instruction has them.
    let mut sums = [0.0f32; 8];
    let (whole, rest) = (a.chunks_exact(8).zip(b.chunks_exact(8)), a.len() / 8 * 8);
    for (a, b) in whole {
        for i in 0..8 {
            sums[i] += a[i] * b[i];
        }
    }
    let rest: f32 = a[rest..].iter().zip(&b[rest..]).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Prediction;

    fn example(texts: &[i64]) -> Example {
        let ids = texts.iter().map(|id| vec![*id]).collect();
        Example { fields: vec![("input_ids", Field::Texts { ids, pad: 0 })] }
    }

    fn found(vectors: &[[f32; 2]], examples: &[Example], scores: &[f32], real_rows: usize) -> Evaluation {
        let labels = Tensor::vector(scores);
        let batch = Batch { tensors: vec![(LABELS.into(), labels)], rows: vectors.len(), real_rows, tokens: 0 };
        let (mut all, mut found) = (Vectors::default(), Evaluation::new(Prediction::Embeddings));
        all.add(&vectors.concat(), &batch);
        all.finish(&mut found, examples);
        found
    }

    #[test]
    fn the_place_of_the_second_text_is_that_of_its_similarity() {
        let examples = [example(&[1, 11]), example(&[2, 12])];
        // A third example fills the batch.
        let vectors = [[2.0, 0.0], [0.0, 1.0], [9.0, 9.0], [1.0, 1.0], [3.0, 0.1], [9.0, 9.0]];
        let got = found(&vectors, &examples, &[1.0, f32::NAN, f32::NAN], 2);
        assert!((got.predictions[0] - 0.5f32.sqrt()).abs() < 1e-6, "{:?}", got.predictions);
        assert_eq!(got.ranks, [2, 2]);
        assert_eq!((got.targets[0], got.targets[1].is_nan(), got.width), (1.0, true, 1));
    }

    #[test]
    fn other_right_answers_and_the_same_text_take_no_place() {
        let vectors = [[1.0, 0.0], [1.0, 0.0], [1.0, 1.0], [1.0, 0.0]];
        let ranks = |examples: [Example; 2]| found(&vectors, &examples, &[1.0; 2], 2).ranks;
        assert_eq!(ranks([example(&[1, 11]), example(&[2, 12])]), [2, 1]);
        assert_eq!(ranks([example(&[1, 11]), example(&[1, 12])]), [1, 1], "both answer the same text");
        assert_eq!(ranks([example(&[1, 11]), example(&[2, 11])]), [1, 1], "the same text");
    }

    #[test]
    fn vectors_that_are_all_the_same_or_no_numbers_find_nothing() {
        let examples: Vec<Example> = (0..3).map(|i| example(&[i, 10 + i])).collect();
        let got = found(&[[1.0, 2.0]; 6], &examples, &[1.0; 3], 3);
        assert_eq!(got.ranks, [3, 3, 3]);
        let got = found(&[[f32::NAN; 2]; 6], &examples, &[1.0; 3], 3);
        assert!(got.ranks == [3, 3, 3] && got.predictions.iter().all(|x| x.is_nan()), "{got:?}");
        let one = [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [f32::NAN, 1.0]];
        assert_eq!(found(&one, &examples[..2], &[1.0; 2], 2).ranks, [2, 2], "of one text");
    }

    #[test]
    fn further_texts_are_candidates_and_right_for_nobody() {
        // One example: the second text and a third one that is closer.
        let got = found(&[[1.0, 0.0], [1.0, 1.0], [1.0, 0.5]], &[example(&[1, 2, 3])], &[1.0], 1);
        assert_eq!(got.ranks, [2]);
    }

    #[test]
    fn products_of_any_length_are_summed() {
        let a: Vec<f32> = (0..19).map(|i| i as f32).collect();
        assert_eq!(dot(&a, &a), (0..19).map(|i| (i * i) as f32).sum::<f32>());
        assert_eq!(unit(&[0.0, 0.0]), [0.0, 0.0]);
    }
}
