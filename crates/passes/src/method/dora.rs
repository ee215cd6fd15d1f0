//! DoRA (Liu et al. 2024): `W = m (W0 + s B A) / |W0 + s B A|`, column by column.

use super::lora::Lora;
use super::{Delta, Inserted, Method, MethodChoice, Use, low_rank, stack};
use crate::{FoldError, LeftOut, NoMatches, ParamValues, PassError, Target};
use bytes::Bytes;
use lorac_config::{Check, Problems};
use lorac_ir::{Graph, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// LoRA whose matrices have trained lengths of their columns (Liu et al. 2024), with the settings of `lora`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Dora(pub Lora);

impl Check for Dora {
    fn check(&self, problems: &mut Problems) {
        self.0.check(problems);
    }
}

impl Method for Dora {
    fn patterns(&self) -> &[String] {
        self.0.patterns()
    }

    fn path(&self, pattern: &str) -> String {
        self.0.path(pattern)
    }

    fn select(&self, graph: &Graph) -> Result<Vec<Target>, NoMatches> {
        let targets = self.0.select(graph)?;
        let stacks: Vec<_> =
            targets.iter().filter(|t| stack::is_stack(t)).map(|t| stack::not_with(t, "DoRA")).collect();
        if stacks.is_empty() { Ok(targets) } else { Err(NoMatches(stacks)) }
    }

    fn left_out(&self, graph: &Graph) -> Vec<LeftOut> {
        self.0.left_out(graph)
    }

    fn yields(&self, target: &Target) -> bool {
        self.0.yields(target)
    }

    fn param_count(&self, graph: &Graph, targets: &[Target]) -> usize {
        self.0.param_count(graph, targets) + targets.iter().map(Target::cols).sum::<usize>()
    }

    fn dropout(&self) -> f64 {
        self.0.dropout()
    }

    fn unties(&self) -> bool {
        self.0.unties()
    }

    fn first_batches(&self) -> usize {
        self.0.first_batches()
    }

    fn rank_factor(&self) -> Option<f64> {
        self.0.rank_factor()
    }

    fn with_ranks(&self, ranks: &BTreeMap<String, usize>) -> Option<MethodChoice> {
        Some(MethodChoice::Dora(Dora(self.0.ranked(ranks))))
    }

    fn insert(&self, graph: &mut Graph, targets: &[Target], purpose: Use) -> Result<Inserted, PassError> {
        self.0.insert_with(graph, targets, purpose, true)
    }

    fn fold(&self, delta: &Delta, w0: &Tensor, values: &ParamValues) -> Result<Bytes, FoldError> {
        low_rank::fold(delta, w0, values)
    }
}
