//! Values out of shapes, numbers and types: Cast Constant ConstantOfShape Range Shape Size.

use super::*;
use crate::Operand::Any;
use crate::case;
use lorac_ir::{Attr, Tensor};

pub(super) const OPS: &[Op] = &[CAST, CONSTANT, CONSTANT_OF_SHAPE, RANGE, SHAPE, SIZE];

/// ONNX's `TensorProto.DataType`.
const CODES: [(i64, DType); 14] = [
    (1, DType::F32),
    (2, DType::U8),
    (3, DType::I8),
    (4, DType::U16),
    (5, DType::I16),
    (6, DType::I32),
    (7, DType::I64),
    (8, DType::Str),
    (9, DType::Bool),
    (10, DType::F16),
    (11, DType::F64),
    (12, DType::U32),
    (13, DType::U64),
    (16, DType::BF16),
];

/// The number that ONNX has for an element type.
pub(crate) fn code(dtype: DType) -> Option<i64> {
    CODES.iter().find(|c| c.1 == dtype).map(|c| c.0)
}

pub(crate) fn dtype_of(code: i64) -> DType {
    CODES.iter().find(|c| c.0 == code).map_or(DType::Opaque, |c| c.1)
}

const CAST: Op = Op {
    name: "Cast",
    infer: |c| {
        let dtype = dtype_of(c.node.int("to", 0));
        let whole = (c.dtype().is_int() || c.dtype() == DType::Bool) && dtype.is_int();
        let content = c.content(0).filter(|_| whole).map(<[Dim]>::to_vec);
        known(Fact { dtype, ..c.fact(0) }, content)
    },
    eval: |a| {
        let to = dtype_of(a.node.int("to", 0));
        map(a, |x| match to {
            DType::Bool => f64::from(u8::from(x != 0.0)),
            d if d.is_int() => x.trunc(),
            _ => x,
        })
    },
    grad: Grad::rule(
        |b| {
            let (from, to) = (b.x[0].fact().dtype, b.y.fact().dtype);
            vec![(from.is_float() && to.is_float()).then(|| b.gy.cast(from))]
        },
        &[case(&[Any(&[2, 3])]).with(&[("to", crate::Attribute::Int(11))])],
    ),
    ..MOVES
};

const CONSTANT: Op = Op {
    name: "Constant",
    inputs: (0, 0),
    infer: |c| match value(c.node) {
        Some(t) => one(t.fact()),
        None => one(Fact::unranked(DType::Opaque)),
    },
    eval: |a| match value(a.node).as_ref().and_then(crate::array) {
        Some(x) => Ok(vec![x]),
        None => misfit("a constant that is no tensor of numbers"),
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
            (None, Some([Dim::Known(rank)])) => Some(vec![Dim::Unknown; *rank as usize]),
            _ => None,
        };
        let count = shape.as_ref().and_then(|s| s.iter().try_fold(1i64, |n, d| n.checked_mul(d.known()?)));
        let small = count.filter(|n| *n <= 64 && shape.as_ref().is_some_and(|s| s.len() < 2));
        let element = filler.to_i64().and_then(|v| v.first().copied());
        let content = small.zip(element).map(|(n, x)| vec![Dim::Known(x); n as usize]);
        known(Fact { dtype: filler.dtype(), shape }, content)
    },
    eval: |a| {
        let dims: Vec<usize> = a.ints(0)?.iter().map(|n| (*n).max(0) as usize).collect();
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
        let (start, limit, step) = (at(0), at(1), at(2));
        let len = match (start, limit, step) {
            (Dim::Known(a), Dim::Known(b), Dim::Known(d)) if d != 0 => {
                Dim::Known(((b - a) as f64 / d as f64).ceil().max(0.0) as i64)
            }
            (a, b, Dim::Known(1)) => b - a,
            _ => Dim::Unknown,
        };
        one(Fact::new(c.dtype(), [len]))
    },
    eval: |a| {
        let at = |slot: usize| a.x(slot).map(|x| x.first().copied().unwrap_or(0.0));
        let (start, limit, step) = (at(0)?, at(1)?, at(2)?);
        let len = ((limit - start) / step).ceil().max(0.0);
        if !(len <= 1e8) {
            return misfit(format!("Range from {start} to {limit} by {step}"));
        }
        let elements: Vec<f64> = (0..len as usize).map(|i| start + i as f64 * step).collect();
        Ok(vec![Array::from_shape_vec(vec![elements.len()], elements)?])
    },
    grad: Grad::Zero("positions have no gradient"),
    ..MOVES
};

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
