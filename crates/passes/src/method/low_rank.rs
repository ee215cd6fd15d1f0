//! What LoRA and DoRA share: A and B of every target, what they begin as, where they go.

use super::branch::{Before, Term, branch, follow_each_other, sum, widened};
use super::lora::Lora;
use super::lora_init::LoraInit;
use super::magnitude::{self, Magnitude};
use super::{Delta, DeltaForm, DropoutSite, Inserted, Use};
use super::{stack, tables_and_kernels};
use crate::order::{Order, order};
use crate::rewrite::rewrite;
use crate::{
    Factor, FactorPair, FoldError, Group, Init, Matrix, Param, ParamValues, PassError, ReadAs, Target, fold_low_rank,
    fold_magnitude, group_by_weight,
};
use bytes::Bytes;
use lorac_ir::{DType, Fact, Graph, Tensor};
use lorac_ops::{Emit, Val};
use std::sync::Arc;

/// A branch of a target, as inputs of the graph.
#[derive(Clone, Copy)]
pub(super) struct Branch<'e, 'g> {
    pub(super) a: Val<'e, 'g>,
    pub(super) b: Val<'e, 'g>,
    /// What A and B were before the first step, where their product is taken out of the weight.
    pub(super) start: Option<[Val<'e, 'g>; 2]>,
    pub(super) scale: f64,
    /// Of DoRA.
    pub(super) magnitude: Option<Magnitude<'e, 'g>>,
    /// What the gradient of B is multiplied by.
    projection: Option<Val<'e, 'g>>,
}

/// Gives every product of every target the branch `y += s (x A^T) B^T`, or, where that is cheaper for the tokens of a step, the
/// weight `W0 + s B A`. What a slice of a matrix gets reaches the slice's columns only.
pub(super) fn insert(
    graph: &mut Graph,
    lora: &Lora,
    targets: &[Target],
    purpose: Use,
    with_magnitude: bool,
) -> Result<Inserted, PassError> {
    let apart = !follow_each_other(graph, targets);
    rewrite(graph, "lora", |e| {
        let (mut inserted, mut before) = (Inserted::default(), Before::default());
        let all: Vec<&Target> = targets.iter().collect();
        // What one branch adds, the next must read: of matrices that follow each other every one is written for itself.
        let steps = if apart { vec![all] } else { group_by_weight(targets, |t| t) };
        for step in steps {
            before.begin(e);
            let all = step.into_iter().map(|t| Ok((t, inputs(e, t, lora, purpose, with_magnitude)?)));
            let all = all.collect::<Result<Vec<_>, PassError>>()?;
            for slices in group_by_weight(&all, |(target, _)| target) {
                insert_matrix(e, lora, &slices, purpose, &mut before)?;
            }
            for (target, branch) in &all {
                add(&mut inserted, e, lora, target, branch);
            }
        }
        before.reread(e);
        Ok(inserted)
    })
}

/// Slices of one matrix follow each other behind its products.
fn insert_matrix<'e, 'g>(
    e: &'e Emit<'g>,
    lora: &Lora,
    slices: &[&(&Target, Branch<'e, 'g>)],
    purpose: Use,
    before: &mut Before<'e, 'g>,
) -> Result<(), PassError> {
    let Some((first, _)) = slices.first() else { return Ok(()) };
    let matrix = first.matrix()?;
    let terms = || slices.iter().flat_map(|(target, branch)| branch.terms(e, target)).collect::<Vec<Term>>();
    if slices.iter().any(|(_, branch)| branch.magnitude.is_some()) {
        magnitude::insert_matrix(e, matrix, slices, before);
        return Ok(());
    }
    if matrix.read_as == ReadAs::Stack {
        stack::sum(e, matrix, &terms(), before);
        return Ok(());
    }
    if matrix.read_as != ReadAs::Product {
        tables_and_kernels::branch(e, matrix, &terms(), before);
        return Ok(());
    }
    match (order_of(lora, e.graph(), matrix, purpose), slices) {
        (Order::Sum, [(Target { slice: None, .. }, _)]) => sum(e, matrix, &terms(), before),
        (Order::Sum, _) if matrix.shared => sum(e, matrix, &terms(), before),
        _ => branch(e, matrix, &terms(), before),
    }
    Ok(())
}

/// Which of the equal forms a matrix gets.
fn order_of(lora: &Lora, graph: &Graph, matrix: &Matrix, purpose: Use) -> Order {
    match purpose {
        // No branch reaches what is not a product.
        _ if matrix.shared => Order::Sum,
        // A sum of weights has nothing in front of A to drop from.
        Use::Train { tokens: Some(tokens) } if lora.dropout == 0.0 => order(graph, matrix, tokens),
        _ => Order::Branch,
    }
}

impl<'e, 'g> Branch<'e, 'g> {
    /// What is added to the weight, B with rows for all its columns.
    pub(super) fn terms(&self, e: &'e Emit<'g>, target: &Target) -> Vec<Term<'e, 'g>> {
        let term = |a, b, scale| Term { a, b: widened(e, target, b), scale };
        let own = term(self.a, self.b, self.scale);
        let start = self.start.map(|[a, b]| term(a, b, -self.scale));
        std::iter::once(own).chain(start).collect()
    }
}

/// The bytes of the weight with the branch in it.
pub(super) fn fold(delta: &Delta, w0: &Tensor, values: &ParamValues) -> Result<Bytes, FoldError> {
    let DeltaForm::LowRank { a, b, rank, start, magnitude, .. } = &delta.form else {
        return delta.fold_replaced(w0, values);
    };
    let scale = delta.form.scale().unwrap_or(1.0);
    let (mut a, mut b) = (values.get(a)?.to_vec(), values.get(b)?.to_vec());
    if let Some([a0, b0]) = start {
        a.extend_from_slice(values.get(a0)?);
        b = beside(&b, values.get(b0)?, *rank);
    }
    match magnitude {
        Some(m) => fold_magnitude(&delta.target, w0, &a, &b, scale, values.get(m)?),
        None => fold_low_rank(&delta.target, w0, &a, &b, scale),
    }
}

/// `[B, -B0]`, of r columns each: with A and A0 below each other, `B A - B0 A0` is one product.
pub(super) fn beside(b: &[f32], b0: &[f32], rank: usize) -> Vec<f32> {
    let rows = b.chunks(rank.max(1)).zip(b0.chunks(rank.max(1)));
    rows.flat_map(|(b, b0)| b.iter().copied().chain(b0.iter().map(|x| -x))).collect()
}

/// The names of a branch's params: A, B, what these were, and the magnitudes.
fn names(target: &str) -> [String; 6] {
    ["lora_A", "lora_B", "lora_A.start", "lora_B.start", "lora_magnitude", "lora_A.inverse"]
        .map(|factor| format!("{target}.{factor}"))
}

/// A and B, and what goes with them, as inputs of the graph.
fn inputs<'e, 'g>(
    e: &'e Emit<'g>,
    target: &Target,
    lora: &Lora,
    purpose: Use,
    with_magnitude: bool,
) -> Result<Branch<'e, 'g>, PassError> {
    let (name, rows, cols) = (target.name(), target.matrix()?.rows, target.cols());
    let rank = lora.rank_of(target);
    if rank == 0 || rank > rows.min(cols) {
        let why = format!("rank {rank} of `{name}`, a {rows} x {cols} matrix");
        return Err(PassError::Unsuitable(format!("{why}: the rank lies between 1 and the smaller side")));
    }
    let [a, b, a0, b0, m, inverse] = names(&name);
    let input = |name: &str, sides: [usize; 2]| e.input(name, Fact::new(DType::F32, dims(target, sides)));
    let (a, b) = (input(&a, [rank, rows]), input(&b, [cols, rank]));
    let start = lora.init.is_of_weight(target).then(|| [input(&a0, [rank, rows]), input(&b0, [cols, rank])]);
    let projection = lora.freezes_a(target).then(|| input(&inverse, [rank, rank]));
    let magnitude = match with_magnitude {
        true => Some(Magnitude::new(e, target, &m, [a, b], purpose)?),
        false => None,
    };
    Ok(Branch { a, b, start, scale: lora.scale_of(target), magnitude, projection })
}

/// The dimensions of a factor: of a stack, of the factors of all its matrices.
fn dims(target: &Target, sides: [usize; 2]) -> Vec<usize> {
    let stack = target.matrix.as_ref().is_some_and(|m| m.read_as == ReadAs::Stack);
    stack.then(|| target.count()).into_iter().chain(sides).collect()
}

/// Lists what a target's branch is made of.
fn add(inserted: &mut Inserted, e: &Emit, lora: &Lora, target: &Target, branch: &Branch) {
    let (name, rows, cols, rank) = (target.name(), target.rows(), target.cols(), lora.rank_of(target));
    let [a_name, b_name, a0_name, b0_name, m_name, inverse] = names(&name);
    let mut param = |value: Val, name: &str, dims: Vec<usize>, init, group, decay| {
        inserted.params.push(Param { value: value.id(), name: name.to_string(), dims, init, group, decay });
    };
    let pair = lora
        .init
        .source(e.graph(), target)
        .map(|source| Arc::new(FactorPair { rank, rows, cols, scale: branch.scale, source }));
    let read_as = target.matrix.as_ref().map(|m| m.read_as).unwrap_or_default();
    let looked_up = read_as == ReadAs::Lookup;
    let first = |factor: Factor| match (&pair, lora.init, factor) {
        (Some(pair), ..) => Init::Factor { pair: pair.clone(), factor },
        // What no token has looked up stays as it is.
        _ if looked_up && factor == Factor::A => Init::Zeros,
        _ if looked_up => Init::Normal { sigma: 1.0 },
        (_, _, Factor::B) => Init::Zeros,
        (_, LoraInit::Kaiming, _) => Init::Uniform { bound: 1.0 / (rows as f32).sqrt() },
        (_, LoraInit::Gaussian, _) => Init::Normal { sigma: 1.0 / rank as f32 },
        _ => Init::Normal { sigma: 1.0 / (rows as f32).sqrt() },
    };
    let is_frozen = lora.freezes_a(target);
    let of_a = if is_frozen { Group::Fixed } else { Group::Adapter };
    param(branch.a, &a_name, dims(target, [rank, rows]), first(Factor::A), of_a, !is_frozen);
    param(branch.b, &b_name, dims(target, [cols, rank]), first(Factor::B), Group::Adapter, true);
    if let Some([a0, b0]) = branch.start {
        param(a0, &a0_name, vec![rank, rows], first(Factor::A), Group::Fixed, false);
        param(b0, &b0_name, vec![cols, rank], first(Factor::B), Group::Fixed, false);
    }
    if let Some(magnitude) = &branch.magnitude {
        param(magnitude.m, &m_name, vec![cols], magnitude.init(e, target), Group::Adapter, true);
        let names = [&a_name, &b_name].into_iter().cloned();
        inserted.detached.extend(magnitude.detached.iter().map(|v| v.id()).zip(names));
    }
    if let Some(projection) = branch.projection {
        let (of, projects) = (a_name.clone(), b_name.clone());
        let init = Init::InverseGram { of, scale: branch.scale, projects };
        inserted.params.push(Param {
            value: projection.id(),
            name: inverse,
            dims: vec![rank, rank],
            init,
            group: Group::Fixed,
            decay: false,
        });
    }
    let form = DeltaForm::LowRank {
        a: a_name,
        b: b_name,
        rank,
        alpha: lora.alpha_of(target),
        rslora: lora.rslora,
        start: branch.start.map(|_| [a0_name, b0_name]),
        magnitude: branch.magnitude.as_ref().map(|_| m_name),
    };
    inserted.deltas.push(Delta { target: target.clone(), form });
    // As PEFT has it, nothing is dropped in front of a look-up.
    if lora.dropout > 0.0 && read_as == ReadAs::Product {
        let weight = target.weight_name.clone();
        inserted.dropout.push(DropoutSite { factor: branch.a.id(), weight, width: rows, probability: lora.dropout });
    }
}
