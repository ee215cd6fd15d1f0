//! The adapter as PEFT stores it, for the class of transformers that computes what was trained.

mod card;
mod contract;
mod given;
mod more;
mod scales;

pub(crate) use given::{Given, given as adapter_params};

use super::{DeployFormat, Trained, Written};
use crate::error::Error;
use crate::module_paths::Module;
use crate::output::{PeftAdapter, PeftLayer, PeftModule, write_peft};
use crate::run::Plan;
use contract::{Adapted, Contract, LowRank, SavedOf};
use lorac_ir::{Tensor, ValueId};
use lorac_passes::{BiasChoice, Delta, Dora, Method, MethodChoice, ReadAs, Target, column_norms, fold_all};
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
    let (base, revision) = contract::base_model(plan, &p.model.source);
    let mut modules = Vec::new();
    for adapted in &contract.modules {
        for name in &adapted.names {
            modules.push(module(&name.path, adapted, trained)?);
        }
    }
    let rslora = modules.first().is_some_and(|m| m.rslora);
    modules.iter_mut().for_each(|m| m.say_as(rslora));
    let saved = contract.saved.iter().chain(&contract.biases).map(|saved| {
        let (dims, data) = match saved.of {
            SavedOf::Param(param) => (param.dims.clone(), trained.values.get(&param.name)?.to_vec()),
            SavedOf::Weight { weight, turned } => folded(trained, weight, turned)?,
        };
        Ok((saved.key.clone(), dims, data))
    });
    let [rank, alpha] = usual(&modules);
    let names = contract.modules.iter().map(|m| &m.names).chain(contract.scaled.iter().map(|m| &m.names));
    let names: Vec<&Vec<Module>> = names.collect();
    Ok(PeftAdapter {
        base,
        revision,
        task: contract.task_type().to_string(),
        rank: rank as usize,
        alpha,
        rslora,
        bias: bias(trained, contract),
        dropout: p.adapt.first().map_or(0.0, |m| m.dropout()),
        fan_in_fan_out: names.into_iter().flatten().any(|m| m.conv1d),
        modules,
        scaled: scales::scaled(contract, &trained.values)?,
        tokens: scales::tokens(contract, &trained.values)?,
        saved: saved.collect::<Result<_, Error>>()?,
        modules_to_save: contract.modules_to_save(),
    })
}

/// The rank and the alpha that most modules have, of as many the first.
fn usual(modules: &[PeftModule]) -> [f64; 2] {
    let most = |of: &dyn Fn(&PeftModule) -> f64| {
        let count = |x: f64| modules.iter().filter(|m| of(m) == x).count();
        modules.iter().map(of).rev().max_by_key(|x| count(*x)).unwrap_or(1.0)
    };
    [most(&|m| m.rank() as f64), most(&|m| m.alpha)]
}

/// PEFT's word for the biases that are trained.
fn bias(trained: &Trained, contract: &Contract) -> &'static str {
    let all = |m: &MethodChoice| match m {
        MethodChoice::Lora(lora) | MethodChoice::Dora(Dora(lora)) => lora.bias == BiasChoice::All,
        _ => false,
    };
    match (contract.biases.is_empty(), trained.plan.methods.iter().any(all)) {
        (true, _) => "none",
        (_, true) => "all",
        (_, false) => "lora_only",
    }
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
/// module of its own is as it is. What is taken out of a weight is one more branch with a minus, as PEFT converts adapters
/// whose first branch is a part of it: so the adapter is one of the model as it was.
fn module(name: &str, adapted: &Adapted, trained: &Trained) -> Result<PeftModule, Error> {
    let (branches, values) = (&adapted.branches, &trained.values);
    let first = branches[0];
    let m = first.delta.target.matrix()?;
    let cols = if adapted.apart { first.delta.target.cols() } else { m.cols };
    let rank: usize = branches.iter().map(LowRank::stored_rank).sum();
    let (mut a, mut b, mut from) = (Vec::new(), vec![0.0f32; cols * rank], 0);
    let mut magnitude = None;
    for branch in branches {
        let all: Vec<usize> = (0..cols).collect();
        let columns = match &branch.delta.target.slice {
            Some(slice) if !adapted.apart => &slice.columns,
            _ => &all,
        };
        let start = branch.start.map(|[a, b]| ([a.as_str(), b.as_str()], -1.0));
        for ([a_name, b_name], sign) in std::iter::once(([branch.a, branch.b], 1.0)).chain(start) {
            a.extend_from_slice(values.get(a_name)?);
            for (column, row) in columns.iter().zip(values.get(b_name)?.chunks(branch.rank.max(1))) {
                let at = column * rank + from;
                let by = (sign * branch.scale() / first.scale()) as f32;
                b[at..at + branch.rank].iter_mut().zip(row).for_each(|(b, x)| *b = x * by);
            }
            from += branch.rank;
        }
        if let Some(param) = branch.magnitude {
            let own = values.get(param)?;
            let all = match &mut magnitude {
                Some(all) => all,
                none => none.insert(lengths(trained, &branch.delta.target, cols)),
            };
            columns.iter().zip(own).for_each(|(column, m)| all[*column] = *m);
        }
    }
    // One branch keeps the alpha that was asked for; of several, the scale of the first stays.
    let times = rank as f64 / first.rank as f64;
    let alpha = first.alpha * if first.rslora { times.sqrt() } else { times };
    let layer = match m.read_as {
        ReadAs::Product | ReadAs::Stack => PeftLayer::Linear,
        ReadAs::Lookup => PeftLayer::Embedding,
        ReadAs::Convolution => PeftLayer::Convolution(m.dims.get(1..).unwrap_or_default().to_vec()),
    };
    let (name, rows, rslora) = (name.to_string(), m.rows, first.rslora);
    Ok(PeftModule { name, a, b, rows, cols, alpha, rslora, magnitude, layer })
}

/// The lengths of a matrix's columns as the model has them, which columns that are not adapted keep.
fn lengths(trained: &Trained, target: &Target, cols: usize) -> Vec<f32> {
    let whole = Target { slice: None, ..target.clone() };
    let own = trained.plan.model.graph.weight(target.weight).and_then(|w0| column_norms(&whole, w0));
    let own: Vec<f32> = own.unwrap_or_default().into_iter().map(|x| x as f32).collect();
    if own.len() == cols { own } else { vec![1.0; cols] }
}
