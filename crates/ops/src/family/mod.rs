//! The families of operators, and what they share.

use crate::eval::zip;
use crate::infer::broadcast;
use crate::{Args, Array, Ctx, EvalError, Grad, InferError, Inferred, Op, Projection, Traits};
use lorac_ir::{DType, Dim, Fact};

mod activation;
mod arithmetic;
mod attention;
mod constant;
mod contrib;
mod control;
mod conv;
mod determinant;
mod einsum;
mod guard;
mod index;
mod integer;
mod logic;
mod loss;
mod matmul;
mod norm;
mod pad;
mod pool;
mod quant;
mod random;
mod recurrent;
mod reduce;
mod resize;
mod sequence;
mod shape;
mod signal;
mod slice;
mod space;
mod text;
mod trig;
mod unary;
mod vision;

/// Every operator, by family.
pub static TABLE: &[&[Op]] = &[
    activation::OPS,
    arithmetic::OPS,
    attention::OPS,
    constant::OPS,
    contrib::activation::OPS,
    contrib::attention::OPS,
    contrib::conv::OPS,
    contrib::matmul::OPS,
    contrib::norm::OPS,
    contrib::other::OPS,
    contrib::quant::OPS,
    contrib::rotary::OPS,
    control::OPS,
    conv::OPS,
    determinant::OPS,
    einsum::OPS,
    index::OPS,
    integer::OPS,
    logic::OPS,
    loss::OPS,
    matmul::OPS,
    norm::OPS,
    pad::OPS,
    pool::OPS,
    quant::OPS,
    random::OPS,
    recurrent::OPS,
    reduce::OPS,
    resize::OPS,
    sequence::OPS,
    shape::OPS,
    signal::OPS,
    slice::OPS,
    space::OPS,
    text::OPS,
    trig::OPS,
    unary::OPS,
    vision::OPS,
];

type InferResult = Result<Vec<Inferred>, InferError>;
type EvalResult = Result<Vec<Array>, EvalError>;

/// One result like the first operand, one operation per element; without a name, an evaluation and a gradient: what
/// entries begin from.
pub const UNARY: Op = Op {
    domain: "",
    name: "",
    since: 13,
    inputs: (1, 1),
    outputs: (1, 1),
    infer: like_first,
    eval: |a| Err(EvalError::Unknown(a.node.op.to_string())),
    flops: elementwise,
    grad: Grad::Unsupported("no rule"),
    traits: Traits::NONE,
};

/// [`UNARY`] with two operands that broadcast.
pub const BINARY: Op = Op { inputs: (2, 2), infer: |c| pair(c, c.dtype()), ..UNARY };

/// An operator that only moves elements.
const MOVES: Op = Op { flops: |_, _| Dim::Known(0), ..UNARY };

fn one(fact: Fact) -> InferResult {
    Ok(vec![fact.into()])
}

fn known(fact: Fact, content: Option<Vec<Dim>>) -> InferResult {
    Ok(vec![Inferred { fact, content }])
}

fn like_first(c: &Ctx) -> InferResult {
    one(c.fact(0))
}

fn pair(c: &Ctx, dtype: DType) -> InferResult {
    let shape = broadcast(&c.fact(0), &c.fact(1))?;
    one(Fact { dtype, shape })
}

/// All operands broadcast to one shape.
fn all(c: &Ctx) -> InferResult {
    let mut fact = c.fact(0);
    for slot in 1..c.inputs.len() {
        fact.shape = broadcast(&fact, &c.fact(slot))?;
    }
    one(fact)
}

/// One operation an element of the first result.
fn elementwise(_: &Ctx, known: &[Inferred]) -> Dim {
    known.first().map_or(Dim::Unknown, |k| k.fact.volume())
}

fn map(a: &Args, f: impl Fn(f64) -> f64) -> EvalResult {
    Ok(vec![a.x(0)?.mapv(f)])
}

fn zip2(a: &Args, f: impl Fn(f64, f64) -> f64) -> EvalResult {
    Ok(vec![zip(a.x(0)?, a.x(1)?, f)?])
}

fn invalid<T>(what: impl Into<String>) -> Result<T, EvalError> {
    Err(EvalError::Invalid(what.into()))
}

/// Refuses results that no reference evaluation is for: a file may ask for any number of elements.
fn affordable(dims: &[usize]) -> Result<(), EvalError> {
    // Axes of no length count as one: what they multiply must fit all the same.
    let volume = dims.iter().try_fold(1usize, |n, d| n.checked_mul((*d).max(1)));
    if volume.is_some_and(|n| n <= 1 << 28) { Ok(()) } else { invalid(format!("{dims:?} is too large")) }
}

/// `x` in a type wide enough for sums of squares.
fn wide<'e, 'g>(x: crate::Val<'e, 'g>) -> crate::Val<'e, 'g> {
    match x.fact().dtype {
        DType::F16 | DType::BF16 => x.cast(DType::F32),
        _ => x,
    }
}

/// How many elements `y` has for one of `x`, in x's type; divided in a type that holds the numbers of elements.
fn part<'e, 'g>(y: crate::Val<'e, 'g>, x: crate::Val<'e, 'g>) -> crate::Val<'e, 'g> {
    let dtype = x.fact().dtype;
    let count = |v: crate::Val<'e, 'g>| v.unary("Size").cast(if dtype == DType::F64 { dtype } else { DType::F32 });
    (count(y) / count(x)).cast(dtype)
}

/// Known elements combined elementwise; a scalar stretches.
fn zip_content(a: Option<&[Dim]>, b: Option<&[Dim]>, f: impl Fn(Dim, Dim) -> Dim) -> Option<Vec<Dim>> {
    match (a?, b?) {
        ([x], b) => Some(b.iter().map(|y| f(*x, *y)).collect()),
        (a, [y]) => Some(a.iter().map(|x| f(*x, *y)).collect()),
        (a, b) if a.len() == b.len() => Some(a.iter().zip(b).map(|(x, y)| f(*x, *y)).collect()),
        _ => None,
    }
}

/// Known elements, if integers of this type can hold them: what runs over wraps, and is left to the evaluation.
fn held(content: Option<Vec<Dim>>, dtype: DType) -> Option<Vec<Dim>> {
    let Some((least, greatest)) = dtype.range() else { return content };
    let fits = |d: &Dim| d.known().is_none_or(|n| (least..=greatest).contains(&n.into()));
    content.filter(|all| all.iter().all(fits))
}

/// A result of `pair` with the known elements combined.
fn pair_content(c: &Ctx, dtype: DType, f: impl Fn(Dim, Dim) -> Dim) -> InferResult {
    let mut known = pair(c, dtype)?;
    known[0].content = held(zip_content(c.content(0), c.content(1), f), dtype);
    Ok(known)
}
