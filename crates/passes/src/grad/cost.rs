//! What a training step costs, in the symbols of the model's shapes.

use super::Gradient;
use lorac_ir::{Def, Dim, Graph, Node};
use lorac_ops::{Ctx, Inferred, Input, ShapeData, find, infer};
use serde::Serialize;
use std::collections::BTreeMap;

/// Costs; numbers where all symbols are known.
#[derive(Clone, Debug, Serialize)]
pub struct Cost {
    /// Floating-point operations of the forward pass and the loss.
    pub flops_forward: Amount,
    /// Floating-point operations of the gradient.
    pub flops_backward: Amount,
    /// Bytes of forward values that the gradient reads.
    pub activation_bytes: Amount,
}

/// A sum, part of which may be unknown.
#[derive(Clone, Debug, Serialize)]
pub struct Amount {
    /// The sum as a number or a polynomial.
    pub value: String,
    /// The sum, where it is a number.
    pub number: Option<i64>,
    /// Terms that are not part of it because a shape is unknown.
    pub unknown: usize,
}

#[derive(Default)]
struct Sum {
    // Terms by their dimension: most nodes of a model cost the same as many others.
    terms: BTreeMap<Dim, i64>,
    unknown: usize,
}

impl Sum {
    fn add(&mut self, dim: Dim) {
        match dim {
            Dim::Unknown => self.unknown += 1,
            dim => *self.terms.entry(dim).or_default() += 1,
        }
    }

    fn amount(&self, bind: &BTreeMap<String, i64>) -> Amount {
        let total = self.terms.iter().fold(Dim::Known(0), |sum, (dim, n)| sum + *dim * Dim::Known(*n));
        let number = total.eval(&|name| bind.get(name).copied());
        let value = number.map_or_else(|| total.to_string(), |n| n.to_string());
        Amount { value, number, unknown: self.unknown }
    }
}

/// Adds up what the nodes of a gradient's graph cost. `bind` gives symbols a number.
///
/// # Errors
/// Shapes that contradict each other.
pub fn cost(gradient: &Gradient, bind: &BTreeMap<String, i64>) -> Result<Cost, lorac_ops::InferError> {
    let mut graph = gradient.graph.clone();
    let shape_data = infer(&mut graph)?;
    let (mut forward, mut backward, mut kept) = (Sum::default(), Sum::default(), Sum::default());
    for (id, node) in graph.nodes() {
        let sum = if id.index() < gradient.forward { &mut forward } else { &mut backward };
        sum.add(flops(&graph, &shape_data, node));
    }
    let measures = |node: &Node| node.op.domain.is_empty() && ["Shape", "Size"].contains(&&*node.op.name);
    for (_, value) in graph.values() {
        let Def::Output(maker, _) = value.def else { continue };
        let reads =
            |n: lorac_ir::NodeId| n.index() >= gradient.forward && graph.node(n).is_some_and(|node| !measures(node));
        if maker.index() < gradient.forward && value.uses().iter().any(|u| reads(u.node)) {
            kept.add(value.fact.volume() * Dim::from(value.fact.dtype.size()));
        }
    }
    Ok(Cost {
        flops_forward: forward.amount(bind),
        flops_backward: backward.amount(bind),
        activation_bytes: kept.amount(bind),
    })
}

fn flops(graph: &Graph, shape_data: &ShapeData, node: &Node) -> Dim {
    let Some(op) = find(&node.op) else { return Dim::Unknown };
    let input = |id: lorac_ir::ValueId| Input {
        fact: graph.fact(id),
        content: shape_data.get(id).cloned(),
        tensor: graph.weight(id),
    };
    let opset = graph.opsets.get(&node.op.domain).copied().unwrap_or(1);
    let inputs = node.inputs.iter().map(|v| v.map(input)).collect();
    let ctx = Ctx { node, opset, inputs, outputs: node.outputs.len() };
    let known: Vec<Inferred> = node.outputs.iter().map(|v| graph.fact(*v).into()).collect();
    (op.flops)(&ctx, &known)
}
