//! LpPool.

use super::super::conv::window::spread_evenly;
use super::*;
use crate::Attribute::{Int, Ints as List};
use crate::Operand::Apart;
use crate::{Val, case};

pub(super) const LP_POOL: Op = Op {
    name: "LpPool",
    eval: |a| {
        let x = a.x(0)?;
        let p = power(a.node)?;
        pool(a, |_, _, channel, seen| {
            let sum: f64 = seen.iter().map(|place| x[at_channel(channel, place)].abs().powi(p as i32)).sum();
            sum.powf(1.0 / p as f64)
        })
    },
    grad: Grad::rule(
        |b| {
            let Some(window) = window(b) else { return Vec::new() };
            vec![Some(by_norm(b, b.node.int("p", 2), &window))]
        },
        &[
            case(&[Apart(&[2, 2, 4, 3])]).with(&[
                ("kernel_shape", List(&[2, 2])),
                ("pads", List(&[1, 0, 0, 1])),
                ("strides", List(&[2, 1])),
            ]),
            case(&[Apart(&[1, 2, 5])]).with(&[("kernel_shape", List(&[3])), ("p", Int(3)), ("dilations", List(&[2]))]),
            case(&[Apart(&[1, 2, 5])]).with(&[
                ("kernel_shape", List(&[2])),
                ("p", Int(1)),
                ("strides", List(&[2])),
                ("ceil_mode", Int(1)),
            ]),
        ],
    ),
    ..POOL
};

/// The power of a norm.
pub(super) fn power(node: &lorac_ir::Node) -> Result<i64, EvalError> {
    match node.int("p", 2) {
        p if (1..=64).contains(&p) => Ok(p),
        p => invalid(format!("the norm of power {p}")),
    }
}

/// The gradient of `(sum |x|^p)^(1/p)`: `spread(gy * y^(1-p)) * |x|^(p-1) * sign(x)`. Where all elements are zero it is
/// none.
fn by_norm<'e, 'g>(b: &Backward<'e, 'g>, p: i64, window: &Window) -> Val<'e, 'g> {
    let (x, y) = (b.x[0], b.y);
    let spread = |g| spread_evenly(g, window, x);
    if p == 1 {
        return spread(b.gy) * x.unary("Sign");
    }
    // A window of zeros would give 0/0.
    let safe = y + y.binary("Equal", y.like(0.0)).cast(y.fact().dtype);
    match p {
        2 => spread(b.gy / safe) * x,
        _ => {
            let size = x.unary("Abs").binary("Pow", x.like((p - 1) as f64));
            spread(b.gy / safe.binary("Pow", y.like((p - 1) as f64))) * size * x.unary("Sign")
        }
    }
}
