//! IA3 (Liu et al. 2022): what matrices compute, or are given, is multiplied by a trained vector.

use super::scaled::{Bias, Scales, bias_of};
use super::{Delta, DeltaForm, Inserted, Method, Use, stack, target_list};
use crate::{
    FoldError, Group, Init, LeftOut, NoMatch, NoMatches, Param, ParamValues, PassError, ReadAs, Target, left_out,
    select,
};
use bytes::Bytes;
use lorac_config::{Check, Problems};
use lorac_ir::{Graph, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Results of matrices, and what is fed to others, times trained vectors (Liu et al. 2022)
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ia3 {
    /// Matrices whose results are scaled, with their biases: names, roles, all-linear, or globs over names. Default:
    /// role:key and role:value. Of a matrix that does several things, { match: PATTERN, slice: [k, v] } are columns
    #[serde(deserialize_with = "target_list::read")]
    #[schemars(with = "target_list::TargetList")]
    pub targets: Vec<String>,
    /// Matrices that are fed scaled inputs; they may be among `targets`, too. Default: role:down; [] for none
    pub feedforward: Vec<String>,
}

impl Default for Ia3 {
    fn default() -> Ia3 {
        let roles = |names: &[&str]| names.iter().map(|name| format!("role:{name}")).collect();
        Ia3 { targets: roles(&["key", "value"]), feedforward: roles(&["down"]) }
    }
}

impl Check for Ia3 {
    fn check(&self, problems: &mut Problems) {
        if self.targets.is_empty() && self.feedforward.is_empty() {
            let help = "no targets: leave the keys out for role:key, role:value and, of the feed-forward, role:down";
            problems.report("targets", "pipeline::targets", help);
        }
    }
}

impl Ia3 {
    /// Whether what a target is fed is scaled, and not what it computes.
    fn scales_inputs(&self, target: &Target) -> bool {
        self.feedforward.contains(&target.pattern)
    }
}

impl Method for Ia3 {
    fn patterns(&self) -> &[String] {
        &self.targets
    }

    fn path(&self, pattern: &str) -> String {
        let key = |name: &str, all: &[String]| Some(format!("{name}.{}", all.iter().position(|p| p == pattern)?));
        key("targets", &self.targets).or_else(|| key("feedforward", &self.feedforward)).unwrap_or("targets".into())
    }

    /// The matrices, and the biases that are scaled with what they compute.
    fn select(&self, graph: &Graph) -> Result<Vec<Target>, NoMatches> {
        let (mut targets, mut wrong) = (Vec::new(), Vec::new());
        let mut pick = |patterns: &[String]| match select(graph, patterns) {
            Ok(found) => found,
            Err(e) => {
                wrong.extend(e.0);
                Vec::new()
            }
        };
        let fed = pick(&self.feedforward);
        let weights: BTreeSet<_> = fed.iter().map(|t| t.weight).collect();
        let results = pick(&self.targets).into_iter().filter(|t| !weights.contains(&t.weight));
        let mut all: Vec<Target> = results.chain(fed).collect();
        all.sort_by_key(|t| t.weight);
        for target in all {
            let Some(matrix) = &target.matrix else { continue };
            let no = |why: &str, advice| {
                let (pattern, names) = (target.pattern.clone(), format!("`{}`", target.weight_name));
                NoMatch::Unsuitable { pattern, names, why: why.to_string(), advice }
            };
            if matrix.read_as == ReadAs::Stack {
                wrong.push(stack::not_with(&target, "IA3"));
            } else if matrix.read_as != ReadAs::Product {
                wrong.push(no(
                    "is not multiplied with activations, but looked up in or convolved",
                    "choose other targets",
                ));
            } else if matrix.shared {
                let why = "is read otherwise too, as an embedding table or transposed, which scales would reach";
                wrong.push(no(why, "choose other targets"));
            } else if self.scales_inputs(&target) {
                match target.slice {
                    Some(_) => wrong.push(no("has other columns that the same inputs are fed to", "name all of it")),
                    None => targets.push(target),
                }
            } else {
                match bias_of(graph, matrix) {
                    Bias::Foreign(bias) => {
                        let why = format!("has a bias, `{bias}`, inside its product that is not its own alone");
                        wrong.push(no(&why, "choose other targets"));
                    }
                    Bias::Own(bias) => {
                        let slice = target.slice.clone();
                        let bias = Target::of_weight(graph, bias, target.roles.clone(), &target.pattern);
                        targets.extend([target, Target { slice, ..bias }]);
                    }
                    Bias::None => targets.push(target),
                }
            }
        }
        if wrong.is_empty() { Ok(targets) } else { Err(NoMatches(wrong)) }
    }

    fn left_out(&self, graph: &Graph) -> Vec<LeftOut> {
        left_out(graph, &self.targets).into_iter().chain(left_out(graph, &self.feedforward)).collect()
    }

    fn param_count(&self, _: &Graph, targets: &[Target]) -> usize {
        let of = |target: &Target| match &target.matrix {
            // A bias is scaled by what its matrix is.
            None => 0,
            Some(matrix) if self.scales_inputs(target) => matrix.rows,
            Some(_) => target.cols(),
        };
        targets.iter().map(of).sum()
    }

    /// Multiplies what products compute, behind their biases, or what they are fed.
    fn insert(&self, graph: &mut Graph, targets: &[Target], _: Use) -> Result<Inserted, PassError> {
        let mut inserted = Inserted::default();
        let mut scales = Vec::new();
        let mut biases = targets.iter().filter(|t| t.matrix.is_none());
        for target in targets {
            let Some(matrix) = &target.matrix else { continue };
            let inputs = self.scales_inputs(target);
            let name = format!("{}.ia3", target.name());
            let width = if inputs { matrix.rows } else { target.cols() };
            scales.push(Scales { target, inputs, param: name.clone() });
            let form = DeltaForm::Scaled { param: name.clone(), inputs };
            inserted.deltas.push(Delta { target: target.clone(), form: form.clone() });
            if let (false, Bias::Own(bias)) = (inputs, bias_of(graph, matrix))
                && let Some(bias) = biases.find(|t| t.weight == bias && t.slice == target.slice)
            {
                inserted.deltas.push(Delta { target: bias.clone(), form });
            }
            let ones = Tensor::vector(&vec![1.0f32; width]);
            let (init, group, decay) = (Init::Given(ones), Group::Adapter, true);
            inserted.params.push(Param { value: lorac_ir::ValueId(0), name, dims: vec![width], init, group, decay });
        }
        let inputs = super::scaled::insert(graph, &scales)?;
        inserted.params.iter_mut().zip(inputs).for_each(|(param, value)| param.value = value);
        Ok(inserted)
    }

    fn fold(&self, delta: &Delta, w0: &Tensor, values: &ParamValues) -> Result<Bytes, FoldError> {
        match &delta.form {
            DeltaForm::Scaled { param, inputs } => super::scaled::fold(&delta.target, w0, values.get(param)?, *inputs),
            _ => Err(FoldError::Foreign { name: delta.target.name() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lorac_ir::parse;
    use std::fmt::Write;

    /// As many rewritings as matrices would not end.
    #[test]
    fn thousands_of_matrices_that_follow_each_other() {
        let count = 4000;
        let mut text = "graph g(%x: f32[N,2]) -> %y {\n".to_string();
        (0..count).for_each(|i| {
            let (x, y) = (if i == 0 { "x".into() } else { format!("h{i}") }, format!("h{}", i + 1));
            let y = if i + 1 == count { "y" } else { &y };
            writeln!(text, "%w{i} = weight \"w{i}\" f32[2,2]\n%{y} = MatMul(%{x}, %w{i}) : f32[N,2]").expect("writes");
        });
        let mut graph = parse(&format!("{text}}}")).expect("parses");
        let ia3 = Ia3 { targets: vec!["w*".into()], feedforward: Vec::new() };
        let targets = ia3.select(&graph).expect("targets");
        assert_eq!(ia3.insert(&mut graph, &targets, Use::Verify).expect("fits").deltas.len(), count);
        // Every product is scaled, and the next one reads that.
        let is = |v: lorac_ir::ValueId, op: &str| graph.producer(v).is_some_and(|(_, n)| &*n.op.name == op);
        let read = graph.nodes().filter(|(_, n)| &*n.op.name == "MatMul").filter_map(|(_, n)| n.input(0));
        assert_eq!(read.filter(|x| is(*x, "Mul")).count(), count - 1);
    }
}
