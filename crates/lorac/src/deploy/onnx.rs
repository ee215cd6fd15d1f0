//! The deployable model: the user's file with other bytes in the adapted weights, and a head at the end of its graph
//! where the task needs one.

use super::{DeployFormat, Deployment, Trained, Written};
use crate::error::Error;
use crate::output::OutputError;
use crate::run::Plan;
use crate::verify::{Check, VerifyReport};
use lorac_ir::ValueId;
use lorac_onnx::{OnnxError, check_patch, load};
use std::collections::BTreeMap;
use std::path::Path;

/// The deployed model, below the output folder.
const MODEL: &str = "model.onnx";

/// The deployable model; always written.
pub struct Onnx;

/// What the pipeline asks to stand in the file.
fn metadata(trained: &Trained) -> BTreeMap<String, String> {
    match trained.pipeline.deploy.metadata {
        true => trained.plan.served.metadata(&trained.plan.model.metadata, &trained.plan.inputs),
        false => BTreeMap::new(),
    }
}

impl DeployFormat for Onnx {
    fn about(&self) -> &'static str {
        "The deployable model; always written"
    }

    fn always(&self) -> bool {
        true
    }

    fn check(&self, plan: &Plan, folder: &Path) -> Result<Vec<String>, Error> {
        let targets: Vec<ValueId> = plan.targets().iter().map(|t| t.weight).collect();
        match check_patch(&plan.model, &targets, folder.join(MODEL)) {
            Ok(()) => Ok(Vec::new()),
            // Nothing has been written: it is the place that cannot be taken.
            Err(OnnxError::Write { path, source }) => Err(OutputError::in_the_way(&path, &source.to_string()).into()),
            Err(error) => Err(error.into()),
        }
    }

    fn write(&self, trained: &Trained, folder: &Path) -> Result<Written, Error> {
        let out = folder.join(MODEL);
        let written = Deployment::of(trained)?.write(&trained.plan.model, metadata(trained), &out)?;
        let mut files = vec![(out.clone(), "model")];
        files.extend(written.into_iter().filter(|file| *file != out).map(|file| (file, "weights")));
        Ok(Written { files, skipped: None })
    }

    /// Bytes, nodes, and the outputs on held-out examples; where nothing is held out, on those to train on.
    fn verify(&self, trained: &Trained, folder: &Path) -> Result<Option<VerifyReport>, Error> {
        let (plan, verify) = (trained.plan, &trained.pipeline.deploy.verify);
        let deployed = load(folder.join(MODEL))?;
        let check = Check {
            base: &plan.model,
            deployed: &deployed,
            targets: &plan.targets(),
            head: Deployment::of(trained)?.nodes_added(),
            metadata: &metadata(trained).into_keys().collect::<Vec<_>>(),
            caches: &plan.caches,
            tolerance: verify.max_abs_diff,
            stop: trained.stop,
        };
        let mut batches = Vec::new();
        let examples = if plan.eval.is_empty() { &plan.train } else { &plan.eval };
        let rows: Vec<usize> = (0..examples.len()).collect();
        for rows in rows.chunks(plan.eval_batch).take(trained.samples.div_ceil(plan.eval_batch)) {
            batches.push(plan.feeds.tensors(&examples.batch(rows, plan.eval_fill)?)?);
        }
        let backend = plan.engine.backend.as_ref();
        check.run(backend, &plan.training.adapted, trained.theta, &batches).map(Some)
    }
}
