//! The magnitudes of DoRA (Liu et al. 2024): every column of `W0 + s B A` has the length `m`, and the length that it would have
//! without is a constant for the gradient (section 4.3).

use super::Use;
use super::branch::{Before, Term, flat, producers_first, sum_of};
use super::low_rank::Branch;
use crate::product_bias::inner_bias;
use crate::{Init, Matrix, PassError, ReadAs, Target, column_norms};
use lorac_ir::{DType, Fact, NodeId, Tensor, ValueId};
use lorac_ops::{Emit, Val};
use std::collections::HashMap;

/// What a target's columns are multiplied by.
#[derive(Clone, Copy)]
pub(super) struct Magnitude<'e, 'g> {
    /// The lengths that are trained, `[out]`.
    pub(super) m: Val<'e, 'g>,
    /// A and B as no gradient goes through them.
    pub(super) detached: [Val<'e, 'g>; 2],
    /// Squares of the lengths of W0's columns, `[out]`.
    squares: Val<'e, 'g>,
}

impl<'e, 'g> Magnitude<'e, 'g> {
    /// Inputs for a target.
    ///
    /// # Errors
    /// A column of zeros, which has no direction.
    pub(super) fn new(
        e: &'e Emit<'g>,
        target: &Target,
        name: &str,
        [a, b]: [Val<'e, 'g>; 2],
        purpose: Use,
    ) -> Result<Magnitude<'e, 'g>, PassError> {
        let norms = norms(e, target);
        if let Some(at) = norms.iter().position(|n| *n == 0.0) {
            let name = target.name();
            let why = format!("column {at} of `{name}` is all zeros: it has no direction that a magnitude could scale");
            return Err(PassError::Unsuitable(format!("{why}; adapt it with `lora`")));
        }
        let squares: Vec<f32> = norms.iter().map(|n| (n * n) as f32).collect();
        let squares = e.weight("", Tensor::vector(&squares));
        let m = e.input(name, Fact::new(DType::F32, [target.cols()]));
        let apart = |v: Val<'e, 'g>| e.input(&format!("{}.detached", e.name_of(v.id())), v.fact());
        let detached = match purpose {
            Use::Train { .. } => [apart(a), apart(b)],
            Use::Verify => [a, b],
        };
        Ok(Magnitude { m, detached, squares })
    }

    /// The lengths before the first step: those of W0's columns.
    pub(super) fn init(&self, e: &Emit, target: &Target) -> Init {
        let norms: Vec<f32> = norms(e, target).into_iter().map(|n| n as f32).collect();
        Init::Given(Tensor::vector(&norms))
    }
}

fn norms(e: &Emit, target: &Target) -> Vec<f64> {
    e.graph().weight(target.weight).and_then(|w0| column_norms(target, w0)).unwrap_or_default()
}

/// The products of a matrix with what its columns are multiplied by.
pub(super) fn insert_matrix<'e, 'g>(
    e: &'e Emit<'g>,
    m: &Matrix,
    slices: &[&(&Target, Branch<'e, 'g>)],
    before: &mut Before<'e, 'g>,
) {
    if let Some(node) = m.products.first().and_then(|p| e.graph().node(*p)) {
        e.set_source(&node.origin.source);
    }
    let ratios: Vec<(Vec<Term>, Val)> =
        slices.iter().map(|(target, branch)| (branch.terms(e, target), ratio(e, m, target, branch))).collect();
    if m.shared || m.read_as != ReadAs::Product {
        let terms: Vec<Term> = ratios.iter().flat_map(|(terms, _)| terms.iter().copied()).collect();
        let along = if m.transposed { [-1, 1] } else { [1, -1] };
        sum_of(e, m, &terms, before, |sum| ratios.iter().fold(sum, |sum, (_, ratio)| sum * ratio.reshape(&along)));
        return;
    }
    let mut adapted: HashMap<ValueId, Val> = HashMap::new();
    for product in producers_first(e.graph(), &m.products) {
        let Some(node) = e.graph().node(product) else { continue };
        let (Some(x), Some(y)) = (node.input(0), node.outputs.first()) else { continue };
        e.set_source(&node.origin.source);
        let (rows, y) = (before.rows(e, m, x, &adapted), e.val(*y));
        let bias = own_bias(e, product);
        let all = flat(e, m, y);
        let mut all = bias.map_or(all, |bias| all - bias);
        for (terms, ratio) in &ratios {
            all = terms.iter().fold(all, |sum, term| term.added(rows, sum)) * *ratio;
        }
        let all = bias.map_or(all, |bias| all + bias);
        adapted.insert(y.id(), before.put(e, m, y, all));
    }
}

/// What a product adds itself, which no magnitude scales: `[out]`, in f32.
fn own_bias<'e, 'g>(e: &'e Emit<'g>, product: NodeId) -> Option<Val<'e, 'g>> {
    let node = e.graph().node(product)?;
    let bias = e.val(inner_bias(node)?).cast(DType::F32);
    Some(match node.float("beta", 1.0) {
        1.0 => bias,
        beta => bias * f64::from(beta),
    })
}

/// m over the length of every column of `W0 + s B A`; 1 for columns that are not the slice's.
///
/// The square of a length is |w|^2 + 2 (A w) . b + b^T A A^T b, with s in b: W0 + s B A is never written.
fn ratio<'e, 'g>(e: &'e Emit<'g>, m: &Matrix, target: &Target, branch: &Branch<'e, 'g>) -> Val<'e, 'g> {
    let Some(magnitude) = branch.magnitude else { return e.scalar(1.0, DType::F32) };
    let [a, b] = magnitude.detached;
    let join = |parts: [Val<'e, 'g>; 2], axis: i64| e.op("Concat", &parts, &[("axis", axis.into())]);
    let (a, b) = match branch.start {
        Some([a0, b0]) => (join([a, a0], 0), join([b * branch.scale, b0 * -branch.scale], 1)),
        None => (a, b * branch.scale),
    };
    let sides = if m.transposed { [m.cols, m.rows] } else { [m.rows, m.cols] }.map(|n| n as i64);
    let w = e.val(m.weight);
    let w = if w.rank() == 2 { w } else { w.reshape(&sides) }.cast(DType::F32);
    // [out, r]
    let aw = match m.transposed {
        true => e.op("Gemm", &[w, a], &[("transB", 1i64.into())]),
        false => e.op("Gemm", &[w, a], &[("transA", 1i64.into()), ("transB", 1i64.into())]),
    };
    let numbers = |columns: &[usize]| e.ints(&columns.iter().map(|c| *c as i64).collect::<Vec<_>>());
    let aw = match &target.slice {
        Some(slice) => e.op("Gather", &[aw, numbers(&slice.columns)], &[("axis", 0i64.into())]),
        None => aw,
    };
    let gram = e.op("Gemm", &[a, a], &[("transB", 1i64.into())]);
    let cross = aw * 2.0 + e.op("Gemm", &[b, gram], &[]);
    let square = magnitude.squares + (cross * b).sum(&[1], false);
    let ratio = magnitude.m / square.unary("Sqrt");
    let Some(slice) = &target.slice else { return ratio };
    let mut from = vec![slice.columns.len(); m.cols];
    slice.columns.iter().enumerate().for_each(|(i, column)| from[*column] = i);
    let with_one = join([ratio, e.weight("", Tensor::vector(&[1.0f32]))], 0);
    e.op("Gather", &[with_one, numbers(&from)], &[("axis", 0i64.into())])
}
