//! Losses of what a model says against what another one says of the same.

use super::{LossTerms, total, wide};
use crate::PassError;
use lorac_ir::Dim;
use lorac_ops::Val;

/// How far what a model says is from what its teacher says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Alike {
    /// The Kullback-Leibler divergence of the softmax of its logits from that of the teacher's, both divided by a temperature, times
    /// its square ([Hinton et al. 2015](https://arxiv.org/abs/1503.02531)).
    Divergence {
        /// The temperature.
        temperature: f64,
    },
    /// The mean of the squares of their differences.
    Squares,
}

impl Alike {
    /// The loss of `student` from `teacher`, both `[.., width]`, over the rows for which `counted`, booleans `[..]`, says so.
    ///
    /// # Errors
    /// Values of other widths.
    pub fn terms<'e, 'g>(
        self,
        student: Val<'e, 'g>,
        teacher: Val<'e, 'g>,
        counted: Val<'e, 'g>,
    ) -> Result<LossTerms<'e, 'g>, PassError> {
        let e = student.emit();
        let width = |v: Val| v.fact().dims().and_then(|dims| dims.last().and_then(|d: &Dim| d.known()));
        let (have, want) = (student.fact(), teacher.fact());
        if have.rank() != want.rank() || width(student) != width(teacher) || width(student).is_none() {
            return Err(PassError::Unsuitable(format!("the model says {have}, and its teacher {want}")));
        }
        let (student, teacher) = (wide(student), wide(teacher).cast(wide(student).fact().dtype));
        let each = match self {
            Alike::Divergence { temperature } => {
                let log = |v: Val<'e, 'g>| {
                    let scaled = v * v.like(1.0 / temperature);
                    e.op("LogSoftmax", &[scaled], &[("axis", (-1i64).into())])
                };
                let (own, other) = (log(student), log(teacher));
                let sum = (other.unary("Exp") * (other - own)).sum(&[-1], false);
                sum * sum.like(temperature * temperature)
            }
            Alike::Squares => {
                let far = student - teacher;
                e.op("ReduceMean", &[far * far, e.ints(&[-1])], &[("keepdims", 0i64.into())])
            }
        };
        let each = e.op("Where", &[counted, each, each.like(0.0)], &[]);
        Ok(LossTerms { sum: total(each), count: total(counted.cast(each.fact().dtype)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::differentiate;
    use crate::loss::mean_loss;
    use lorac_ops::{Array, evaluate};

    #[test]
    fn divergence_and_squares_are_those_of_pytorch() {
        let (x, y, t) = ([0.5, -1.0, 2.0, 0.0, 0.25, -0.75], [1.0, 0.0, -0.5, 0.5, 0.5, 2.0], 2.0f64);
        let softmax = |v: &[f64]| {
            let all: Vec<f64> = v.iter().map(|x| (x / t).exp()).collect();
            let sum: f64 = all.iter().sum();
            all.into_iter().map(|x| x / sum).collect::<Vec<_>>()
        };
        let (p, q) = (softmax(&y[..3]), softmax(&x[..3]));
        let divergence: f64 = p.iter().zip(&q).map(|(p, q)| p * (p.ln() - q.ln())).sum::<f64>() * t * t;
        let squares = x[..3].iter().zip(&y[..3]).map(|(a, b)| (a - b) * (a - b)).sum::<f64>() / 3.0;
        for (alike, want) in [(Alike::Divergence { temperature: t }, divergence), (Alike::Squares, squares)] {
            let text = "graph g(%x: f64[2,3], %t: f64[2,3], %m: bool[2]) -> %y { %y = Identity(%x) : f64[2,3] }";
            let mut graph = lorac_ir::parse(text).expect("parses");
            let (input, out) = (graph.find("x").expect("x"), graph.outputs()[0]);
            let (teacher, counted) = (graph.find("t").expect("t"), graph.find("m").expect("m"));
            let loss = mean_loss(&mut graph, out, |student| {
                let e = student.emit();
                alike.terms(student, e.val(teacher), e.val(counted))
            })
            .expect("a loss");
            let grads = differentiate(&mut graph, loss, &[input]).expect("differentiates");
            graph.set_outputs(vec![loss, grads[0]]).expect("there");
            let array = |dims: &[usize], v: &[f64]| Array::from_shape_vec(dims, v.to_vec()).expect("fits");
            let feeds = [("x", array(&[2, 3], &x)), ("t", array(&[2, 3], &y)), ("m", array(&[2], &[1.0, 0.0]))];
            let found = evaluate(&graph, &feeds).expect("evaluates");
            assert!((found[0].sum() - want).abs() < 1e-12, "{alike:?}: {} is not {want}", found[0]);
            let grads: Vec<f64> = found[1].iter().copied().collect();
            assert!(grads[3..] == [0.0; 3] && grads[..3].iter().all(|g| *g != 0.0 && g.is_finite()), "{grads:?}");
        }
    }
}
