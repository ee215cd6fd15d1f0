//! Operators of `com.microsoft` that ONNX Runtime's optimizer and exporters write, by family.

use super::*;

pub(super) mod activation;
pub(super) mod attention;
pub(super) mod conv;
pub(super) mod matmul;
pub(super) mod norm;
pub(super) mod other;
pub(super) mod quant;
pub(super) mod rotary;

/// The domain.
const MICROSOFT: &str = "com.microsoft";

/// One result like the first operand.
const FUSED: Op = Op { domain: MICROSOFT, since: 1, ..UNARY };

/// An operator that is known and refused: why.
const fn refused(name: &'static str, why: &'static str) -> Op {
    Op {
        domain: MICROSOFT,
        name,
        since: 1,
        inputs: (0, usize::MAX),
        outputs: (1, usize::MAX),
        infer: |c| Ok(vec![Fact::unranked(DType::Opaque).into(); c.outputs]),
        eval: |a| Err(EvalError::Unknown(a.node.op.to_string())),
        flops: |_, _| Dim::Unknown,
        grad: Grad::Unsupported(why),
        traits: Traits::NONE,
    }
}

/// Of an operator that multiplies by matrices of experts, stacked.
const EXPERTS: Traits = Traits::NONE.projects(|_, slot, rank| (slot >= 2 && rank == 3).then_some(Projection::PLAIN));
