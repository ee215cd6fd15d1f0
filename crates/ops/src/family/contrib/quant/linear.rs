//! DequantizeLinear and QuantizeLinear of com.microsoft: those of the standard, before it had 16 bits.

use super::*;
use crate::Attribute::Int;
use crate::Operand::{Any, Floats, Of};
use crate::{Emit, Val, case};
use lorac_ir::{Attr, Node};

fn standard(name: &str) -> Result<&'static Op, EvalError> {
    crate::find(&name.into()).ok_or_else(|| EvalError::Unknown(name.into()))
}

fn infer(c: &Ctx, name: &str) -> InferResult {
    match crate::find(&name.into()) {
        Some(op) => (op.infer)(c),
        None => one(Fact::unranked(DType::Opaque)),
    }
}

/// The standard's operator: gradients pass straight through a pair of them.
fn lower<'e, 'g>(e: &'e Emit<'g>, node: &Node, x: &[Val<'e, 'g>], integers: DType) -> Vec<Val<'e, 'g>> {
    if matches!(integers, DType::I16 | DType::U16) && e.graph().opset() < 21 {
        let want = "8-bit integers, or a model of opset 21".into();
        return vec![e.fail(InferError::Operand { slot: 2, got: Fact::unranked(integers), want })];
    }
    let axis: Vec<(&str, Attr)> = node.attrs.get("axis").map(|a| ("axis", a.clone())).into_iter().collect();
    vec![e.op(&node.op.name, x, &axis)]
}

pub(super) const DEQUANTIZE_LINEAR: Op = Op {
    name: "DequantizeLinear",
    traits: Traits::CARRIES,
    inputs: (2, 3),
    infer: |c| infer(c, "DequantizeLinear"),
    eval: |a| (standard("DequantizeLinear")?.eval)(a),
    flops: |c, k| elementwise(c, k) * Dim::Known(2),
    grad: Grad::lower(
        |e, node, x| lower(e, node, x, x[0].fact().dtype),
        &[
            case(&[
                Of(DType::U8, &[2, 3], &[0, 100, 255, 7, 128, 31]),
                Floats(&[], &[0.1]),
                Of(DType::U8, &[], &[128]),
            ]),
            case(&[
                Of(DType::I8, &[2, 3], &[-128, 100, 127, 7, 0, 31]),
                Floats(&[2], &[0.1, 0.25]),
                Of(DType::I8, &[2], &[3, -2]),
            ])
            .with(&[("axis", Int(0))]),
        ],
    ),
    ..FUSED
};

pub(super) const QUANTIZE_LINEAR: Op = Op {
    name: "QuantizeLinear",
    traits: Traits::CARRIES,
    inputs: (2, 3),
    infer: |c| infer(c, "QuantizeLinear"),
    eval: |a| (standard("QuantizeLinear")?.eval)(a),
    flops: |c, k| elementwise(c, k) * Dim::Known(3),
    grad: Grad::lower(
        |e, node, x| {
            let zero = x.get(2).and_then(|z| z.present()).map_or(DType::U8, |z| z.fact().dtype);
            lower(e, node, x, zero)
        },
        &[case(&[Any(&[2, 3]), Floats(&[3], &[0.013, 0.025, 0.031]), Of(DType::U8, &[3], &[128, 100, 120])])
            .with(&[("axis", Int(1))])],
    ),
    ..FUSED
};
