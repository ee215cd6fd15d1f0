//! What comes after a training, tried before it: what could be known is not found out when the time is spent.

use super::folder::{CHECKPOINTS, Folder, Reserve, TRAINED};
use super::{Files, REPORT, rejected, verify, write};
use crate::deploy::Trained;
use crate::error::Error;
use crate::pipeline::Loaded;
use crate::progress::Progress;
use crate::run::Plan;
use lorac_train::{Step, TrainError};
use rand::{Rng, SeedableRng};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

/// Writes every artifact with values that stand for trained ones, and holds the model in the form in which it will be
/// deployed against base and adapter on one batch. Returns space set aside for the files, which are gone again.
///
/// # Errors
/// Whatever would fail when the training is done, and files in the way of what will be written.
pub(super) fn deploy(
    plan: &Plan,
    loaded: &Loaded,
    folder: &Folder,
    start: &[f32],
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<Reserved, Error> {
    let theta = stand_in(start);
    let values = plan.training.layout.values(&theta).map_err(TrainError::from)?;
    let (pipeline, samples) = (&loaded.pipeline, plan.eval_batch);
    let trained = Trained { plan, pipeline, values, theta: &theta, scores: None, samples, stop };
    let stage = folder.stage()?;
    let of_trial = |error: Error| error.placed(stage.path(), folder.path()).of_trial();
    let files = write(&trained, stage.path(), &mut |left_out| progress.warning(left_out)).map_err(of_trial)?;
    in_the_way(folder, &files)?;
    let verified = verify(&trained, stage.path()).map_err(of_trial)?;
    if !verified.passed {
        return Err(Error::Gate(verified.failures()).of_trial());
    }
    let size = |(name, _): &(String, &str)| std::fs::metadata(stage.path().join(name)).map_or(0, |m| m.len());
    let sizes: Vec<u64> = files.iter().map(size).chain([params_size(plan)]).collect();
    // Beside the artifacts, which are still there.
    let records = folder.reserve(&[records_size(plan)])?;
    let checkpoint = folder.reserve(&[checkpoint_size(plan)])?;
    drop(stage);
    // Where files share their blocks there may be less room than this and enough all the same.
    let artifacts = folder.reserve(&sizes).unwrap_or_default();
    Ok(Reserved { artifacts: (checkpoint, artifacts), records })
}

/// Space that a run will need.
pub(super) struct Reserved {
    /// For the checkpoint, and for what is deployed.
    pub(super) artifacts: (Reserve, Reserve),
    /// For the manifest and the report.
    pub(super) records: Reserve,
}

/// Bytes that manifest and report take, unless the training is very long.
fn records_size(plan: &Plan) -> u64 {
    const SECTIONS: u64 = 1 << 18;
    const TARGET: u64 = 1 << 10;
    SECTIONS + plan.training.deltas.len() as u64 * TARGET
}

fn in_the_way(folder: &Folder, files: &Files) -> Result<(), Error> {
    for (name, kind) in files {
        folder.check([Path::new(name), Path::new(&rejected(name, kind))])?;
    }
    in_the_way_of_records(folder)
}

/// Refuses a folder in which something else has the name of what every run writes.
pub(super) fn in_the_way_of_records(folder: &Folder) -> Result<(), Error> {
    Ok(folder.check([PathBuf::from(REPORT), Path::new(CHECKPOINTS).join(TRAINED)])?)
}

/// Takes one step on the longest batch, or on the longest slice of it, and puts everything back.
///
/// # Errors
/// What would fail in the training.
pub(super) fn step(plan: &Plan, step: &mut Step) -> Result<(), Error> {
    let slices = plan.train.slices(&plan.train.longest(plan.steps.batch), &plan.steps.most);
    let batch = plan.train.batch(slices.last().map_or(&[], Vec::as_slice), plan.steps.fill)?;
    let feeds = plan.feeds.for_program(step.program.as_ref(), &batch)?;
    step.try_out(&feeds, plan.rate.lr)?;
    Ok(())
}

/// Bytes that a checkpoint takes.
fn checkpoint_size(plan: &Plan) -> u64 {
    let state = plan.training.update.slots.iter().map(|slot| slot.len as u64 * 4 + names_size(plan));
    described_size(plan) + state.sum::<u64>()
}

/// Bytes that the trained parameters take.
fn params_size(plan: &Plan) -> u64 {
    described_size(plan) + plan.training.layout.len() as u64 * 4 + names_size(plan)
}

/// Bytes that a checkpoint takes to describe its tensors of one slot.
fn names_size(plan: &Plan) -> u64 {
    plan.training.layout.slots().iter().map(|slot| slot.name.len() as u64 + 128).sum()
}

/// Bytes that a checkpoint takes to describe the training, unless that is very long.
fn described_size(plan: &Plan) -> u64 {
    const LOSSES: u64 = 1 << 13;
    let losses = (plan.rate.total.div_ceil(10) * 2).min(LOSSES) * 8;
    4096 + losses + 2 * serde_json::to_string(&plan.keys).map_or(0, |keys| keys.len() as u64)
}

/// The first values with small numbers for the zeros among them: a branch whose B is zero hides where it is folded to, and
/// one whose B is large makes another model of it.
fn stand_in(start: &[f32]) -> Vec<f32> {
    const SMALL: f32 = 1e-3;
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(start.len() as u64);
    let one = |x: &f32| if *x == 0.0 { random.random_range(-SMALL..SMALL) } else { *x };
    start.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_replaced_and_nothing_else() {
        let stood = stand_in(&[0.0, 2.0, 0.0, -3.0]);
        assert_eq!((stood[1], stood[3]), (2.0, -3.0));
        assert!(stood[0] != 0.0 && stood[0].abs() <= 1e-3 && stood[0] != stood[2], "{stood:?}");
    }
}
