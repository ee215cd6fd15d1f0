//! From trained parameters to the deployable model, the adapter and the proof.

use super::Plan;
use super::folder::Folder;
use crate::compile::{HEAD_BIAS, HEAD_WEIGHT, head_alone};
use crate::error::Error;
use crate::output::{PeftAdapter, PeftModule, write_peft};
use crate::pipeline::{Adapt, Format, Pipeline, Task};
use crate::theta::part;
use crate::verify::{Check, Verified};
use lorac_ir::{Tensor, ValueId};
use lorac_onnx::{Appendix, Edit, check_patch, load, patch};
use lorac_passes::{Branch, FoldError, Lora, Target, group_by_weight, fold_lora};
use std::path::PathBuf;

/// The deployed model, below the output folder.
const MODEL: &str = "model.onnx";

/// What was written and how it compares with the base.
pub(super) struct Deployed {
    pub(super) verified: Verified,
    /// Files below the output folder, with their kinds.
    pub(super) artifacts: Vec<(String, &'static str)>,
}

/// Refuses what [`patch`] would refuse when the training is done.
pub(super) fn check(plan: &Plan, folder: &Folder) -> Result<(), Error> {
    let targets: Vec<ValueId> = plan.compiled.branches.iter().map(|b| b.target.matrix.weight).collect();
    Ok(check_patch(&plan.model, &targets, folder.path().join(MODEL))?)
}

/// Deploys. `written` gets the files of the model, which are there even where what follows fails.
pub(super) fn deploy(
    plan: &Plan,
    p: &Pipeline,
    theta: &[f32],
    folder: &Folder,
    written: &mut Vec<PathBuf>,
) -> Result<Deployed, Error> {
    let compiled = &plan.compiled;
    let mut artifacts = Vec::new();
    let tensor = |name: &str| {
        let (dims, data) = part(compiled, theta, name);
        Tensor::from_slice(&dims, data)
    };
    let appendix = match &compiled.head {
        Some(head) => {
            let graph =
                head_alone(&plan.model.graph, &compiled.adapted, head, tensor(HEAD_WEIGHT)?, tensor(HEAD_BIAS)?)?;
            Some(Appendix { graph })
        }
        None => None,
    };
    let nodes_of_head = appendix.as_ref().map_or(0, |a| a.graph.node_count());
    let edits = group_by_weight(&compiled.branches, |b| &b.target)
        .into_iter()
        .map(|b| fold(plan, b, theta))
        .collect::<Result<Vec<_>, _>>()?;
    let out = folder.path().join(MODEL);
    written.extend(patch(&plan.model, &edits, appendix.as_ref(), &out)?.written);
    artifacts.push((MODEL.to_string(), "model"));
    for file in written.iter().filter(|file| **file != out) {
        artifacts.push((file.strip_prefix(folder.path()).unwrap_or(file).display().to_string(), "weights"));
    }
    if p.deploy.formats.contains(&Format::Peft) {
        let files = write_peft(&folder.path().join("adapter"), &adapter(plan, p, theta))?;
        for file in files {
            let name = file.strip_prefix(folder.path()).unwrap_or(&file).display().to_string();
            artifacts.push((name, "adapter"));
        }
    }
    let deployed = load(&out)?;
    let targets: Vec<&Target> = compiled.branches.iter().map(|b| &b.target).collect();
    let empty: Vec<String> = compiled.feeds.caches().map(String::from).collect();
    let check = Check {
        base: &plan.model,
        deployed: &deployed,
        targets: &targets,
        head: nodes_of_head,
        empty: &empty,
        tolerance: p.deploy.verify.max_abs_diff,
    };
    let feeds = lorac_train::Feeds { labels: None, ..compiled.feeds.clone() };
    let mut batches = Vec::new();
    let rows: Vec<usize> = (0..plan.eval.labels.len()).collect();
    for rows in rows.chunks(plan.eval_batch).take(p.deploy.verify.samples.div_ceil(plan.eval_batch)) {
        batches.push(feeds.tensors(&plan.eval.batch(rows, plan.eval_batch)?)?);
    }
    let backend = plan.engine.backend.as_ref();
    let verified = check.run(backend, &compiled.adapted, Tensor::vector(theta), &batches)?;
    Ok(Deployed { verified, artifacts })
}

/// A and B of a branch.
fn factors<'a>(plan: &Plan, branch: &Branch, theta: &'a [f32]) -> [&'a [f32]; 2] {
    ["lora_A", "lora_B"].map(|f| part(&plan.compiled, theta, &format!("{}.{f}", branch.target.name())).1)
}

/// The fold into one matrix, computed when it is written: together they may be as large as the model.
fn fold<'a>(plan: &'a Plan, branches: Vec<&'a Branch>, theta: &'a [f32]) -> Result<Edit<'a>, Error> {
    let matrix = &branches[0].target.matrix;
    let missing = || Error::Usage(format!("the model has no weight '{}'", matrix.name));
    let w0 = plan.model.graph.weight(matrix.weight).ok_or_else(missing)?;
    Ok(Edit::made(matrix.weight, move || {
        let mut folded = w0.clone();
        for branch in &branches {
            let [a, b] = factors(plan, branch, theta);
            let bytes = fold_lora(&branch.target, &folded, a, b, branch.lora.scale())?;
            folded = Tensor::new(w0.dtype(), w0.dims().to_vec(), bytes)?;
        }
        Ok::<_, FoldError>(folded.bytes().clone())
    }))
}

fn adapter(plan: &Plan, p: &Pipeline, theta: &[f32]) -> PeftAdapter {
    let trained = plan.compiled.head.iter().flat_map(|_| [HEAD_WEIGHT, HEAD_BIAS]);
    let saved = trained.map(|name| {
        let (dims, data) = part(&plan.compiled, theta, name);
        (name.to_string(), dims, data.to_vec())
    });
    let usual = plan.compiled.branches.first().map_or(Lora { rank: 1, alpha: 1.0, rslora: false }, |b| b.lora);
    PeftAdapter {
        base: p.model.source.to_string(),
        task: match &p.task {
            Task::Classify(_) => "SEQ_CLS".into(),
            Task::CausalLm(_) => "CAUSAL_LM".into(),
        },
        rank: usual.rank,
        alpha: usual.alpha,
        rslora: usual.rslora,
        dropout: p.adapt.first().map_or(0.0, |Adapt::Lora(lora)| lora.dropout),
        modules: group_by_weight(&plan.compiled.branches, |b| &b.target)
            .iter()
            .map(|b| module(plan, b, theta))
            .collect(),
        saved: saved.collect(),
    }
}

/// The branches of one matrix as a module of PEFT, which knows no parts: one branch whose A has the rows of all of them
/// and whose B has zeros where a part's rows meet another's columns. Scales go into B where they differ.
fn module(plan: &Plan, branches: &[&Branch], theta: &[f32]) -> PeftModule {
    let (m, scale) = (&branches[0].target.matrix, branches[0].lora.scale());
    let rank: usize = branches.iter().map(|b| b.lora.rank).sum();
    let (mut a, mut b, mut first) = (Vec::new(), vec![0.0f32; m.cols * rank], 0);
    for branch in branches {
        let ([mine, wide], r) = (factors(plan, branch, theta), branch.lora.rank);
        a.extend_from_slice(mine);
        let all: Vec<usize> = (0..m.cols).collect();
        let columns = branch.target.slice.as_ref().map_or(&all, |p| &p.columns);
        for (column, row) in columns.iter().zip(wide.chunks(r.max(1))) {
            let at = column * rank + first;
            let by = (branch.lora.scale() / scale) as f32;
            b[at..at + r].iter_mut().zip(row).for_each(|(b, x)| *b = x * by);
        }
        first += r;
    }
    let name = m.name.strip_suffix(".weight").unwrap_or(&m.name).to_string();
    PeftModule { name, a, b, rows: m.rows, cols: m.cols, scale }
}

/// Why a verification failed, in words.
pub(super) fn explain(v: &Verified) -> String {
    let mut why = Vec::new();
    if !(v.max_abs_diff <= v.tolerance) {
        why.push(format!("outputs differ by {:e}, more than {:e}", v.max_abs_diff, v.tolerance));
    }
    if v.changed_bytes_outside_targets > 0 {
        why.push(format!("{} bytes changed outside the targets", v.changed_bytes_outside_targets));
    }
    if v.nodes_after != v.nodes_before + v.nodes_of_head {
        why.push(format!("{} nodes instead of {}", v.nodes_after, v.nodes_before + v.nodes_of_head));
    }
    format!("verification failed: {}", why.join("; "))
}
