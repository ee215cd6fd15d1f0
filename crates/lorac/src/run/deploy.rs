//! From trained parameters to the deployable model, the adapter and the proof.

use super::Plan;
use super::folder::Folder;
use crate::compile::{HEAD_BIAS, HEAD_WEIGHT, head_alone};
use crate::error::Error;
use crate::output::{PeftAdapter, PeftModule, write_peft};
use crate::pipeline::{Format, Pipeline, Task};
use crate::theta::part;
use crate::verify::{Check, Verified};
use lorac_ir::Tensor;
use lorac_onnx::{Appendix, Edit, load, patch};
use lorac_passes::{Branch, Lora, fold_lora};

/// What was written and how it compares with the base.
pub(super) struct Deployed {
    pub(super) verified: Verified,
    /// Files below the output folder, with their kinds.
    pub(super) artifacts: Vec<(String, &'static str)>,
}

pub(super) fn deploy(plan: &Plan, p: &Pipeline, theta: &[f32], folder: &Folder) -> Result<Deployed, Error> {
    let compiled = &plan.compiled;
    let mut artifacts = Vec::new();
    let tensor = |name: &str| {
        let (dims, data) = part(compiled, theta, name);
        Tensor::from_slice(&dims, data)
    };
    let appendix = match &compiled.head {
        Some(head) => {
            let graph = head_alone(&compiled.adapted, head, tensor(HEAD_WEIGHT)?, tensor(HEAD_BIAS)?)?;
            Some(Appendix { graph })
        }
        None => None,
    };
    let nodes_of_head = appendix.as_ref().map_or(0, |a| a.graph.node_count());
    let edits = compiled.branches.iter().map(|b| fold(plan, b, theta)).collect::<Result<Vec<_>, _>>()?;
    let out = folder.path().join("model.onnx");
    let report = patch(&plan.model, &edits, appendix.as_ref(), &out)?;
    artifacts.push(("model.onnx".to_string(), "model"));
    for changed in &report.changed {
        if let Some(name) = changed.file.strip_prefix(folder.path()).ok().map(|f| f.display().to_string())
            && !artifacts.iter().any(|(a, _)| *a == name)
        {
            artifacts.push((name, "weights"));
        }
    }
    if p.deploy.formats.contains(&Format::Peft) {
        let files = write_peft(&folder.path().join("adapter"), &adapter(plan, p, theta))?;
        for file in files {
            let name = file.strip_prefix(folder.path()).unwrap_or(&file).display().to_string();
            artifacts.push((name, "adapter"));
        }
    }
    let deployed = load(&out)?;
    let targets: Vec<String> = compiled.branches.iter().map(|b| b.target.matrix.name.clone()).collect();
    let check = Check {
        base: &plan.model,
        deployed: &deployed,
        targets: &targets,
        head: nodes_of_head,
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

fn fold(plan: &Plan, branch: &Branch, theta: &[f32]) -> Result<Edit, Error> {
    let matrix = &branch.target.matrix;
    let (_, a) = part(&plan.compiled, theta, &format!("{}.lora_A", matrix.name));
    let (_, b) = part(&plan.compiled, theta, &format!("{}.lora_B", matrix.name));
    let missing = || Error::Usage(format!("the model has no weight '{}'", matrix.name));
    let w0 = plan.model.graph.weight(matrix.weight).ok_or_else(missing)?;
    Ok(Edit { weight: matrix.weight, bytes: fold_lora(matrix, w0, a, b, branch.lora.scale())? })
}

fn adapter(plan: &Plan, p: &Pipeline, theta: &[f32]) -> PeftAdapter {
    let module = |b: &Branch| {
        let m = &b.target.matrix;
        let (_, a) = part(&plan.compiled, theta, &format!("{}.lora_A", m.name));
        let (_, bb) = part(&plan.compiled, theta, &format!("{}.lora_B", m.name));
        let name = m.name.strip_suffix(".weight").unwrap_or(&m.name).to_string();
        PeftModule { name, a: a.to_vec(), b: bb.to_vec(), rows: m.rows, cols: m.cols, scale: b.lora.scale() }
    };
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
        modules: plan.compiled.branches.iter().map(module).collect(),
        saved: saved.collect(),
    }
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
