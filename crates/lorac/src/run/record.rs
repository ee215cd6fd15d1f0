//! The manifest of a run.

use super::{Plan, RunOptions};
use crate::output::{
    Evaluation, Manifest, PipelineRecord, RuntimeRecord, Status, TargetRecord, TrainRecord, now, peak_memory,
};
use crate::pipeline::Loaded;
use crate::verify::VerifyReport;
use lorac_passes::{Delta, DeltaForm};
use lorac_train::Summary;

/// The manifest, but for its artifacts.
pub(super) fn manifest(
    plan: &Plan,
    loaded: &Loaded,
    options: &RunOptions,
    summary: &Summary,
    eval: Evaluation,
    verified: &VerifyReport,
) -> Manifest {
    let weights = plan.model.graph.weights().filter(|w| w.2.dtype().is_float());
    Manifest {
        pipeline: PipelineRecord::new(loaded),
        status: Status::default(),
        gates: Vec::new(),
        command: options.command.clone(),
        inputs: plan.inputs.clone(),
        data: plan.data_card(),
        runtime: RuntimeRecord {
            engine: plan.engine.backend.name(),
            provider: plan.engine.backend.device().to_string(),
            reason: plan.engine.reason(),
            threads: Some(loaded.pipeline.runtime.options().intra_threads()),
        },
        targets: plan.training.deltas.iter().map(|(_, d)| target(d)).collect(),
        trainable_parameters: plan.training.trained_len(),
        model_parameters: weights.map(|w| w.2.len()).sum(),
        train: TrainRecord {
            steps: summary.steps,
            batch: plan.steps.batch,
            epochs: plan.batches_per_epoch().map_or(0.0, |epoch| summary.steps as f64 / epoch.max(1) as f64),
            loss_first: summary.loss_first,
            loss_last: summary.loss_last,
            seconds: summary.seconds,
            tokens: summary.tokens,
            tokens_per_second: summary.tokens as f64 / summary.seconds,
            deployed_step: summary.deployed,
        },
        eval,
        verify: verified.clone(),
        served: Some(plan.served.clone()),
        lorac_version: env!("CARGO_PKG_VERSION").into(),
        created: now(),
        peak_memory_bytes: peak_memory(),
        notes: plan.notes.clone(),
        artifacts: Vec::new(),
    }
}

fn target(delta: &Delta) -> TargetRecord {
    let t = &delta.target;
    let rank = match &delta.form {
        DeltaForm::LowRank { rank, .. } => Some(*rank),
        _ => None,
    };
    TargetRecord {
        name: t.name(),
        roles: t.roles.iter().map(|r| r.to_string()).collect(),
        pattern: t.pattern.clone(),
        shape: if t.matrix.is_some() { vec![t.rows(), t.cols()] } else { t.dims.clone() },
        rank,
        scale: delta.form.scale(),
    }
}
