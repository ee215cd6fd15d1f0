//! Ones at positions: EyeLike OneHot.

use super::*;
use crate::Attribute::Int;
use crate::Operand::{Any, Ints};
use crate::case;

pub(super) const EYE_LIKE: Op = Op {
    name: "EyeLike",
    infer: |c| {
        let dtype = c.node.attrs.get("dtype").map_or(c.dtype(), |_| DType::from_onnx_code(c.node.int("dtype", 0)));
        one(Fact { dtype, ..c.fact(0) })
    },
    eval: |a| {
        let &[rows, cols] = a.x(0)?.shape() else { return invalid("EyeLike takes a matrix") };
        let k = a.node.int("k", 0);
        let one = |(row, col)| f64::from(u8::from(col as i64 == k.saturating_add(row as i64)));
        Ok(vec![ndarray::Array2::from_shape_fn((rows, cols), one).into_dyn()])
    },
    grad: Grad::Zero("a constant: only the operand's shape is read"),
    ..MOVES
};

pub(super) const ONE_HOT: Op = Op {
    name: "OneHot",
    inputs: (3, 3),
    infer: |c| {
        let dtype = c.fact(2).dtype;
        let Some(dims) = c.dims(0) else { return one(Fact::unranked(dtype)) };
        let depth = match (c.content(1), c.input(1).and_then(|i| i.tensor)) {
            (Some(v), _) => v.first().copied(),
            (None, tensor) => tensor.and_then(|t| t.to_f64()?.first().map(|d| Dim::Known(*d as i64))),
        };
        let axis = c.axis(-1, dims.len() + 1)?;
        let (before, after) = dims.split_at(axis);
        one(Fact::new(dtype, [before, &[depth.unwrap_or(Dim::Unknown)], after].concat()))
    },
    eval: |a| {
        let (index, depth, values) = (a.x(0)?, a.ints(1)?, a.x(2)?);
        let (Some(depth), &[off, on]) = (depth.first().copied(), values.iter().copied().collect::<Vec<_>>().as_slice())
        else {
            return invalid("OneHot needs a depth and two values");
        };
        let axis = a.axis(-1, index.ndim() + 1)?;

        let mut dims = index.shape().to_vec();
        dims.insert(axis, depth.max(0) as usize);
        affordable(&dims)?;
        let mut y = Array::from_elem(dims, off);
        for (at, i) in index.indexed_iter() {
            let i = i.trunc() as i64;
            let i = if i < 0 { i.saturating_add(depth) } else { i };
            if (0..depth).contains(&i) {
                let mut place: Vec<usize> = (0..index.ndim()).map(|d| at[d]).collect();
                place.insert(axis, i as usize);
                y[IxDyn(&place)] = on;
            }
        }
        Ok(vec![y])
    },
    // y = off + mask * (on - off).
    grad: Grad::rule(
        |b| {
            let (e, dtype) = (b.emit, b.gy.fact().dtype);
            let bits = Tensor::from_f64(dtype, &[2], &[0.0, 1.0]).map_or(e.absent(), |t| e.weight("", t));
            let attrs: Vec<(&str, Attr)> = b.node.attrs.get("axis").map(|a| ("axis", a.clone())).into_iter().collect();
            let mask = e.op("OneHot", &[b.x[0], b.x[1], bits], &attrs);
            let all = |v: Val<'_, '_>| e.op("ReduceSum", &[v], &[("keepdims", 0i64.into())]).reshape(&[1]).id();
            let (total, on) = (e.val(all(b.gy)), e.val(all(b.gy * mask)));
            vec![None, None, Some(e.op("Concat", &[total - on, on], &[("axis", 0i64.into())]))]
        },
        &[
            case(&[Ints(&[2, 2], &[0, -1, 5, 2]), Ints(&[], &[3]), Any(&[2])]),
            case(&[Ints(&[3], &[0, 1, 1]), Ints(&[1], &[2]), Any(&[2])]).with(&[("axis", Int(0))]),
        ],
    ),
    ..MOVES
};
