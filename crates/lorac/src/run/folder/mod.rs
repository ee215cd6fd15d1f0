//! The output folder: it holds the files of one run, which take their places together when the run has succeeded.

mod earlier;
mod events;
mod found;
mod lock;
mod log;
mod mark;
mod moves;
mod reserve;
mod sweep;

pub(crate) use events::TENSORBOARD;
pub(crate) use found::{TRAINED, checkpoint_files, described, lines_of_log_beside, steps_in};
pub(crate) use log::Log;
pub(crate) use reserve::Reserve;

use crate::error::Error;
use crate::output::{Artifact, OutputError, TEMPORARY, temporary};
use earlier::{Earlier, unchanged};
use lock::{Lock, lock};
use moves::Moves;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The record of a run, written last.
pub(crate) const MANIFEST: &str = "manifest.json";
/// The log of a run.
pub(crate) const METRICS: &str = "metrics.jsonl";
/// Where the output folders are that the user does not name.
const DEFAULT: &str = "lorac-out";
/// The folder of checkpoints.
pub(crate) const CHECKPOINTS: &str = "checkpoints";
/// Where log and checkpoints of a run are while the result of an earlier one is in the folder.
const UNFINISHED: &str = "unfinished";

/// An output folder that this process alone writes to.
pub(crate) struct Folder {
    path: PathBuf,
    /// Where log and checkpoints of this run are.
    work: PathBuf,
    earlier: Option<Earlier>,
    lock: Option<Lock>,
}

/// The output folder of a pipeline for which the user names none: `lorac-out/NAME` in the folder `root` that lorac runs
/// in. Whoever can write there may not lead the run elsewhere.
///
/// # Errors
/// [`OutputError::InTheWay`]: a link.
pub fn default_folder(root: &Path, name: &str) -> Result<PathBuf, OutputError> {
    const LINK: &str = "this is a link, which is followed only where --out names it";
    let all = root.join(DEFAULT);
    let folder = all.join(name);
    for at in [&all, &folder] {
        if at.symlink_metadata().is_ok_and(|m| m.is_symlink()) {
            return Err(OutputError::in_the_way(at, LINK));
        }
    }
    Ok(folder)
}

impl Folder {
    /// Makes the folder if need be, locks it, tries it, and sweeps up what runs that were killed have left.
    ///
    /// # Errors
    /// A folder that cannot be written or that another run writes to, and other files under the names of a run's.
    pub(crate) fn open(path: &Path, command: &str) -> Result<Folder, Error> {
        let refused = |e: &dyn std::fmt::Display| {
            Error::Usage(format!(
                "the output folder `{}` cannot be written: {e}; choose another with --out",
                path.display()
            ))
        };
        std::fs::create_dir_all(path).map_err(|e| refused(&e))?;
        let lock = match lock(path, command) {
            Err(OutputError::Io { source, .. }) => return Err(refused(&source)),
            other => other?,
        };
        let user = temporary(path).and_then(|file| file.as_file().metadata());
        let user = user.map_err(|e| refused(&e))?.uid();
        if lock.is_some() {
            sweep::sweep(&[path.to_path_buf(), path.join(CHECKPOINTS), path.join(UNFINISHED)], user);
            sweep::sweep(&[path.join(UNFINISHED).join(CHECKPOINTS)], user);
        }
        let folder = Folder { path: path.into(), work: path.into(), earlier: Earlier::read(path), lock };
        let checkpoint = Path::new(CHECKPOINTS).join("step-0.safetensors");
        let unfinished = [Path::new(METRICS), &checkpoint].map(|name| Path::new(UNFINISHED).join(name));
        folder.check([MANIFEST, METRICS].map(Path::new))?;
        folder.check([&checkpoint, &unfinished[0], &unfinished[1]].map(|p| p.as_path()))?;
        for below in [PathBuf::from(CHECKPOINTS), Path::new(UNFINISHED).join(CHECKPOINTS)] {
            folder.check(named_as_checkpoints(&path.join(&below)).map(|(_, name)| below.join(name)))?;
        }
        Ok(folder)
    }

    /// Whether the file system lets no other run in.
    pub(crate) fn is_locked(&self) -> bool {
        self.lock.is_some()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Refuses places, relative to the folder, that a run cannot have: what lorac has not written stays.
    ///
    /// # Errors
    /// [`OutputError::InTheWay`]
    pub(crate) fn check(&self, files: impl IntoIterator<Item = impl AsRef<Path>>) -> Result<(), OutputError> {
        files.into_iter().try_for_each(|name| self.check_one(name.as_ref()))
    }

    fn check_one(&self, name: &Path) -> Result<(), OutputError> {
        let refuse = |path: &Path, what: &str| Err(OutputError::in_the_way(path, what));
        let mut at = self.path.clone();
        for part in name.parent().into_iter().flat_map(Path::components) {
            at.push(part);
            match at.symlink_metadata() {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
                Err(e) => return Err(OutputError::io(&at)(e)),
                Ok(meta) if meta.is_symlink() => return refuse(&at, "links are not followed in an output folder"),
                Ok(meta) if !meta.is_dir() => return refuse(&at, "a folder of this name is needed"),
                Ok(_) => {}
            }
        }
        let path = self.path.join(name);
        match path.symlink_metadata() {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(OutputError::io(&path)(e)),
            // It is replaced, and what it leads to stays as it is.
            Ok(meta) if meta.is_symlink() => Ok(()),
            Ok(meta) if meta.is_dir() => refuse(&path, "a file of this name is to be written, and this is a folder"),
            Ok(meta) if !meta.is_file() => refuse(&path, "this is not a regular file"),
            Ok(_) if self.is_ours(name) => Ok(()),
            Ok(_) => refuse(&path, "the file is not from a run of lorac: no manifest lists it"),
        }
    }

    /// Whether a run of lorac has written the file.
    fn is_ours(&self, name: &Path) -> bool {
        let listed = |earlier: &Earlier| earlier.lists(name) || name == Path::new(MANIFEST);
        if self.earlier.as_ref().is_some_and(listed) {
            return true;
        }
        let unfinished = name.strip_prefix(UNFINISHED).unwrap_or(name);
        let step = || mark::step(unfinished.strip_prefix(CHECKPOINTS).ok()?.to_str()?);
        let at = self.path.join(name);
        match unfinished == Path::new(METRICS) {
            true => mark::is_log(&at),
            false if unfinished == Path::new(CHECKPOINTS).join(TRAINED) => mark::described(&at).is_some(),
            false => step().is_some_and(|step| mark::is_checkpoint(&at, step)),
        }
    }

    /// Begins the log of a training, with the lines of the processes before this one. The result of an earlier run stays as it is until this one has succeeded.
    ///
    /// # Errors
    /// A log that cannot be made.
    pub(crate) fn begin(&mut self, earlier: &[String]) -> Result<Log, OutputError> {
        if self.earlier.is_some() {
            self.work = self.path.join(UNFINISHED);
            std::fs::create_dir_all(&self.work).map_err(OutputError::io(&self.work))?;
        }
        // The training is minutes behind the first look.
        self.check([self.log().strip_prefix(&self.path).unwrap_or(Path::new(METRICS))])?;
        Log::begin(&self.log(), earlier)
    }

    /// Whether a file of a run is there as that run has written it.
    pub(crate) fn holds(&self, artifact: &Artifact) -> bool {
        let name = Path::new(&artifact.path);
        self.check_one(name).is_ok() && unchanged(&self.path.join(name), artifact)
    }

    /// Where the log is.
    pub(crate) fn log(&self) -> PathBuf {
        self.work.join(METRICS)
    }

    /// Where checkpoints go.
    pub(crate) fn checkpoints(&self) -> PathBuf {
        self.work.join(CHECKPOINTS)
    }

    /// A folder for files that are not finished. It is gone when it is dropped.
    ///
    /// # Errors
    /// What the system refuses.
    pub(crate) fn stage(&self) -> Result<TempDir, OutputError> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(TEMPORARY.0).suffix(TEMPORARY.1).permissions(Permissions::from_mode(0o777));
        // The kind alone: the error names the folder that could not be made.
        let made = builder.tempdir_in(&self.path).map_err(|e| e.kind().into());
        let stage = made.map_err(OutputError::io(&self.path))?;
        let mark = File::create_new(stage.path().join(sweep::MARK)).map(drop);
        mark.and_then(|()| moves::make_room(stage.path())).map_err(OutputError::io(&self.path))?;
        Ok(stage)
    }

    /// Sets space aside for files of these sizes.
    ///
    /// # Errors
    /// [`OutputError::Space`]
    pub(crate) fn reserve(&self, sizes: &[u64]) -> Result<Reserve, OutputError> {
        reserve::reserve(&self.path, sizes)
    }

    /// Puts the files of a finished run, each with its name in the folder, into their places, the manifest as the last
    /// of them; what an earlier run has written goes, and of checkpoints all but those behind the steps `kept`. Returns
    /// files that an earlier run has written and somebody has changed, which stay.
    ///
    /// # Errors
    /// What the system refuses. Then the folder is as it was.
    pub(crate) fn commit(
        &self,
        stage: &TempDir,
        files: &[(PathBuf, PathBuf)],
        kept: &BTreeSet<u64>,
    ) -> Result<Vec<PathBuf>, OutputError> {
        let (mut moves, mut emptied) = (Moves::begin(&self.path, stage.path())?, BTreeSet::new());
        let away = stage.path().join("earlier");
        match self.replace(&away, files, kept, &mut moves, &mut emptied) {
            Ok(stay) => {
                moves.forget();
                // The deepest first. One that holds something else stays.
                emptied.iter().rev().for_each(|folder| _ = std::fs::remove_dir(folder));
                File::open(&self.path).and_then(|f| f.sync_all()).map_err(OutputError::io(&self.path))?;
                Ok(stay)
            }
            Err(error) => {
                moves.undo();
                Err(error.placed(&away, &self.path).placed(stage.path(), &self.path))
            }
        }
    }

    fn replace(
        &self,
        away: &Path,
        files: &[(PathBuf, PathBuf)],
        kept: &BTreeSet<u64>,
        moves: &mut Moves,
        emptied: &mut BTreeSet<PathBuf>,
    ) -> Result<Vec<PathBuf>, OutputError> {
        let mut stay = Vec::new();
        // No manifest speaks of files while they change.
        if self.earlier.is_some() {
            moves.rename(&self.path.join(MANIFEST), &away.join(MANIFEST))?;
        }
        for old in self.earlier.iter().flat_map(Earlier::files) {
            let (name, at) = (PathBuf::from(&old.path), self.path.join(&old.path));
            // Behind a link there is nothing of ours.
            if !at.symlink_metadata().is_ok_and(|m| m.is_file()) || self.check_one(&name).is_err() {
                continue;
            }
            if files.iter().any(|(_, new)| *new == name) || unchanged(&at, old) {
                moves.rename(&at, &away.join(&name))?;
                emptied.extend(at.ancestors().skip(1).take_while(|a| *a != self.path).map(PathBuf::from));
            } else {
                stay.push(name);
            }
        }
        self.replace_checkpoints(&away.join(CHECKPOINTS), kept, moves)?;
        for (from, name) in files {
            let to = self.path.join(name);
            if *from == to {
                continue;
            }
            self.check_one(name)?;
            if to.symlink_metadata().is_ok() {
                moves.rename(&to, &away.join(name))?;
            }
            moves.rename(from, &to)?;
        }
        let unfinished = self.path.join(UNFINISHED);
        emptied.extend([unfinished.join(TENSORBOARD), self.path.join(TENSORBOARD)]);
        emptied.extend([unfinished.join(CHECKPOINTS), unfinished, self.path.join(CHECKPOINTS)]);
        Ok(stay)
    }

    fn replace_checkpoints(&self, away: &Path, kept: &BTreeSet<u64>, moves: &mut Moves) -> Result<(), OutputError> {
        let to = self.path.join(CHECKPOINTS);
        let ours = self.checkpoints();
        for (step, file) in checkpoints(&to) {
            if ours != to || !kept.contains(&step) {
                moves.rename(&file, &away.join(format!("step-{step}")))?;
            }
        }
        for (step, file) in checkpoints(&ours).into_iter().filter(|_| ours != to) {
            match (kept.contains(&step), file.file_name()) {
                (true, Some(name)) => {
                    self.check_one(&Path::new(CHECKPOINTS).join(name))?;
                    moves.rename(&file, &to.join(name))?;
                }
                _ => moves.rename(&file, &away.join(format!("unfinished-step-{step}")))?,
            }
        }
        Ok(())
    }
}

/// The checkpoints of runs in a folder, with their steps.
fn checkpoints(folder: &Path) -> Vec<(u64, PathBuf)> {
    let all = named_as_checkpoints(folder).map(|(step, name)| (step, folder.join(name)));
    let regular = |file: &Path| file.symlink_metadata().is_ok_and(|m| m.is_file());
    all.filter(|(step, file)| regular(file) && mark::is_checkpoint(file, *step)).collect()
}

/// What has the name of a checkpoint in a folder, with the steps.
fn named_as_checkpoints(folder: &Path) -> impl Iterator<Item = (u64, OsString)> {
    let is_folder = folder.symlink_metadata().is_ok_and(|m| m.is_dir());
    let entries = is_folder.then(|| std::fs::read_dir(folder)).into_iter().flatten().flatten().flatten();
    entries.map(|e| e.file_name()).filter_map(|name| Some((mark::step(name.to_str()?)?, name)))
}

#[cfg(test)]
mod tests;
