//! Applying a rule: operands and results as handles, gradients summed down to the operands' shapes.

use crate::{Emit, Grad, Val, find};
use lorac_ir::{Dim, Node};

/// What a rule speaks in: `b.gy`, `b.y`, `b.x[i]`.
pub struct Backward<'e, 'g> {
    /// Where nodes are written.
    pub emit: &'e Emit<'g>,
    /// The node: attributes.
    pub node: &'e Node,
    /// Operands; absent ones are absent handles.
    pub x: Vec<Val<'e, 'g>>,
    /// First result.
    pub y: Val<'e, 'g>,
    /// All results.
    pub ys: Vec<Val<'e, 'g>>,
    /// Gradient of the first result; an absent handle where only other results have one.
    pub gy: Val<'e, 'g>,
    /// Gradients of all results.
    pub gys: Vec<Option<Val<'e, 'g>>>,
    /// Operands whose gradient somebody wants.
    pub wants: Vec<bool>,
}

impl<'e, 'g> Backward<'e, 'g> {
    /// Whether somebody wants the gradient of operand `slot`.
    pub fn wants(&self, slot: usize) -> bool {
        self.wants.get(slot).copied().unwrap_or(false)
    }

    /// `f()` if somebody wants the gradient of operand `slot`.
    pub fn want(&self, slot: usize, f: impl FnOnce() -> Val<'e, 'g>) -> Option<Val<'e, 'g>> {
        self.wants(slot).then(f)
    }

    /// Version of the standard operator set.
    pub fn opset(&self) -> i64 {
        self.emit.graph().opset()
    }
}

/// The gradients of a node's operands, given those of its results. `wants` says which operands matter.
/// `None` if the operator has no rule, or none for the results that have gradients.
pub fn apply_rule<'e, 'g>(
    emit: &'e Emit<'g>,
    node: &'e Node,
    gys: Vec<Option<Val<'e, 'g>>>,
    wants: Vec<bool>,
) -> Option<Vec<Option<Val<'e, 'g>>>> {
    let Some(Grad::Rule { vjp, outputs, .. }) = find(&node.op).map(|op| &op.grad) else { return None };
    if gys.iter().skip(*outputs).any(Option::is_some) {
        return None;
    }
    emit.set_source(&node.origin.source);
    let x: Vec<Val> = node.inputs.iter().map(|v| v.map_or(emit.absent(), |v| emit.val(v))).collect();
    let ys: Vec<Val> = node.outputs.iter().map(|v| emit.val(*v)).collect();
    let b = Backward {
        emit,
        node,
        y: ys.first().copied().unwrap_or(emit.absent()),
        gy: gys.first().copied().flatten().unwrap_or(emit.absent()),
        x,
        ys,
        gys,
        wants,
    };
    let mut grads = vjp(&b);
    grads.resize(b.x.len(), None);
    for (slot, grad) in grads.iter_mut().enumerate() {
        *grad = grad.filter(|_| b.wants(slot)).map(|g| reduce_to(g, b.x[slot]));
    }
    Some(grads)
}

/// Sums `g` down to the shape of `x`, from which it was broadcast.
pub fn reduce_to<'e, 'g>(g: Val<'e, 'g>, x: Val<'e, 'g>) -> Val<'e, 'g> {
    let (from, to) = (g.fact(), x.fact());
    let (from, to) = match (from.dims(), to.dims()) {
        (Some(from), Some(to)) => (from, to),
        (None, Some(_)) => {
            let want = "a known rank, to sum what was broadcast".into();
            return g.emit().fail(crate::InferError::Operand { slot: 0, got: g.fact(), want });
        }
        _ => return g,
    };
    let Some(lead) = from.len().checked_sub(to.len()) else { return g.reshape_like(x) };
    let g = g.sum(&(0..lead as i64).collect::<Vec<_>>(), false);
    let pairs = || from[lead..].iter().zip(to).enumerate();
    let ones: Vec<i64> =
        pairs().filter(|(_, (f, t))| **t == Dim::Known(1) && **f != Dim::Known(1)).map(|(i, _)| i as i64).collect();
    let g = g.sum(&ones, true);
    let doubtful = pairs().any(|(_, (f, t))| t.known().is_none() && !t.same(*f));
    if doubtful { reduce_at_run_time(g, x) } else { g }
}

/// The same where only the run tells which axes were broadcast.
fn reduce_at_run_time<'e, 'g>(g: Val<'e, 'g>, x: Val<'e, 'g>) -> Val<'e, 'g> {
    let e = g.emit();
    let differs = g.unary("Shape").binary("Equal", x.unary("Shape")).unary("Not");
    let axes = e.op("Reshape", &[differs.unary("NonZero"), e.ints(&[-1])], &[]);
    let attrs = [("keepdims", 1i64.into()), ("noop_with_empty_axes", 1i64.into())];
    let summed = e.op("ReduceSum", &[g, axes], &attrs);
    // Says what is known: the shape of x.
    summed.binary("Reshape", x.unary("Shape"))
}
