//! The deployable model: the user's file with other bytes in the adapted weights, and a head at the end of its graph
//! where the task needs one; of an encoder and a decoder in two files, both of them under their names.

use super::deployment::in_a_part;
use super::{DeployFormat, Deployment, Trained, Written};
use crate::base::open_pair;
use crate::error::Error;
use crate::output::OutputError;
use crate::run::Plan;
use crate::verify::{Check, VerifyReport};
use lorac_ir::ValueId;
use lorac_onnx::{Model, ModelPart, OnnxError, check_patch, load};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

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

/// What the file of a part is called: as the one that it was made of.
fn file_name(part: &ModelPart) -> OsString {
    part.model.path.file_name().unwrap_or_default().to_os_string()
}

/// Refuses a place that a patched model cannot take.
fn check_place(model: &Model, targets: &[ValueId], out: &Path) -> Result<(), Error> {
    match check_patch(model, targets, out) {
        // Nothing has been written: it is the place that cannot be taken.
        Err(OnnxError::Write { path, source }) => Err(OutputError::in_the_way(&path, &source.to_string()).into()),
        checked => Ok(checked?),
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
        if plan.model.parts.is_empty() {
            check_place(&plan.model, &targets, &folder.join(MODEL))?;
        }
        in_a_part(&plan.model, plan.targets().into_iter().map(|t| (t.weight, t.weight_name.as_str())))?;
        for part in &plan.model.parts {
            let own: Vec<ValueId> = targets.iter().filter_map(|t| part.weights.get(t).copied()).collect();
            check_place(&part.model, &own, &folder.join(file_name(part)))?;
        }
        Ok(Vec::new())
    }

    fn write(&self, trained: &Trained, folder: &Path) -> Result<Written, Error> {
        let (model, deployment) = (&trained.plan.model, Deployment::of(trained)?);
        let mut files = Vec::new();
        let mut put = |deployment: Deployment, model: &Model, out: PathBuf| -> Result<(), Error> {
            let written = deployment.write(model, metadata(trained), &out)?;
            files.push((out.clone(), "model"));
            files.extend(written.into_iter().filter(|file| *file != out).map(|file| (file, "weights")));
            Ok(())
        };
        for part in &model.parts {
            put(deployment.of_part(part)?, &part.model, folder.join(file_name(part)))?;
        }
        if model.parts.is_empty() {
            put(deployment, model, folder.join(MODEL))?;
        }
        Ok(Written { files, skipped: None })
    }

    /// Bytes, nodes, and the outputs on held-out examples; where nothing is held out, on those to train on.
    fn verify(&self, trained: &Trained, folder: &Path) -> Result<Option<VerifyReport>, Error> {
        let (plan, verify) = (trained.plan, &trained.pipeline.deploy.verify);
        let deployed = match &plan.model.parts[..] {
            [encoder, decoder] => open_pair(&folder.join(file_name(encoder)), &folder.join(file_name(decoder)))?,
            _ => load(folder.join(MODEL))?,
        };
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
