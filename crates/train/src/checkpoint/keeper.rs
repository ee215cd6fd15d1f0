//! When checkpoints are saved, which of them stay, and what to do where they cannot be.

use super::Checkpoint;
use crate::{Every, History, Step, TrainError};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Where checkpoints go, and when.
#[derive(Clone, Debug, Default)]
pub struct Checkpoints {
    /// Their folder.
    pub folder: PathBuf,
    /// How often one is saved; `None` for none but the necessary.
    pub every: Option<Every>,
    /// How many of the newest stay, at least 1. The best one stays in any case.
    pub keep: usize,
    /// Steps of this training whose checkpoints are in the folder already.
    pub earlier: BTreeSet<u64>,
    /// What is said of the training in each of them.
    pub about: BTreeMap<String, String>,
}

/// The checkpoints of a training that goes on.
pub(crate) struct Keeper<'a> {
    to: &'a Checkpoints,
    saved: BTreeSet<u64>,
    last: Instant,
}

impl<'a> Keeper<'a> {
    pub(crate) fn new(to: &'a Checkpoints) -> Keeper<'a> {
        Keeper { to, saved: to.earlier.clone(), last: Instant::now() }
    }

    /// Saves what is due behind a step, or what `must` be saved, and removes those that are one too many.
    ///
    /// # Errors
    /// What the system refuses. Then all earlier ones are as they were.
    pub(crate) fn behind(
        &mut self,
        step: &Step,
        history: &History,
        per_epoch: u64,
        must: bool,
    ) -> Result<(), TrainError> {
        let since = self.last.elapsed();
        let due = self.to.every.is_some_and(|every| every.is_due(step.taken, per_epoch, since));
        if !due && !must {
            return Ok(());
        }
        if due {
            // Where it cannot be saved, it is not tried again at once.
            self.last = Instant::now();
        }
        Checkpoint::of(step, history, &self.to.about)?.save(&self.to.folder)?;
        self.saved.insert(step.taken);
        self.prune(history);
        Ok(())
    }

    fn prune(&mut self, history: &History) {
        let best = history.best.map(|best| best.step);
        let too_many = self.saved.len().saturating_sub(self.to.keep.max(1));
        let old: Vec<u64> = self.saved.iter().copied().take(too_many).filter(|step| Some(*step) != best).collect();
        for step in old {
            self.saved.remove(&step);
            // What cannot be removed does no harm.
            _ = std::fs::remove_file(self.to.folder.join(format!("step-{step}.safetensors")));
        }
    }
}

/// Where a checkpoint that had to be saved is, or why it is nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept(pub Result<PathBuf, String>);

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match &self.0 {
            Ok(path) => write!(f, "are in {}", path.display()),
            Err(why) => write!(f, "could not be saved ({why})"),
        }
    }
}

impl Checkpoint {
    /// As [`Checkpoint::save`]; where the folder takes no file, into a new one among the system's temporary files.
    pub fn keep(&self, folder: &Path) -> Kept {
        let refused = match self.save(folder) {
            Ok(path) => return Kept(Ok(path)),
            Err(error) => error,
        };
        let elsewhere = tempfile::Builder::new().prefix("lorac-checkpoint-").tempdir();
        let saved = elsewhere.ok().and_then(|other| {
            let path = self.save(other.path()).ok()?;
            // Only now is there something in it to keep.
            _ = other.keep();
            Some(path)
        });
        Kept(saved.ok_or_else(|| refused.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Best;
    use crate::testing::quadratic;

    fn checkpoint() -> Checkpoint {
        let (step, _) = quadratic(&[1.0], &[]);
        let of = Checkpoint::of(&step, &History::default(), &BTreeMap::new()).expect("a state");
        Checkpoint { step: 7, ..of }
    }

    #[test]
    fn a_folder_that_takes_no_file_loses_nothing() {
        let folder = tempfile::tempdir().expect("temp");
        let Kept(kept) = checkpoint().keep(folder.path());
        assert_eq!(kept, Ok(folder.path().join("step-7.safetensors")));
        let file = folder.path().join("step-7.safetensors");
        let kept = checkpoint().keep(&file);
        let elsewhere = kept.0.clone().expect("kept elsewhere");
        assert!(kept.to_string().starts_with("are in ") && !elsewhere.starts_with(folder.path()), "{kept}");
        assert_eq!(Checkpoint::load(&elsewhere).expect("loads"), checkpoint());
        std::fs::remove_dir_all(elsewhere.parent().expect("a folder")).expect("removes");
    }

    /// The steps whose checkpoints are in a folder.
    fn steps(folder: &Path) -> Vec<u64> {
        let names = std::fs::read_dir(folder).expect("lists").flatten().map(|e| e.file_name());
        let step = |name: std::ffi::OsString| {
            let name = name.to_string_lossy().into_owned();
            name.trim_start_matches("step-").trim_end_matches(".safetensors").parse().expect("a step")
        };
        let mut steps: Vec<u64> = names.map(step).collect();
        steps.sort_unstable();
        steps
    }

    #[test]
    fn the_newest_and_the_best_stay_and_so_do_those_of_others() {
        let folder = tempfile::tempdir().expect("temp");
        let (mut step, _) = quadratic(&[1.0], &[]);
        for other in [1, 2, 3] {
            Checkpoint { step: other, ..checkpoint() }.save(folder.path()).expect("saves");
        }
        let to = Checkpoints {
            folder: folder.path().into(),
            every: Some(Every::Steps(5)),
            keep: 2,
            earlier: [2, 3].into(),
            about: BTreeMap::new(),
        };
        let mut keeper = Keeper::new(&to);
        let history = History { best: Some(Best { step: 10, score: 1.0 }), ..History::default() };
        for (taken, left) in [
            (4, vec![1, 2, 3]),
            (5, vec![1, 3, 5]),
            (10, vec![1, 5, 10]),
            (15, vec![1, 10, 15]),
            (20, vec![1, 10, 15, 20]),
            (25, vec![1, 10, 20, 25]),
        ] {
            step.taken = taken;
            keeper.behind(&step, &history, 100, false).expect("saves");
            assert_eq!(steps(folder.path()), left, "behind step {taken}");
        }
    }

    /// As on a full disk.
    #[test]
    fn one_that_cannot_be_saved_leaves_the_earlier_ones() {
        let folder = tempfile::tempdir().expect("temp");
        let (mut step, _) = quadratic(&[1.0], &[]);
        let to = Checkpoints {
            folder: folder.path().into(),
            every: Some(Every::Steps(1)),
            keep: 1,
            ..Checkpoints::default()
        };
        let mut keeper = Keeper::new(&to);
        step.taken = 1;
        keeper.behind(&step, &History::default(), 10, false).expect("saves");
        let before = Checkpoint::load(&folder.path().join("step-1.safetensors")).expect("whole");
        // A folder cannot be replaced by a file.
        std::fs::create_dir(folder.path().join("step-2.safetensors")).expect("makes");
        step.taken = 2;
        assert_eq!(keeper.behind(&step, &History::default(), 10, false).expect_err("refused").code(), "train::file");
        assert_eq!(Checkpoint::load(&folder.path().join("step-1.safetensors")).expect("whole"), before);
        assert_eq!(std::fs::read_dir(folder.path()).expect("lists").count(), 2, "no temporary file is left");
    }
}
