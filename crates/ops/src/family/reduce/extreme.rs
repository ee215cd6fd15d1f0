//! ReduceMax ReduceMin.

use super::*;
use crate::Attribute::{Int, Ints as List};
use crate::Operand::{Apart, Floats, Ints};
use crate::case;
use arithmetic::{larger, smaller};

/// The gradient goes to the elements that equal the extreme, shared evenly, as PyTorch's `amax` does.
fn extreme<'e, 'g>(b: &Backward<'e, 'g>) -> Vec<Option<Val<'e, 'g>>> {
    let mask = b.x[0].binary("Equal", spread(b, b.y)).cast(b.gy.fact().dtype);
    vec![Some(spread(b, b.gy) / again(b, "ReduceSum", mask) * mask)]
}

/// The least and the greatest number that an element can be.
fn range(dtype: DType) -> (f64, f64) {
    match dtype.range() {
        Some((least, greatest)) => (least as f64, greatest as f64),
        None if dtype == DType::Bool => (0.0, 1.0),
        None => (f64::NEG_INFINITY, f64::INFINITY),
    }
}

/// `f` of all elements of a row, which is never left empty.
fn pick(a: &Args, empty: f64, f: impl Fn(f64, f64) -> f64) -> EvalResult {
    // An extreme needs no wrapping, and the largest i64 as f64 would be wrapped.
    let plain = Args { dtypes: Vec::new(), inputs: a.inputs.clone(), ..*a };
    reduce(&plain, |row| row.iter().copied().reduce(&f).unwrap_or(empty))
}

pub(in crate::family) const REDUCE_MAX: Op = Op {
    name: "ReduceMax",
    eval: |a| pick(a, range(a.dtype(0)).0, larger),
    grad: Grad::rule(
        extreme,
        &[
            case(&[Apart(&[2, 3, 4]), Ints(&[1], &[1])]).with(&[("keepdims", Int(0))]),
            case(&[Apart(&[2, 3])]).with(&[("axes", List(&[1]))]).opset(17),
            // Two that are equal share the gradient; differences say half, too.
            case(&[Floats(&[2, 3], &[1.0, 3.0, 3.0, 2.0, 0.0, 2.0]), Ints(&[1], &[1])]),
            case(&[Apart(&[2, 3])]).with(&[("noop_with_empty_axes", Int(1))]),
        ],
    ),
    ..REDUCE
};

pub(in crate::family) const REDUCE_MIN: Op = Op {
    name: "ReduceMin",
    eval: |a| pick(a, range(a.dtype(0)).1, smaller),
    grad: Grad::rule(
        extreme,
        &[
            case(&[Apart(&[2, 3]), Ints(&[1], &[-1])]),
            case(&[Floats(&[2, 2], &[1.0, 1.0, 2.0, 3.0])]).with(&[("keepdims", Int(0))]),
        ],
    ),
    ..REDUCE
};
