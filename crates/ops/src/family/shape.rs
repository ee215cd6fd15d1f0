//! The same elements in another shape: Concat Expand Flatten Reshape Squeeze Tile Transpose
//! Unsqueeze.

use super::*;
use crate::Attribute::{Int, Ints as List};
use crate::Operand::{Any, Ints};
use crate::eval::reshape;
use crate::{Backward, Val, case};
use ndarray::Axis;

pub(super) const OPS: &[Op] = &[CONCAT, EXPAND, FLATTEN, RESHAPE, SQUEEZE, TILE, TRANSPOSE, UNSQUEEZE];

const CONCAT: Op = Op {
    name: "Concat",
    traits: Traits { moves: usize::MAX, ..Traits::CARRIES },
    inputs: (1, usize::MAX),
    infer: |c| {
        let mut fact = c.fact(0);
        let Some(rank) = fact.rank() else { return one(fact) };
        let axis = c.axis(0, rank)?;
        let mut total = Dim::Known(0);
        for slot in 0..c.inputs.len() {
            let other = c.fact(slot);
            let Some(dims) = other.dims() else { return one(Fact::unranked(fact.dtype)) };
            if dims.len() != rank {
                return Err(InferError::Mismatch(fact, other));
            }
            total = total + dims[axis];
            let clash = |(i, (m, n)): (usize, (&mut Dim, &Dim))| {
                if i != axis && m.known().is_none() {
                    *m = *n;
                }
                i != axis && m.known().zip(n.known()).is_some_and(|(m, n)| m != n)
            };
            if fact.shape.iter_mut().flatten().zip(dims).enumerate().any(clash) {
                return Err(InferError::Mismatch(c.fact(0), other));
            }
        }
        let parts = (0..c.inputs.len()).map(|slot| c.content(slot));
        let content = parts.collect::<Option<Vec<_>>>().filter(|_| rank == 1).map(|p| p.concat());
        if let Some(dims) = &mut fact.shape {
            dims[axis] = total;
        }
        known(fact, content)
    },
    eval: |a| {
        let parts = (0..a.inputs.len()).map(|slot| a.x(slot).map(|x| x.view())).collect::<Result<Vec<_>, _>>()?;
        let axis = a.axis(0, a.x(0)?.ndim())?;
        if parts.iter().any(|x| x.ndim() != a.inputs.first().and_then(Option::as_ref).map_or(0, |x| x.ndim())) {
            return invalid("operands of different ranks");
        }
        Ok(vec![ndarray::concatenate(Axis(axis), &parts)?])
    },
    grad: Grad::rule(
        |b| {
            let axis = b.node.int("axis", 0);
            let rank = b.y.rank() as i64;
            let at = (if axis < 0 { axis + rank } else { axis }) as usize;
            let lens: Option<Vec<i64>> = b.x.iter().map(|x| x.fact().dims()?.get(at)?.known()).collect();
            let split = match lens {
                Some(lens) => b.emit.ints(&lens),
                None => {
                    let ends = [("start", (at as i64).into()), ("end", (at as i64 + 1).into())];
                    let lens: Vec<Val> = b.x.iter().map(|x| b.emit.op("Shape", &[*x], &ends)).collect();
                    b.emit.op("Concat", &lens, &[("axis", 0i64.into())])
                }
            };
            let parts = b.emit.ops("Split", &[b.gy, split], &[("axis", axis.into())], b.x.len());
            parts.into_iter().map(Some).collect()
        },
        &[
            case(&[Any(&[2, 3]), Any(&[2, 1]), Any(&[2, 2])]).with(&[("axis", Int(-1))]),
            case(&[Any(&[1, 3]), Any(&[2, 3])]).with(&[("axis", Int(0))]),
        ],
    ),
    ..MOVES
};

const EXPAND: Op = Op {
    name: "Expand",
    traits: Traits::MOVES,
    inputs: (2, 2),
    infer: |c| match (c.content(1), c.dims(1)) {
        (Some(target), _) => {
            let shape = broadcast(&c.fact(0), &Fact::new(c.dtype(), target.iter().copied()))?;
            let content = match (shape.as_deref(), c.content(0)) {
                (Some([Dim::Known(n @ 0..=64)]), Some([x])) => Some(vec![*x; *n as usize]),
                (_, Some(v)) if shape == c.fact(0).shape => Some(v.to_vec()),
                _ => None,
            };
            known(Fact { dtype: c.dtype(), shape }, content)
        }
        (None, dims) => {
            let rank = c.fact(0).rank().zip(unknowns(dims)).map(|(r, v)| r.max(v.len()));
            one(Fact { dtype: c.dtype(), shape: rank.map(|r| vec![Dim::Unknown; r]) })
        }
    },
    eval: |a| {
        let target: Vec<usize> = a.ints(1)?.iter().map(|n| (*n).max(0) as usize).collect();
        let dims = crate::eval::broadcast(a.x(0)?.shape(), &target)?;
        affordable(&dims)?;
        match a.x(0)?.broadcast(dims) {
            Some(y) => Ok(vec![y.to_owned()]),
            None => invalid(format!("{:?} does not expand to {target:?}", a.x(0)?.shape())),
        }
    },
    // The driver sums what was broadcast.
    grad: Grad::rule(
        |b| vec![Some(b.gy), None],
        &[case(&[Any(&[3, 1]), Ints(&[3], &[2, 1, 4])]), case(&[Any(&[2, 3]), Ints(&[1], &[1])])],
    ),
    ..MOVES
};

const FLATTEN: Op = Op {
    name: "Flatten",
    traits: Traits { moves: 1, ..Traits::RESHAPES },
    infer: |c| {
        let fact = c.fact(0);
        let Some(dims) = fact.dims() else { return one(Fact::new(fact.dtype, [Dim::Unknown; 2])) };
        let axis = flatten_axis(c.node.int("axis", 1), dims.len());
        let volume = |d: &[Dim]| d.iter().fold(Dim::Known(1), |p, d| p * *d);
        one(Fact::new(fact.dtype, [volume(&dims[..axis]), volume(&dims[axis..])]))
    },
    eval: |a| {
        let x = a.x(0)?;
        let axis = flatten_axis(a.node.int("axis", 1), x.ndim());
        let (rows, cols) = x.shape().split_at(axis);
        Ok(vec![reshape(x, &[rows.iter().product(), cols.iter().product()])?])
    },
    grad: Grad::rule(back, &[case(&[Any(&[2, 3, 2])]), case(&[Any(&[2, 3, 2])]).with(&[("axis", Int(-1))])]),
    ..MOVES
};

/// As many unknowns as a shape given by a vector of this shape has dimensions.
pub(super) fn unknowns(of_vector: Option<&[Dim]>) -> Option<Vec<Dim>> {
    // A file may say anything; no tensor has more axes than this.
    const MAX_RANK: usize = 64;
    let Some([Dim::Known(rank)]) = of_vector else { return None };
    let rank = usize::try_from(*rank).ok().filter(|r| *r <= MAX_RANK)?;
    Some(vec![Dim::Unknown; rank])
}

/// Unlike other axes, this one may equal the rank.
fn flatten_axis(axis: i64, rank: usize) -> usize {
    (if axis < 0 { axis + rank as i64 } else { axis }).clamp(0, rank as i64) as usize
}

/// The gradient in the operand's shape.
fn back<'e, 'g>(b: &Backward<'e, 'g>) -> Vec<Option<Val<'e, 'g>>> {
    vec![Some(b.gy.reshape_like(b.x[0])), None]
}

const RESHAPE: Op = Op {
    name: "Reshape",
    traits: Traits { moves: 1, ..Traits::RESHAPES },
    inputs: (2, 2),
    infer: |c| {
        let fact = c.fact(0);
        let target = match (c.content(1), c.dims(1)) {
            (Some(target), _) => target.to_vec(),
            (None, dims) => match unknowns(dims) {
                Some(target) => target,
                None => return one(Fact::unranked(fact.dtype)),
            },
        };
        let copies = c.node.int("allowzero", 0) == 0;
        let mut dims = Vec::with_capacity(target.len());
        for (i, d) in target.iter().enumerate() {
            dims.push(match d {
                Dim::Known(0) if copies => {
                    fact.dims().map_or(Some(Dim::Unknown), |f| f.get(i).copied()).ok_or(InferError::Operand {
                        slot: 1,
                        got: c.fact(1),
                        want: format!("no 0 at {i}: {fact} has no such axis"),
                    })?
                }
                d => *d,
            });
        }
        if let Some(open) = dims.iter().position(|d| *d == Dim::Known(-1)) {
            let rest = dims.iter().enumerate().filter(|(i, _)| *i != open).fold(Dim::Known(1), |p, (_, d)| p * *d);
            let volume = fact.volume();
            let fits = volume.div_exact(rest);
            if let (Some(v), Some(r), None) = (volume.known(), rest.known(), fits)
                && r > 0
            {
                let want = format!("a target that divides {v} elements, {r} do not");
                return Err(InferError::Operand { slot: 1, got: c.fact(1), want });
            }
            dims[open] = fits.unwrap_or(Dim::Unknown);
        }
        let y = Fact { dtype: fact.dtype, shape: Some(dims) };
        if let (Some(m), Some(n)) = (fact.volume().known(), y.volume().known())
            && m != n
        {
            return Err(InferError::Mismatch(fact, y));
        }
        let content = c.content(0).filter(|_| y.rank().is_some_and(|r| r < 2)).map(<[Dim]>::to_vec);
        known(y, content)
    },
    eval: |a| {
        let x = a.x(0)?;
        let mut dims = a.ints(1)?;
        let copies = a.node.int("allowzero", 0) == 0;
        for (i, d) in dims.iter_mut().enumerate() {
            if *d == 0 && copies {
                *d = x.shape().get(i).copied().unwrap_or(0) as i64;
            }
        }
        if let Some(open) = dims.iter().position(|d| *d == -1) {
            let others = dims.iter().enumerate().filter(|(i, _)| *i != open);
            let rest = others.fold(1i64, |p, (_, d)| p.saturating_mul(*d));
            dims[open] = (x.len() as i64).checked_div(rest).unwrap_or(0);
        }
        let dims: Vec<usize> = dims.iter().map(|d| (*d).max(0) as usize).collect();
        Ok(vec![reshape(x, &dims)?])
    },
    grad: Grad::rule(
        back,
        &[
            case(&[Any(&[2, 6]), Ints(&[3], &[0, -1, 3])]),
            case(&[Any(&[2, 3]), Ints(&[1], &[6])]).with(&[("allowzero", Int(1))]),
        ],
    ),
    ..MOVES
};

const SQUEEZE: Op = Op {
    name: "Squeeze",
    traits: Traits { moves: 1, ..Traits::RESHAPES },
    inputs: (1, 2),
    infer: |c| {
        let fact = c.fact(0);
        let Some(dims) = fact.dims() else { return one(fact) };
        let Some(axes) = c.axes(1, dims.len())? else { return one(Fact::unranked(fact.dtype)) };
        let given = !axes.is_empty();
        if !given && dims.iter().any(|d| d.known().is_none()) {
            return one(Fact::unranked(fact.dtype));
        }
        let gone = |i: usize, d: &Dim| if given { axes.contains(&i) } else { *d == Dim::Known(1) };
        if let Some(i) = axes.iter().find(|i| dims[**i].known().is_some_and(|n| n != 1)) {
            return Err(InferError::Operand { slot: 0, got: fact.clone(), want: format!("length 1 at axis {i}") });
        }
        let kept: Vec<Dim> = dims.iter().enumerate().filter(|(i, d)| !gone(*i, d)).map(|(_, d)| *d).collect();
        let content = c.content(0).filter(|v| kept.len() == 1 || v.len() == 1).map(<[Dim]>::to_vec);
        known(Fact::new(fact.dtype, kept), content)
    },
    eval: |a| {
        let x = a.x(0)?;
        let axes = a.axes(1, x.ndim())?;
        let gone = |i: usize, n: usize| if axes.is_empty() { n == 1 } else { axes.contains(&i) };
        let dims: Vec<usize> = x.shape().iter().enumerate().filter(|(i, n)| !gone(*i, **n)).map(|(_, n)| *n).collect();
        Ok(vec![reshape(x, &dims)?])
    },
    grad: Grad::rule(back, &[case(&[Any(&[2, 1, 3]), Ints(&[1], &[1])]), case(&[Any(&[1, 3, 1])])]),
    ..MOVES
};

const TILE: Op = Op {
    name: "Tile",
    traits: Traits::MOVES,
    inputs: (2, 2),
    infer: |c| {
        let fact = c.fact(0);
        let Some(dims) = fact.dims() else { return one(fact) };
        let repeats = c.content(1).map_or(vec![Dim::Unknown; dims.len()], <[Dim]>::to_vec);
        if repeats.len() != dims.len() {
            return Err(InferError::Mismatch(fact, c.fact(1)));
        }
        let content = match (c.content(0), repeats.as_slice()) {
            (Some(v), [Dim::Known(n @ 0..=64)]) => Some(v.repeat(*n as usize)),
            _ => None,
        };
        let y = Fact::new(
            fact.dtype,
            dims.iter().zip(&repeats).map(|(d, r)| if *r == Dim::Known(1) { *d } else { *d * *r }),
        );
        known(y, content.filter(|v| v.len() <= 64))
    },
    eval: |a| {
        let x = a.x(0)?;
        let repeats: Vec<usize> = a.ints(1)?.iter().map(|n| (*n).max(0) as usize).collect();
        if repeats.len() != x.ndim() {
            return invalid(format!("{repeats:?} repeats of {:?}", x.shape()));
        }
        let dims: Vec<usize> = x.shape().iter().zip(&repeats).map(|(n, r)| n.saturating_mul(*r)).collect();
        affordable(&dims)?;
        let at = |to: ndarray::IxDyn| {
            let from: Vec<usize> = x.shape().iter().enumerate().map(|(i, n)| to[i] % n).collect();
            x[ndarray::IxDyn(&from)]
        };
        Ok(vec![Array::from_shape_fn(dims, at)])
    },
    // Every axis as its copies and its length; the copies are summed.
    grad: Grad::rule(
        |b| {
            let (e, x, repeats) = (b.emit, b.x[0], b.x[1]);
            let rank = x.rank() as i64;
            let split = match (repeats.known_ints(), x.shape().known_ints()) {
                (Some(repeats), Some(dims)) => {
                    e.ints(&repeats.iter().zip(&dims).flat_map(|(r, d)| [*r, *d]).collect::<Vec<_>>())
                }
                _ => {
                    let pairs = [repeats.cast(DType::I64), x.shape()].map(|v| v.binary("Unsqueeze", e.ints(&[1])));
                    e.op("Concat", &pairs, &[("axis", 1i64.into())]).reshape(&[-1])
                }
            };
            let copies: Vec<i64> = (0..rank).map(|i| 2 * i).collect();
            vec![Some(b.gy.binary("Reshape", split).sum(&copies, false).binary("Reshape", x.shape())), None]
        },
        &[case(&[Any(&[2, 3]), Ints(&[2], &[2, 1])]), case(&[Any(&[2, 1, 2]), Ints(&[3], &[1, 3, 2])])],
    ),
    ..MOVES
};

const TRANSPOSE: Op = Op {
    name: "Transpose",
    traits: Traits::MOVES,
    infer: |c| {
        let fact = c.fact(0);
        let Some(dims) = fact.dims() else { return one(fact) };
        let perm = permutation(c.node, dims.len()).ok_or_else(|| InferError::Attribute {
            name: "perm",
            got: format!("{:?}", c.node.ints("perm").unwrap_or_default()),
            want: format!("a permutation of {} axes", dims.len()),
        })?;
        one(Fact::new(fact.dtype, perm.iter().map(|p| dims[*p])))
    },
    eval: |a| {
        let x = a.x(0)?;
        match permutation(a.node, x.ndim()) {
            Some(perm) => Ok(vec![x.view().permuted_axes(perm).as_standard_layout().into_owned()]),
            None => invalid("perm is not a permutation"),
        }
    },
    grad: Grad::rule(
        |b| {
            let perm = permutation(b.node, b.x[0].rank()).unwrap_or_default();
            let mut inverse = vec![0; perm.len()];
            perm.iter().enumerate().for_each(|(i, p)| inverse[*p] = i);
            vec![Some(b.gy.transpose(&inverse))]
        },
        &[case(&[Any(&[2, 3])]), case(&[Any(&[2, 3, 4])]).with(&[("perm", List(&[1, 2, 0]))])],
    ),
    ..MOVES
};

/// The attribute `perm`, or the axes reversed; `None` if it is not a permutation of `rank` axes.
fn permutation(node: &lorac_ir::Node, rank: usize) -> Option<Vec<usize>> {
    let Some(perm) = node.ints("perm") else { return Some((0..rank).rev().collect()) };
    let perm: Vec<usize> = perm.iter().map(|p| usize::try_from(*p).ok()).collect::<Option<_>>()?;
    let mut sorted = perm.clone();
    sorted.sort_unstable();
    (sorted == (0..rank).collect::<Vec<_>>()).then_some(perm)
}

const UNSQUEEZE: Op = Op {
    name: "Unsqueeze",
    traits: Traits { moves: 1, ..Traits::RESHAPES },
    inputs: (2, 2),
    infer: |c| {
        let fact = c.fact(0);
        let count = c.content(1).map_or_else(|| unknowns(c.dims(1)).map(|v| v.len()), |v| Some(v.len()));
        let (Some(dims), Some(count)) = (fact.dims(), count) else { return one(Fact::unranked(fact.dtype)) };
        let rank = dims.len() + count;
        let Some(axes) = c.axes(1, rank)? else { return one(Fact::new(fact.dtype, vec![Dim::Unknown; rank])) };
        let content = c.content(0).filter(|_| rank == 1).map(<[Dim]>::to_vec);
        let shape = interleave(dims, &axes, rank, Dim::Known(1));
        known(Fact::new(fact.dtype, shape), content)
    },
    eval: |a| {
        let x = a.x(0)?;
        let rank = x.ndim() + a.x(1)?.len();
        let axes = a.axes(1, rank)?;
        Ok(vec![reshape(x, &interleave(x.shape(), &axes, rank, 1))?])
    },
    grad: Grad::rule(back, &[case(&[Any(&[2, 3]), Ints(&[2], &[0, -1])])]),
    ..MOVES
};

/// `dims` with `one` put in at `axes` of the result.
fn interleave<T: Copy>(dims: &[T], axes: &[usize], rank: usize, one: T) -> Vec<T> {
    let mut rest = dims.iter().copied();
    (0..rank).map(|i| if axes.contains(&i) { one } else { rest.next().unwrap_or(one) }).collect()
}
