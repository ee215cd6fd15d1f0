//! The adapter as PEFT stores it, for the class of transformers that computes what was trained.

mod card;
mod contract;
mod given;

pub(crate) use given::{Given, given as adapter_params};

use super::{DeployFormat, Trained, Written};
use crate::error::Error;
use crate::output::{PeftAdapter, PeftModule, write_peft};
use crate::run::Plan;
use contract::{Adapted, Contract, SavedOf};
use lorac_ir::{Tensor, ValueId};
use lorac_passes::{Delta, Method, ParamValues, Target, fold_all};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Where the adapter lies, below the output folder.
const FOLDER: &str = "adapter";

/// The adapter as PEFT stores it: LoRA, and modules trained in full beside it.
pub struct Peft;

/// The adapter as PEFT has it
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PeftOptions {
    /// Modules of the PyTorch class by the names of weights, where neither these nor the nodes around them say it:
    /// val_53: bert.encoder.layer.0.attention.self.query
    pub names: BTreeMap<String, String>,
}

impl PeftOptions {
    /// What names no target, and what may have been meant.
    pub(crate) fn unknown<'a>(&'a self, targets: &[&Target]) -> impl Iterator<Item = (&'a str, Vec<String>)> {
        let known: Vec<String> = targets.iter().map(|t| t.weight_name.clone()).collect();
        let unknown: Vec<&str> =
            self.names.keys().map(String::as_str).filter(|n| !known.iter().any(|k| k == n)).collect();
        unknown.into_iter().map(move |name| (name, lorac_config::nearest(name, &known)))
    }
}

impl DeployFormat for Peft {
    fn about(&self) -> &'static str {
        "The adapter as PEFT has it"
    }

    fn check(&self, plan: &Plan, _: &Path) -> Result<Vec<String>, Error> {
        // What there will not be is said when it is tried.
        Ok(Contract::of(plan).map_or(Vec::new(), |contract| contract.notes()))
    }

    fn write(&self, trained: &Trained, folder: &Path) -> Result<Written, Error> {
        let contract = match Contract::of(trained.plan) {
            Ok(contract) => contract,
            Err(why) => {
                return Ok(Written { files: Vec::new(), skipped: Some(format!("there will be no adapter: {why}")) });
            }
        };
        let folder = folder.join(FOLDER);
        let mut files = write_peft(&folder, &adapter(trained, &contract)?)?;
        files.extend(card::write(&folder, trained, &contract)?);
        Ok(Written { files: files.into_iter().map(|file| (file, "adapter")).collect(), skipped: None })
    }
}

fn adapter(trained: &Trained, contract: &Contract) -> Result<PeftAdapter, Error> {
    let (plan, p) = (trained.plan, trained.pipeline);
    let usual = contract.modules.first().and_then(|adapted| adapted.branches.first());
    let (base, revision) = contract::base_model(plan, &p.model.source);
    let mut modules = Vec::new();
    for adapted in &contract.modules {
        for name in &adapted.names {
            modules.push(module(&name.path, adapted, &trained.values)?);
        }
    }
    let saved = contract.saved.iter().map(|saved| {
        let (dims, data) = match saved.of {
            SavedOf::Param(param) => (param.dims.clone(), trained.values.get(&param.name)?.to_vec()),
            SavedOf::Weight { weight, turned } => folded(trained, weight, turned)?,
        };
        Ok((saved.key.clone(), dims, data))
    });
    Ok(PeftAdapter {
        base,
        revision,
        task: contract.task_type().to_string(),
        rank: usual.map_or(1, |b| b.rank),
        alpha: usual.map_or(1.0, |b| b.alpha),
        rslora: usual.is_some_and(|b| b.rslora),
        dropout: p.adapt.first().map_or(0.0, |m| m.dropout()),
        fan_in_fan_out: contract.modules.iter().any(|adapted| adapted.names.iter().any(|m| m.conv1d)),
        modules,
        saved: saved.collect::<Result<_, Error>>()?,
        modules_to_save: contract.modules_to_save(),
    })
}

/// A weight of the model as it is deployed, `[out, in]`: its dimensions and its elements.
fn folded(trained: &Trained, weight: ValueId, turned: bool) -> Result<(Vec<usize>, Vec<f32>), Error> {
    let plan = trained.plan;
    let missing = || Error::Usage(format!("the model has no weight {weight}"));
    let w0 = plan.model.graph.weight(weight).ok_or_else(missing)?;
    let deltas: Vec<(&dyn Method, &Delta)> = plan.deltas().filter(|(_, d)| d.target.weight == weight).collect();
    let whole = Tensor::new(w0.dtype(), w0.dims().to_vec(), fold_all(w0, &deltas, &trained.values)?)?;
    let data: Vec<f32> = whole.to_f64().unwrap_or_default().into_iter().map(|x| x as f32).collect();
    match *w0.dims() {
        [rows, cols] if turned && rows * cols == data.len() => {
            let columns = (0..cols).flat_map(|j| (0..rows).map(move |i| i * cols + j));
            Ok((vec![cols, rows], columns.filter_map(|at| data.get(at).copied()).collect()))
        }
        _ => Ok((w0.dims().to_vec(), data)),
    }
}

/// The branches of one matrix as a module of PEFT, which knows no slices: one branch whose A has the rows of all of them
/// and whose B has zeros where a slice's rows meet another's columns. Scales go into B where they differ. A slice that is a
/// module of its own is as it is.
fn module(name: &str, adapted: &Adapted, values: &ParamValues) -> Result<PeftModule, Error> {
    let branches = &adapted.branches;
    let first = branches[0];
    let m = first.delta.target.matrix()?;
    if adapted.apart {
        let (a, b) = (values.get(first.a)?.to_vec(), values.get(first.b)?.to_vec());
        let (rows, cols, name) = (m.rows, first.delta.target.cols(), name.to_string());
        return Ok(PeftModule { name, a, b, rows, cols, alpha: first.alpha, rslora: first.rslora });
    }
    let rank: usize = branches.iter().map(|b| b.rank).sum();
    let (mut a, mut b, mut from) = (Vec::new(), vec![0.0f32; m.cols * rank], 0);
    for branch in branches {
        a.extend_from_slice(values.get(branch.a)?);
        let all: Vec<usize> = (0..m.cols).collect();
        let columns = branch.delta.target.slice.as_ref().map_or(&all, |s| &s.columns);
        for (column, row) in columns.iter().zip(values.get(branch.b)?.chunks(branch.rank.max(1))) {
            let at = column * rank + from;
            let by = (branch.scale() / first.scale()) as f32;
            b[at..at + branch.rank].iter_mut().zip(row).for_each(|(b, x)| *b = x * by);
        }
        from += branch.rank;
    }
    // One branch keeps the alpha that was asked for; of several, the scale of the first stays.
    let times = rank as f64 / first.rank as f64;
    let alpha = first.alpha * if first.rslora { times.sqrt() } else { times };
    let name = name.to_string();
    Ok(PeftModule { name, a, b, rows: m.rows, cols: m.cols, alpha, rslora: first.rslora })
}
