//! GlobalAveragePool GlobalLpPool GlobalMaxPool.

use super::super::conv::window::space_axes;
use super::lp::power;
use super::*;
use crate::Attribute::Int;
use crate::Operand::{Any, Apart, Floats};
use crate::case;

/// One result for each row and channel.
const GLOBAL: Op = Op {
    infer: |c| {
        let fact = c.fact(0);
        let Some(dims) = fact.dims() else { return one(fact) };
        if dims.len() < 3 {
            return Err(InferError::Operand { slot: 0, got: fact, want: "rank 3 or more".into() });
        }
        one(Fact::new(fact.dtype, dims.iter().enumerate().map(|(i, d)| if i < 2 { *d } else { Dim::Known(1) })))
    },
    flops: |c, _| c.fact(0).volume(),
    ..UNARY
};

fn global(a: &Args, f: impl Fn(&[f64]) -> f64) -> EvalResult {
    let x = a.x(0)?;
    let [n, channels, lens @ ..] = x.shape() else { return invalid("a pool takes rank 3 or more") };
    let plane = lens.iter().product::<usize>();
    let flat: Vec<f64> = x.iter().copied().collect();
    let rows = if plane == 0 { vec![f(&[]); n * channels] } else { flat.chunks(plane).map(f).collect() };
    let dims: Vec<usize> = [*n, *channels].into_iter().chain(lens.iter().map(|_| 1)).collect();
    Ok(vec![Array::from_shape_vec(dims, rows)?])
}

pub(super) const GLOBAL_AVERAGE_POOL: Op = Op {
    name: "GlobalAveragePool",
    eval: |a| global(a, |plane| plane.iter().sum::<f64>() / plane.len() as f64),
    grad: Grad::rule(
        |b| {
            let x = b.x[0];
            let plane = x.fact().dims().map_or(Dim::Unknown, |d| space(d).iter().fold(Dim::Known(1), |p, d| p * *d));
            let share = match plane {
                Dim::Known(n) => b.gy * (1.0 / n.max(1) as f64),
                _ => b.gy * part(b.y, x),
            };
            vec![Some(share.binary("Expand", x.shape()))]
        },
        &[case(&[Any(&[2, 3, 4, 2])]), case(&[Any(&[2, 2, 3])])],
    ),
    ..GLOBAL
};

pub(super) const GLOBAL_MAX_POOL: Op = Op {
    name: "GlobalMaxPool",
    eval: |a| global(a, |plane| plane.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
    // Elements that are equally great share the gradient.
    grad: Grad::rule(
        |b| {
            let greatest = b.x[0].binary("Equal", b.y).cast(b.gy.fact().dtype);
            let count = greatest.sum(&space_axes(b.x[0].rank().saturating_sub(2)), true);
            vec![Some(greatest * (b.gy / count))]
        },
        &[case(&[Apart(&[2, 2, 3, 2])]), case(&[Apart(&[1, 2, 2, 2, 2])])],
    ),
    ..GLOBAL
};

pub(super) const GLOBAL_LP_POOL: Op = Op {
    name: "GlobalLpPool",
    eval: |a| {
        let p = power(a.node)?;
        global(a, |plane| plane.iter().map(|x| x.abs().powi(p as i32)).sum::<f64>().powf(1.0 / p as f64))
    },
    // A plane of zeros has the gradient zero: the root is taken of one there, and one subtracted.
    grad: Grad::lower(
        |_, node, x| {
            let (narrow, x, p) = (x[0].fact().dtype, wide(x[0]), node.int("p", 2));
            let powers = match p {
                1 => x.unary("Abs"),
                2 => x * x,
                _ => x.unary("Abs").binary("Pow", x.like(p as f64)),
            };
            let sum = powers.sum(&space_axes(x.rank().saturating_sub(2)), true);
            if p == 1 {
                return vec![sum.cast(narrow)];
            }
            let none = sum.binary("Equal", sum.like(0.0)).cast(sum.fact().dtype);
            vec![((sum + none).binary("Pow", sum.like(1.0 / p as f64)) - none).cast(narrow)]
        },
        &[
            case(&[Apart(&[2, 2, 3, 2])]),
            case(&[Floats(&[1, 2, 3], &[1.0, -2.0, 3.0, 0.0, 0.0, 0.0])]).with(&[("p", Int(3))]),
            case(&[Apart(&[1, 2, 4])]).with(&[("p", Int(1))]),
        ],
    ),
    ..GLOBAL
};
