//! Losses of vectors of texts: by which of them are to be like each other.

use super::{LossTerms, total, wide};
use crate::{PassError, unit};
use lorac_ir::{DType, Dim, Fact};
use lorac_ops::Val;

/// What a text that only fills a batch is worth as a candidate, before the softmax.
const OUT: f64 = -1e9;

/// The second text of every pair against those of all pairs of a batch, and against every further text, as
/// `MultipleNegativesRankingLoss` of sentence-transformers has it: cross-entropy of the cosine similarities by a temperature.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InBatch {
    /// What similarities are divided by: the scale of sentence-transformers is its reciprocal.
    pub temperature: f64,
    /// Whether first texts are told by second ones as well, and both losses count by half:
    /// `MultipleNegativesSymmetricRankingLoss`.
    pub symmetric: bool,
}

/// Vectors of a batch of examples, each of length 1.
struct Texts<'e, 'g> {
    /// Of first texts `[examples, width]`.
    first: Val<'e, 'g>,
    /// Of the others `[texts - 1, examples, width]`.
    others: Val<'e, 'g>,
    /// The scores of the examples `[examples]`: NaN in those that only fill the batch.
    scores: Val<'e, 'g>,
    /// Whether there is no score.
    missing: Val<'e, 'g>,
}

impl<'e, 'g> Texts<'e, 'g> {
    /// Of vectors `[texts * examples, width]`, those of all first texts before those of second ones, and a new f32 input
    /// `scores` `[examples]`.
    fn of(vectors: Val<'e, 'g>, scores: &str) -> Result<Texts<'e, 'g>, PassError> {
        let e = vectors.emit();
        let fact = vectors.fact();
        let width = match fact.dims() {
            Some([_, width]) => width.known(),
            _ => None,
        };
        let width = width.ok_or_else(|| {
            PassError::Unsuitable(format!("the vectors of texts are [batch, width], and the prediction is {fact}"))
        })?;
        let scores = e.input(scores, Fact::new(DType::F32, [Dim::named("pairs")]));
        let shape = [e.ints(&[-1]), scores.shape(), e.ints(&[width])];
        let shape = e.op("Concat", &shape, &[("axis", 0i64.into())]);
        let apart = unit(wide(vectors)).binary("Reshape", shape);
        let first = e.op("Gather", &[apart, e.scalar(0.0, DType::I64)], &[("axis", 0i64.into())]);
        let others = e.op("Slice", &[apart, e.ints(&[1]), e.ints(&[i64::MAX]), e.ints(&[0])], &[]);
        Ok(Texts { first, others, scores, missing: scores.unary("IsNaN") })
    }

    /// Of second texts `[examples, width]`.
    fn second(&self) -> Val<'e, 'g> {
        let e = self.others.emit();
        e.op("Gather", &[self.others, e.scalar(0.0, DType::I64)], &[("axis", 0i64.into())])
    }

    /// How much every example counts.
    fn count(&self) -> Val<'e, 'g> {
        total(self.missing.unary("Not").cast(self.first.fact().dtype))
    }

    /// The sum over the examples that have a score.
    fn sum(&self, each: Val<'e, 'g>) -> Val<'e, 'g> {
        total(each.emit().op("Where", &[self.missing, each.like(0.0), each], &[]))
    }
}

impl InBatch {
    /// The loss of `vectors` `[texts * examples, width]`, those of all first texts before those of second ones, and so on;
    /// against a new f32 input `scores` `[examples]`, in which NaN says that an example only fills the batch.
    ///
    /// # Errors
    /// A prediction that is not `[batch, width]`.
    pub fn terms<'e, 'g>(&self, vectors: Val<'e, 'g>, scores: &str) -> Result<LossTerms<'e, 'g>, PassError> {
        let e = vectors.emit();
        let texts = Texts::of(vectors, scores)?;
        let (zero, out) = (texts.first.like(0.0), texts.first.like(OUT));
        let out = e.op("Where", &[texts.missing, out, zero], &[]);
        let own = texts.scores.positions(0).binary("Unsqueeze", e.ints(&[-1]));
        // Of every example the log-probability of the candidate at its own place.
        let told = |similarities: Val<'e, 'g>| {
            let log_prob = e.op("LogSoftmax", &[similarities], &[("axis", (-1i64).into())]);
            e.op("GatherElements", &[log_prob, own], &[("axis", (-1i64).into())]).binary("Squeeze", e.ints(&[-1]))
        };
        let scaled = |a: Val<'e, 'g>, b: Val<'e, 'g>| {
            let similarities = a.matmul(b.t());
            similarities * similarities.like(1.0 / self.temperature) + out
        };
        let all = scaled(texts.first, texts.others).transpose(&[1, 0, 2]);
        let rows = e.op("Concat", &[texts.scores.shape(), e.ints(&[-1])], &[("axis", 0i64.into())]);
        let mut each = told(all.binary("Reshape", rows));
        if self.symmetric {
            each = (each + told(scaled(texts.second(), texts.first))) * each.like(0.5);
        }
        Ok(LossTerms { sum: -texts.sum(each), count: texts.count() })
    }
}

/// Squares of the differences of the cosine similarities of first and second texts from scores, as `CosineSimilarityLoss` of
/// sentence-transformers has it: of `vectors` `[texts * examples, width]`, those of all first texts before those of second
/// ones, against a new f32 input `scores` `[examples]`, in which NaN does not count.
///
/// # Errors
/// A prediction that is not `[batch, width]`.
pub fn cosine_terms<'e, 'g>(vectors: Val<'e, 'g>, scores: &str) -> Result<LossTerms<'e, 'g>, PassError> {
    let texts = Texts::of(vectors, scores)?;
    let similarity = (texts.first * texts.second()).sum(&[-1], false);
    // NaN times 0 is NaN: what does not count is replaced on both sides.
    let far = similarity - texts.scores.cast(similarity.fact().dtype);
    let far = far.emit().op("Where", &[texts.missing, similarity.like(0.0), far], &[]);
    Ok(LossTerms { sum: texts.sum(far * far), count: texts.count() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::differentiate;
    use crate::loss::mean_loss;
    use lorac_ops::{Array, evaluate};

    /// Loss and gradient of vectors with their scores.
    fn run(
        terms: impl for<'e, 'g> FnOnce(Val<'e, 'g>) -> Result<LossTerms<'e, 'g>, PassError>,
        vectors: &[[f64; 2]],
        scores: &[f64],
    ) -> (f64, Vec<f64>) {
        let mut graph =
            lorac_ir::parse("graph g(%x: f64[N,2]) -> %y { %y = Identity(%x) : f64[N,2] }").expect("parses");
        let (x, y) = (graph.find("x").expect("x"), graph.outputs()[0]);
        let loss = mean_loss(&mut graph, y, terms).expect("a loss");
        let grads = differentiate(&mut graph, loss, &[x]).expect("differentiates");
        graph.set_outputs(vec![loss, grads[0]]).expect("there");
        let array = |dims: &[usize], v: Vec<f64>| Array::from_shape_vec(dims, v).expect("fits");
        let x = array(&[vectors.len(), 2], vectors.concat());
        let scores = array(&[scores.len()], scores.to_vec());
        let found = evaluate(&graph, &[("x", x), ("scores", scores)]).expect("evaluates");
        (found[0].sum(), found[1].iter().copied().collect())
    }

    fn cos(a: [f64; 2], b: [f64; 2]) -> f64 {
        (a[0] * b[0] + a[1] * b[1]) / (a[0].hypot(a[1]) * b[0].hypot(b[1]))
    }

    const A: [[f64; 2]; 2] = [[1.0, 0.5], [-0.25, 2.0]];
    const B: [[f64; 2]; 2] = [[0.5, -1.0], [3.0, 0.75]];
    const C: [[f64; 2]; 2] = [[-2.0, 0.5], [1.0, 1.25]];

    fn cross_entropy(candidates: &[f64], own: usize) -> f64 {
        candidates.iter().map(|x| x.exp()).sum::<f64>().ln() - candidates[own]
    }

    #[test]
    fn second_texts_are_told_from_those_of_the_batch_and_from_further_ones() {
        let loss = |symmetric| InBatch { temperature: 0.5, symmetric };
        let one = |i: usize, candidates: &[[f64; 2]]| {
            cross_entropy(&candidates.iter().map(|c| cos(A[i], *c) / 0.5).collect::<Vec<_>>(), i)
        };
        let pairs = [A, B].concat();
        let (got, _) = run(|y| loss(false).terms(y, "scores"), &pairs, &[1.0, 1.0]);
        let want = (one(0, &B) + one(1, &B)) / 2.0;
        assert!((got - want).abs() < 1e-12, "{got} is not {want}");
        let back = |i: usize| cross_entropy(&A.map(|a| cos(B[i], a) / 0.5), i);
        let (got, _) = run(|y| loss(true).terms(y, "scores"), &pairs, &[1.0, 1.0]);
        let both = (want + (back(0) + back(1)) / 2.0) / 2.0;
        assert!((got - both).abs() < 1e-12, "{got} is not {both}");
        let triples = [A, B, C].concat();
        let (got, _) = run(|y| loss(false).terms(y, "scores"), &triples, &[1.0, 1.0]);
        let all = [B, C].concat();
        let want = (one(0, &all) + one(1, &all)) / 2.0;
        assert!((got - want).abs() < 1e-12, "{got} is not {want}");
    }

    #[test]
    fn what_fills_a_batch_is_no_candidate_and_has_no_gradient() {
        let fill = [9.0, 7.0];
        let filled = [A[0], A[1], fill, B[0], B[1], fill].to_vec();
        for symmetric in [false, true] {
            let loss = InBatch { temperature: 0.05, symmetric };
            let (want, _) = run(|y| loss.terms(y, "scores"), &[A, B].concat(), &[1.0, 1.0]);
            let (got, grads) = run(|y| loss.terms(y, "scores"), &filled, &[1.0, 1.0, f64::NAN]);
            assert!((got - want).abs() < 1e-12, "{got} is not {want}");
            assert!(grads.iter().all(|g| g.is_finite()) && grads[0] != 0.0, "{grads:?}");
            assert_eq!((&grads[4..6], &grads[10..]), (&[0.0, 0.0][..], &[0.0, 0.0][..]));
        }
    }

    #[test]
    fn similarities_are_held_to_scores() {
        let pairs = [A[0], A[1], A[0], B[0], B[1], B[0]];
        let (got, grads) = run(|y| cosine_terms(y, "scores"), &pairs, &[0.5, -1.0, f64::NAN]);
        let want = ((cos(A[0], B[0]) - 0.5).powi(2) + (cos(A[1], B[1]) + 1.0).powi(2)) / 2.0;
        assert!((got - want).abs() < 1e-12, "{got} is not {want}");
        assert_eq!(grads[4..6], [0.0, 0.0]);
        assert!(grads.iter().all(|g| g.is_finite()));
    }
}
