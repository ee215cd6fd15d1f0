//! Elements in another order: ReverseSequence TopK Unique.

use super::*;
use crate::Attribute::Int;
use crate::Operand::{Any, Apart, Ints};
use crate::case;
use ndarray::Axis;
use std::cmp::Ordering;

pub(super) const REVERSE_SEQUENCE: Op = Op {
    name: "ReverseSequence",
    inputs: (2, 2),
    eval: |a| {
        let (x, lens) = (a.x(0)?, a.ints(1)?);
        let (batch, time) = (a.node.int("batch_axis", 1), a.node.int("time_axis", 0));
        let (batch, time) = (crate::eval::axis(batch, x.ndim())?, crate::eval::axis(time, x.ndim())?);
        if batch == time || lens.len() != x.shape()[batch] {
            return invalid(format!("{} lengths for {:?}", lens.len(), x.shape()));
        }
        let mut y = x.clone();
        for (at, y) in y.indexed_iter_mut() {
            let mut from: Vec<usize> = (0..x.ndim()).map(|d| at[d]).collect();
            let len = lens[from[batch]];
            if !(0..=x.shape()[time] as i64).contains(&len) {
                return invalid(format!("a length of {len} in {:?}", x.shape()));
            }
            if (from[time] as i64) < len {
                from[time] = len as usize - 1 - from[time];
            }
            *y = x[IxDyn(&from)];
        }
        Ok(vec![y])
    },
    // Reversing again undoes it.
    grad: Grad::rule(
        |b| {
            let attrs: Vec<(&str, Attr)> = b.node.attrs.iter().map(|(k, v)| (&**k, v.clone())).collect();
            vec![Some(b.emit.op("ReverseSequence", &[b.gy, b.x[1]], &attrs)), None]
        },
        &[
            case(&[Any(&[3, 2, 2]), Ints(&[2], &[3, 2])]),
            case(&[Any(&[2, 3]), Ints(&[2], &[1, 3])]).with(&[("batch_axis", Int(0)), ("time_axis", Int(1))]),
        ],
    ),
    ..MOVES
};

pub(super) const TOP_K: Op = Op {
    name: "TopK",
    inputs: (2, 2),
    outputs: (2, 2),
    infer: |c| {
        let fact = c.fact(0);
        let Some(mut dims) = fact.shape.clone() else {
            return Ok(vec![fact.into(), Fact::unranked(DType::I64).into()]);
        };
        let axis = c.axis(-1, dims.len())?;
        dims[axis] = c.content(1).and_then(|k| k.first().copied()).unwrap_or(Dim::Unknown);
        if let (Some(k), Some(n)) = (dims[axis].known(), fact.dims().and_then(|d| d[axis].known()))
            && !(0..=n).contains(&k)
        {
            let want = format!("at most the {n} elements there are");
            return Err(InferError::Operand { slot: 1, got: c.fact(1), want });
        }
        Ok(vec![Fact::new(fact.dtype, dims.clone()).into(), Fact::new(DType::I64, dims).into()])
    },
    eval: |a| {
        let x = a.x(0)?;
        let axis = a.axis(-1, x.ndim())?;
        let k = a.ints(1)?.first().copied().unwrap_or(-1);
        let Some(k) = usize::try_from(k).ok().filter(|k| *k <= x.shape()[axis]) else {
            return invalid(format!("the first {k} of {:?}", x.shape()));
        };
        let largest = a.node.int("largest", 1) != 0;
        let mut dims = x.shape().to_vec();
        dims[axis] = k;
        let (mut values, mut index) = (Array::zeros(dims.clone()), Array::zeros(dims));
        let lanes = values.lanes_mut(Axis(axis)).into_iter().zip(index.lanes_mut(Axis(axis)));
        for ((mut values, mut index), lane) in lanes.zip(x.lanes(Axis(axis))) {
            let mut order: Vec<usize> = (0..lane.len()).collect();
            // Stable: of equal elements the first comes first.
            order.sort_by(|i, j| if largest { lane[*j].total_cmp(&lane[*i]) } else { lane[*i].total_cmp(&lane[*j]) });
            for (slot, i) in order.into_iter().take(k).enumerate() {
                values[slot] = lane[i];
                index[slot] = i as f64;
            }
        }
        Ok(vec![values, index])
    },
    flops: |c, _| c.fact(0).volume(),
    grad: Grad::rule(
        |b| {
            let (e, x) = (b.emit, b.x[0]);
            let index = b.ys.get(1).copied().unwrap_or_else(|| {
                let attrs: Vec<(&str, Attr)> = b.node.attrs.iter().map(|(k, v)| (&**k, v.clone())).collect();
                e.ops("TopK", &b.x, &attrs, 2)[1]
            });
            let axis = axis_of(e, b.node, -1, x.rank()) as i64;
            vec![Some(e.op("ScatterElements", &[x.zeros_like(), index, b.gy], &[("axis", axis.into())])), None]
        },
        &[
            case(&[Apart(&[2, 4]), Ints(&[1], &[2])]).outputs(2),
            case(&[Apart(&[3, 2]), Ints(&[1], &[2])]).with(&[("axis", Int(0)), ("largest", Int(0))]).outputs(2),
        ],
    ),
    ..UNARY
};

/// Slices of `x` along `axis`, or its elements.
fn parts(a: &Args) -> Result<(Array, usize), EvalError> {
    let x = a.x(0)?;
    match a.node.attrs.contains_key("axis") {
        true => Ok((x.clone(), a.axis(0, x.ndim())?)),
        false => Ok((crate::eval::reshape(x, &[x.len()])?, 0)),
    }
}

pub(super) const UNIQUE: Op = Op {
    name: "Unique",
    outputs: (1, 4),
    infer: |c| {
        let fact = c.fact(0);
        let y = match (c.node.attrs.contains_key("axis"), fact.shape.clone()) {
            (false, _) => Fact::new(fact.dtype, [Dim::Unknown]),
            (true, Some(mut dims)) => {
                let axis = c.axis(0, dims.len())?;
                dims[axis] = Dim::Unknown;
                Fact::new(fact.dtype, dims)
            }
            (true, None) => fact,
        };
        let list = || Inferred::from(Fact::new(DType::I64, [Dim::Unknown]));
        Ok(vec![y.into(), list(), list(), list()])
    },
    eval: |a| {
        let (x, axis) = parts(a)?;
        let slices: Vec<Vec<f64>> = x.axis_iter(Axis(axis)).map(|s| s.iter().copied().collect()).collect();
        let compare = |a: &[f64], b: &[f64]| {
            let differs = a.iter().zip(b).map(|(a, b)| a.total_cmp(b)).find(|o| *o != Ordering::Equal);
            differs.unwrap_or(Ordering::Equal)
        };
        let mut first: Vec<usize> = Vec::new();
        let mut group = Vec::new();
        for (i, slice) in slices.iter().enumerate() {
            match first.iter().position(|j| slices[*j] == *slice) {
                Some(g) => group.push(g),
                None => {
                    group.push(first.len());
                    first.push(i);
                }
            }
        }
        let mut order: Vec<usize> = (0..first.len()).collect();
        if a.node.int("sorted", 1) != 0 {
            order.sort_by(|i, j| compare(&slices[first[*i]], &slices[first[*j]]));
        }
        let mut rank = vec![0; order.len()];
        order.iter().enumerate().for_each(|(r, g)| rank[*g] = r);
        let index: Vec<usize> = order.iter().map(|g| first[*g]).collect();
        let mut counts = vec![0.0; order.len()];
        group.iter().for_each(|g| counts[rank[*g]] += 1.0);
        let list = |v: Vec<f64>| Array::from_shape_vec(vec![v.len()], v);
        let y = x.select(Axis(axis), &index);
        let index = list(index.into_iter().map(|i| i as f64).collect())?;
        let inverse = list(group.iter().map(|g| rank[*g] as f64).collect())?;
        Ok(vec![y, index, inverse, list(counts)?])
    },
    flops: |c, _| c.fact(0).volume(),
    grad: Grad::Unsupported(
        "how many elements it returns changes as soon as one of two equal ones moves: gather what you need with its \
         indices, computed from values that are not trained",
    ),
    ..UNARY
};
