//! AffineGrid.

use super::*;
use crate::Attribute::Int;
use crate::Operand::{Any, Ints};
use crate::{Backward, Val, case};

pub(super) const AFFINE_GRID: Op = Op {
    name: "AffineGrid",
    since: 20,
    inputs: (2, 2),
    infer: |c| {
        let theta = c.fact(0);
        let width = theta.dims().and_then(|d| d.get(1).copied());
        match (c.content(1), width) {
            (Some([n, _, lens @ ..]), width) if lens.len() == 2 || lens.len() == 3 => {
                if width.and_then(Dim::known).is_some_and(|w| w != lens.len() as i64) {
                    return Err(InferError::Mismatch(theta, c.fact(1)));
                }
                let last = Dim::from(lens.len());
                one(Fact::new(theta.dtype, [*n].into_iter().chain(lens.iter().copied()).chain([last])))
            }
            (Some(_), _) => Err(InferError::Operand { slot: 1, got: c.fact(1), want: "4 or 5 lengths".into() }),
            (None, Some(Dim::Known(width @ 2..=3))) => {
                let lens = vec![Dim::Unknown; width as usize + 1];
                one(Fact::new(theta.dtype, lens.into_iter().chain([Dim::Known(width)])))
            }
            _ => one(Fact::unranked(theta.dtype)),
        }
    },
    eval: |a| {
        let (theta, size) = (a.x(0)?, a.ints(1)?);
        let ([n, width, columns], [_, _, lens @ ..]) = (theta.shape(), size.as_slice()) else {
            return invalid("AffineGrid takes [N,2,3] or [N,3,4]");
        };
        if lens.len() != *width || *columns != width + 1 {
            return invalid(format!("{:?} for {size:?}", theta.shape()));
        }
        let corners = a.node.int("align_corners", 0) != 0;
        let lens: Vec<usize> = lens.iter().map(|n| (*n).max(0) as usize).collect();
        let along = |i: usize, len: usize| match (corners, len) {
            (true, 1) => -1.0,
            (true, len) => 2.0 * i as f64 / (len as f64 - 1.0) - 1.0,
            (false, len) => (2.0 * i as f64 + 1.0) / len as f64 - 1.0,
        };
        let dims = [&[*n], lens.as_slice(), &[*width]].concat();
        Ok(vec![Array::from_shape_fn(dims, |at| {
            let row = at[*width + 1];
            // The last axis of space is the first coordinate.
            let place = |j: usize| along(at[*width - j], lens[*width - 1 - j]);
            let turned: f64 = (0..*width).map(|j| theta[[at[0], row, j]] * place(j)).sum();
            turned + theta[[at[0], row, *width]]
        })])
    },
    flops: |c, k| elementwise(c, k) * Dim::Known(6),
    // The grid is a product of theta with fixed places, axis by axis.
    grad: Grad::rule(
        |b| vec![Some(by_theta(b)), None],
        &[
            case(&[Any(&[2, 2, 3]), Ints(&[4], &[2, 1, 3, 4])]),
            case(&[Any(&[1, 3, 4]), Ints(&[5], &[1, 1, 2, 3, 2])]).with(&[("align_corners", Int(1))]),
        ],
    ),
    ..UNARY
};

fn by_theta<'e, 'g>(b: &Backward<'e, 'g>) -> Val<'e, 'g> {
    let (e, gy) = (b.emit, b.gy);
    let width = gy.rank().saturating_sub(2);
    let corners = b.node.int("align_corners", 0) != 0;
    let all: Vec<i64> = (1..=width as i64).collect();
    let column = |axis: i64| {
        let others: Vec<i64> = all.iter().copied().filter(|i| *i != axis).collect();
        let sums = gy.sum(&others, false);
        let ends = [("start", axis.into()), ("end", (axis + 1).into())];
        let len = e.op("Shape", &[gy], &ends).binary("Squeeze", e.ints(&[0]));
        let (zero, one) = (e.scalar(0.0, DType::I64), e.scalar(1.0, DType::I64));
        let at = e.op("Range", &[zero, len, one], &[]).cast(gy.fact().dtype);
        let len = len.cast(gy.fact().dtype);
        let along = match corners {
            true => at * 2.0 / (len - 1.0).binary("Max", len.like(1.0)) - 1.0,
            false => (at * 2.0 + 1.0) / len - 1.0,
        };
        along.matmul(sums).binary("Unsqueeze", e.ints(&[2]))
    };
    let mut columns: Vec<Val> = all.iter().rev().map(|axis| column(*axis)).collect();
    columns.push(gy.sum(&all, false).binary("Unsqueeze", e.ints(&[2])));
    e.op("Concat", &columns, &[("axis", 2i64.into())])
}
