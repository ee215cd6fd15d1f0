//! Matrix products: Gemm MatMul.

use super::*;
use crate::Attribute::{Float, Int};
use crate::Operand::Any;
use crate::{Val, case, reduce_to};
use ndarray::{ArrayView2, Axis, Ix2};

pub(super) const OPS: &[Op] = &[GEMM, MATMUL];

const GEMM: Op = Op {
    name: "Gemm",
    traits: Traits::NONE
        .projects(|node, slot, rank| {
            let plain = slot == 1 && rank == 2 && node.int("transA", 0) == 0 && node.float("alpha", 1.0) == 1.0;
            plain.then_some(Projection { transposed: node.int("transB", 0) != 0, summed: 1 })
        })
        .bias(&[2]),
    inputs: (2, 3),
    infer: |c| {
        let (a, b) = (c.fact(0), c.fact(1));
        let (Some([p, q]), Some([r, s])) = (a.dims(), b.dims()) else {
            let ranks_known = a.rank().is_some() && b.rank().is_some();
            return if ranks_known { Err(InferError::Mismatch(a, b)) } else { one(Fact::unranked(a.dtype)) };
        };
        let (m, k) = if c.node.int("transA", 0) == 0 { (p, q) } else { (q, p) };
        let (l, n) = if c.node.int("transB", 0) == 0 { (r, s) } else { (s, r) };
        check_inner(&a, &b, *k, *l)?;
        one(Fact::new(a.dtype, [*m, *n]))
    },
    eval: |a| {
        let turn = |slot: usize, flag: &str| -> Result<Array, EvalError> {
            let x = a.x(slot)?;
            Ok(if a.node.int(flag, 0) == 0 { x.clone() } else { x.t().to_owned() })
        };
        let (p, q) = (two(turn(0, "transA")?)?, two(turn(1, "transB")?)?);
        let product = dot(p.view(), q.view())? * f64::from(a.node.float("alpha", 1.0));
        let beta = f64::from(a.node.float("beta", 1.0));
        match a.opt(2) {
            Some(c) => Ok(vec![crate::eval::zip(&product.into_dyn(), c, |x, c| x + beta * c)?]),
            None => Ok(vec![product.into_dyn()]),
        }
    },
    flops: |c, k| {
        let inner = c.dims(0).and_then(|d| d.get(usize::from(c.node.int("transA", 0) == 0)).copied());
        elementwise(c, k) * inner.unwrap_or(Dim::Unknown) * Dim::Known(2)
    },
    grad: Grad::rule(
        |b| {
            let (ta, tb) = (b.node.int("transA", 0) != 0, b.node.int("transB", 0) != 0);
            let (alpha, beta) = (b.node.float("alpha", 1.0), b.node.float("beta", 1.0));
            let by_a = || match ta {
                false => gemm(b.gy, b.x[1], alpha, false, !tb),
                true => gemm(b.x[1], b.gy, alpha, tb, true),
            };
            let by_b = || match tb {
                false => gemm(guard::left(b), b.gy, alpha, !ta, false),
                true => gemm(b.gy, guard::left(b), alpha, true, ta),
            };
            let by_c = || if beta == 1.0 { b.gy } else { b.gy * f64::from(beta) };
            vec![b.want(0, by_a), b.want(1, by_b), b.want(2, by_c)]
        },
        &[
            case(&[Any(&[2, 3]), Any(&[3, 4]), Any(&[4])]).with(&[("alpha", Float(0.5)), ("beta", Float(2.0))]),
            case(&[Any(&[3, 2]), Any(&[4, 3]), Any(&[2, 1])]).with(&[("transA", Int(1)), ("transB", Int(1))]),
            case(&[Any(&[2, 3]), Any(&[4, 3])]).with(&[("transB", Int(1))]),
            case(&[Any(&[3, 2]), Any(&[3, 4]), Any(&[])]).with(&[("transA", Int(1))]),
        ],
    ),
    ..UNARY
};

fn gemm<'e, 'g>(a: Val<'e, 'g>, b: Val<'e, 'g>, alpha: f32, ta: bool, tb: bool) -> Val<'e, 'g> {
    let mut attrs = Vec::new();
    if alpha != 1.0 {
        attrs.push(("alpha", alpha.into()));
    }
    for (name, turned) in [("transA", ta), ("transB", tb)] {
        if turned {
            attrs.push((name, 1i64.into()));
        }
    }
    a.emit().op("Gemm", &[a, b], &attrs)
}

fn check_inner(a: &Fact, b: &Fact, k: Dim, l: Dim) -> Result<(), InferError> {
    match (k, l) {
        (Dim::Known(m), Dim::Known(n)) if m != n => Err(InferError::Mismatch(a.clone(), b.clone())),
        _ => Ok(()),
    }
}

fn two(x: Array) -> Result<ndarray::Array2<f64>, EvalError> {
    Ok(x.into_dimensionality::<Ix2>()?)
}

fn dot(a: ArrayView2<f64>, b: ArrayView2<f64>) -> Result<ndarray::Array2<f64>, EvalError> {
    if a.ncols() != b.nrows() {
        return invalid(format!("{:?} times {:?}", a.shape(), b.shape()));
    }
    Ok(a.dot(&b))
}

const MATMUL: Op = Op {
    name: "MatMul",
    traits: Traits::PROJECTS,
    infer: |c| {
        let (a, b) = (c.fact(0), c.fact(1));
        let (Some(x), Some(y)) = (a.dims(), b.dims()) else { return one(Fact::unranked(a.dtype)) };
        let (Some((k, rows)), [.., _]) = (x.split_last(), y) else { return Err(InferError::Mismatch(a, b)) };
        let (inner, cols) = match y {
            [l] => (*l, None),
            [.., l, n] => (*l, Some(*n)),
            [] => return Err(InferError::Mismatch(a, b)),
        };
        check_inner(&a, &b, *k, inner)?;
        let batch = |dims: &[Dim]| Fact::new(a.dtype, dims[..dims.len().saturating_sub(2)].iter().copied());
        let mut shape = broadcast(&batch(x), &batch(y))?.unwrap_or_default();
        shape.extend(rows.last().copied());
        shape.extend(cols);
        one(Fact { dtype: a.dtype, shape: Some(shape) })
    },
    eval: |a| {
        let (x, y) = (a.x(0)?, a.x(1)?);
        let (vector_x, vector_y) = (x.ndim() == 1, y.ndim() == 1);
        let x = if vector_x { x.clone().insert_axis(Axis(0)) } else { x.clone() };
        let y = if vector_y { y.clone().insert_axis(Axis(1)) } else { y.clone() };
        if x.ndim() < 2 || y.ndim() < 2 {
            return invalid("MatMul of a scalar");
        }
        let (m, k) = (x.shape()[x.ndim() - 2], x.shape()[x.ndim() - 1]);
        let (l, n) = (y.shape()[y.ndim() - 2], y.shape()[y.ndim() - 1]);
        let batch = crate::eval::broadcast(&x.shape()[..x.ndim() - 2], &y.shape()[..y.ndim() - 2])?;
        let stretch = |x: &Array, m: usize, n: usize| {
            let dims = [batch.as_slice(), &[m, n]].concat();
            let count: usize = batch.iter().product();
            let wide = x.broadcast(dims).map(|v| v.iter().copied().collect::<Vec<_>>());
            wide.and_then(|v| ndarray::Array3::from_shape_vec((count, m, n), v).ok())
        };
        let (Some(p), Some(q)) = (stretch(&x, m, k), stretch(&y, l, n)) else {
            return invalid(format!("{:?} times {:?}", x.shape(), y.shape()));
        };
        let mut out = Vec::with_capacity(p.len_of(Axis(0)) * m * n);
        for (p, q) in p.outer_iter().zip(q.outer_iter()) {
            out.extend(dot(p, q)?.iter());
        }
        let mut dims = batch;
        dims.extend((!vector_x).then_some(m));
        dims.extend((!vector_y).then_some(n));
        Ok(vec![Array::from_shape_vec(dims, out)?])
    },
    flops: |c, k| {
        let inner = c.dims(0).and_then(|d| d.last().copied()).unwrap_or(Dim::Unknown);
        elementwise(c, k) * inner * Dim::Known(2)
    },
    grad: Grad::rule(
        |b| {
            // Vectors are matrices with one row or one column.
            let (x, w, mut gy) = (b.x[0], b.x[1], b.gy);
            let (vx, vw) = (x.rank() == 1, w.rank() == 1);
            let (mut p, mut q) = (x, w);
            if vw {
                (q, gy) = (grow(w, 1), grow(gy, -1));
            }
            if vx {
                (p, gy) = (grow(x, 0), grow(gy, -2));
            }
            let by_x = || if q.rank() == 2 { rows(gy, q, true).reshape_like(p) } else { gy.matmul(turn(q)) };
            let by_w = || {
                let p = if vx { p } else { guard::left(b) };
                match q.is_turned() {
                    _ if q.rank() == 2 => flat_gemm(p, gy),
                    // The gradient of what is a transpose already is computed as one: the two are none.
                    true if alike(p, q) => turn(gy).matmul(p).t(),
                    _ => turn(p).matmul(gy),
                }
            };
            vec![b.want(0, || shrink(by_x(), vx, p)), b.want(1, || shrink(by_w(), vw, q))]
        },
        &[
            case(&[Any(&[2, 3]), Any(&[3, 4])]),
            case(&[Any(&[2, 5, 3]), Any(&[3, 4])]),
            case(&[Any(&[2, 2, 3]), Any(&[2, 3, 4])]),
            case(&[Any(&[2, 1, 2, 3]), Any(&[3, 3, 4])]),
            case(&[Any(&[3]), Any(&[3, 4])]),
            case(&[Any(&[2, 3]), Any(&[3])]),
            case(&[Any(&[3]), Any(&[3])]),
            case(&[Any(&[3]), Any(&[2, 3, 4])]),
        ],
    ),
    ..BINARY
};

/// `x` with an axis of length one put in.
fn grow<'e, 'g>(x: Val<'e, 'g>, at: i64) -> Val<'e, 'g> {
    x.binary("Unsqueeze", x.emit().ints(&[at]))
}

/// The gradient of a vector from that of the one-row or one-column matrix it was grown to.
fn shrink<'e, 'g>(g: Val<'e, 'g>, vector: bool, like: Val<'e, 'g>) -> Val<'e, 'g> {
    if vector { reduce_to(g, like).reshape(&[-1]) } else { g }
}

/// Whether both are as many matrices.
fn alike(p: Val, q: Val) -> bool {
    let (p, q) = (p.fact(), q.fact());
    match (p.dims(), q.dims()) {
        (Some([lead @ .., _, _]), Some([same @ .., _, _])) => {
            lead.len() == same.len() && lead.iter().zip(same).all(|(a, b)| a.same(*b))
        }
        _ => false,
    }
}

/// The transposes of many matrices. A Reshape to what they are lies between: without it a runtime makes one permutation
/// of this and of that which split them into heads, and copies; so it takes the transpose into the product.
fn turn<'e, 'g>(x: Val<'e, 'g>) -> Val<'e, 'g> {
    x.reshape(&vec![0; x.rank()]).t()
}

/// All leading axes folded into rows.
fn flat<'e, 'g>(x: Val<'e, 'g>) -> Val<'e, 'g> {
    if x.rank() == 2 {
        return x;
    }
    match x.fact().dims().and_then(|d| d.last()?.known()) {
        Some(n) => x.reshape(&[-1, n]),
        None => x.emit().op("Flatten", &[x], &[("axis", (-1i64).into())]),
    }
}

/// The product of the rows of `g` with a matrix: a `Gemm`, since a `Transpose` of a weight would be folded into a
/// second copy of it.
fn rows<'e, 'g>(g: Val<'e, 'g>, w: Val<'e, 'g>, turned: bool) -> Val<'e, 'g> {
    gemm(flat(g), w, 1.0, false, turned)
}

fn flat_gemm<'e, 'g>(x: Val<'e, 'g>, gy: Val<'e, 'g>) -> Val<'e, 'g> {
    gemm(flat(x), flat(gy), 1.0, true, false)
}
