//! RMSNormalization.

use super::*;
use crate::Attribute::{Float, Int};
use crate::Operand::Any;
use crate::case;
use crate::eval::zip;

pub(super) const RMS_NORMALIZATION: Op = Op {
    name: "RMSNormalization",
    traits: Traits::NORMALIZES,
    since: 23,
    inputs: (2, 2),
    infer: |c| {
        if let Some(rank) = c.fact(0).rank() {
            c.axis(-1, rank)?;
        }
        one(Fact { dtype: c.fact(1).dtype, ..c.fact(0) })
    },
    eval: |a| {
        let x = a.x(0)?;
        let axis = a.axis(-1, x.ndim())?;
        let width = x.shape()[axis..].iter().product::<usize>().max(1);
        let mut flat: Vec<f64> = x.iter().copied().collect();
        for row in flat.chunks_mut(width) {
            let square = row.iter().map(|x| x * x).sum::<f64>() / width as f64;
            let root = (square + epsilon(a.node)).sqrt();
            row.iter_mut().for_each(|x| *x /= root);
        }
        Ok(vec![zip(&Array::from_shape_vec(x.shape(), flat)?, a.x(1)?, |x, scale| x * scale)?])
    },
    grad: Grad::lower(
        |_, node, x| {
            let (x, scale) = (x[0], x[1]);
            let (rank, axis) = (x.rank() as i64, node.int("axis", -1));
            let axes: Vec<i64> = (if axis < 0 { axis + rank } else { axis }..rank).collect();
            let v = wide(x);
            let normal = v / (mean_over(v * v, &axes) + epsilon(node)).unary("Sqrt");
            vec![normal.cast(scale.fact().dtype) * scale]
        },
        &[
            case(&[Any(&[2, 3, 4]), Any(&[4])]).opset(23),
            case(&[Any(&[2, 3, 4]), Any(&[3, 1])]).with(&[("axis", Int(1)), ("epsilon", Float(0.1))]).opset(23),
        ],
    ),
    ..NORMAL
};
