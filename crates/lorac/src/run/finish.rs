//! From the end of a training to the files of the output folder.

use super::folder::{CHECKPOINTS, Folder, MANIFEST, METRICS, TENSORBOARD, TRAINED};
use super::training::Learnt;
use super::{Before, Files, Fitted, Outcome, Plan, RunOptions, describe, record, scored};
use crate::deploy::{self, Trained};
use crate::error::Error;
use crate::output::{Artifact, Evaluation, Manifest, MetricsEval, MissedGate, Status, WrittenTexts, sha256_file};
use crate::pipeline::Loaded;
use crate::stop::stopped;
use crate::verify::VerifyReport;
use lorac_train::{Breakdown, Event, TrainError};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

/// The page that says how a run went.
pub(super) const REPORT: &str = "report.html";

/// Evaluates, deploys, verifies and writes down. The files of the run take their places in the folder together.
///
/// # Errors
/// What fails on the way. Then the folder is as it was.
pub(super) fn finish(
    loaded: &Loaded,
    options: &RunOptions,
    plan: &Plan,
    folder: &Folder,
    fitted: Fitted,
    stop: &AtomicBool,
) -> Result<Outcome, Error> {
    let (p, progress) = (&loaded.pipeline, options.progress);
    let interrupted = || stopped(stop, || Error::Interrupted("the training is done".into()));
    let Fitted { theta, learnt, mut evaluator, mut logs, before, events, records } = fitted;
    let Learnt { checkpoint, steps, summary, .. } = learnt;
    evaluator.set_theta(plan, &theta)?;
    let held_out = evaluator.evaluation(plan, progress, "after", stop)?;
    let Before { scores: before, texts } = before;
    let (after, by_class) =
        (scored(&held_out, plan, loaded), Breakdown::of(&held_out).filter(|_| !plan.eval.is_empty()));
    interrupted()?;
    let warn = |said: Vec<String>| said.iter().for_each(|why| progress.warning(why));
    warn(logs.eval(&MetricsEval::new("after", summary.steps, &after).showing(&held_out.texts)));
    let texts = WrittenTexts::of(&texts, &held_out.texts);
    let (incomplete, events_file) = logs.close();
    drop((evaluator, held_out));
    progress.line(&format!("after     {}", describe(&after)));
    let worse = p.metrics.worse(&before, &after);
    worse.iter().for_each(|why| progress.warning(why));

    let values = plan.training.layout.values(&theta).map_err(TrainError::from)?;
    let (scores, samples) = (Some((&before, &after)), p.deploy.verify.samples);
    let trained = Trained { plan, pipeline: p, values, theta: &theta, scores, samples, stop };
    let stage = folder.stage()?;
    let placed = |error: Error| error.placed(stage.path(), folder.path());
    // It has been said before the training.
    let mut left_out = Vec::new();
    let files = write(&trained, stage.path(), &mut |why| left_out.push(why.to_string())).map_err(placed)?;
    let verified = verify(&trained, stage.path()).map_err(placed)?;
    progress.line(&format!(
        "verified  max difference {:.2e} of {:.1e} ({}), {} bytes changed outside the targets, {} nodes + {} of the head{}",
        verified.max_abs_diff,
        verified.tolerance,
        verified.tolerance_by,
        verified.changed_bytes_outside_targets,
        verified.nodes_before,
        verified.nodes_of_head,
        match verified.metadata.len() {
            0 => String::new(),
            n => format!(", {n} keys of metadata"),
        }
    ));
    let eval = Evaluation { before, after, by_class, texts };
    let mut manifest = record::manifest(plan, loaded, options, &summary, eval, &verified);
    manifest.gates = gates(&verified);
    let missed = p.metrics.failed_gates(&manifest.eval.before, &manifest.eval.after);
    manifest.gates.extend(missed);
    manifest.status = if manifest.gates.is_empty() { Status::Passed } else { Status::Rejected };
    manifest.notes.extend(worse);
    manifest.notes.extend(left_out);
    manifest.notes.extend(incomplete);

    // Where every file is now, and its name in the folder.
    let mut places: Vec<(PathBuf, PathBuf)> = Vec::new();
    for (name, kind) in &files {
        let to = match manifest.status {
            Status::Passed => name.clone(),
            Status::Rejected => rejected(name, kind),
        };
        let from = stage.path().join(name);
        manifest.artifacts.push(artifact(&from, &to, kind).map_err(placed)?);
        places.push((from, to.into()));
    }
    let params = Path::new(CHECKPOINTS).join(TRAINED);
    match checkpoint.save_as(&stage.path().join(&params)) {
        Ok(()) => {
            let name = params.display().to_string();
            manifest.artifacts.push(artifact(&stage.path().join(&params), &name, "checkpoint")?);
            places.push((stage.path().join(&params), params));
        }
        Err(error) => {
            let why = format!("the trained parameters are not kept for other deployments: {error}");
            progress.warning(&why);
            manifest.notes.push(why);
        }
    }
    manifest.artifacts.push(artifact(&folder.log(), METRICS, "metrics")?);
    places.push((folder.log(), METRICS.into()));
    if let Some((file, name)) = events_file.as_ref().and_then(|file| Some((file, file.file_name()?))) {
        let name = Path::new(TENSORBOARD).join(name);
        manifest.artifacts.push(artifact(file, &name.display().to_string(), "tensorboard")?);
        places.push((file.clone(), name));
    }
    drop(records);
    // The report lists what is there before it.
    match report(stage.path(), &manifest, &events).map_err(placed) {
        Ok(None) => {}
        Ok(Some(written)) => {
            places.push((stage.path().join(REPORT), REPORT.into()));
            manifest.artifacts.push(written);
        }
        Err(error) => {
            let why = format!("the report could not be written: {error}");
            progress.warning(&why);
            manifest.notes.push(why);
        }
    }
    if let Err(error) = manifest.write(stage.path()) {
        // Of the two the manifest is needed: it gets the room of the report.
        let Some(at) = places.iter().position(|(_, name)| name == Path::new(REPORT)) else {
            return Err(placed(error.into()));
        };
        _ = std::fs::remove_file(places.remove(at).0);
        manifest.artifacts.retain(|a| a.path != REPORT);
        manifest.notes.push("the report was left out: there was no room for it".into());
        manifest.write(stage.path()).map_err(|e| placed(e.into()))?;
    }
    places.push((stage.path().join(MANIFEST), MANIFEST.into()));
    interrupted()?;
    for changed in folder.commit(&stage, &places, &steps)? {
        let path = folder.path().join(changed);
        progress.warning(&format!("{} has changed since the run that wrote it, and stays", path.display()));
    }
    let gates: Vec<String> = manifest.gates.iter().map(|gate| gate.message.clone()).collect();
    if !gates.is_empty() {
        progress.line(&format!("rejected  {}", gates.join("; ")));
    }
    logs.wait(progress);
    Ok(Outcome { manifest, gates })
}

/// Writes the artifacts into a folder. `left_out` hears of those that cannot be.
pub(super) fn write(trained: &Trained, folder: &Path, left_out: &mut dyn FnMut(&str)) -> Result<Files, Error> {
    let mut files = Files::new();
    for format in deploy::chosen(&trained.pipeline.deploy.formats) {
        let made = format.write(trained, folder)?;
        for (file, kind) in made.files {
            files.push((file.strip_prefix(folder).unwrap_or(&file).display().to_string(), kind));
        }
        if let Some(why) = made.skipped {
            left_out(&why);
        }
    }
    Ok(files)
}

/// Holds what was written into a folder against what was trained.
pub(super) fn verify(trained: &Trained, folder: &Path) -> Result<VerifyReport, Error> {
    let mut verified = None;
    for format in deploy::chosen(&trained.pipeline.deploy.formats) {
        verified = verified.or(format.verify(trained, folder)?);
    }
    verified.ok_or_else(|| Error::Gate("nothing was written that could be verified".into()))
}

/// What the verification has missed.
fn gates(verified: &VerifyReport) -> Vec<MissedGate> {
    let missed = || MissedGate {
        name: "deploy.verify".into(),
        expected: Some(verified.tolerance),
        got: verified.max_abs_diff,
        message: verified.failures(),
    };
    if verified.passed { Vec::new() } else { vec![missed()] }
}

/// The name of a file of a rejected result: `model.rejected.onnx`, `adapter.rejected/...`. External data keeps the name
/// by which the model refers to it: without the model it is nothing.
pub(super) fn rejected(name: &str, kind: &str) -> String {
    match (kind, name.split_once('/')) {
        ("weights", _) => name.to_string(),
        (_, Some((folder, rest))) => format!("{folder}.rejected/{rest}"),
        (_, None) => match name.rsplit_once('.') {
            Some((stem, extension)) if !stem.is_empty() => format!("{stem}.rejected.{extension}"),
            _ => format!("{name}.rejected"),
        },
    }
}

fn artifact(file: &Path, name: &str, kind: &str) -> Result<Artifact, Error> {
    let (sha256, size) = sha256_file(file)?;
    Ok(Artifact { path: name.into(), sha256, size, kind: kind.into() })
}

/// Writes the report into a folder.
#[cfg(feature = "report")]
fn report(folder: &Path, manifest: &Manifest, events: &[Event]) -> Result<Option<Artifact>, Error> {
    let (page, file) = (crate::output::report(manifest, events)?, folder.join(REPORT));
    crate::output::write_atomic(&file, page.as_bytes())?;
    artifact(&file, REPORT, "report").map(Some)
}

/// Without the feature `report` there is none.
#[cfg(not(feature = "report"))]
fn report(_: &Path, _: &Manifest, _: &[Event]) -> Result<Option<Artifact>, Error> {
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejected_results_have_names_of_their_own() {
        for (name, kind, want) in [
            ("model.onnx", "model", "model.rejected.onnx"),
            ("adapter/adapter_config.json", "adapter", "adapter.rejected/adapter_config.json"),
            ("base.onnx.data", "weights", "base.onnx.data"),
            ("LICENSE", "text", "LICENSE.rejected"),
            (".hidden", "text", ".hidden.rejected"),
        ] {
            assert_eq!(rejected(name, kind), want);
        }
    }
}
