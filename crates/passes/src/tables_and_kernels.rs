//! Weights that are linear maps otherwise than as one product: tables that rows are looked up in, kernels of convolutions, stacks of
//! matrices.

use crate::buffer::buffers;
use crate::matrix::Candidate;
use crate::no_match::NoMatch;
use crate::obstacle::Obstacle;
use crate::select::{fitting_names, names};
use crate::stack::{Stack, stack};
use crate::{Matrix, Target};
use lorac_config::nearest;
use lorac_ir::{Graph, Node, NodeId, ValueId};
use lorac_ops::{Grad, find};
use std::collections::BTreeMap;

/// How a matrix is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadAs {
    /// Multiplied with activations.
    #[default]
    Product,
    /// Rows of it are looked up: the product with rows that are 1 in one place. The weight is `[entries, width]`.
    Lookup,
    /// The kernel of a convolution, a product with every window: rows are `in x kernel` long. The weight is `[out, in, ..]`.
    Convolution,
    /// Matrices of the same sides in one weight, `[count, in, out]` or `[count, out, in]`, as those of experts.
    Stack,
}

/// What picks every table of embeddings.
pub(crate) const ALL_EMBEDDINGS: &str = "all-embeddings";

/// What picks every kernel.
pub(crate) const ALL_CONVOLUTIONS: &str = "all-convolutions";

/// What picks every stack of matrices.
pub(crate) const ALL_EXPERTS: &str = "all-experts";

/// Weights that are tables or kernels, and what patterns pick of them. They are looked for when a pattern fits no matrix.
#[derive(Default)]
pub(crate) struct TablesAndKernels<'p> {
    all: Option<Vec<Candidate>>,
    picked: BTreeMap<ValueId, (usize, &'p str)>,
}

impl<'p> TablesAndKernels<'p> {
    /// Picks what a pattern fits. Returns whether it fits anything.
    ///
    /// # Errors
    /// A pattern that fits only what cannot be adapted, or that is not valid.
    pub(crate) fn pick(&mut self, graph: &Graph, pattern: &'p str) -> Result<bool, NoMatch> {
        let all = self.all.get_or_insert_with(|| candidates(graph));
        let found = fitting(graph, all, pattern)?;
        let fit: Vec<usize> = found.iter().copied().filter(|i| all[*i].obstacle.is_none()).collect();
        if let (true, Some(first)) = (fit.is_empty(), found.first())
            && let Some(obstacle) = all[*first].obstacle.clone()
        {
            let unfit: Vec<&Candidate> = found.iter().map(|i| &all[*i]).collect();
            return Err(NoMatch::unsuitable(pattern, &unfit, obstacle));
        }
        for i in &fit {
            self.picked.entry(all[*i].matrix.weight).or_insert((*i, pattern));
        }
        Ok(!fit.is_empty())
    }

    /// Picks those of some weights that are stacks which can be adapted. Returns whether there are any.
    pub(crate) fn pick_stacks(&mut self, graph: &Graph, weights: &[ValueId], pattern: &'p str) -> bool {
        if weights.is_empty() {
            return false;
        }
        let all = self.all.get_or_insert_with(|| candidates(graph));
        let fits = |c: &Candidate| c.matrix.read_as == ReadAs::Stack && weights.contains(&c.matrix.weight);
        let found = all.iter().enumerate().filter(|(_, c)| fits(c) && c.obstacle.is_none());
        let found: Vec<(usize, ValueId)> = found.map(|(i, c)| (i, c.matrix.weight)).collect();
        for (i, weight) in &found {
            self.picked.entry(*weight).or_insert((*i, pattern));
        }
        !found.is_empty()
    }

    /// What a pattern that fits no matrix passes over though it fits it: name and why.
    pub(crate) fn left_out(&mut self, graph: &Graph, pattern: &str) -> Vec<(String, String)> {
        let all = self.all.get_or_insert_with(|| candidates(graph));
        let found = fitting(graph, all, pattern).unwrap_or_default();
        let unfit = |i: usize| Some((all[i].matrix.name.clone(), all[i].obstacle.as_ref()?.to_string()));
        found.into_iter().filter_map(unfit).collect()
    }

    /// Why a pattern picks neither a matrix nor one of these, where more is to be said than of matrices.
    pub(crate) fn nothing(&self, graph: &Graph, pattern: &str) -> Option<NoMatch> {
        let (what, nearest) = match pattern {
            ALL_EMBEDDINGS => ("table of embeddings", Vec::new()),
            ALL_CONVOLUTIONS => ("kernel of a convolution", Vec::new()),
            ALL_EXPERTS => ("stack of matrices", Vec::new()),
            _ => {
                let all = self.all.iter().flatten().flat_map(|c| names(graph, &c.matrix));
                ("weight matrix, table or kernel", nearest(pattern, all))
            }
        };
        let said = [ALL_EMBEDDINGS, ALL_CONVOLUTIONS, ALL_EXPERTS].contains(&pattern) || !nearest.is_empty();
        let pattern = pattern.to_string();
        said.then_some(NoMatch::Nothing { what, pattern, nearest, why: String::new() })
    }

    /// What was picked, in the model's order.
    pub(crate) fn targets(self) -> impl Iterator<Item = Target> {
        let all = self.all.unwrap_or_default();
        self.picked
            .into_values()
            .filter_map(move |(i, pattern)| Some(Target::of_matrix(&all.get(i)?.matrix, Default::default(), pattern)))
    }
}

/// Positions of those that a pattern fits, of those that cannot be adapted too.
fn fitting(graph: &Graph, all: &[Candidate], pattern: &str) -> Result<Vec<usize>, NoMatch> {
    let read_as = match pattern {
        ALL_EMBEDDINGS => ReadAs::Lookup,
        ALL_CONVOLUTIONS => ReadAs::Convolution,
        ALL_EXPERTS => ReadAs::Stack,
        _ => {
            let named: Vec<Vec<String>> = all.iter().map(|c| names(graph, &c.matrix)).collect();
            return fitting_names(pattern, &named);
        }
    };
    Ok(all.iter().enumerate().filter(|(_, c)| c.matrix.read_as == read_as).map(|(i, _)| i).collect())
}

/// Every float weight that all its readers look rows up in, and that is not a buffer, that all take for their kernel, or that is a
/// stack of matrices.
pub(crate) fn candidates(graph: &Graph) -> Vec<Candidate> {
    let mut constants = None;
    let mut found = Vec::new();
    for (weight, value, t) in graph.weights().filter(|(_, _, t)| t.dims().len() >= 2 && t.dtype().is_float()) {
        let uses = value.uses();
        let node = |u: &lorac_ir::Use| graph.node(u.node);
        let all = |is: &dyn Fn(&Node, usize) -> bool| {
            !uses.is_empty() && uses.iter().all(|u| node(u).is_some_and(|n| is(n, u.slot)))
        };
        let mut stacked = None;
        let (read_as, transposed, [rows, cols]) = match t.dims() {
            [rows, cols] if all(&is_lookup) => (ReadAs::Lookup, false, [*rows, *cols]),
            [out, kernel @ ..] if all(&is_kernel) => (ReadAs::Convolution, true, [kernel.iter().product(), *out]),
            [_, p, q] => match stack(graph, weight) {
                Some(Stack { transposed, products }) => {
                    stacked = Some(products);
                    (ReadAs::Stack, transposed, if transposed { [*q, *p] } else { [*p, *q] })
                }
                None => continue,
            },
            _ => continue,
        };
        let buffers = constants.get_or_insert_with(|| buffers(graph));
        if graph.is_output(weight) || rows == 0 || cols == 0 || buffers.contains_key(&weight) {
            continue;
        }
        let grouped = uses.iter().filter_map(node).any(|n| n.int("group", 1) > 1);
        let products: Vec<NodeId> = stacked.unwrap_or_else(|| uses.iter().map(|u| u.node).collect());
        let (name, dims, shared) = (value.name.to_string(), t.dims().to_vec(), false);
        let mut obstacle = grouped.then_some(Obstacle::Grouped);
        // What is inlined has no name of the file's.
        if name == weight.to_string() {
            obstacle = Some(Obstacle::InFunction);
        }
        let matrix = Matrix { weight, name, transposed, dims, rows, cols, products, shared, read_as };
        found.push(Candidate { matrix, obstacle });
    }
    found
}

/// Whether a node looks rows up in this operand.
pub(crate) fn is_lookup(node: &Node, slot: usize) -> bool {
    &*node.op.name == "Gather" && node.op.domain.is_empty() && slot == 0 && node.int("axis", 0) == 0
}

fn is_kernel(node: &Node, slot: usize) -> bool {
    let differentiable = find(&node.op).is_some_and(|op| matches!(op.grad, Grad::Rule { .. }));
    &*node.op.name == "Conv" && node.op.domain.is_empty() && slot == 1 && differentiable
}
