//! Values out of shapes, numbers and types: Cast CastLike Constant ConstantOfShape Range Shape Size.

use super::shape::unknowns;
use super::*;
use crate::Attribute::Int;
use crate::Operand::{Any, Floats, Of, Positive};
use crate::{Backward, Val, case};
use lorac_ir::{Attr, Tensor};

pub(super) const OPS: &[Op] = &[CAST, CAST_LIKE, CONSTANT, CONSTANT_OF_SHAPE, RANGE, SHAPE, SIZE];

const CAST: Op = Op {
    name: "Cast",
    traits: Traits::RESHAPES,
    infer: |c| cast_fact(c, DType::from_onnx_code(c.node.int("to", 0))),
    eval: |a| Ok(vec![convert(a.x(0)?, a.dtype(0), DType::from_onnx_code(a.node.int("to", 0)))?]),
    grad: Grad::rule(cast_back, &[case(&[Any(&[2, 3])]).with(&[("to", Int(11))])]),
    ..MOVES
};

const CAST_LIKE: Op = Op {
    name: "CastLike",
    traits: Traits::RESHAPES,
    since: 15,
    inputs: (2, 2),
    infer: |c| cast_fact(c, c.fact(1).dtype),
    eval: |a| Ok(vec![convert(a.x(0)?, a.dtype(0), a.dtype(1))?]),
    grad: Grad::rule(cast_back, &[case(&[Any(&[2, 3]), Of(DType::F64, &[1], &[0])])]),
    ..MOVES
};

fn cast_fact(c: &Ctx, to: DType) -> InferResult {
    let whole = (c.dtype().is_int() || c.dtype() == DType::Bool) && matches!(to, DType::I64 | DType::I32);
    // Symbols are lengths, and fit.
    let fits = |d: &Dim| to == DType::I64 || d.known().is_none_or(|n| i32::try_from(n).is_ok());
    let content = c.content(0).filter(|v| whole && v.iter().all(fits)).map(<[Dim]>::to_vec);
    known(Fact { dtype: to, ..c.fact(0) }, content)
}

/// Rounded to what `to` can hold: to nearest for floats, towards zero from floats to integers (the ends of the range for
/// what lies beyond), modulo the range between integers.
fn convert(x: &Array, from: DType, to: DType) -> Result<Array, EvalError> {
    let narrow = to.is_int() && to.size() < 8 && !from.is_float();
    let held = match narrow {
        true => {
            let range = 1i128 << (8 * to.size());
            let signed = matches!(to, DType::I8 | DType::I16 | DType::I32);
            x.mapv(|x| {
                let n = (x as i128).rem_euclid(range);
                (if signed && n >= range / 2 { n - range } else { n }) as f64
            })
        }
        false => x.clone(),
    };
    let held = crate::tensor(to, &held).as_ref().and_then(crate::array);
    held.ok_or_else(|| EvalError::Invalid(format!("a cast from {from} to {to}")))
}

fn cast_back<'e, 'g>(b: &Backward<'e, 'g>) -> Vec<Option<Val<'e, 'g>>> {
    let (from, to) = (b.x[0].fact().dtype, b.y.fact().dtype);
    vec![(from.is_float() && to.is_float()).then(|| b.gy.cast(from)), None]
}

const CONSTANT: Op = Op {
    name: "Constant",
    inputs: (0, 0),
    infer: |c| match (value(c.node), c.node.attrs.get("value_string"), c.node.attrs.get("value_strings")) {
        (Some(t), ..) => one(t.fact()),
        (None, Some(_), _) => one(Fact::scalar(DType::Str)),
        (None, None, Some(Attr::Strs(v))) => one(Fact::new(DType::Str, [v.len()])),
        _ => one(Fact::unranked(DType::Opaque)),
    },
    eval: |a| match value(a.node).as_ref().and_then(crate::array) {
        Some(x) => Ok(vec![x]),
        None => invalid("a constant that is not a tensor of numbers"),
    },
    grad: Grad::Zero("a constant"),
    ..MOVES
};

fn value(node: &lorac_ir::Node) -> Option<Tensor> {
    node.attrs.iter().find_map(|(name, attr)| match (&**name, attr) {
        ("value", Attr::Tensor(t)) => Some(t.clone()),
        ("value_float", Attr::Float(x)) => Some(Tensor::scalar(*x)),
        ("value_floats", Attr::Floats(v)) => Some(Tensor::vector(v)),
        ("value_int", Attr::Int(x)) => Some(Tensor::scalar(*x)),
        ("value_ints", Attr::Ints(v)) => Some(Tensor::vector(v)),
        _ => None,
    })
}

/// The repeated element; 0 of f32 where the node does not say.
fn filler(node: &lorac_ir::Node) -> Tensor {
    value(node).unwrap_or_else(|| Tensor::vector(&[0.0f32]))
}

const CONSTANT_OF_SHAPE: Op = Op {
    name: "ConstantOfShape",
    infer: |c| {
        let filler = filler(c.node);
        let shape = match (c.content(0), c.dims(0)) {
            (Some(dims), _) => Some(dims.to_vec()),
            (None, dims) => unknowns(dims),
        };
        let count = shape.as_ref().and_then(|s| s.iter().try_fold(1i64, |n, d| n.checked_mul(d.known()?)));
        let small = count.filter(|n| (0..=64).contains(n) && shape.as_ref().is_some_and(|s| s.len() < 2));
        let element = filler.to_i64().and_then(|v| v.first().copied());
        let content = small.zip(element).map(|(n, x)| vec![Dim::Known(x); n as usize]);
        known(Fact { dtype: filler.dtype(), shape }, content)
    },
    eval: |a| {
        let dims: Vec<usize> = a.ints(0)?.iter().map(|n| (*n).max(0) as usize).collect();
        affordable(&dims)?;
        let x = filler(a.node).to_f64().and_then(|v| v.first().copied()).unwrap_or(0.0);
        Ok(vec![Array::from_elem(dims, x)])
    },
    grad: Grad::Zero("a constant"),
    ..MOVES
};

const RANGE: Op = Op {
    name: "Range",
    inputs: (3, 3),
    infer: |c| {
        let at = |slot| c.content(slot).and_then(|v: &[Dim]| v.first().copied()).unwrap_or(Dim::Unknown);
        let real = |slot| c.input(slot)?.tensor?.to_f64()?.first().copied();
        let len = match (at(0), at(1), at(2)) {
            (Dim::Known(a), Dim::Known(b), Dim::Known(d)) => range_len(a as f64, b as f64, d as f64),
            (a, b, Dim::Known(1)) => Some(b - a),
            _ => real(0).zip(real(1)).zip(real(2)).and_then(|((a, b), d)| range_len(a, b, d)),
        };
        one(Fact::new(c.dtype(), [len.unwrap_or(Dim::Unknown)]))
    },
    eval: |a| {
        let at = |slot: usize| a.x(slot).map(|x| x.first().copied().unwrap_or(0.0));
        let (start, limit, step) = (at(0)?, at(1)?, at(2)?);
        let Some(Dim::Known(len)) = range_len(start, limit, step) else {
            return invalid(format!("Range from {start} to {limit} by {step}"));
        };
        affordable(&[len as usize])?;
        let elements: Vec<f64> = (0..len).map(|i| start + i as f64 * step).collect();
        Ok(vec![Array::from_shape_vec(vec![elements.len()], elements)?])
    },
    // Element i is start + i * step.
    grad: Grad::rule(
        |b| {
            let (e, gy) = (b.emit, b.gy);
            let all = |g: Val<'_, '_>| e.op("ReduceSum", &[g], &[("keepdims", 0i64.into())]).id();
            let by_step = b.want(2, || {
                let n = gy.unary("Size");
                let i = e.op("Range", &[e.scalar(0.0, DType::I64), n, e.scalar(1.0, DType::I64)], &[]);
                e.val(all(gy * i.cast(gy.fact().dtype))).reshape_like(b.x[2])
            });
            vec![Some(e.val(all(gy)).reshape_like(b.x[0])), None, by_step]
        },
        &[case(&[Any(&[]), Floats(&[], &[7.3]), Positive(&[])])],
    ),
    ..MOVES
};

/// How many elements a Range has; `None` for steps that do not get there.
fn range_len(start: f64, limit: f64, step: f64) -> Option<Dim> {
    let len = ((limit - start) / step).ceil().max(0.0);
    (len < 1e15 && step != 0.0).then_some(Dim::Known(len as i64))
}

/// The part of a shape that `start` and `end` ask for.
fn part<T: Copy>(node: &lorac_ir::Node, dims: &[T]) -> Vec<T> {
    let rank = dims.len() as i64;
    let clamp = |n: i64| (if n < 0 { n + rank } else { n }).clamp(0, rank) as usize;
    let (start, end) = (clamp(node.int("start", 0)), clamp(node.int("end", rank)));
    dims.get(start..end).unwrap_or_default().to_vec()
}

const SHAPE: Op = Op {
    name: "Shape",
    infer: |c| match c.dims(0) {
        Some(dims) => {
            let part = part(c.node, dims);
            known(Fact::new(DType::I64, [part.len()]), Some(part))
        }
        None => one(Fact::new(DType::I64, [Dim::Unknown])),
    },
    eval: |a| {
        let part = part(a.node, a.x(0)?.shape());
        let elements: Vec<f64> = part.iter().map(|n| *n as f64).collect();
        Ok(vec![Array::from_shape_vec(vec![elements.len()], elements)?])
    },
    grad: Grad::Zero("a shape has no gradient"),
    ..MOVES
};

const SIZE: Op = Op {
    name: "Size",
    infer: |c| known(Fact::scalar(DType::I64), Some(vec![c.fact(0).volume()])),
    eval: |a| Ok(vec![Array::from_elem(vec![], a.x(0)?.len() as f64)]),
    grad: Grad::Zero("a size has no gradient"),
    ..MOVES
};
