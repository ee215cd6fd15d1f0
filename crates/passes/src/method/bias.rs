//! BitFit (Ben Zaken et al. 2022): the biases are trained, everything else stays.

use super::{Delta, Inserted, Method, Use};
use crate::select::pick;
use crate::{FoldError, NoMatches, ParamValues, PassError, Target};
use bytes::Bytes;
use lorac_config::{Check, Problems};
use lorac_ir::{Graph, Node, Tensor, ValueId};
use lorac_ops::find;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The biases alone (BitFit, Ben Zaken et al. 2022)
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Bias {
    /// Biases, those of norms too: globs over their names. Default: all
    pub targets: Vec<String>,
}

impl Default for Bias {
    fn default() -> Bias {
        Bias { targets: vec!["*".into()] }
    }
}

impl Check for Bias {
    fn check(&self, problems: &mut Problems) {
        if self.targets.is_empty() {
            problems.report("targets", "pipeline::targets", "no targets: leave the key out for all biases");
        }
    }
}

impl Method for Bias {
    fn patterns(&self) -> &[String] {
        &self.targets
    }

    fn select(&self, graph: &Graph) -> Result<Vec<Target>, NoMatches> {
        let biases: Vec<(ValueId, &str)> = biases(graph).collect();
        Target::of_patterns(graph, &self.targets, |pattern| Ok(pick("bias", pattern, &biases)?))
    }

    fn insert(&self, graph: &mut Graph, targets: &[Target], _: Use) -> Result<Inserted, PassError> {
        Inserted::replaced(graph, targets)
    }

    fn fold(&self, delta: &Delta, w0: &Tensor, values: &ParamValues) -> Result<Bytes, FoldError> {
        delta.fold_replaced(w0, values)
    }
}

/// Vectors that are added to activations, or that an operator takes for its bias. One number alone is the epsilon of a
/// norm rather than a bias.
fn biases(graph: &Graph) -> impl Iterator<Item = (ValueId, &str)> {
    let vectors = graph.weights().filter(|(_, _, t)| t.dims().len() == 1 && t.len() > 1 && t.dtype().is_float());
    let adds = |graph: &Graph, u: &lorac_ir::Use| graph.node(u.node).is_some_and(|n| is_bias(graph, n, u.slot));
    let biases = vectors.filter(move |(_, value, _)| value.uses().iter().any(|u| adds(graph, u)));
    biases.map(|(weight, value, _)| (weight, &*value.name))
}

/// Whether a node takes this operand for a bias.
fn is_bias(graph: &Graph, node: &Node, slot: usize) -> bool {
    let listed = find(&node.op).is_some_and(|op| op.traits.bias.contains(&slot));
    // What is added to a weight is none.
    let adds = find(&node.op).is_some_and(|op| op.traits.bias == [0, 1]);
    listed && (!adds || node.input(1 - slot).is_some_and(|other| graph.weight(other).is_none()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::method::replaced::tests::inserts_and_folds;

    fn graph() -> Graph {
        let text = "graph g(%x: f32[2,3]) -> %y {
            %w = weight \"w\" f32[3,3] = [1, 2, 3, 4, 5, 6, 7, 8, 9]
            %b = weight \"fc.bias\" f32[3] = [1, 2, 3]
            %gamma = weight \"ln.weight\" f32[3] = [1, 2, 1]
            %beta = weight \"ln.bias\" f32[3] = [1, 0, 1]
            %c = weight \"out.bias\" f32[3] = [3, 2, 1]
            %eps = weight \"eps\" f32[1] = [1]
            %scale = weight \"scale\" f32[3] = [2, 2, 2]
            %p = MatMul(%x, %w) : f32[2,3]
            %h = Add(%b, %p) : f32[2,3]
            %e = Add(%h, %eps) : f32[2,3]
            %n = LayerNormalization(%e, %gamma, %beta) : f32[2,3]
            %s = Mul(%n, %scale) : f32[2,3]
            %y = Gemm(%s, %w, %c) : f32[2,3]
        }";
        lorac_ir::parse(text).expect("parses")
    }

    #[test]
    fn every_bias_is_trained_and_nothing_else() {
        assert_eq!(inserts_and_folds(&Bias::default(), &graph()), ["fc.bias", "ln.bias", "out.bias"]);
        let some = Bias { targets: vec!["fc.bias".into(), "o*".into()] };
        assert_eq!(inserts_and_folds(&some, &graph()), ["fc.bias", "out.bias"]);
    }

    #[test]
    fn a_pattern_of_no_bias_names_the_nearest() {
        let wrong = Bias { targets: vec!["fc.bais".into(), "w".into()] }.select(&graph()).expect_err("nothing");
        assert_eq!(wrong.0.len(), 2);
        assert!(wrong.to_string().contains("`fc.bais` matches no bias; nearest: fc.bias"), "{wrong}");
    }
}
