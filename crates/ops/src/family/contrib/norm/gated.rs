//! Root-mean-square normalisation in groups of the last axis, and a gate.

use super::*;
use crate::Attribute::Str;
use crate::Operand::Floats;

pub(super) const GATED_RMS_NORM: Op = Op {
    name: "GatedRMSNorm",
    inputs: (3, 3),
    eval: |a| {
        let (x, scale, gate) = (a.x(0)?, a.x(1)?, a.x(2)?);
        let (width, last) = (scale.len(), x.shape().last().copied().unwrap_or(1));
        if width == 0 || !last.is_multiple_of(width) {
            return invalid(format!("groups of {width} of {last} elements"));
        }
        let (normal, ..) = normal(x, width, f64::from(a.node.float("epsilon", 1e-5)), false);
        let wide: Vec<f64> = scale.iter().copied().cycle().take(last).collect();
        let y = affine(&normal, &Array::from_shape_vec(vec![last], wide)?, None)?;
        let sigmoid = match a.node.str("activation").unwrap_or("silu") {
            "silu" | "swish" => false,
            "sigmoid" => true,
            other => return invalid(format!("the activation {other}")),
        };
        let open = |g: f64| if sigmoid { 1.0 / (1.0 + (-g).exp()) } else { g / (1.0 + (-g).exp()) };
        Ok(vec![zip(&y, gate, |y, g| y * open(g))?])
    },
    flops: |c, k| elementwise(c, k) * Dim::Known(9),
    grad: Grad::lower(
        |e, node, x| {
            let Some(width) = x[1].fact().dims().and_then(|d| d.first()?.known()) else {
                let want = "a known length".into();
                return vec![e.fail(InferError::Operand { slot: 1, got: x[1].fact(), want })];
            };
            let rank = x[0].rank();
            let groups = x[0].reshape(&[vec![0; rank.saturating_sub(1)], vec![-1, width]].concat());
            let (y, _) = over_root_mean_square(groups, &[-1], f64::from(node.float("epsilon", 1e-5)));
            let y = (y * x[1]).reshape(&[vec![0; rank.saturating_sub(1)], vec![-1]].concat());
            let open = x[2].unary("Sigmoid");
            vec![y * if node.str("activation") == Some("sigmoid") { open } else { x[2] * open }]
        },
        &[
            case(&[Any(&[2, 3, 4]), Floats(&[2], &[0.5, 1.5]), Any(&[2, 3, 4])]),
            case(&[Any(&[3, 4]), Floats(&[4], &[0.5, 1.5, 1.0, 2.0]), Any(&[3, 4])])
                .with(&[("activation", Str("sigmoid")), ("epsilon", Float(0.1))]),
        ],
    ),
    ..FUSED
};
