//! LoRA (Hu et al. 2021): `h = W0 x + s B A x`, with s = alpha / r.

use crate::order::{Order, order};
use crate::rewrite::{replace_value, rewrite};
use crate::{Matrix, PassError, Target, group_by_weight};
use lorac_ir::{DType, Fact, Graph, NodeId, ValueId};
use lorac_ops::{Emit, Val};
use std::collections::HashMap;

/// Rank and scale of the branches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lora {
    /// r: rows of A and columns of B.
    pub rank: usize,
    /// alpha: the branch is scaled by alpha / r.
    pub alpha: f64,
    /// Scale by alpha / sqrt(r) instead (rank-stabilised LoRA, Kalajdzievski 2023).
    pub rslora: bool,
}

impl Lora {
    /// s: what the branch is multiplied by.
    pub fn scale(&self) -> f64 {
        let rank = self.rank as f64;
        self.alpha / if self.rslora { rank.sqrt() } else { rank }
    }
}

/// A branch that was inserted. A and B are inputs of the graph, of f32.
#[derive(Clone, Debug, PartialEq)]
pub struct Branch {
    /// The matrix that it adapts.
    pub target: Target,
    /// A: `[r, in]`.
    pub a: ValueId,
    /// B: `[out, r]`; of a part, out is the number of its columns.
    pub b: ValueId,
    /// Rank and scale.
    pub lora: Lora,
}

/// Gives every product of every target the branch `y += s (x A^T) B^T`. That of a part of a matrix reaches the part's
/// columns only.
///
/// Requires: targets from [`crate::select`] of this graph. Ensures: with B = 0 every output is what it was.
pub fn insert_lora(graph: &mut Graph, targets: &[Target], lora: &Lora) -> Result<Vec<Branch>, PassError> {
    insert(graph, targets, lora, |_, _| Order::Branch)
}

/// As [`insert_lora`], in the order that is cheaper for products of about `tokens` rows: a target gets its branch or
/// becomes `W0 + s B A`. Both have the same inputs A and B.
///
/// Requires and ensures: as [`insert_lora`].
pub fn insert_lora_for(
    graph: &mut Graph,
    targets: &[Target],
    lora: &Lora,
    tokens: usize,
) -> Result<Vec<Branch>, PassError> {
    insert(graph, targets, lora, |graph, matrix| order(graph, matrix, tokens))
}

fn insert(
    graph: &mut Graph,
    targets: &[Target],
    lora: &Lora,
    order: impl Fn(&Graph, &Matrix) -> Order,
) -> Result<Vec<Branch>, PassError> {
    rewrite(graph, "lora", |e| {
        let all = targets.iter().map(|t| Ok((t, factors(e, t, lora)?))).collect::<Result<Vec<_>, PassError>>()?;
        let mut flat = HashMap::new();
        // Parts of one matrix follow each other behind its products.
        for parts in group_by_weight(&all, |(target, _)| target) {
            let matrix = &parts[0].0.matrix;
            match (order(e.graph(), matrix), parts.as_slice()) {
                (Order::Sum, [(Target { slice: None, .. }, whole)]) => sum(e, matrix, *whole, lora),
                _ => {
                    let wide: Vec<[Val; 2]> = parts.iter().map(|(t, [a, b])| [*a, widened(e, t, *b)]).collect();
                    branch(e, matrix, &wide, lora, &mut flat);
                }
            }
        }
        let made =
            |(t, [a, b]): &(&Target, [Val; 2])| Branch { target: (*t).clone(), a: a.id(), b: b.id(), lora: *lora };
        Ok(all.iter().map(made).collect())
    })
}

/// A and B, as inputs of the graph.
fn factors<'e, 'g>(e: &'e Emit<'g>, target: &Target, lora: &Lora) -> Result<[Val<'e, 'g>; 2], PassError> {
    let (name, rows, cols) = (target.name(), target.matrix.rows, target.cols());
    if lora.rank == 0 || lora.rank > rows.min(cols) {
        let why = format!("rank {} of '{name}', a {rows} x {cols} matrix", lora.rank);
        return Err(PassError::Unsuitable(format!("{why}: the rank lies between 1 and the smaller side")));
    }
    let a = e.input(&format!("{name}.lora_A"), Fact::new(DType::F32, [lora.rank, rows]));
    let b = e.input(&format!("{name}.lora_B"), Fact::new(DType::F32, [cols, lora.rank]));
    Ok([a, b])
}

/// B with rows of zeros where the matrix has columns that are not the part's.
fn widened<'e, 'g>(e: &'e Emit<'g>, target: &Target, b: Val<'e, 'g>) -> Val<'e, 'g> {
    let (Some(part), all) = (&target.slice, target.matrix.cols) else { return b };
    let first = part.columns.first().copied().unwrap_or_default();
    if part.columns.iter().copied().eq(first..first + part.columns.len()) {
        let behind = all - first - part.columns.len();
        return e.op("Pad", &[b, e.ints(&[first as i64, 0, behind as i64, 0])], &[]);
    }
    // One row of zeros behind B, for every column that is another's.
    let with_zeros = e.op("Pad", &[b, e.ints(&[0, 0, 1, 0])], &[]);
    let mut rows = vec![part.columns.len() as i64; all];
    part.columns.iter().enumerate().for_each(|(i, column)| rows[*column] = i as i64);
    e.op("Gather", &[with_zeros, e.ints(&rows)], &[("axis", 0i64.into())])
}

/// `y += s (x A^T) B^T` behind every product, for every A and B.
fn branch<'e, 'g>(
    e: &'e Emit<'g>,
    m: &Matrix,
    factors: &[[Val<'e, 'g>; 2]],
    lora: &Lora,
    flat: &mut HashMap<ValueId, Val<'e, 'g>>,
) {
    for product in &m.products {
        let Some(node) = e.graph().node(*product) else { continue };
        let (Some(x), y) = (node.input(0), after_bias(e.graph(), *product)) else { continue };
        e.set_source(&node.origin.source);
        let rows = *flat.entry(x).or_insert_with(|| {
            let x = e.val(x);
            let x = if x.rank() == 2 { x } else { x.reshape(&[-1, m.rows as i64]) };
            x.cast(DType::F32)
        });
        let y = e.val(y);
        let attrs = [("transB", 1i64.into()), ("alpha", (lora.scale() as f32).into())];
        let mut sum = None;
        for [a, b] in factors {
            let low = e.op("Gemm", &[rows, *a], &[("transB", 1i64.into())]);
            // The old result is the Gemm's C: one pass over it instead of two.
            let before = sum.unwrap_or_else(|| {
                let wide = if y.rank() == 2 { y } else { y.reshape(&[-1, m.cols as i64]) };
                wide.cast(DType::F32)
            });
            sum = Some(e.op("Gemm", &[low, *b, before], &attrs));
        }
        if let Some(sum) = sum {
            let sum = sum.cast(y.fact().dtype);
            let sum = if y.rank() == 2 { sum } else { sum.reshape_like(y) };
            replace_value(e, y.id(), sum);
        }
    }
}

/// `W0 + s B A` in the place of `W0`.
fn sum(e: &Emit, m: &Matrix, [a, b]: [Val; 2], lora: &Lora) {
    let scale = ("alpha", (lora.scale() as f32).into());
    if let Some(node) = m.products.first().and_then(|p| e.graph().node(*p)) {
        e.set_source(&node.origin.source);
    }
    let w = e.val(m.weight);
    let sum = match m.transposed {
        true => e.op("Gemm", &[b, a, w], &[scale]),
        false => e.op("Gemm", &[a, b, w], &[scale, ("transA", 1i64.into()), ("transB", 1i64.into())]),
    };
    e.edit(|p| p.redirect(w.id(), sum.id()));
}

/// The product, or its sum with a bias where that is all that becomes of it: there the branch leaves the pair whole,
/// so that a runtime that fuses it computes the same bits as before.
fn after_bias(graph: &Graph, product: NodeId) -> ValueId {
    let y = graph.node(product).and_then(|n| n.outputs.first().copied()).unwrap_or(ValueId(u32::MAX));
    let Some([only]) = graph.value(y).map(|v| v.uses()) else { return y };
    match graph.node(only.node) {
        Some(n) if &*n.op.name == "Add" && !graph.outputs().contains(&y) => {
            let bias = n.inputs.iter().flatten().any(|v| graph.weight(*v).is_some_and(|t| t.dims().len() == 1));
            n.outputs.first().copied().filter(|_| bias).unwrap_or(y)
        }
        _ => y,
    }
}
