//! Arithmetic on operands that broadcast: Add Div Max Mean Min Mod Mul Pow Sub Sum.

use super::*;
use crate::Attribute::Int;
use crate::Operand::{Any, Apart, Floats, Ints, Positive};
use crate::{Backward, Val, case};
use integer::{power, wrapped, zip_numbers};

pub(super) const OPS: &[Op] = &[ADD, DIV, MAX, MEAN, MIN, MOD, MUL, POW, SUB, SUM];

const ADD: Op = Op {
    name: "Add",
    traits: Traits::CARRIES.adds(&[0, 1]).bias(&[0, 1]),
    infer: |c| pair_content(c, c.dtype(), |x, y| x + y),
    eval: |a| zip_numbers(a, |x, y| x + y, i128::wrapping_add),
    grad: Grad::rule(
        |b| vec![Some(b.gy), Some(b.gy)],
        &[case(&[Any(&[2, 3]), Any(&[2, 3])]), case(&[Any(&[3]), Any(&[2, 1])]), case(&[Any(&[]), Any(&[2, 3])])],
    ),
    ..BINARY
};

const SUB: Op = Op {
    name: "Sub",
    traits: Traits::CARRIES,
    infer: |c| pair_content(c, c.dtype(), |x, y| x - y),
    eval: |a| zip_numbers(a, |x, y| x - y, i128::wrapping_sub),
    grad: Grad::rule(|b| vec![Some(b.gy), b.want(1, || -b.gy)], &[case(&[Any(&[2, 3]), Any(&[3])])]),
    ..BINARY
};

const MUL: Op = Op {
    name: "Mul",
    traits: Traits::CARRIES,
    infer: |c| pair_content(c, c.dtype(), |x, y| x * y),
    eval: |a| zip_numbers(a, |x, y| x * y, i128::wrapping_mul),
    grad: Grad::rule(
        |b| vec![b.want(0, || b.gy * b.x[1]), b.want(1, || b.gy * b.x[0])],
        &[case(&[Any(&[2, 3]), Any(&[2, 3])]), case(&[Any(&[1, 3]), Any(&[2, 1])])],
    ),
    ..BINARY
};

const DIV: Op = Op {
    name: "Div",
    traits: Traits::CARRIES,
    infer: |c| {
        pair_content(c, c.dtype(), |x, y| match (x, y) {
            (Dim::Known(m), Dim::Known(n)) => m.checked_div(n).map_or(Dim::Unknown, Dim::Known),
            _ => x.div_exact(y).unwrap_or(Dim::Unknown),
        })
    },
    eval: |a| {
        if a.dtype(0).is_int() && a.x(1)?.iter().any(|y| *y == 0.0) {
            return invalid("an integer is divided by zero");
        }
        zip_numbers(a, |x, y| x / y, |x, y| x.checked_div(y).unwrap_or(0))
    },
    grad: Grad::rule(
        |b| {
            let graph = b.emit.graph();
            if guard::is_share(graph, b.node) && guard::is_guarded(graph, b.node) {
                let (unread, nothing) = (guard::unread(b), b.y.like(0.0));
                let by_x = b.emit.op("Where", &[unread, nothing, b.gy / b.x[1]], &[]);
                let y = b.emit.op("Where", &[unread, nothing, b.y], &[]);
                return vec![b.want(0, || by_x), b.want(1, || -(by_x * y))];
            }
            vec![b.want(0, || b.gy / b.x[1]), b.want(1, || -(b.gy * b.y / b.x[1]))]
        },
        &[case(&[Any(&[2, 3]), Positive(&[3])]), case(&[Any(&[]), Positive(&[2, 1])])],
    ),
    ..BINARY
};

const MAX: Op = Op {
    name: "Max",
    traits: Traits::CARRIES,
    eval: |a| fold(a, larger),
    grad: Grad::rule(
        pick,
        &[
            case(&[Apart(&[2, 3]), Apart(&[2, 3])]),
            case(&[Apart(&[2, 3]), Apart(&[3]), Apart(&[])]),
            // Two that are equal share the gradient; differences say half, too.
            case(&[Floats(&[3], &[1.0, 2.0, 3.0]), Floats(&[3], &[1.0, 5.0, 3.0]), Apart(&[1])]),
            case(&[Any(&[2])]),
        ],
    ),
    ..VARIADIC
};

const MIN: Op = Op {
    name: "Min",
    traits: Traits::CARRIES,
    eval: |a| fold(a, smaller),
    grad: Grad::rule(
        pick,
        &[case(&[Apart(&[2, 3]), Apart(&[3])]), case(&[Floats(&[3], &[1.0, 9.0, 3.0]), Floats(&[], &[1.0])])],
    ),
    ..VARIADIC
};

/// One or more operands that broadcast.
const VARIADIC: Op = Op {
    inputs: (1, usize::MAX),
    infer: all,
    flops: |c, k| elementwise(c, k) * Dim::Known(c.inputs.len().saturating_sub(1) as i64),
    ..UNARY
};

/// The larger number; NaN spreads.
pub(super) fn larger(x: f64, y: f64) -> f64 {
    if x > y || x.is_nan() { x } else { y }
}

/// The smaller number; NaN spreads.
pub(super) fn smaller(x: f64, y: f64) -> f64 {
    if x < y || x.is_nan() { x } else { y }
}

/// The gradient goes to the operand that equals the result; where several do, in equal shares.
fn pick<'e, 'g>(b: &Backward<'e, 'g>) -> Vec<Option<Val<'e, 'g>>> {
    let dtype = b.gy.fact().dtype;
    let masks: Vec<Val> = b.x.iter().map(|x| x.binary("Equal", b.y).cast(dtype)).collect();
    let share = match masks.as_slice() {
        [] | [_] => b.gy,
        [first, rest @ ..] => b.gy / rest.iter().fold(*first, |sum, mask| sum + *mask),
    };
    masks.iter().enumerate().map(|(slot, mask)| b.want(slot, || share * *mask)).collect()
}

fn fold(a: &Args, f: impl Fn(f64, f64) -> f64) -> EvalResult {
    let mut y = a.x(0)?.clone();
    for slot in 1..a.inputs.len() {
        y = crate::eval::zip(&y, a.x(slot)?, &f)?;
    }
    Ok(vec![y])
}

const MEAN: Op = Op {
    name: "Mean",
    eval: |a| {
        let count = a.inputs.len() as f64;
        Ok(fold(a, |x, y| x + y)?.into_iter().map(|sum| sum / count).collect())
    },
    grad: Grad::rule(
        |b| {
            let share = b.gy * (1.0 / b.x.len() as f64);
            b.x.iter().map(|_| Some(share)).collect()
        },
        &[case(&[Any(&[2, 3]), Any(&[3]), Any(&[2, 1])]), case(&[Any(&[2])])],
    ),
    ..VARIADIC
};

const MOD: Op = Op {
    name: "Mod",
    eval: |a| {
        if a.dtype(0).is_int() && a.x(1)?.iter().any(|y| *y == 0.0) {
            return invalid("an integer is divided by zero");
        }
        match a.node.int("fmod", 0) {
            // The sign of the divisor.
            0 => zip2(a, |x, y| if x % y != 0.0 && (x < 0.0) != (y < 0.0) { x % y + y } else { x % y }),
            // The sign of the dividend.
            _ => zip2(a, |x, y| x % y),
        }
    },
    // x - y * quotient: the quotient is constant almost everywhere.
    grad: Grad::rule(
        |b| {
            let quotient = || ((b.x[0] - b.y) / b.x[1]).unary("Round");
            vec![Some(b.gy), b.want(1, || -(b.gy * quotient()))]
        },
        &[case(&[Apart(&[2, 3]), Positive(&[3])]).with(&[("fmod", Int(1))])],
    ),
    ..BINARY
};

const POW: Op = Op {
    name: "Pow",
    traits: Traits::CARRIES,
    eval: |a| {
        let (base, exponent) = (a.dtype(0), a.dtype(1));
        match (base.is_int(), exponent.is_int()) {
            (false, _) => zip2(a, f64::powf),
            (true, true) => zip2(a, |x, n| match n < 0.0 {
                true => x.powf(n).trunc(),
                false => wrapped(base, power(x as i128, n as u64)),
            }),
            (true, false) => zip2(a, |x, n| x.powf(n).trunc()),
        }
    },
    flops: |c, k| elementwise(c, k) * Dim::Known(10),
    grad: Grad::rule(
        |b| vec![b.want(0, || power_by_base(b)), b.want(1, || power_by_exponent(b))],
        &[
            case(&[Positive(&[2, 3]), Any(&[3])]),
            case(&[Any(&[2, 3]), Floats(&[], &[2.0])]),
            case(&[Any(&[2, 3]), Floats(&[], &[3.0])]),
            case(&[Positive(&[2, 3]), Floats(&[], &[0.5])]),
            // Zero to whole powers has slopes.
            case(&[Floats(&[5], &[0.0, 0.0, 0.0, -1.5, 0.0]), Floats(&[5], &[0.0, 1.0, 2.0, 3.0, 4.0])]),
            case(&[Floats(&[3], &[0.0, -1.5, 2.0]), Ints(&[], &[3])]),
        ],
    ),
    ..BINARY
};

/// gy p x^(p - 1).
fn power_by_base<'e, 'g>(b: &Backward<'e, 'g>) -> Val<'e, 'g> {
    let (x, p) = (b.x[0], b.x[1]);
    let known = p.tensor().filter(|t| t.len() == 1).and_then(|t| t.to_f64());
    match known.as_deref() {
        // Pow(x, 1) costs more than x.
        Some([2.0]) => return b.gy * (x * 2.0),
        Some([1.0]) => return b.gy,
        _ => {}
    }
    let dtype = x.fact().dtype;
    let (p, zero) = (p.cast(dtype), p.binary("Equal", p.like(0.0)).cast(dtype));
    // 0 x^-1 is NaN at zero; 0 x^0 is zero everywhere.
    b.gy * (p * x.binary("Pow", p - 1.0 + zero))
}

/// gy y ln(x), and zero where x is not positive: zero stays zero, and powers of negative numbers have no slope.
fn power_by_exponent<'e, 'g>(b: &Backward<'e, 'g>) -> Val<'e, 'g> {
    let x = b.x[0];
    let base = b.emit.op("Where", &[x.binary("Greater", x.like(0.0)), x, x.like(1.0)], &[]);
    b.gy * (b.y * base.unary("Log"))
}

const SUM: Op = Op {
    name: "Sum",
    traits: Traits::CARRIES.adds(&[0, 1]),
    eval: |a| fold(a, |x, y| x + y),
    grad: Grad::rule(|b| b.x.iter().map(|_| Some(b.gy)).collect(), &[case(&[Any(&[2, 3]), Any(&[3]), Any(&[2, 1])])]),
    ..VARIADIC
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate;

    fn compute(text: &str, inputs: &[(&str, [f64; 2])]) -> Vec<f64> {
        let graph = lorac_ir::parse(text).expect("parses");
        let array = |v: &[f64; 2]| Array::from_shape_vec(vec![2], v.to_vec()).expect("fits");
        let inputs: Vec<(&str, Array)> = inputs.iter().map(|(n, v)| (*n, array(v))).collect();
        evaluate(&graph, &inputs).expect("evaluates")[0].iter().copied().collect()
    }

    #[test]
    fn integers_wrap_and_truncate() {
        let add = "graph g(%x: u8[2], %y: u8[2]) -> %z { %z = Add(%x, %y) : u8[2] }";
        assert_eq!(compute(add, &[("x", [200.0, 1.0]), ("y", [100.0, 2.0])]), [44.0, 3.0]);
        let div = "graph g(%x: i8[2], %y: i8[2]) -> %z { %z = Div(%x, %y) : i8[2] }";
        assert_eq!(compute(div, &[("x", [-7.0, -128.0]), ("y", [2.0, -1.0])]), [-3.0, -128.0]);
        let rem = "graph g(%x: i32[2], %y: i32[2]) -> %z { %z = Mod(%x, %y) : i32[2] }";
        assert_eq!(compute(rem, &[("x", [-7.0, 7.0]), ("y", [3.0, -3.0])]), [2.0, -2.0]);
        let pow = "graph g(%x: i32[2], %y: i32[2]) -> %z { %z = Pow(%x, %y) : i32[2] }";
        assert_eq!(compute(pow, &[("x", [-3.0, 2.0]), ("y", [3.0, 31.0])]), [-27.0, -2147483648.0]);
    }

    #[test]
    fn what_is_no_number_spreads() {
        assert!(larger(f64::NAN, 1.0).is_nan() && larger(1.0, f64::NAN).is_nan());
        assert!(smaller(f64::NAN, 1.0).is_nan() && smaller(1.0, f64::NAN).is_nan());
    }
}
