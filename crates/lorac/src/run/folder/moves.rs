//! Renamed files that can be put back: a folder changes from one state to the other, or not at all, whatever ends the
//! process.

use super::MANIFEST;
use crate::output::OutputError;
use std::fs::File;
use std::io::{Seek, Write};
use std::path::{Component, Path, PathBuf};

/// The record of what is renamed, in the folder of a run's unfinished files.
pub(super) const JOURNAL: &str = ".lorac-moves";
/// Room for the record, so that a full disk stops nobody who only renames.
const ROOM: usize = 8192;

/// Files that were renamed below a folder, and folders that were made for them.
pub(super) struct Moves {
    root: PathBuf,
    stage: PathBuf,
    journal: File,
    renamed: Vec<(PathBuf, PathBuf)>,
    made: Vec<PathBuf>,
}

/// Sets room aside for the record of moves.
///
/// # Errors
/// What the system refuses.
pub(super) fn make_room(stage: &Path) -> std::io::Result<()> {
    File::create_new(stage.join(JOURNAL))?.write_all(&[0; ROOM])
}

impl Moves {
    /// Moves below `root`, recorded in the folder `stage`.
    ///
    /// # Errors
    /// What the system refuses.
    pub(super) fn begin(root: &Path, stage: &Path) -> Result<Moves, OutputError> {
        let path = stage.join(JOURNAL);
        let journal = File::options().write(true).create(true).truncate(false).open(&path);
        let mut journal = journal.map_err(OutputError::io(&path))?;
        journal.rewind().map_err(OutputError::io(&path))?;
        Ok(Moves { root: root.into(), stage: stage.into(), journal, renamed: Vec::new(), made: Vec::new() })
    }

    /// Renames a file, for which folders are made.
    ///
    /// # Errors
    /// What the system refuses.
    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> Result<(), OutputError> {
        if let Some(folder) = to.parent() {
            let missing: Vec<&Path> = folder.ancestors().take_while(|a| !a.exists()).collect();
            for folder in missing.into_iter().rev() {
                std::fs::create_dir(folder).map_err(OutputError::io(folder))?;
                self.made.push(folder.to_path_buf());
            }
        }
        self.record(from, to).map_err(OutputError::io(to))?;
        std::fs::rename(from, to).map_err(OutputError::io(to))?;
        self.renamed.push((from.to_path_buf(), to.to_path_buf()));
        Ok(())
    }

    /// Says what will be renamed, before it is.
    fn record(&mut self, from: &Path, to: &Path) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(&[self.below(from)?, self.below(to)?])?;
        line.push(b'\n');
        self.journal.write_all(&line)?;
        self.journal.sync_data()
    }

    /// A path in the folder, from the folder on. That of unfinished files is in it, and may be written otherwise.
    fn below(&self, path: &Path) -> std::io::Result<PathBuf> {
        let staged = path.strip_prefix(&self.stage).ok().zip(self.stage.file_name());
        match (staged, path.strip_prefix(&self.root)) {
            (Some((rest, stage)), _) => Ok(Path::new(stage).join(rest)),
            (None, Ok(rest)) => Ok(rest.to_path_buf()),
            (None, Err(e)) => Err(std::io::Error::other(e)),
        }
    }

    /// Puts everything back, the last first.
    pub(super) fn undo(self) {
        for (from, to) in self.renamed.iter().rev() {
            _ = std::fs::rename(to, from);
        }
        for folder in self.made.iter().rev() {
            _ = std::fs::remove_dir(folder);
        }
        self.forget();
    }

    /// Lets everything stay where it is.
    pub(super) fn forget(self) {
        _ = std::fs::remove_file(self.stage.join(JOURNAL));
    }
}

/// Puts back what a process that was killed has renamed below `root`, by the record in the folder `stage`, unless the
/// manifest had taken its place already.
pub(super) fn recover(root: &Path, stage: &Path) {
    put_back(root, stage);
    // Before anything else of the folder goes: what is missing there would look as if it had been moved.
    _ = std::fs::remove_file(stage.join(JOURNAL));
}

fn put_back(root: &Path, stage: &Path) {
    let journal = std::fs::read(stage.join(JOURNAL)).unwrap_or_default();
    let is_there = |path: &Path| path.symlink_metadata().is_ok();
    let moves = journal.split(|byte| *byte == b'\n').map_while(|line| serde_json::from_slice::<[String; 2]>(line).ok());
    let moves: Vec<[PathBuf; 2]> =
        moves.filter(|both| both.iter().all(|p| is_inside(p))).map(|b| b.map(|p| root.join(p))).collect();
    if moves.last().is_some_and(|[from, to]| *to == root.join(MANIFEST) && is_there(to) && !is_there(from)) {
        return;
    }
    for [from, to] in moves.iter().rev() {
        if !is_there(from) && is_there(to) {
            from.parent().into_iter().for_each(|folder| _ = std::fs::create_dir_all(folder));
            _ = std::fs::rename(to, from);
        }
        // What was made for the file is empty again, unless somebody has put something there.
        to.ancestors().skip(1).take_while(|folder| *folder != root).for_each(|folder| _ = std::fs::remove_dir(folder));
    }
}

fn is_inside(path: &str) -> bool {
    !path.is_empty() && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("temp");
        let stage = folder.path().join("stage");
        std::fs::create_dir(&stage).expect("makes");
        make_room(&stage).expect("room");
        for name in ["a", "b", MANIFEST, "stage/manifest.json", "stage/new"] {
            std::fs::write(folder.path().join(name), name).expect("writes");
        }
        (folder, stage)
    }

    #[test]
    fn what_was_moved_is_put_back() {
        let (folder, stage) = folder();
        let at = |name: &str| folder.path().join(name);
        let mut moves = Moves::begin(folder.path(), &stage).expect("begins");
        moves.rename(&at("a"), &at("deep/er/a")).expect("moves");
        moves.rename(&at("b"), &at("a")).expect("moves");
        assert!(moves.rename(&at("missing"), &at("c")).is_err());
        moves.undo();
        let read = |name: &str| std::fs::read_to_string(at(name)).expect("is there");
        assert_eq!((read("a"), read("b"), at("deep").exists()), ("a".into(), "b".into(), false));
    }

    #[test]
    fn paths_are_recorded_from_the_folder_on_however_they_are_written() {
        let (folder, stage) = folder();
        let mut moves = Moves::begin(folder.path(), &stage).expect("begins");
        moves.root = "out".into();
        let below = |path: &Path| moves.below(path).map(|p| p.display().to_string()).ok();
        assert_eq!(below(&stage.join("adapter/a")).as_deref(), Some("stage/adapter/a"));
        assert_eq!(below(Path::new("out/adapter/a")).as_deref(), Some("adapter/a"));
        assert_eq!(below(Path::new("elsewhere/a")), None);
    }

    /// The moves of a commit, of which a process makes the first ones.
    #[test]
    fn what_a_killed_process_has_moved_is_put_back_unless_it_was_done() {
        for done in 0..=5 {
            let (folder, stage) = folder();
            let at = |name: &str| folder.path().join(name);
            let all = [
                (at(MANIFEST), stage.join("earlier/manifest.json")),
                (at("a"), stage.join("earlier/a")),
                (at("b"), at("checkpoints/b")),
                (stage.join("new"), at("deep/er/new")),
                (stage.join("manifest.json"), at(MANIFEST)),
            ];
            let mut moves = Moves::begin(folder.path(), &stage).expect("begins");
            all.iter().take(done).for_each(|(from, to)| moves.rename(from, to).expect("moves"));
            if let Some((from, to)) = all.get(done) {
                // It was killed between the two.
                moves.record(from, to).expect("records");
            }
            drop(moves);
            recover(folder.path(), &stage);
            let read = |name: &str| std::fs::read_to_string(at(name)).unwrap_or_default();
            let (old, new) = (["manifest.json", "a", "b", ""], ["stage/manifest.json", "", "", "stage/new"]);
            let want = if done == 5 { new } else { old };
            assert_eq!([MANIFEST, "a", "b", "deep/er/new"].map(&read), want, "behind {done} moves");
            assert_eq!(at("deep").exists(), done == 5);
            // A process that was killed while it removed the folder has left a part of it.
            _ = std::fs::remove_file(stage.join("new"));
            recover(folder.path(), &stage);
            assert_eq!([MANIFEST, "a", "b", "deep/er/new"].map(read), want, "behind {done} moves");
        }
    }

    #[test]
    fn a_record_that_leads_elsewhere_moves_nothing() {
        let (folder, stage) = folder();
        let victim = tempfile::NamedTempFile::new().expect("temp");
        let path = victim.path().display().to_string();
        let line = serde_json::to_string(&["mine", path.as_str()]).expect("JSON");
        let up = serde_json::to_string(&["mine", "../x"]).expect("JSON");
        std::fs::write(stage.join(JOURNAL), format!("{line}\n{up}\n")).expect("writes");
        recover(folder.path(), &stage);
        assert!(victim.path().exists() && !folder.path().join("mine").exists());
    }
}
