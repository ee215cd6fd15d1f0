//! Dropout.

use super::*;
use crate::Operand::{Absent, Any, Bools, Floats};
use crate::{Backward, Val, case};

pub(super) const DROPOUT: Op = Op {
    name: "Dropout",
    traits: Traits::CARRIES,
    inputs: (1, 3),
    outputs: (1, 2),
    infer: |c| Ok(vec![c.fact(0).into(), Fact { dtype: DType::Bool, ..c.fact(0) }.into()]),
    eval: |a| {
        let training = a.opt(2).and_then(|t| t.first()).is_some_and(|t| *t != 0.0);
        let ratio = a.opt(1).and_then(|r| r.first()).copied().unwrap_or(0.5);
        match training && ratio != 0.0 {
            true => invalid("what Dropout drops in training mode is random"),
            false => Ok(vec![a.x(0)?.clone(), a.x(0)?.mapv(|_| 1.0)]),
        }
    },
    grad: Grad::rule(
        |b| vec![Some(scale(b).map_or(b.gy, |scale| b.gy * scale)), None, None],
        &[
            case(&[Any(&[2, 3])]),
            case(&[Any(&[2, 3]), Floats(&[], &[0.3]), Bools(&[], &[false])]).outputs(2),
            case(&[Any(&[2, 3]), Floats(&[], &[0.0]), Bools(&[], &[true])]).outputs(2),
            case(&[Any(&[2, 3]), Absent, Bools(&[], &[false])]),
        ],
    ),
    ..MOVES
};

/// What the operand was multiplied by: mask / (1 - ratio) in training mode, nothing where that mode is off.
fn scale<'e, 'g>(b: &Backward<'e, 'g>) -> Option<Val<'e, 'g>> {
    let operand = |slot: usize| b.x.get(slot).and_then(|v| v.present());
    let training = operand(2)?;
    let known = training.known_ints();
    if known.as_deref() == Some(&[0]) {
        return None;
    }
    let Some(mask) = b.ys.get(1) else {
        let got = training.fact();
        let want = "false, or a second result: what Dropout dropped is told by its mask only".into();
        return Some(b.emit.fail(InferError::Operand { slot: 2, got, want }));
    };
    let dtype = b.gy.fact().dtype;
    let ratio = operand(1).map_or(b.gy.like(0.5), |r| r.cast(dtype));
    // With the mode off the mask is all true, and nothing is scaled.
    Some(mask.cast(dtype) / (1.0 - ratio * training.cast(dtype)))
}
