//! LpNormalization.

use super::*;
use crate::Attribute::Int;
use crate::Operand::{Any, Apart, Floats};
use crate::case;
use ndarray::Axis;

pub(super) const LP_NORMALIZATION: Op = Op {
    name: "LpNormalization",
    traits: Traits::NORMALIZES,
    infer: |c| {
        power(c.node)?;
        if let Some(rank) = c.fact(0).rank() {
            c.axis(-1, rank)?;
        }
        like_first(c)
    },
    eval: |a| {
        let mut y = a.x(0)?.clone();
        let axis = Axis(a.axis(-1, y.ndim())?);
        let p = power(a.node).map_err(|e| EvalError::Invalid(e.to_string()))?;
        for mut lane in y.lanes_mut(axis) {
            let norm = match p {
                1 => lane.iter().map(|x| x.abs()).sum::<f64>(),
                _ => lane.iter().map(|x| x * x).sum::<f64>().sqrt(),
            };
            if norm != 0.0 {
                lane.mapv_inplace(|x| x / norm);
            }
        }
        Ok(vec![y])
    },
    // A row of zeros stays one, and gets no gradient that is not finite.
    grad: Grad::lower(
        |_, node, x| {
            let (narrow, x) = (x[0].fact().dtype, wide(x[0]));
            let powers = if node.int("p", 2) == 1 { x.unary("Abs") } else { x * x };
            let sum = powers.sum(&[node.int("axis", -1)], true);
            let safe = sum + sum.binary("Equal", sum.like(0.0)).cast(sum.fact().dtype);
            vec![(x / if node.int("p", 2) == 1 { safe } else { safe.unary("Sqrt") }).cast(narrow)]
        },
        &[
            case(&[Any(&[2, 3])]),
            case(&[Apart(&[2, 3, 2])]).with(&[("p", Int(1)), ("axis", Int(1))]),
            case(&[Floats(&[2, 2], &[0.0, 0.0, 3.0, -4.0])]).with(&[("axis", Int(1))]),
        ],
    ),
    ..NORMAL
};

/// The power of the norm.
fn power(node: &lorac_ir::Node) -> Result<i64, InferError> {
    match node.int("p", 2) {
        p @ (1 | 2) => Ok(p),
        p => Err(InferError::Attribute { name: "p", got: p.to_string(), want: "1 or 2".into() }),
    }
}
