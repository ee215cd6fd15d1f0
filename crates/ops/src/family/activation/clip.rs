//! Bounded: Clip HardSigmoid HardSwish.

use super::*;
use crate::Attribute::Float;
use crate::Operand::{Absent, Any, Apart, Floats, Positive};
use crate::{Backward, Val, case};

pub(super) const CLIP: Op = Op {
    name: "Clip",
    traits: Traits::CARRIES.constants(&[1, 2]),
    inputs: (1, 3),
    // Bounds that cross make everything the upper one.
    eval: |a| {
        let (lo, hi) = (a.opt(1).and_then(|x| x.first()), a.opt(2).and_then(|x| x.first()));
        map(a, |x| {
            let raised = lo.map_or(x, |lo| if x < *lo { *lo } else { x });
            hi.map_or(raised, |hi| if raised > *hi { *hi } else { raised })
        })
    },
    grad: Grad::rule(
        by_bound,
        &[
            case(&[Apart(&[3, 4]), Floats(&[], &[-0.05]), Floats(&[], &[1.05])]),
            case(&[Apart(&[3, 4]), Absent, Floats(&[], &[0.05])]),
            // Trained bounds, the lower one from 0.2 to 0.3.
            case(&[Floats(&[6], &[-9.0, -5.0, 7.0, 0.4, 9.0, -7.0]), Apart(&[]), Positive(&[])]),
            case(&[Floats(&[2], &[-5.0, 5.0]), Any(&[])]),
            case(&[Floats(&[2], &[-5.0, 5.0]), Absent, Any(&[])]),
            // Crossed bounds.
            case(&[Floats(&[3], &[-5.0, 0.0, 5.0]), Floats(&[], &[3.0]), Any(&[])]),
        ],
    ),
    ..UNARY
};

/// Inside the bounds the result is the operand, so equality tells where the gradient passes. Outside it goes to the bound
/// that the result equals.
fn by_bound<'e, 'g>(b: &Backward<'e, 'g>) -> Vec<Option<Val<'e, 'g>>> {
    let dtype = b.gy.fact().dtype;
    let inside = b.x[0].binary("Equal", b.y);
    let outside = || inside.unary("Not");
    let at_hi = || b.x.get(2).and_then(|v| v.present()).map(|hi| b.y.binary("Equal", hi));
    let both = |at: Val<'e, 'g>| outside().binary("And", at);
    let by_lo = || b.gy * at_hi().map_or_else(outside, |at| both(at.unary("Not"))).cast(dtype);
    let by_hi = || b.gy * at_hi().map_or_else(outside, both).cast(dtype);
    vec![b.want(0, || b.gy * inside.cast(dtype)), b.want(1, by_lo), b.want(2, by_hi)]
}

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
    traits: Traits::CARRIES,
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
