//! How a low-rank branch is written beside the products of a matrix, or into the matrix.

use crate::product_bias::added_bias;
use crate::rewrite::replace_value;
use crate::{Matrix, Target};
use lorac_ir::{DType, Graph, NodeId, ValueId, topological_order};
use lorac_ops::{Emit, Val};
use std::collections::{HashMap, HashSet};

/// What was written before a matrix is adapted.
#[derive(Default)]
pub(super) struct Before<'e, 'g> {
    /// Rows of operands.
    flat: HashMap<ValueId, Val<'e, 'g>>,
    /// What stands in the place of values of the graph, and how many nodes the patch had when the step that wrote it began.
    replaced: HashMap<ValueId, (ValueId, usize)>,
    /// Nodes that the patch had when this step began.
    written: usize,
}

impl<'e, 'g> Before<'e, 'g> {
    /// Begins a step, which shares nothing with those before it.
    pub(super) fn begin(&mut self, e: &'e Emit<'g>) {
        self.flat.clear();
        self.written = e.patch().added();
        e.forget_constants();
    }

    pub(super) fn replace(&mut self, old: ValueId, new: ValueId) {
        self.replaced.insert(old, (new, self.written));
    }

    pub(super) fn now(&self, value: ValueId) -> ValueId {
        self.replaced.get(&value).map_or(value, |(new, _)| *new)
    }

    /// Lets what an earlier step wrote read what a later one put in the place of its operands.
    pub(super) fn reread(&self, e: &Emit) {
        let later = |at: usize, value: ValueId| match self.replaced.get(&value) {
            Some((new, written)) if at < *written => *new,
            _ => value,
        };
        e.edit(|p| p.reread(later));
    }
}

/// A term `scale B A` of a sum, with B `[out, r]` for all columns of the matrix.
#[derive(Clone, Copy)]
pub(super) struct Term<'e, 'g> {
    pub(super) a: Val<'e, 'g>,
    pub(super) b: Val<'e, 'g>,
    pub(super) scale: f64,
}

/// `y += s (x A^T) B^T` behind every product, for every A and B.
pub(super) fn branch<'e, 'g>(e: &'e Emit<'g>, m: &Matrix, terms: &[Term<'e, 'g>], before: &mut Before<'e, 'g>) {
    // Where a matrix is applied to its own result, the branch reads what the one before it has added.
    let mut adapted: HashMap<ValueId, Val> = HashMap::new();
    for product in producers_first(e.graph(), &m.products) {
        let Some(node) = e.graph().node(product) else { continue };
        let (Some(x), y) = (node.input(0), after_bias(e.graph(), product)) else { continue };
        e.set_source(&node.origin.source);
        let rows = before.rows(e, m, x, &adapted);
        let y = e.val(y);
        let mut sum = None;
        for term in terms {
            // The old result is the Gemm's C: one pass over it instead of two.
            let plus = sum.unwrap_or_else(|| flat(e, m, y));
            sum = Some(term.added(rows, plus));
        }
        if let Some(sum) = sum {
            adapted.insert(y.id(), before.put(e, m, y, sum));
        }
    }
}

impl<'e, 'g> Term<'e, 'g> {
    /// What it makes of the rows of an operand, and what is added to it.
    pub(super) fn added(self, rows: Val<'e, 'g>, plus: Val<'e, 'g>) -> Val<'e, 'g> {
        let e = rows.emit();
        let low = e.op("Gemm", &[rows, self.a], &[("transB", 1i64.into())]);
        e.op("Gemm", &[low, self.b, plus], &[("transB", 1i64.into()), ("alpha", (self.scale as f32).into())])
    }
}

/// Whether a value is the rows and columns of a product as they are: a weight of more axes multiplies by several axes of its
/// operand at once.
fn is_plain(e: &Emit, m: &Matrix, value: Val) -> bool {
    e.val(m.weight).rank() == 2 && value.rank() == 2
}

/// The result of a product as rows, in f32.
pub(super) fn flat<'e, 'g>(e: &'e Emit<'g>, m: &Matrix, y: Val<'e, 'g>) -> Val<'e, 'g> {
    let wide = if is_plain(e, m, y) { y } else { y.reshape(&[-1, m.cols as i64]) };
    wide.cast(DType::F32)
}

impl<'e, 'g> Before<'e, 'g> {
    /// The operand `x` of a product as rows, in f32.
    pub(super) fn rows(
        &mut self,
        e: &'e Emit<'g>,
        m: &Matrix,
        x: ValueId,
        adapted: &HashMap<ValueId, Val<'e, 'g>>,
    ) -> Val<'e, 'g> {
        let now = self.now(x);
        *self.flat.entry(x).or_insert_with(|| {
            let x = adapted.get(&x).copied().unwrap_or_else(|| e.val(now));
            let x = if is_plain(e, m, x) { x } else { x.reshape(&[-1, m.rows as i64]) };
            x.cast(DType::F32)
        })
    }

    /// Puts rows in the place of the result `y`, in its form. Returns what stands there.
    pub(super) fn put(&mut self, e: &'e Emit<'g>, m: &Matrix, y: Val<'e, 'g>, rows: Val<'e, 'g>) -> Val<'e, 'g> {
        let new = rows.cast(y.fact().dtype);
        let new = if is_plain(e, m, y) { new } else { new.reshape_like(y) };
        self.replace(y.id(), replace_value(e, y.id(), new));
        new
    }
}

/// Products with those first whose results others of them multiply.
pub(super) fn producers_first(graph: &Graph, products: &[NodeId]) -> Vec<NodeId> {
    match products {
        [] | [_] => products.to_vec(),
        _ => {
            let products: HashSet<&NodeId> = products.iter().collect();
            topological_order(graph).into_iter().filter(|node| products.contains(node)).collect()
        }
    }
}

/// `W0 + s B A` in the place of `W0`, for every A and B.
pub(super) fn sum<'e, 'g>(e: &'e Emit<'g>, m: &Matrix, terms: &[Term<'e, 'g>], before: &mut Before<'e, 'g>) {
    sum_of(e, m, terms, before, |sum| sum);
}

/// The same, of which `shaped` makes what stands in the place of `W0`.
pub(super) fn sum_of<'e, 'g>(
    e: &'e Emit<'g>,
    m: &Matrix,
    terms: &[Term<'e, 'g>],
    before: &mut Before<'e, 'g>,
    shaped: impl FnOnce(Val<'e, 'g>) -> Val<'e, 'g>,
) {
    if let Some(node) = m.products.first().and_then(|p| e.graph().node(*p)) {
        e.set_source(&node.origin.source);
    }
    let w = e.val(m.weight);
    let sides = if m.transposed { [m.cols, m.rows] } else { [m.rows, m.cols] }.map(|n| n as i64);
    let flat = if w.rank() == 2 { w } else { w.reshape(&sides) };
    let sum = terms.iter().fold(flat.cast(DType::F32), |w, Term { a, b, scale }| {
        let scale = ("alpha", (*scale as f32).into());
        match m.transposed {
            true => e.op("Gemm", &[*b, *a, w], std::slice::from_ref(&scale)),
            false => e.op("Gemm", &[*a, *b, w], &[scale, ("transA", 1i64.into()), ("transB", 1i64.into())]),
        }
    });
    let sum = shaped(sum).cast(w.fact().dtype);
    let sum = if w.rank() == 2 { sum } else { sum.reshape_like(w) };
    e.edit(|p| p.redirect(w.id(), sum.id()));
    before.replace(w.id(), sum.id());
}

/// Numbers of rewritings for matrices: in one there are none that follow each other, the first is 0.
pub(super) fn levels(graph: &Graph, matrices: &[&Matrix]) -> Vec<usize> {
    let mut results: HashMap<ValueId, Vec<usize>> = HashMap::new();
    for (at, m) in matrices.iter().enumerate() {
        m.products.iter().for_each(|p| results.entry(after_bias(graph, *p)).or_default().push(at));
    }
    let mut neighbours = vec![Vec::new(); matrices.len()];
    for (at, m) in matrices.iter().enumerate() {
        let read = m.products.iter().filter_map(|p| graph.node(*p)?.input(0));
        for other in read.filter_map(|x| results.get(&x)).flatten().filter(|other| **other != at) {
            neighbours[at].push(*other);
            neighbours[*other].push(at);
        }
    }
    let mut levels: Vec<Option<usize>> = vec![None; matrices.len()];
    for at in 0..matrices.len() {
        let taken: HashSet<usize> = neighbours[at].iter().filter_map(|other| levels[*other]).collect();
        levels[at] = (0..=taken.len()).find(|level| !taken.contains(level));
    }
    levels.into_iter().map(Option::unwrap_or_default).collect()
}

/// Whether the result of one target's product is what another's multiplies, with nothing in between.
pub(super) fn follow_each_other(graph: &Graph, targets: &[Target]) -> bool {
    let products = || targets.iter().filter_map(|t| t.matrix.as_ref()).flat_map(|m| &m.products);
    let results: HashSet<ValueId> = products().map(|p| after_bias(graph, *p)).collect();
    products().any(|p| graph.node(*p).and_then(|n| n.input(0)).is_some_and(|x| results.contains(&x)))
}

/// The product, or its sum with a bias where that is all that becomes of it: there the branch leaves the pair whole,
/// so that a runtime that fuses it computes the same bits as before.
fn after_bias(graph: &Graph, product: NodeId) -> ValueId {
    let node = added_bias(graph, product).map_or(product, |(_, sum)| sum);
    graph.node(node).and_then(|n| n.outputs.first().copied()).unwrap_or(ValueId(u32::MAX))
}

/// B with rows of zeros where the matrix has columns that are not the slice's.
pub(super) fn widened<'e, 'g>(e: &'e Emit<'g>, target: &Target, b: Val<'e, 'g>) -> Val<'e, 'g> {
    let (Some(slice), Some(all)) = (&target.slice, target.matrix.as_ref().map(|m| m.cols)) else { return b };
    let first = slice.columns.first().copied().unwrap_or_default();
    if slice.columns.iter().copied().eq(first..first + slice.columns.len()) {
        let behind = all - first - slice.columns.len();
        return e.op("Pad", &[b, e.ints(&[first as i64, 0, behind as i64, 0])], &[]);
    }
    // One row of zeros behind B, for every column that is another's.
    let with_zeros = e.op("Pad", &[b, e.ints(&[0, 0, 1, 0])], &[]);
    let mut rows = vec![slice.columns.len() as i64; all];
    slice.columns.iter().enumerate().for_each(|(i, column)| rows[*column] = i as i64);
    e.op("Gather", &[with_zeros, e.ints(&rows)], &[("axis", 0i64.into())])
}
