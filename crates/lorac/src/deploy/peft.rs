//! The adapter as PEFT stores it.

use super::{DeployFormat, Trained, Written};
use crate::error::Error;
use crate::output::{PeftAdapter, PeftModule, write_peft};
use crate::run::Plan;
use lorac_passes::{Delta, DeltaForm, Group, ParamValues, group_by_weight};
use std::path::Path;

/// The adapter as PEFT stores it: LoRA, and modules trained in full beside it.
pub struct Peft;

impl DeployFormat for Peft {
    fn about(&self) -> &'static str {
        "The adapter as PEFT has it"
    }

    fn check(&self, _: &Plan, _: &Path) -> Result<(), Error> {
        Ok(())
    }

    fn write(&self, trained: &Trained, folder: &Path) -> Result<Written, Error> {
        let plan = trained.plan;
        let deltas: Vec<&Delta> = plan.training.deltas.iter().map(|(_, d)| d).collect();
        if let Some(other) = deltas.iter().find(|d| LowRank::of(d).is_none()) {
            let why = format!("PEFT's format holds LoRA, and `{}` was trained otherwise", other.target.name());
            return Ok(Written { files: Vec::new(), skipped: Some(why) });
        }
        let files = write_peft(&folder.join("adapter"), &adapter(trained, &deltas)?)?;
        Ok(Written { files: files.into_iter().map(|file| (file, "adapter")).collect(), skipped: None })
    }
}

/// A low-rank delta.
#[derive(Clone, Copy)]
struct LowRank<'a> {
    delta: &'a Delta,
    a: &'a str,
    b: &'a str,
    rank: usize,
    alpha: f64,
    rslora: bool,
}

impl<'a> LowRank<'a> {
    fn of(delta: &'a Delta) -> Option<LowRank<'a>> {
        match &delta.form {
            DeltaForm::LowRank { a, b, rank, alpha, rslora } => {
                Some(LowRank { delta, a, b, rank: *rank, alpha: *alpha, rslora: *rslora })
            }
            DeltaForm::Replaced { .. } => None,
        }
    }

    /// What `B A` is multiplied by.
    fn scale(&self) -> f64 {
        self.delta.form.scale().unwrap_or(1.0)
    }
}

fn adapter(trained: &Trained, deltas: &[&Delta]) -> Result<PeftAdapter, Error> {
    let (plan, p) = (trained.plan, trained.pipeline);
    let saved = plan.training.params.iter().filter(|param| param.group == Group::Head).map(|param| {
        let data = trained.values.get(&param.name)?.to_vec();
        Ok((param.name.clone(), param.dims.clone(), data))
    });
    let branches: Vec<LowRank> = deltas.iter().filter_map(|d| LowRank::of(d)).collect();
    let usual = branches.first();
    let groups = group_by_weight(&branches, |b| &b.delta.target);
    Ok(PeftAdapter {
        base: p.model.source.to_string(),
        task: plan.task.peft_task_type().unwrap_or_default().to_string(),
        rank: usual.map_or(1, |b| b.rank),
        alpha: usual.map_or(1.0, |b| b.alpha),
        rslora: usual.is_some_and(|b| b.rslora),
        dropout: p.adapt.first().map_or(0.0, |m| m.dropout()),
        modules: groups.iter().map(|of_weight| module(of_weight, &trained.values)).collect::<Result<_, _>>()?,
        saved: saved.collect::<Result<_, lorac_passes::LayoutError>>()?,
    })
}

/// The branches of one matrix as a module of PEFT, which knows no slices: one branch whose A has the rows of all of them
/// and whose B has zeros where a slice's rows meet another's columns. Scales go into B where they differ.
fn module(branches: &[&LowRank], values: &ParamValues) -> Result<PeftModule, Error> {
    let first = branches[0];
    let m = first.delta.target.matrix()?;
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
    let name = m.name.strip_suffix(".weight").unwrap_or(&m.name).to_string();
    Ok(PeftModule { name, a, b, rows: m.rows, cols: m.cols, alpha, rslora: first.rslora })
}
