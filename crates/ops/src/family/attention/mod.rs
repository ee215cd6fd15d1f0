//! Attention as one operator: Attention RotaryEmbedding.

use super::*;

mod dense;
mod rotary;
mod scores;
mod standard;

pub(super) use dense::{Dense, merge, split, stretch};
pub(super) use rotary::{Rotation, rotate, rotated};
pub(super) use scores::{Attend, cat, causal, extend, merge_heads, split_heads, within};

pub(super) const OPS: &[Op] = &[standard::ATTENTION, rotary::ROTARY_EMBEDDING];

/// The fact of a cache `[batch, heads, past + new, width]`, given the facts of the past (`None` where absent) and of what
/// is new, `[batch, new, heads * width]` or of rank 4 already.
fn present(past: Option<&Fact>, new: &Fact, heads: i64) -> Fact {
    let new_dims = match new.dims() {
        Some([b, h, l, w]) => [*b, *h, *l, *w],
        Some([b, l, w]) => [*b, Dim::Known(heads), *l, w.div_exact(Dim::Known(heads)).unwrap_or(Dim::Unknown)],
        _ => return Fact::unranked(new.dtype),
    };
    let [b, h, l, w] = new_dims;
    match past.map(Fact::dims) {
        None => Fact::new(new.dtype, new_dims),
        Some(Some([_, _, p, _])) => Fact::new(new.dtype, [b, h, *p + l, w]),
        Some(_) => Fact::new(new.dtype, [b, h, Dim::Unknown, w]),
    }
}

/// What checks forms that no kernel takes on the CPU: tests of the operator table run its cases on engines.
#[cfg(test)]
pub(super) fn lowering_agrees(op: &Op, case: &crate::Case) {
    use crate::{Bench, Emit, Random, Val, evaluate, infer, named};
    for symbolic in [false, true] {
        let mut bench = Bench::new(op, case, DType::F64, symbolic, &mut Random(5)).expect("a case");
        let shape_data = infer(&mut bench.graph).expect("infers");
        let want = evaluate(&bench.graph, &named(&bench.inputs)).expect("evaluates");
        let mut graph = bench.graph.clone();
        let (_, node) = bench.graph.nodes().next().expect("one node");
        let emit = Emit::new(&bench.graph, &shape_data, "lower");
        let x: Vec<Val> = node.inputs.iter().map(|v| v.map_or(emit.absent(), |v| emit.val(v))).collect();
        let Grad::Lower { lower, .. } = op.grad else { panic!("{} has no lowering", op.name) };
        let ids = lower(&emit, node, &x).iter().take(node.outputs.len()).map(|v| v.id()).collect();
        let mut patch = emit.finish().expect("written");
        patch.set_outputs(ids);
        patch.apply(&mut graph).expect("fits");
        let got = evaluate(&graph, &named(&bench.inputs)).expect("evaluates");
        for (got, want) in got.iter().zip(&want) {
            assert_eq!(got.shape(), want.shape(), "{} {case:?}", op.name);
            // NaN is a failure.
            let near = got.iter().zip(want).all(|(a, b)| (a - b).abs() <= 1e-9);
            assert!(near, "{} {case:?}: {got} is not {want}", op.name);
        }
    }
}
