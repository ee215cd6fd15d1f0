//! Bounded: Clip HardSigmoid HardSwish.

use super::*;
use crate::Attribute::Float;
use crate::Operand::{Absent, Any, Apart, Floats};
use crate::{Val, case};

pub(super) const CLIP: Op = Op {
    name: "Clip",
    inputs: (1, 3),
    // Bounds that cross make everything the upper one.
    eval: |a| {
        let (lo, hi) = (a.opt(1).and_then(|x| x.first()), a.opt(2).and_then(|x| x.first()));
        map(a, |x| {
            let raised = lo.map_or(x, |lo| if x < *lo { *lo } else { x });
            hi.map_or(raised, |hi| if raised > *hi { *hi } else { raised })
        })
    },
    // Inside the bounds the result is the operand, so equality tells where the gradient passes. Outside it goes to the
    // bound that the result equals.
    grad: Grad::rule(
        |b| {
            let dtype = b.gy.fact().dtype;
            let inside = b.x[0].binary("Equal", b.y);
            let bound = |slot: usize| b.x.get(slot).and_then(|v| v.present());
            let outside = || inside.unary("Not");
            let above = |hi: Val<'_, '_>| outside().binary("And", b.y.binary("Equal", b.emit.val(hi.id())));
            let by_lo = || {
                let below = match bound(2) {
                    Some(hi) => outside().binary("And", above(hi).unary("Not")),
                    None => outside(),
                };
                b.gy * below.cast(dtype)
            };
            let by_hi = || bound(2).map_or(b.gy, |hi| b.gy * above(hi).cast(dtype));
            vec![b.want(0, || b.gy * inside.cast(dtype)), b.want(1, by_lo), b.want(2, by_hi)]
        },
        &[
            case(&[Apart(&[3, 4]), Floats(&[], &[-0.05]), Floats(&[], &[1.05])]),
            case(&[Apart(&[3, 4]), Absent, Floats(&[], &[0.05])]),
            // Trained bounds: the random scalars keep away from these elements.
            case(&[Floats(&[6], &[-9.0, -5.0, 7.0, 8.0, 9.0, -7.0]), Any(&[]), Any(&[])]),
            case(&[Floats(&[2], &[-5.0, 5.0]), Any(&[])]),
            case(&[Floats(&[2], &[-5.0, 5.0]), Absent, Any(&[])]),
            // Crossed bounds.
            case(&[Floats(&[3], &[-5.0, 0.0, 5.0]), Floats(&[], &[3.0]), Any(&[])]),
        ],
    ),
    ..UNARY
};

pub(super) const HARD_SIGMOID: Op = Op {
    name: "HardSigmoid",
    eval: |a| {
        let (alpha, beta) = (number(a.node, "alpha", 0.2), number(a.node, "beta", 0.5));
        map(a, |x| (alpha * x + beta).clamp(0.0, 1.0))
    },
    flops: |c, k| elementwise(c, k) * Dim::Known(4),
    grad: Grad::rule(
        |b| vec![Some(b.gy * (between(b.y) * number(b.node, "alpha", 0.2)))],
        &[
            case(&[Floats(&[5], &[-9.0, -2.0, 0.3, 2.0, 9.0])]),
            case(&[Any(&[2, 3])]).with(&[("alpha", Float(0.4)), ("beta", Float(0.3))]),
        ],
    ),
    ..UNARY
};

/// One where `0 < y < 1`, else zero.
fn between<'e, 'g>(y: Val<'e, 'g>) -> Val<'e, 'g> {
    let inside = y.binary("Greater", y.like(0.0)).binary("And", y.binary("Less", y.like(1.0)));
    inside.cast(y.fact().dtype)
}

pub(super) const HARD_SWISH: Op = Op {
    name: "HardSwish",
    since: 14,
    eval: |a| map(a, |x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0)),
    flops: |c, k| elementwise(c, k) * Dim::Known(5),
    grad: Grad::rule(
        |b| {
            let x = b.x[0];
            let sixth = x * (1.0 / 6.0);
            let gate = b.emit.op("Clip", &[sixth + 0.5, x.like(0.0), x.like(1.0)], &[]);
            vec![Some(b.gy * (gate + sixth * between(gate)))]
        },
        &[case(&[Floats(&[6], &[-9.0, -2.9, -0.3, 0.4, 2.9, 9.0])])],
    ),
    ..UNARY
};
