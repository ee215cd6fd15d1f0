//! Integers by their bits: BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor; and how integer arithmetic wraps around.

use super::*;

pub(super) const OPS: &[Op] = &[BIT_SHIFT, BITWISE_AND, BITWISE_NOT, BITWISE_OR, BITWISE_XOR];

const WHOLE: &str = "an integer has no gradient";

/// What an element of type `dtype` keeps of `n`: its low bits. Other types keep `n`.
pub(super) fn wrapped(dtype: DType, n: i128) -> f64 {
    match dtype {
        DType::I8 => f64::from(n as i8),
        DType::I16 => f64::from(n as i16),
        DType::I32 => f64::from(n as i32),
        DType::I64 => (n as i64) as f64,
        DType::U8 => f64::from(n as u8),
        DType::U16 => f64::from(n as u16),
        DType::U32 => f64::from(n as u32),
        DType::U64 => (n as u64) as f64,
        _ => n as f64,
    }
}

/// Elementwise `real` of two operands that broadcast; for integers `whole`, wrapped around.
pub(super) fn zip_numbers(a: &Args, real: impl Fn(f64, f64) -> f64, whole: impl Fn(i128, i128) -> i128) -> EvalResult {
    match a.dtype(0) {
        dtype if dtype.is_int() => zip2(a, |x, y| wrapped(dtype, whole(x as i128, y as i128))),
        _ => zip2(a, real),
    }
}

/// Elementwise `real`; for integers `whole`, wrapped around.
pub(super) fn map_numbers(a: &Args, real: impl Fn(f64) -> f64, whole: impl Fn(i128) -> i128) -> EvalResult {
    match a.dtype(0) {
        dtype if dtype.is_int() => map(a, |x| wrapped(dtype, whole(x as i128))),
        _ => map(a, real),
    }
}

/// `x` to the power `n`, modulo 2^128.
pub(super) fn power(x: i128, n: u64) -> i128 {
    let (mut square, mut product) = (x, 1i128);
    for bit in 0..u64::BITS {
        if n >> bit & 1 == 1 {
            product = product.wrapping_mul(square);
        }
        square = square.wrapping_mul(square);
    }
    product
}

fn bitwise(a: &Args, f: impl Fn(i128, i128) -> i128) -> EvalResult {
    match a.dtype(0).is_int() {
        true => zip_numbers(a, |_, _| 0.0, f),
        false => invalid(format!("bits of {}", a.dtype(0))),
    }
}

const BITWISE: Op = Op { since: 18, grad: Grad::Zero(WHOLE), ..BINARY };

const BIT_SHIFT: Op = Op {
    name: "BitShift",
    since: 13,
    eval: |a| {
        // A number shifted by its width or more has lost all its bits but a sign.
        let by = |n: i128| u32::try_from(n).unwrap_or(u32::MAX);
        match a.node.str("direction") {
            Some("LEFT") => bitwise(a, |x, n| x.checked_shl(by(n)).unwrap_or(0)),
            Some("RIGHT") => bitwise(a, |x, n| x >> by(n).min(i128::BITS - 1)),
            other => invalid(format!("direction {}", other.unwrap_or("is absent"))),
        }
    },
    ..BITWISE
};

const BITWISE_AND: Op = Op { name: "BitwiseAnd", eval: |a| bitwise(a, |x, y| x & y), ..BITWISE };

const BITWISE_NOT: Op = Op {
    name: "BitwiseNot",
    since: 18,
    eval: |a| match a.dtype(0) {
        dtype if dtype.is_int() => map(a, |x| wrapped(dtype, !(x as i128))),
        dtype => invalid(format!("bits of {dtype}")),
    },
    grad: Grad::Zero(WHOLE),
    ..UNARY
};

const BITWISE_OR: Op = Op { name: "BitwiseOr", eval: |a| bitwise(a, |x, y| x | y), ..BITWISE };

const BITWISE_XOR: Op = Op { name: "BitwiseXor", eval: |a| bitwise(a, |x, y| x ^ y), ..BITWISE };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_wrap_around() {
        assert_eq!(wrapped(DType::U8, 257), 1.0);
        assert_eq!(wrapped(DType::I8, 128), -128.0);
        assert_eq!(wrapped(DType::U32, -1), 4_294_967_295.0);
        assert_eq!(wrapped(DType::F32, 300), 300.0);
        assert_eq!(power(3, 5), 243);
        assert_eq!(wrapped(DType::I32, power(2, 31)), -2_147_483_648.0);
    }

    #[test]
    fn a_shift_by_the_width_leaves_nothing() {
        let text = "graph g(%x: u8[2], %n: u8[2]) -> %y { %y = BitShift(%x, %n, direction=\"LEFT\") : u8[2] }";
        let g = lorac_ir::parse(text).expect("parses");
        let array = |v: [f64; 2]| Array::from_shape_vec(vec![2], v.to_vec()).expect("fits");
        let y = crate::evaluate(&g, &[("x", array([200.0, 1.0])), ("n", array([1.0, 200.0]))]).expect("evaluates");
        assert_eq!(y[0], array([144.0, 0.0]));
    }
}
