//! How low-rank branches are written into stacks of matrices, as those of experts.

use super::branch::{Before, Term};
use crate::{Matrix, NoMatch, ReadAs, Target};
use lorac_ir::{Attr, DType};
use lorac_ops::{Emit, Val};

/// `W0 + s B A` in the place of `W0`, matrix by matrix, for every A `[count, r, in]` and B `[count, out, r]`: so every product gets
/// it, of all matrices and of those that are picked.
pub(super) fn sum<'e, 'g>(e: &'e Emit<'g>, m: &Matrix, terms: &[Term<'e, 'g>], before: &mut Before<'e, 'g>) {
    if let Some(node) = m.products.first().and_then(|p| e.graph().node(*p)) {
        e.set_source(&node.origin.source);
    }
    let w = e.val(m.weight);
    let turned = |x: Val<'e, 'g>| e.op("Transpose", &[x], &[("perm", Attr::Ints(vec![0, 2, 1]))]);
    let sum = terms.iter().fold(w.cast(DType::F32), |sum, Term { a, b, scale }| {
        let [left, right] = if m.transposed { [*b, *a] } else { [turned(*a), turned(*b)] };
        sum + e.op("MatMul", &[left * *scale, right], &[])
    });
    let sum = sum.cast(w.fact().dtype);
    e.edit(|p| p.redirect(w.id(), sum.id()));
    before.replace(w.id(), sum.id());
}

/// Whether a target is a stack of matrices.
pub(super) fn is_stack(target: &Target) -> bool {
    target.matrix.as_ref().is_some_and(|m| m.read_as == ReadAs::Stack)
}

/// Why a stack is not a target where this is asked for, a setting or a method.
pub(super) fn not_with(target: &Target, setting: &str) -> NoMatch {
    NoMatch::Unsuitable {
        pattern: target.pattern.clone(),
        names: format!("`{}`", target.weight_name),
        why: format!("is a stack of matrices, as of experts, for which there is no {setting}"),
        advice: "choose other targets, or `lora` with another `init` and without dropout and `freeze_a`",
    }
}
