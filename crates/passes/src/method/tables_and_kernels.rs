//! How a low-rank branch is written beside look-ups and convolutions.

use super::branch::{Before, Term, producers_first};
use crate::rewrite::replace_value;
use crate::{Matrix, NoMatch, ReadAs, Target};
use lorac_ir::{Attr, DType, Node};
use lorac_ops::{Emit, Val};

/// `y += s B A x` behind every reader of the weight, for every A and B: A is looked up in, or the kernel of a convolution
/// whose results B, of kernel 1, mixes.
pub(super) fn branch<'e, 'g>(e: &'e Emit<'g>, m: &Matrix, terms: &[Term<'e, 'g>], before: &mut Before<'e, 'g>) {
    for reader in producers_first(e.graph(), &m.products) {
        let Some(node) = e.graph().node(reader) else { continue };
        let Some(y) = node.outputs.first().map(|y| e.val(*y)) else { continue };
        e.set_source(&node.origin.source);
        let dtype = y.fact().dtype;
        let mut sum = y.cast(DType::F32);
        for term in terms {
            sum = match m.read_as {
                ReadAs::Convolution => convolved(e, m, node, *term, before, sum),
                _ => looked_up(e, m, node, *term, sum),
            };
        }
        before.replace(y.id(), replace_value(e, y.id(), sum.cast(dtype)));
    }
}

/// Whether a target is the kernel of a convolution.
pub(super) fn is_kernel(target: &Target) -> bool {
    target.matrix.as_ref().is_some_and(|m| m.read_as == ReadAs::Convolution)
}

/// Why a kernel is not a target where dropout is asked for.
pub(super) fn no_dropout(target: &Target) -> NoMatch {
    NoMatch::Unsuitable {
        pattern: target.pattern.clone(),
        names: format!("`{}`", target.weight_name),
        why: "is the kernel of a convolution, in front of which nothing can be dropped".into(),
        advice: "leave dropout out, or choose other targets",
    }
}

/// The rows of A^T at the indices, times B^T.
fn looked_up<'e, 'g>(
    e: &'e Emit<'g>,
    m: &Matrix,
    node: &Node,
    Term { a, b, scale }: Term<'e, 'g>,
    sum: Val<'e, 'g>,
) -> Val<'e, 'g> {
    let Some(at) = node.input(1) else { return sum };
    let low = e.op("Gather", &[a.t(), e.val(at)], &[("axis", 0i64.into())]);
    let rank = a.fact().known_dims().and_then(|dims| dims.first().copied()).unwrap_or(1);
    let low = low.reshape(&[-1, rank as i64]);
    let attrs = [("transB", 1i64.into()), ("alpha", (scale as f32).into())];
    e.op("Gemm", &[low, b, sum.reshape(&[-1, m.cols as i64])], &attrs).reshape_like(sum)
}

/// The convolution with A in its kernel, mixed by B.
fn convolved<'e, 'g>(
    e: &'e Emit<'g>,
    m: &Matrix,
    node: &Node,
    Term { a, b, scale }: Term<'e, 'g>,
    before: &Before<'e, 'g>,
    sum: Val<'e, 'g>,
) -> Val<'e, 'g> {
    let Some(x) = node.input(0) else { return sum };
    let x = e.val(before.now(x)).cast(DType::F32);
    let dims: Vec<i64> = m.dims.iter().map(|d| *d as i64).collect();
    let kernel = [&[-1], &dims[1..]].concat();
    let mixing = [&[dims[0], -1], &vec![1i64; dims.len() - 2][..]].concat();
    let attrs: Vec<(&str, Attr)> = node.attrs.iter().map(|(k, v)| (&**k, v.clone())).collect();
    let low = e.op("Conv", &[x, a.reshape(&kernel)], &attrs);
    sum + e.op("Conv", &[low, (b * b.like(scale)).reshape(&mixing)], &[])
}
