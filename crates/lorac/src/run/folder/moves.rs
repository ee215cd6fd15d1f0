//! Renamed files that can be put back: a folder changes from one state to the other, or not at all.

use crate::output::OutputError;
use std::path::{Path, PathBuf};

/// Files and folders that were renamed, and folders that were made for them.
#[derive(Default)]
pub(super) struct Moves {
    renamed: Vec<(PathBuf, PathBuf)>,
    made: Vec<PathBuf>,
}

impl Moves {
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
        std::fs::rename(from, to).map_err(OutputError::io(to))?;
        self.renamed.push((from.to_path_buf(), to.to_path_buf()));
        Ok(())
    }

    /// Puts everything back, the last first.
    pub(super) fn undo(self) {
        for (from, to) in self.renamed.iter().rev() {
            _ = std::fs::rename(to, from);
        }
        for folder in self.made.iter().rev() {
            _ = std::fs::remove_dir(folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_moved_is_put_back() {
        let folder = tempfile::tempdir().expect("temp");
        let at = |name: &str| folder.path().join(name);
        for name in ["a", "b"] {
            std::fs::write(at(name), name).expect("writes");
        }
        let mut moves = Moves::default();
        moves.rename(&at("a"), &at("deep/er/a")).expect("moves");
        moves.rename(&at("b"), &at("a")).expect("moves");
        assert!(moves.rename(&at("missing"), &at("c")).is_err());
        moves.undo();
        let read = |name: &str| std::fs::read_to_string(at(name)).expect("is there");
        assert_eq!((read("a"), read("b"), at("deep").exists()), ("a".into(), "b".into(), false));
    }
}
