//! Elements by condition: Compress NonZero.

use super::*;
use crate::Attribute::Int;
use crate::Operand::{Any, Bools};
use crate::case;
use ndarray::Axis;

pub(super) const COMPRESS: Op = Op {
    name: "Compress",
    inputs: (2, 2),
    infer: |c| {
        let fact = c.fact(0);
        let count = c.ints(1).map_or(Dim::Unknown, |v| Dim::from(v.iter().filter(|b| **b != 0).count()));
        if !c.node.attrs.contains_key("axis") {
            return one(Fact::new(fact.dtype, [count]));
        }
        let Some(mut dims) = fact.shape.clone() else { return one(fact) };
        let axis = c.axis(0, dims.len())?;
        dims[axis] = count;
        one(Fact::new(fact.dtype, dims))
    },
    eval: |a| {
        let x = a.x(0)?;
        let at: Vec<usize> = a.x(1)?.iter().enumerate().filter(|(_, b)| **b != 0.0).map(|(i, _)| i).collect();
        let (x, axis) = match a.node.attrs.contains_key("axis") {
            true => (x.clone(), a.axis(0, x.ndim())?),
            false => (crate::eval::reshape(x, &[x.len()])?, 0),
        };
        match at.last().is_some_and(|i| *i >= x.shape()[axis]) {
            true => invalid(format!("a condition of {} for {:?}", a.x(1)?.len(), x.shape())),
            false => Ok(vec![x.select(Axis(axis), &at)]),
        }
    },
    grad: Grad::rule(
        |b| {
            let (e, x) = (b.emit, b.x[0]);
            let at = b.x[1].unary("NonZero").reshape(&[-1]);
            let g = match b.node.attrs.contains_key("axis") {
                true => {
                    let axis = axis_of(e, b.node, 0, x.rank());
                    scatter_rows(b.gy, axis, x.lens(axis..axis + 1), at, "none")
                }
                false => scatter_rows(b.gy, 0, x.unary("Size").reshape(&[1]), at, "none"),
            };
            vec![Some(g.binary("Reshape", x.shape())), None]
        },
        &[
            case(&[Any(&[3, 2]), Bools(&[4], &[false, true, true, false])]),
            case(&[Any(&[2, 3]), Bools(&[2], &[true, true])]).with(&[("axis", Int(-1))]),
            case(&[Any(&[2, 3]), Bools(&[2], &[false, true])]).with(&[("axis", Int(0))]),
        ],
    ),
    ..MOVES
};

pub(super) const NON_ZERO: Op = Op {
    name: "NonZero",
    infer: |c| {
        let rank = c.fact(0).rank().map_or(Dim::Unknown, Dim::from);
        one(Fact::new(DType::I64, [rank, Dim::Unknown]))
    },
    eval: |a| {
        let x = a.x(0)?;
        let found: Vec<_> = x.indexed_iter().filter(|(_, x)| **x != 0.0).map(|(at, _)| at).collect();
        let rows = (0..x.ndim()).flat_map(|d| found.iter().map(move |at| at[d] as f64)).collect();
        Ok(vec![Array::from_shape_vec(vec![x.ndim(), found.len()], rows)?])
    },
    grad: Grad::Zero("positions have no gradient"),
    ..MOVES
};
