//! Full fine-tuning: weights trained as they are.

use super::{Delta, Inserted, Method, Use};
use crate::buffer::buffers;
use crate::no_match::of_weight;
use crate::select::pick;
use crate::{FoldError, LeftOut, NoMatch, NoMatches, ParamValues, PassError, Target, select};
use bytes::Bytes;
use globset::GlobBuilder;
use lorac_config::{Check, Problems};
use lorac_ir::{Graph, Tensor, ValueId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Weights trained as they are: full fine-tuning of what is named
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Full {
    /// Weights: names, role:query|key|value|output|up|gate|down|head, all-linear, or globs over names, which pass over
    /// buffers: masks, frequencies and tables of a rotation
    pub targets: Vec<String>,
}

impl Check for Full {
    fn check(&self, problems: &mut Problems) {
        if self.targets.is_empty() {
            problems.report("targets", "pipeline::targets", "no targets: try [\"*\"] for every weight");
        }
    }
}

impl Method for Full {
    fn patterns(&self) -> &[String] {
        &self.targets
    }

    fn select(&self, graph: &Graph) -> Result<Vec<Target>, NoMatches> {
        Target::of_patterns(graph, &self.targets, |pattern| matching(graph, pattern))
    }

    fn left_out(&self, graph: &Graph) -> Vec<LeftOut> {
        let is_glob = |p: &String| !p.starts_with("role:") && p != "all-linear" && graph.find(p).is_none();
        let globs: Vec<_> =
            self.targets.iter().filter(|p| is_glob(p)).filter_map(|p| GlobBuilder::new(p).build().ok()).collect();
        let globs: Vec<_> = globs.iter().map(|g| g.compile_matcher()).collect();
        let out = |(weight, why): (ValueId, &str)| LeftOut { name: graph.name_of(weight), why: why.to_string() };
        let fits = |name: &str| globs.iter().any(|g| g.is_match(name)) && !self.targets.iter().any(|p| p == name);
        match globs.is_empty() {
            true => Vec::new(),
            false => buffers(graph).into_iter().map(out).filter(|left| fits(&left.name)).collect(),
        }
    }

    fn insert(&self, graph: &mut Graph, targets: &[Target], _: Use) -> Result<Inserted, PassError> {
        Inserted::replaced(graph, targets)
    }

    fn fold(&self, delta: &Delta, w0: &Tensor, values: &ParamValues) -> Result<Bytes, FoldError> {
        delta.fold_replaced(w0, values)
    }
}

/// The weights that a pattern picks. A glob passes over single numbers, which are constants of the graph, epsilons and
/// scales, and over [`buffers`]; named as it is, even such a one is meant.
fn matching(graph: &Graph, pattern: &str) -> Result<Vec<ValueId>, NoMatches> {
    if pattern.starts_with("role:") || pattern == "all-linear" {
        let targets = select(graph, &[pattern])?;
        if let Some(target) = targets.iter().find(|t| t.slice.is_some()) {
            let why = format!("it is a slice of `{}`, of which all is trained or nothing", target.weight_name);
            return Err(NoMatches(vec![NoMatch::Syntax { pattern: pattern.to_string(), why }]));
        }
        return Ok(targets.iter().map(|t| t.weight).collect());
    }
    let floats = || graph.weights().filter(|(_, _, t)| t.dtype().is_float());
    if let Some((weight, ..)) = floats().find(|(_, value, _)| &*value.name == pattern) {
        return Ok(vec![weight]);
    }
    let buffers = buffers(graph);
    let params = floats().filter(|(weight, _, t)| t.len() > 1 && !buffers.contains_key(weight));
    let params: Vec<(ValueId, &str)> = params.map(|(weight, value, _)| (weight, &*value.name)).collect();
    Ok(pick("weight", pattern, &params).map_err(|wrong| match (wrong, of_weight(graph, pattern)) {
        (NoMatch::Nothing { what, pattern, .. }, Some(why)) => {
            let why = format!("{why}; only floats are trained");
            NoMatch::Nothing { what, pattern, nearest: Vec::new(), why }
        }
        (wrong, _) => wrong,
    })?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::method::replaced::tests::inserts_and_folds;

    fn graph() -> Graph {
        let text = "graph g(%x: f32[2,3]) -> %y {
            %w = weight \"up.weight\" f32[3,4] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
            %b = weight \"up.bias\" f32[4] = [1, 2, 3, 4]
            %v = weight \"down.weight\" f32[4,3] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
            %two = weight \"two\" f32[] = [2]
            %p = MatMul(%x, %w) : f32[2,4]
            %q = Add(%p, %b) : f32[2,4]
            %h = Mul(%q, %two) : f32[2,4]
            %y = MatMul(%h, %v) : f32[2,3]
        }";
        lorac_ir::parse(text).expect("parses")
    }

    fn full(targets: &[&str]) -> Full {
        Full { targets: targets.iter().map(|t| t.to_string()).collect() }
    }

    #[test]
    fn what_is_named_is_trained_whatever_reads_it() {
        assert_eq!(inserts_and_folds(&full(&["*"]), &graph()), ["up.weight", "up.bias", "down.weight"]);
        assert_eq!(inserts_and_folds(&full(&["two", "up.*"]), &graph()), ["up.weight", "up.bias", "two"]);
        assert_eq!(inserts_and_folds(&full(&["all-linear"]), &graph()), ["up.weight"]);
        assert_eq!(inserts_and_folds(&full(&["role:head"]), &graph()), ["down.weight"]);
    }

    #[test]
    fn globs_pass_over_buffers_and_say_so() {
        let text = "graph g(%x: f32[N,2], %at: i64[N,1]) -> %y {
            %w = weight \"up.weight\" f32[2,2] = [1, 2, 3, 4]
            %inv = weight \"rotary.inv_freq\" f32[2] = [1, 0.1]
            %q = weight \"packed\" i8[2,2] = [1, 2, 3, 4]
            %h = MatMul(%x, %w) : f32[N,2]
            %f = Cast(%at, to=1) : f32[N,1]
            %a = Mul(%f, %inv) : f32[N,2]
            %c = Cos(%a) : f32[N,2]
            %i = Mul(%h, %c) : f32[N,2]
            %y = Relu(%i) : f32[N,2]
        }";
        let graph = lorac_ir::parse(text).expect("parses");
        let names = |targets: &[&str]| {
            let targets = full(targets).select(&graph).expect("selects");
            targets.into_iter().map(|t| t.weight_name).collect::<Vec<_>>()
        };
        assert_eq!((names(&["*"]), full(&["*"]).left_out(&graph).len()), (vec!["up.weight".to_string()], 1));
        assert_eq!(full(&["*"]).left_out(&graph)[0].name, "rotary.inv_freq");
        let both = ["*", "rotary.inv_freq"];
        assert_eq!((names(&both).len(), full(&both).left_out(&graph).len()), (2, 0));
        let wrong = full(&["packed"]).select(&graph).expect_err("integers").to_string();
        assert!(wrong.contains("`packed` matches no weight: it is i8[2,2], which nothing reads"), "{wrong}");
    }

    #[test]
    fn a_pattern_of_no_weight_names_the_nearest() {
        let wrong = full(&["up.wieght"]).select(&graph()).expect_err("nothing");
        assert!(wrong.to_string().contains("`up.wieght` matches no weight; nearest: up.weight"), "{wrong}");
    }
}
