//! LRN: each element against its neighbours in other channels.

use super::*;
use crate::Attribute::{Float, Int};
use crate::Operand::Any;
use crate::case;
use crate::family::conv::window::stated;
use lorac_ir::Tensor;
use ndarray::Axis;

pub(super) const LRN: Op = Op {
    name: "LRN",
    infer: |c| {
        reach(c.node)?;
        match c.fact(0) {
            fact if fact.rank().is_some_and(|r| r < 2) => {
                Err(InferError::Operand { slot: 0, got: fact, want: "rank 2 or more".into() })
            }
            fact => one(fact),
        }
    },
    eval: |a| {
        let x = a.x(0)?;
        let (before, after) = reach(a.node).map_err(|e| EvalError::Invalid(e.to_string()))?;
        let [_, channels, ..] = *x.shape() else { return invalid("LRN takes rank 2 or more") };
        let (alpha, beta, bias) = coefficients(a.node);
        let size = (before + after + 1) as f64;
        let mut y = x.clone();
        for c in 0..channels {
            let near = c.saturating_sub(before as usize)..(c + after as usize + 1).min(channels);
            let mut squares = Array::zeros(x.index_axis(Axis(1), c).shape());
            near.for_each(|i| squares += &x.index_axis(Axis(1), i).mapv(|x| x * x));
            let mut plane = y.index_axis_mut(Axis(1), c);
            plane.zip_mut_with(&squares, |x, s| *x /= (bias + alpha / size * s).powf(beta));
        }
        Ok(vec![y])
    },
    // Neighbours are summed by a convolution over channels.
    grad: Grad::lower(
        |e, node, x| {
            let x = x[0];
            let (before, after) = match reach(node) {
                Ok(reach) => reach,
                Err(error) => return vec![e.fail(error)],
            };
            let (alpha, beta, bias) = coefficients(node);
            let size = before + after + 1;
            let v = wide(x);
            let ones = Tensor::from_f64(v.fact().dtype, &[1, 1, size as usize, 1], &vec![1.0; size as usize]);
            let Some(ones) = ones else { return vec![e.absent()] };
            let attrs = [("kernel_shape", vec![size, 1].into()), ("pads", vec![before, 0, after, 0].into())];
            let planes = (v * v).binary("Unsqueeze", e.ints(&[1]));
            let planes = if x.rank() == 2 { planes.binary("Unsqueeze", e.ints(&[3])) } else { planes };
            let near = e.op("Conv", &[planes.reshape(&[0, 0, 0, -1]), e.weight("", ones)], &attrs);
            let squares = near.binary("Reshape", x.shape());
            let scale = (squares * (alpha / size as f64) + bias).binary("Pow", v.like(-beta));
            vec![stated((v * scale).cast(x.fact().dtype), x)]
        },
        &[
            case(&[Any(&[2, 5, 2, 3])]).with(&[("size", Int(3)), ("alpha", Float(0.5))]),
            case(&[Any(&[1, 4, 1, 2])]).with(&[
                ("size", Int(5)),
                ("alpha", Float(2.0)),
                ("beta", Float(0.5)),
                ("bias", Float(2.0)),
            ]),
        ],
    ),
    ..NORMAL
};

/// How many channels before and after an element count.
fn reach(node: &lorac_ir::Node) -> Result<(i64, i64), InferError> {
    match node.int("size", 0) {
        size @ 1..=65536 => Ok(((size - 1) / 2, size / 2)),
        size => Err(InferError::Attribute { name: "size", got: size.to_string(), want: "1 to 65536".into() }),
    }
}

/// `alpha`, `beta` and `bias`.
fn coefficients(node: &lorac_ir::Node) -> (f64, f64, f64) {
    let of = |name, default| f64::from(node.float(name, default));
    (of("alpha", 1e-4), of("beta", 0.75), of("bias", 1.0))
}
