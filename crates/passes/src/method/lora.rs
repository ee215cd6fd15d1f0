//! LoRA (Hu et al. 2021): `h = W0 x + s B A x`, with s = alpha / r.

use super::branch::{Before, branch, follow_each_other, sum, widened};
use super::{Delta, DeltaForm, DropoutSite, Inserted, Method, Use, low_rank_scale};
use crate::order::{Order, order};
use crate::rewrite::rewrite;
use crate::{
    FoldError, Group, Init, LeftOut, Matrix, NoMatch, NoMatches, Param, ParamValues, PassError, Target, fold_low_rank,
    group_by_weight, left_out, select,
};
use bytes::Bytes;
use lorac_config::{Check, Problems};
use lorac_ir::{DType, Fact, Graph, Tensor, ValueId};
use lorac_ops::{Emit, Val};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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

    /// Slices of one matrix follow each other behind its products.
    fn insert_matrix<'e, 'g>(
        &self,
        e: &'e Emit<'g>,
        slices: &[&(&Target, [Val<'e, 'g>; 2])],
        purpose: Use,
        before: &mut Before<'e, 'g>,
    ) -> Result<(), PassError> {
        let Some((first, _)) = slices.first() else { return Ok(()) };
        let matrix = first.matrix()?;
        let wide = || slices.iter().map(|(t, [a, b])| [*a, widened(e, t, *b)]).collect::<Vec<[Val; 2]>>();
        match (self.order(e.graph(), matrix, purpose), slices) {
            (Order::Sum, [(Target { slice: None, .. }, whole)]) => sum(e, matrix, &[*whole], self.scale(), before),
            (Order::Sum, _) if matrix.shared => sum(e, matrix, &wide(), self.scale(), before),
            _ => branch(e, matrix, &wide(), self.scale(), before),
        }
        Ok(())
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

    fn param_count(&self, target: &Target) -> usize {
        self.rank * (target.rows() + target.cols())
    }

    fn dropout(&self) -> f64 {
        self.dropout
    }

    /// Gives every product of every target the branch `y += s (x A^T) B^T`, or, where that is cheaper for the tokens of a
    /// step, the weight `W0 + s B A`. What a slice of a matrix gets reaches the slice's columns only.
    fn insert(&self, graph: &mut Graph, targets: &[Target], purpose: Use) -> Result<Inserted, PassError> {
        let apart = !follow_each_other(graph, targets);
        rewrite(graph, "lora", |e| {
            let (mut inserted, mut before) = (Inserted::default(), Before::default());
            let all: Vec<&Target> = targets.iter().collect();
            // What one branch adds, the next must read: of matrices that follow each other every one is written for itself.
            let steps = if apart { vec![all] } else { group_by_weight(targets, |t| t) };
            for step in steps {
                before.begin(e);
                let all = step.into_iter().map(|t| Ok((t, factors(e, t, self)?)));
                let all = all.collect::<Result<Vec<_>, PassError>>()?;
                for slices in group_by_weight(&all, |(target, _)| target) {
                    self.insert_matrix(e, &slices, purpose, &mut before)?;
                }
                for (target, [a, b]) in &all {
                    inserted.add(self, target, a.id(), b.id());
                }
            }
            before.reread(e);
            Ok(inserted)
        })
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

#[cfg(test)]
mod tests {
    use super::*;
    use lorac_ir::{parse, print};
    use std::fmt::Write;

    /// Matrices `w0`, `w1`, ... in a graph of such inputs and body.
    fn graph(inputs: &str, matrices: usize, body: &str) -> Graph {
        let mut text = format!("graph g({inputs}) -> %y {{\n");
        (0..matrices).for_each(|i| writeln!(text, "%w{i} = weight \"w{i}\" f32[2,2]").expect("writes"));
        write!(text, "%b = weight \"b\" f32[2]\n{body}\n}}").expect("writes");
        parse(&text).expect("parses")
    }

    const ALL: Lora = Lora { targets: Vec::new(), rank: 1, alpha: 1.0, rslora: false, dropout: 0.0 };

    fn matrices(graph: &Graph) -> Vec<Target> {
        crate::matrices(graph).iter().map(|m| Target::of_matrix(m, Default::default(), "all")).collect()
    }

    /// One matrix after the other gives the same nodes, names and order of reading.
    #[test]
    fn matrices_that_follow_each_other_are_adapted_as_if_one_by_one() {
        let (flat, rows) = ("%x: f32[N,2]", "%x: f32[N,3,2]");
        let chain = "%p = MatMul(%x, %w0) : f32[..]\n %q = MatMul(%p, %w1) : f32[..]\n %y = MatMul(%q, %w2) : f32[..]";
        let reversed =
            "%p = MatMul(%x, %w2) : f32[..]\n %q = MatMul(%p, %w1) : f32[..]\n %y = MatMul(%q, %w0) : f32[..]";
        let biased = "%p = MatMul(%x, %w1) : f32[..]\n %s = Add(%p, %b) : f32[..]\n %q = MatMul(%s, %w0) : f32[..]
            %k = MatMul(%s, %w2) : f32[..]\n %y = Add(%q, %k) : f32[..]";
        let twice = "%p = MatMul(%x, %w1) : f32[..]\n %q = MatMul(%p, %w1) : f32[..]\n %r = MatMul(%q, %w0) : f32[..]
            %y = MatMul(%r, %w1) : f32[..]";
        let turned = "%t = Transpose(%w1, perm=[1,0]) : f32[..]\n %p = MatMul(%x, %w0) : f32[..]
            %q = MatMul(%p, %w1) : f32[..]\n %r = MatMul(%q, %t) : f32[..]\n %y = MatMul(%r, %w2) : f32[..]";
        for purpose in [Use::Verify, Use::Train { tokens: None }, Use::Train { tokens: Some(1000) }] {
            for (inputs, body) in
                [flat, rows].into_iter().flat_map(|i| [chain, reversed, biased, twice, turned].map(|b| (i, b)))
            {
                let before = graph(inputs, 3, body);
                let targets = matrices(&before);
                assert!(follow_each_other(&before, &targets), "{body}");
                let (mut at_once, mut one_by_one) = (before.clone(), before.clone());
                let inserted = ALL.insert(&mut at_once, &targets, purpose).expect("fits");
                let mut params = Vec::new();
                for of_weight in group_by_weight(&targets, |t| t) {
                    let of_weight: Vec<Target> = of_weight.into_iter().cloned().collect();
                    params.extend(ALL.insert(&mut one_by_one, &of_weight, purpose).expect("fits").params);
                }
                assert_eq!(print(&at_once), print(&one_by_one), "{body} {purpose:?}");
                assert_eq!(inserted.params, params, "{body}");
            }
        }
    }

    /// As many rewritings as matrices would not end.
    #[test]
    fn thousands_of_matrices_that_follow_each_other() {
        let count = 4000;
        let mut body = String::new();
        (0..count).for_each(|i| {
            let x = if i == 0 { "x".into() } else { format!("h{i}") };
            let y = if i + 1 == count { "y".into() } else { format!("h{}", i + 1) };
            writeln!(body, "%{y} = MatMul(%{x}, %w{i}) : f32[N,2]").expect("writes");
        });
        let mut graph = graph("%x: f32[N,2]", count, &body);
        let targets = matrices(&graph);
        assert_eq!(ALL.insert(&mut graph, &targets, Use::Verify).expect("fits").deltas.len(), count);
        assert_eq!(graph.nodes().filter(|(_, n)| &*n.op.name == "Gemm").count(), 2 * count);
    }
}
