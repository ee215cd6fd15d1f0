//! The event file of TensorBoard: its name is new in every run, so that a TensorBoard that looks on sees it.

use super::{Earlier, Folder, UNFINISHED};
use crate::output::{OutputError, now};
use std::path::{Path, PathBuf};

/// The folder of the event file.
pub(crate) const TENSORBOARD: &str = "tensorboard";
/// What is before and behind the time in the name of an event file.
const NAME: (&str, &str) = ("events.out.tfevents.", ".lorac");

impl Folder {
    /// A place for the event file of this run, beside its log.
    ///
    /// # Errors
    /// [`OutputError::InTheWay`], and what the system refuses.
    pub(crate) fn begin_events(&self) -> Result<PathBuf, OutputError> {
        let below = self.work.strip_prefix(&self.path).unwrap_or(Path::new("")).join(TENSORBOARD);
        let name = format!("{}{}.{}{}", NAME.0, now(), std::process::id(), NAME.1);
        self.check([below.join(&name), Path::new(TENSORBOARD).join(&name)])?;
        let folder = self.path.join(below);
        std::fs::create_dir_all(&folder).map_err(OutputError::io(&folder))?;
        Ok(folder.join(name))
    }

    /// Removes event files that no manifest lists: those of runs that were killed.
    pub(crate) fn sweep_events(&self) {
        if !self.is_locked() {
            return;
        }
        for below in [PathBuf::from(TENSORBOARD), Path::new(UNFINISHED).join(TENSORBOARD)] {
            let folder = self.path.join(&below);
            if self.check([below.join("x")]).is_err() {
                continue;
            }
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let listed = |earlier: &Earlier| earlier.lists(&below.join(&name));
                let ours = name.to_str().is_some_and(is_ours) && entry.file_type().is_ok_and(|t| t.is_file());
                if ours && !self.earlier.as_ref().is_some_and(listed) {
                    // What cannot be removed does no harm.
                    _ = std::fs::remove_file(entry.path());
                }
            }
            _ = std::fs::remove_dir(&folder);
        }
    }
}

/// Whether lorac gives such names.
fn is_ours(name: &str) -> bool {
    let between = name.strip_prefix(NAME.0).and_then(|rest| rest.strip_suffix(NAME.1));
    let number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    between.and_then(|between| between.split_once('.')).is_some_and(|(time, process)| number(time) && number(process))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_files_of_killed_runs_are_removed_and_no_others() {
        let root = tempfile::tempdir().expect("temp");
        let folder = root.path().join("out");
        let at = |name: &str| folder.join(TENSORBOARD).join(name);
        std::fs::create_dir_all(folder.join(TENSORBOARD)).expect("makes");
        let [killed, listed, other] =
            ["events.out.tfevents.7.1.lorac", "events.out.tfevents.8.2.lorac", "events.out.tfevents.9.host"];
        [killed, listed, other].iter().for_each(|name| std::fs::write(at(name), "x").expect("writes"));
        let artifact = serde_json::json!({"path": format!("tensorboard/{listed}"), "sha256": "", "size": 1, "kind": "tensorboard"});
        let manifest = serde_json::json!({"lorac_version": "0", "artifacts": [artifact]}).to_string();
        std::fs::write(folder.join("manifest.json"), manifest).expect("writes");
        let open = Folder::open(&folder, "test").expect("opens");
        open.sweep_events();
        let new = open.begin_events().expect("a place");
        assert_eq!((new.parent(), at(killed).exists()), (Some(folder.join(TENSORBOARD).as_path()), false));
        assert!(is_ours(new.file_name().and_then(|n| n.to_str()).expect("a name")) && !new.exists());
        assert!(at(listed).exists() && at(other).exists());
    }

    #[test]
    fn a_link_is_not_followed() {
        let root = tempfile::tempdir().expect("temp");
        let (folder, elsewhere) = (root.path().join("out"), root.path().join("elsewhere"));
        std::fs::create_dir_all(&elsewhere).expect("makes");
        std::fs::create_dir_all(&folder).expect("makes");
        std::fs::write(elsewhere.join("events.out.tfevents.7.1.lorac"), "mine").expect("writes");
        std::os::unix::fs::symlink(&elsewhere, folder.join(TENSORBOARD)).expect("links");
        let open = Folder::open(&folder, "test").expect("opens");
        assert_eq!(open.begin_events().expect_err("a link").code(), "output::in_the_way");
        open.sweep_events();
        assert!(elsewhere.join("events.out.tfevents.7.1.lorac").exists());
    }
}
