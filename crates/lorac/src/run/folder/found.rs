//! What runs have left in an output folder for others to go on from.

use super::{CHECKPOINTS, METRICS, UNFINISHED, checkpoints, mark};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

/// The params of a run that has succeeded, in the folder of checkpoints.
pub(crate) const TRAINED: &str = "trained.safetensors";

/// Files in an output folder that say that they are checkpoints of lorac's: those of a run that is not finished, and
/// those that finished ones have left.
pub(crate) fn checkpoint_files(folder: &Path) -> Vec<PathBuf> {
    let folders = [folder.join(UNFINISHED).join(CHECKPOINTS), folder.join(CHECKPOINTS)];
    folders.iter().flat_map(|at| steps_in(at).into_iter().chain([at.join(TRAINED)])).collect()
}

/// The checkpoints of steps in a folder of checkpoints.
pub(crate) fn steps_in(checkpoints_folder: &Path) -> Vec<PathBuf> {
    checkpoints(checkpoints_folder).into_iter().map(|(_, file)| file).collect()
}

/// The step of a checkpoint, and what it says of its training. `None` where a file is not one, or no regular file.
pub(crate) fn described(file: &Path) -> Option<(u64, BTreeMap<String, String>)> {
    mark::described(file)
}

/// The lines of the log beside the folder of a checkpoint; none where there is no log of lorac's.
pub(crate) fn lines_of_log_beside(checkpoint: &Path) -> Vec<String> {
    let folder = checkpoint.parent().and_then(Path::parent).map(|folder| folder.join(METRICS));
    let log = folder.filter(|log| log.symlink_metadata().is_ok_and(|m| m.is_file()) && mark::is_log(log));
    let lines = log.and_then(|log| File::open(log).ok()).map(|file| BufReader::new(file).lines());
    lines.into_iter().flatten().map_while(Result::ok).collect()
}
