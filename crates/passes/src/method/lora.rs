//! LoRA (Hu et al. 2021): `h = W0 x + s B A x`, with s = alpha / r.

use super::{Delta, DeltaForm, DropoutSite, Inserted, Method, Use, low_rank_scale};
use crate::order::{Order, order};
use crate::rewrite::{replace_value, rewrite};
use crate::{
    FoldError, Group, Init, LeftOut, Matrix, NoMatch, NoMatches, Param, ParamValues, PassError, Target, fold_low_rank,
    group_by_weight, left_out, select,
};
use bytes::Bytes;
use lorac_config::{Check, Problems};
use lorac_ir::{DType, Fact, Graph, NodeId, Tensor, ValueId, topological_order};
use lorac_ops::{Emit, Val};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};

/// Low-rank branches (Hu et al. 2021)
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lora {
    /// Matrices: names, role:query|key|value|output|up|gate|down|head, all-linear, or globs over names. Of a matrix that is
    /// query, key and value in one, or gate and up, a role means its columns
    pub targets: Vec<String>,
    /// LoRA rank r: rows of A and columns of B
    #[serde(default = "rank")]
    pub rank: usize,
    /// alpha: branches are scaled by alpha / r
    #[serde(default = "alpha")]
    pub alpha: f64,
    /// Scale by alpha / sqrt(r) instead (rank-stabilised LoRA, Kalajdzievski 2023)
    #[serde(default)]
    pub rslora: bool,
    /// Probability that an element of what a branch reads is dropped in a training step (PEFT's lora_dropout)
    #[serde(default)]
    pub dropout: f64,
}

fn rank() -> usize {
    8
}

fn alpha() -> f64 {
    16.0
}

impl Default for Lora {
    fn default() -> Lora {
        let targets = ["role:query", "role:value"].map(String::from).to_vec();
        Lora { targets, rank: rank(), alpha: alpha(), rslora: false, dropout: 0.0 }
    }
}

impl Lora {
    /// s: what the branch is multiplied by.
    pub fn scale(&self) -> f64 {
        low_rank_scale(self.rank, self.alpha, self.rslora)
    }

    fn insert_at_once(&self, graph: &mut Graph, targets: &[Target], purpose: Use) -> Result<Inserted, PassError> {
        rewrite(graph, "lora", |e| {
            let all = targets.iter().map(|t| Ok((t, factors(e, t, self)?))).collect::<Result<Vec<_>, PassError>>()?;
            let mut flat = HashMap::new();
            // Slices of one matrix follow each other behind its products.
            for slices in group_by_weight(&all, |(target, _)| target) {
                let matrix = slices[0].0.matrix()?;
                let wide = || slices.iter().map(|(t, [a, b])| [*a, widened(e, t, *b)]).collect::<Vec<[Val; 2]>>();
                match (self.order(e.graph(), matrix, purpose), slices.as_slice()) {
                    (Order::Sum, [(Target { slice: None, .. }, whole)]) => sum(e, matrix, &[*whole], self),
                    (Order::Sum, _) if matrix.shared => sum(e, matrix, &wide(), self),
                    _ => branch(e, matrix, &wide(), self, &mut flat),
                }
            }
            let mut inserted = Inserted::default();
            for (target, [a, b]) in &all {
                inserted.add(self, target, a.id(), b.id());
            }
            Ok(inserted)
        })
    }

    /// Which of the equal forms a matrix gets.
    fn order(&self, graph: &Graph, matrix: &Matrix, purpose: Use) -> Order {
        match purpose {
            // No branch reaches what is not a product.
            _ if matrix.shared => Order::Sum,
            // A sum of weights has nothing in front of A to drop from.
            Use::Train { tokens: Some(tokens) } if self.dropout == 0.0 => order(graph, matrix, tokens),
            _ => Order::Branch,
        }
    }
}

impl Check for Lora {
    fn check(&self, problems: &mut Problems) {
        if self.targets.is_empty() {
            problems.report("targets", "pipeline::targets", "no targets: try [\"role:query\", \"role:value\"]");
        }
        problems.range("rank", self.rank as f64, 1.0, 1e5);
        problems.positive("alpha", self.alpha, 1e6);
        problems.range("dropout", self.dropout, 0.0, 0.99);
    }
}

impl Method for Lora {
    fn patterns(&self) -> &[String] {
        &self.targets
    }

    fn select(&self, graph: &Graph) -> Result<Vec<Target>, NoMatches> {
        let targets = select(graph, &self.targets)?;
        let shared = targets.iter().filter(|t| t.matrix.as_ref().is_some_and(|m| m.shared) && self.dropout > 0.0);
        let tied = shared.map(|t| NoMatch::Tied { pattern: t.pattern.clone(), name: t.weight_name.clone() });
        match tied.collect::<Vec<_>>() {
            tied if tied.is_empty() => Ok(targets),
            tied => Err(NoMatches(tied)),
        }
    }

    fn left_out(&self, graph: &Graph) -> Vec<LeftOut> {
        left_out(graph, &self.targets)
    }

    fn dropout(&self) -> f64 {
        self.dropout
    }

    /// Gives every product of every target the branch `y += s (x A^T) B^T`, or, where that is cheaper for the tokens of a
    /// step, the weight `W0 + s B A`. What a slice of a matrix gets reaches the slice's columns only.
    fn insert(&self, graph: &mut Graph, targets: &[Target], purpose: Use) -> Result<Inserted, PassError> {
        if !follow_each_other(graph, targets) {
            return self.insert_at_once(graph, targets, purpose);
        }
        // What one branch adds, the next must read.
        let mut inserted = Inserted::default();
        for of_weight in group_by_weight(targets, |t| t) {
            let of_weight: Vec<Target> = of_weight.into_iter().cloned().collect();
            let more = self.insert_at_once(graph, &of_weight, purpose)?;
            inserted.params.extend(more.params);
            inserted.deltas.extend(more.deltas);
            inserted.dropout.extend(more.dropout);
        }
        Ok(inserted)
    }

    fn fold(&self, delta: &Delta, w0: &Tensor, values: &ParamValues) -> Result<Bytes, FoldError> {
        match &delta.form {
            DeltaForm::LowRank { a, b, .. } => {
                fold_low_rank(&delta.target, w0, values.get(a)?, values.get(b)?, self.scale())
            }
            DeltaForm::Replaced { .. } => Err(FoldError::Foreign { name: delta.target.name() }),
        }
    }
}

impl Inserted {
    /// A branch: A from a normal distribution of deviation 1/sqrt(in), B zero, so that the adapted model starts as the base.
    fn add(&mut self, lora: &Lora, target: &Target, a: ValueId, b: ValueId) {
        let (name, rows, cols) = (target.name(), target.rows(), target.cols());
        let [a_name, b_name] = names(&name);
        let param = |value, name: &str, dims: [usize; 2], init| {
            let (name, dims) = (name.to_string(), dims.to_vec());
            Param { value, name, dims, init, group: Group::Adapter, decay: true }
        };
        self.params.push(param(a, &a_name, [lora.rank, rows], Init::Normal { sigma: 1.0 / (rows as f32).sqrt() }));
        self.params.push(param(b, &b_name, [cols, lora.rank], Init::Zeros));
        let (rank, alpha, rslora) = (lora.rank, lora.alpha, lora.rslora);
        let form = DeltaForm::LowRank { a: a_name, b: b_name, rank, alpha, rslora };
        self.deltas.push(Delta { target: target.clone(), form });
        if lora.dropout > 0.0 {
            let weight = target.weight_name.clone();
            self.dropout.push(DropoutSite { factor: a, weight, width: rows, probability: lora.dropout });
        }
    }
}

/// Names of A and B.
fn names(target: &str) -> [String; 2] {
    ["lora_A", "lora_B"].map(|factor| format!("{target}.{factor}"))
}

/// A and B, as inputs of the graph.
fn factors<'e, 'g>(e: &'e Emit<'g>, target: &Target, lora: &Lora) -> Result<[Val<'e, 'g>; 2], PassError> {
    let (name, rows, cols) = (target.name(), target.matrix()?.rows, target.cols());
    if lora.rank == 0 || lora.rank > rows.min(cols) {
        let why = format!("rank {} of `{name}`, a {rows} x {cols} matrix", lora.rank);
        return Err(PassError::Unsuitable(format!("{why}: the rank lies between 1 and the smaller side")));
    }
    let [a, b] = names(&name);
    let a = e.input(&a, Fact::new(DType::F32, [lora.rank, rows]));
    let b = e.input(&b, Fact::new(DType::F32, [cols, lora.rank]));
    Ok([a, b])
}

/// B with rows of zeros where the matrix has columns that are not the slice's.
fn widened<'e, 'g>(e: &'e Emit<'g>, target: &Target, b: Val<'e, 'g>) -> Val<'e, 'g> {
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

/// `y += s (x A^T) B^T` behind every product, for every A and B.
fn branch<'e, 'g>(
    e: &'e Emit<'g>,
    m: &Matrix,
    factors: &[[Val<'e, 'g>; 2]],
    lora: &Lora,
    flat: &mut HashMap<ValueId, Val<'e, 'g>>,
) {
    // Where a matrix is applied to its own result, the branch reads what the one before it has added.
    let mut adapted: HashMap<ValueId, Val> = HashMap::new();
    for product in producers_first(e.graph(), &m.products) {
        let Some(node) = e.graph().node(product) else { continue };
        let (Some(x), y) = (node.input(0), after_bias(e.graph(), product)) else { continue };
        e.set_source(&node.origin.source);
        // A weight of more axes multiplies by several axes of its operand at once.
        let plain = e.val(m.weight).rank() == 2;
        let rows = *flat.entry(x).or_insert_with(|| {
            let x = adapted.get(&x).copied().unwrap_or_else(|| e.val(x));
            let x = if plain && x.rank() == 2 { x } else { x.reshape(&[-1, m.rows as i64]) };
            x.cast(DType::F32)
        });
        let y = e.val(y);
        let attrs = [("transB", 1i64.into()), ("alpha", (lora.scale() as f32).into())];
        let mut sum = None;
        for [a, b] in factors {
            let low = e.op("Gemm", &[rows, *a], &[("transB", 1i64.into())]);
            // The old result is the Gemm's C: one pass over it instead of two.
            let before = sum.unwrap_or_else(|| {
                let wide = if plain && y.rank() == 2 { y } else { y.reshape(&[-1, m.cols as i64]) };
                wide.cast(DType::F32)
            });
            sum = Some(e.op("Gemm", &[low, *b, before], &attrs));
        }
        if let Some(sum) = sum {
            let sum = sum.cast(y.fact().dtype);
            let sum = if plain && y.rank() == 2 { sum } else { sum.reshape_like(y) };
            replace_value(e, y.id(), sum);
            adapted.insert(y.id(), sum);
        }
    }
}

/// Products with those first whose results others of them multiply.
fn producers_first(graph: &Graph, products: &[NodeId]) -> Vec<NodeId> {
    match products {
        [] | [_] => products.to_vec(),
        _ => {
            let products: HashSet<&NodeId> = products.iter().collect();
            topological_order(graph).into_iter().filter(|node| products.contains(node)).collect()
        }
    }
}

/// `W0 + s B A` in the place of `W0`, for every A and B.
fn sum(e: &Emit, m: &Matrix, factors: &[[Val; 2]], lora: &Lora) {
    let scale = ("alpha", (lora.scale() as f32).into());
    if let Some(node) = m.products.first().and_then(|p| e.graph().node(*p)) {
        e.set_source(&node.origin.source);
    }
    let w = e.val(m.weight);
    let sum = factors.iter().fold(w.cast(DType::F32), |w, [a, b]| match m.transposed {
        true => e.op("Gemm", &[*b, *a, w], std::slice::from_ref(&scale)),
        false => e.op("Gemm", &[*a, *b, w], &[scale.clone(), ("transA", 1i64.into()), ("transB", 1i64.into())]),
    });
    let sum = sum.cast(w.fact().dtype);
    e.edit(|p| p.redirect(w.id(), sum.id()));
}

/// Whether the result of one target's product is what another's multiplies, with nothing in between.
fn follow_each_other(graph: &Graph, targets: &[Target]) -> bool {
    let products = || targets.iter().filter_map(|t| t.matrix.as_ref()).flat_map(|m| &m.products);
    let results: HashSet<ValueId> = products().map(|p| after_bias(graph, *p)).collect();
    products().any(|p| graph.node(*p).and_then(|n| n.input(0)).is_some_and(|x| results.contains(&x)))
}

/// The product, or its sum with a bias where that is all that becomes of it: there the branch leaves the pair whole,
/// so that a runtime that fuses it computes the same bits as before.
fn after_bias(graph: &Graph, product: NodeId) -> ValueId {
    let y = graph.node(product).and_then(|n| n.outputs.first().copied()).unwrap_or(ValueId(u32::MAX));
    let Some([only]) = graph.value(y).map(|v| v.uses()) else { return y };
    match graph.node(only.node) {
        Some(n) if &*n.op.name == "Add" && !graph.is_output(y) => {
            let bias = n.inputs.iter().flatten().any(|v| graph.weight(*v).is_some_and(|t| t.dims().len() == 1));
            n.outputs.first().copied().filter(|_| bias).unwrap_or(y)
        }
        _ => y,
    }
}
