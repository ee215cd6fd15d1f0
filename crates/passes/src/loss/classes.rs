//! Losses of classes: one of many, with weights and smoothing, or several at once.

use super::{LossTerms, index_of, rows, total, wide};
use crate::PassError;
use lorac_ir::{DType, Fact, Tensor};
use lorac_ops::Val;

/// Cross-entropy with weights of classes and smoothed labels, as PyTorch's `CrossEntropyLoss(weight, label_smoothing)`, or as
/// the focal loss of [Lin et al. 2017](https://arxiv.org/abs/1708.02002): each times (1 - p)^gamma of the label's probability.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CrossEntropy {
    /// A weight for every class; all count alike where there is none.
    pub weights: Option<Vec<f64>>,
    /// How much of every label is spread over all classes.
    pub smoothing: f64,
    /// gamma of the focal loss; 0 is none. No label is smoothed beside it.
    pub focal: f64,
}

impl CrossEntropy {
    /// The loss of `logits` `[.., classes]` against a new input `labels` `[..]` of class indices, where -100 does not count.
    /// What counts is the weight of the label, up to a common factor of all weights, by which their smallest is 1.
    ///
    /// # Errors
    /// Logits without an axis of classes, or of another number of classes than there are weights.
    pub fn terms<'e, 'g>(&self, logits: Val<'e, 'g>, labels: &str) -> Result<LossTerms<'e, 'g>, PassError> {
        if self.weights.is_none() && self.smoothing == 0.0 && self.focal == 0.0 {
            return super::cross_entropy_terms(logits, labels);
        }
        let e = logits.emit();
        let labels = e.input(labels, Fact::new(DType::I64, rows(logits)?));
        let (counted, index) = index_of(labels);
        let log_prob = wide(e.op("LogSoftmax", &[logits], &[("axis", (-1i64).into())]));
        let dtype = log_prob.fact().dtype;
        let picked = e.op("GatherElements", &[log_prob, index], &[("axis", (-1i64).into())]);
        let picked = picked.binary("Squeeze", e.ints(&[-1]));
        let classes = log_prob.fact().dims().and_then(|d| d.last()?.known());
        let classes =
            classes.ok_or_else(|| PassError::Unsuitable("the number of the logits' classes is not known".into()))?;
        let count = counted.cast(dtype);
        let (mut own, mut all, mut counts) = (picked, log_prob, count);
        if let Some(weights) = &self.weights {
            if weights.len() as i64 != classes {
                let why = format!("there are {} weights for {classes} classes", weights.len());
                return Err(PassError::Unsuitable(why));
            }
            let weights = constant(e, &scaled(weights)).cast(dtype);
            let of_label = weights.binary("Gather", index.binary("Squeeze", e.ints(&[-1])));
            (own, all, counts) = (picked * of_label, log_prob * weights, count * of_label);
        }
        if self.focal > 0.0 {
            // A label that is certain has no logarithm to weigh, and a power of 0 no slope.
            let rest = picked.like(1.0) - picked.unary("Exp");
            let rest = rest.binary("Max", rest.like(f64::from(f32::EPSILON) / 4.0));
            own = own * rest.binary("Pow", rest.like(self.focal));
        }
        if self.smoothing > 0.0 {
            let spread = all.sum(&[-1], false);
            own = own * own.like(1.0 - self.smoothing) + spread * spread.like(self.smoothing / classes as f64);
        }
        // A class at minus infinity has no finite logarithm, and times 0 it is NaN.
        let own = e.op("Where", &[counted, own, own.like(0.0)], &[]);
        Ok(LossTerms { sum: -total(own), count: total(counts) })
    }
}

/// Cross-entropy of several classes at once, as PyTorch's `BCEWithLogitsLoss(pos_weight)`: the mean over classes and rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BinaryCrossEntropy {
    /// What a class counts where it is there, for every class; 1 where there is none.
    pub pos_weights: Option<Vec<f64>>,
}

impl BinaryCrossEntropy {
    /// The loss of `logits` `[.., classes]` against a new f32 input `targets` of their shape, between 0 and 1, where NaN does
    /// not count.
    ///
    /// # Errors
    /// Logits of another number of classes than there are weights.
    pub fn terms<'e, 'g>(&self, logits: Val<'e, 'g>, targets: &str) -> Result<LossTerms<'e, 'g>, PassError> {
        let e = logits.emit();
        let fact = logits.fact();
        let classes = fact.dims().and_then(|d| d.last()?.known());
        let targets = e.input(targets, Fact { dtype: DType::F32, ..fact });
        let logits = wide(logits);
        let targets = targets.cast(logits.fact().dtype);
        let missing = targets.unary("IsNaN");
        let y = e.op("Where", &[missing, targets.like(0.0), targets], &[]);
        let mut there = y;
        if let Some(weights) = &self.pos_weights {
            if Some(weights.len() as i64) != classes {
                let shown = classes.map_or("?".into(), |n| n.to_string());
                return Err(PassError::Unsuitable(format!("there are {} weights for {shown} classes", weights.len())));
            }
            there = y * constant(e, weights).cast(logits.fact().dtype);
        }
        // Of two logits, x and 0, the first has the probability sigmoid(x): their logarithms are finite for any x, and so are
        // the gradients, on every engine.
        let pair = |a: Val<'e, 'g>, b: Val<'e, 'g>| {
            let apart = [a, b].map(|x| x.binary("Unsqueeze", e.ints(&[-1])));
            e.op("Concat", &apart, &[("axis", (-1i64).into())])
        };
        let zeros = logits.zeros_like();
        let log_prob = e.op("LogSoftmax", &[pair(logits, zeros)], &[("axis", (-1i64).into())]);
        let own = (log_prob * pair(there, y.like(1.0) - y)).sum(&[-1], false);
        let own = e.op("Where", &[missing, own.like(0.0), own], &[]);
        let counted = missing.unary("Not").cast(own.fact().dtype);
        Ok(LossTerms { sum: -total(own), count: total(counted) })
    }
}

/// Weights whose smallest above zero is 1: a mean is the same for all factors, and what counts is never less than one label.
fn scaled(weights: &[f64]) -> Vec<f64> {
    let least = weights.iter().copied().filter(|w| *w > 0.0).fold(f64::INFINITY, f64::min);
    weights.iter().map(|w| if least.is_finite() { w / least } else { *w }).collect()
}

fn constant<'e, 'g>(e: &'e lorac_ops::Emit<'g>, numbers: &[f64]) -> Val<'e, 'g> {
    let numbers: Vec<f32> = numbers.iter().map(|x| *x as f32).collect();
    e.weight("class_weights", Tensor::vector(&numbers))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::mean_loss;
    use crate::{differentiate, rewrite};
    use lorac_ir::Graph;
    use lorac_ops::{Array, evaluate};

    fn array(dims: &[usize], v: &[f64]) -> Array {
        Array::from_shape_vec(dims, v.to_vec()).expect("fits")
    }

    fn graph() -> Graph {
        lorac_ir::parse("graph g(%x: f64[3,3]) -> %y { %y = Identity(%x) : f64[3,3] }").expect("parses")
    }

    const X: [f64; 9] = [0.5, -1.0, 2.0, 0.0, 0.25, -0.75, 1.0, 1.0, -2.0];

    /// The loss and its gradient by `terms` on [`X`].
    fn run(
        terms: impl for<'e, 'g> FnOnce(Val<'e, 'g>) -> Result<LossTerms<'e, 'g>, PassError>,
        labels: &[f64],
    ) -> (f64, Vec<f64>) {
        let mut graph = graph();
        let (x, y) = (graph.find("x").expect("x"), graph.outputs()[0]);
        let loss = mean_loss(&mut graph, y, terms).expect("a loss");
        let grads = differentiate(&mut graph, loss, &[x]).expect("differentiates");
        graph.set_outputs(vec![loss, grads[0]]).expect("there");
        let dims: &[usize] = if labels.len() == 3 { &[3] } else { &[3, 3] };
        let found = evaluate(&graph, &[("x", array(&[3, 3], &X)), ("labels", array(dims, labels))]).expect("evaluates");
        (found[0].sum(), found[1].iter().copied().collect())
    }

    #[test]
    fn a_focal_loss_counts_what_is_known_less() {
        let (labels, gamma, w) = ([1usize, 0], 2.0, [0.5, 2.0, 1.0]);
        for (weights, of) in [(None, [1.0; 3]), (Some(w.to_vec()), w)] {
            let loss = CrossEntropy { weights, smoothing: 0.0, focal: gamma };
            let (mut sum, mut count) = (0.0, 0.0);
            for (row, label) in labels.into_iter().enumerate() {
                let p = log_prob(row)[label];
                sum -= of[label] * (1.0 - p.exp()).powf(gamma) * p;
                count += of[label];
            }
            let (got, grads) = run(|y| loss.terms(y, "labels"), &[1.0, 0.0, -100.0]);
            assert!((got - sum / count).abs() < 1e-12, "{got} is not {}", sum / count);
            assert!(grads[..6].iter().all(|g| g.is_finite() && *g != 0.0) && grads[6..] == [0.0; 3], "{grads:?}");
        }
    }

    fn log_prob(row: usize) -> [f64; 3] {
        let x = &X[row * 3..row * 3 + 3];
        let sum: f64 = x.iter().map(|x| x.exp()).sum();
        [0, 1, 2].map(|c| x[c] - sum.ln())
    }

    #[test]
    fn weights_and_smoothing_are_pytorch_s() {
        let (w, e, labels) = ([0.5, 2.0, 0.0], 0.1, [1usize, 0]);
        let loss = CrossEntropy { weights: Some(w.to_vec()), smoothing: e, focal: 0.0 };
        let (mut sum, mut count) = (0.0, 0.0);
        for (row, label) in labels.into_iter().enumerate() {
            let p = log_prob(row);
            sum -= (1.0 - e) * w[label] * p[label] + e / 3.0 * (0..3).map(|c| w[c] * p[c]).sum::<f64>();
            count += w[label];
        }
        let (got, grads) = run(|y| loss.terms(y, "labels"), &[1.0, 0.0, -100.0]);
        assert!((got - sum / count).abs() < 1e-12, "{got} is not {}", sum / count);
        assert_eq!(grads[6..], [0.0; 3], "what is ignored has no gradient");
        assert!(grads[..6].iter().all(|g| g.is_finite() && *g != 0.0), "{grads:?}");
        // All weights times anything is the same mean.
        let tenth = CrossEntropy { weights: Some(w.map(|w| w / 10.0).to_vec()), ..loss.clone() };
        assert_eq!(run(|y| tenth.terms(y, "labels"), &[1.0, 0.0, -100.0]), (got, grads));
        assert_eq!(run(|y| loss.terms(y, "labels"), &[-100.0; 3]).0, 0.0);
        let plain = run(|y| CrossEntropy::default().terms(y, "labels"), &[1.0, 0.0, 2.0]);
        let ones = CrossEntropy { weights: Some(vec![7.0; 3]), ..CrossEntropy::default() };
        let ones = run(|y| ones.terms(y, "labels"), &[1.0, 0.0, 2.0]);
        assert!((plain.0 - ones.0).abs() < 1e-12);
    }

    #[test]
    fn several_classes_are_a_sigmoid_each() {
        let targets = [1.0, 0.0, 1.0, 0.0, 0.5, f64::NAN, 1.0, 1.0, 1.0];
        let p = [1.0, 3.0, 0.5];
        let loss = BinaryCrossEntropy { pos_weights: Some(p.to_vec()) };
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let mut want = 0.0;
        let mut grad = Vec::new();
        for (i, (x, y)) in X.iter().zip(targets).enumerate() {
            let s = sigmoid(*x);
            let (own, slope) = match y.is_nan() {
                true => (0.0, 0.0),
                false => {
                    (-(p[i % 3] * y * s.ln() + (1.0 - y) * (1.0 - s).ln()), (1.0 - y) * s - p[i % 3] * y * (1.0 - s))
                }
            };
            want += own / 8.0;
            grad.push(slope / 8.0);
        }
        let (got, grads) = run(|y| loss.terms(y, "labels"), &targets);
        assert!((got - want).abs() < 1e-12, "{got} is not {want}");
        for (got, want) in grads.iter().zip(&grad) {
            assert!((got - want).abs() < 1e-12, "{grads:?} is not {grad:?}");
        }
        assert_eq!(run(|y| loss.terms(y, "labels"), &[f64::NAN; 9]), (0.0, vec![0.0; 9]));
    }

    #[test]
    fn weights_are_as_many_as_classes() {
        for terms in [0, 1] {
            let wrong = rewrite(&mut graph(), "loss", |e| {
                let y = e.val(e.graph().outputs()[0]);
                match terms {
                    0 => CrossEntropy { weights: Some(vec![1.0]), ..CrossEntropy::default() }
                        .terms(y, "labels")
                        .map(|_| ()),
                    _ => BinaryCrossEntropy { pos_weights: Some(vec![1.0]) }.terms(y, "labels").map(|_| ()),
                }
            });
            assert!(wrong.expect_err("one weight").to_string().contains("1 weights for 3 classes"));
        }
    }
}
