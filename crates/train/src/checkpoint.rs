//! Checkpoints that survive a crash: written beside their place, synced, renamed.

use crate::{Step, TrainError};
use lorac_ir::Tensor;
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};
use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// The state of a training between two steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// Steps taken.
    pub step: u64,
    /// theta and what the optimizer keeps, by name, f32.
    pub state: Vec<(String, Vec<f32>)>,
}

impl Checkpoint {
    /// The state of a running training.
    pub fn of(step: &Step) -> Result<Checkpoint, TrainError> {
        let names = step.update.slots.iter().map(|s| s.input.clone());
        let get = |name: String| {
            let values = step.program.state(&name)?.to_vec::<f32>()?;
            Ok::<_, TrainError>((name, values))
        };
        Ok(Checkpoint { step: step.taken, state: names.map(get).collect::<Result<_, _>>()? })
    }

    /// Puts the state back.
    ///
    /// # Errors
    /// State that either of the two does not have, or of another size. Then nothing is put back.
    pub fn restore(&self, step: &mut Step) -> Result<(), TrainError> {
        let here = self.state.iter().map(|(name, values)| (name.as_str(), values.len()));
        let there = step.update.slots.iter().map(|s| (s.input.as_str(), s.len));
        let len = |of: &[(&str, usize)], name: &str| of.iter().find(|s| s.0 == name).map_or(0, |s| s.1);
        let (here, there): (Vec<_>, Vec<_>) = (here.collect(), there.collect());
        for (name, _) in there.iter().chain(&here) {
            let (want, got) = (len(&there, name), len(&here, name));
            if want != got {
                return Err(TrainError::State { name: name.to_string(), want, got });
            }
        }
        for (name, data) in &self.state {
            step.program.set_state(name, &Tensor::vector(data))?;
        }
        step.taken = self.step;
        Ok(())
    }

    /// Key in the metadata of the file, by which lorac knows its checkpoints; the value is the step.
    pub const MARK: &str = "lorac_step";

    /// Writes `step-N.safetensors` into the folder, whole or not at all. Returns its path.
    pub fn save(&self, folder: &Path) -> Result<PathBuf, TrainError> {
        let path = folder.join(format!("step-{}.safetensors", self.step));
        let fail = |e: &dyn std::fmt::Display| TrainError::file(&path, e);
        std::fs::create_dir_all(folder).map_err(|e| TrainError::file(folder, e))?;
        let bytes = |v: &[f32]| v.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
        let bytes: Vec<Vec<u8>> = self.state.iter().map(|(_, v)| bytes(v)).collect();
        let views = self.state.iter().zip(&bytes).map(|((name, data), bytes)| {
            TensorView::new(Dtype::F32, vec![data.len()], bytes).map(|view| (name.clone(), view))
        });
        let views: Vec<_> = views.collect::<Result<_, _>>().map_err(|e| fail(&e))?;
        let meta = HashMap::from([(Checkpoint::MARK.to_string(), self.step.to_string())]);
        let whole = serialize(views, Some(meta)).map_err(|e| fail(&e))?;
        let mut file = temporary(folder).map_err(|e| fail(&e))?;
        file.as_file_mut().write_all(&whole).and_then(|()| file.as_file().sync_all()).map_err(|e| fail(&e))?;
        file.persist(&path).map_err(|e| fail(&e.error))?;
        File::open(folder).and_then(|f| f.sync_all()).map_err(|e| TrainError::file(folder, e))?;
        Ok(path)
    }

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

    /// Reads what [`Checkpoint::save`] wrote, in the order of the names.
    pub fn load(path: &Path) -> Result<Checkpoint, TrainError> {
        let fail = |e: &dyn std::fmt::Display| TrainError::file(path, e);
        let bytes = std::fs::read(path).map_err(|e| fail(&e))?;
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| fail(&e))?;
        let step = header.metadata().as_ref().and_then(|m| m.get(Checkpoint::MARK)?.parse().ok());
        let step = step.ok_or_else(|| TrainError::file(path, "it has no step number: not a checkpoint of lorac"))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|e| fail(&e))?;
        let mut state = Vec::new();
        for (name, view) in file.tensors() {
            if view.dtype() != Dtype::F32 {
                return Err(TrainError::file(path, format!("`{name}` is {:?}, expected F32", view.dtype())));
            }
            let values = view.data().chunks_exact(4).map(<f32 as lorac_ir::Element>::read).collect();
            state.push((name, values));
        }
        state.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(Checkpoint { step, state })
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

/// A file that is not finished. Whoever may read what the user writes may read the finished one.
fn temporary(folder: &Path) -> std::io::Result<NamedTempFile> {
    let mut options = File::options();
    options.read(true).write(true).create_new(true);
    // The umask takes away what the user does not grant.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o666);
    // What `tempfile` opens itself has errors that name it, and not the checkpoint.
    tempfile::Builder::new().prefix(".lorac-").suffix(".tmp").make_in(folder, |path| options.open(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::quadratic;
    use lorac_passes::THETA;

    #[test]
    fn round_trip_and_damage() {
        let folder = tempfile::tempdir().expect("temp");
        let named = |name: &str, values: [f32; 2]| (name.to_string(), values.to_vec());
        let state = vec![named("m", [0.0, 1e-9]), named("theta", [1.0, -2.5]), named("v", [3.0, f32::MIN_POSITIVE])];
        let c = Checkpoint { step: 7, state };
        let path = c.save(folder.path()).expect("saves");
        assert_eq!(Checkpoint::load(&path).expect("loads"), c);
        assert_eq!(std::fs::read_dir(folder.path()).expect("lists").count(), 1);
        let whole = std::fs::read(&path).expect("reads");
        std::fs::write(&path, &whole[..whole.len() - 1]).expect("writes");
        assert!(Checkpoint::load(&path).is_err());
    }

    #[test]
    fn a_folder_that_takes_no_file_loses_nothing() {
        let folder = tempfile::tempdir().expect("temp");
        let c = Checkpoint { step: 7, state: vec![("theta".to_string(), vec![1.0])] };
        let Kept(kept) = c.keep(folder.path());
        assert_eq!(kept, Ok(folder.path().join("step-7.safetensors")));
        let file = folder.path().join("step-7.safetensors");
        let kept = c.keep(&file);
        let elsewhere = kept.0.clone().expect("kept elsewhere");
        assert!(kept.to_string().starts_with("are in ") && !elsewhere.starts_with(folder.path()), "{kept}");
        assert_eq!(Checkpoint::load(&elsewhere).expect("loads"), c);
        std::fs::remove_dir_all(elsewhere.parent().expect("a folder")).expect("removes");
    }

    #[test]
    fn what_is_saved_is_restored_by_name() {
        let folder = tempfile::tempdir().expect("temp");
        let (mut first, _) = quadratic(&[1.0, 2.0], &[]);
        for (name, values) in [(THETA, [3.5f32, -4.5]), ("m", [0.25, 0.0])] {
            first.program.set_state(name, &Tensor::vector(&values)).expect("a slot");
        }
        first.taken = 9;
        let path = Checkpoint::of(&first).expect("a state").save(folder.path()).expect("saves");
        assert_eq!(path, folder.path().join("step-9.safetensors"));
        let loaded = Checkpoint::load(&path).expect("loads");
        let reversed = Checkpoint { state: loaded.state.iter().cloned().rev().collect(), ..loaded.clone() };
        for checkpoint in [loaded, reversed] {
            let (mut second, _) = quadratic(&[0.0, 0.0], &[]);
            checkpoint.restore(&mut second).expect("fits");
            assert_eq!((second.taken, second.theta().expect("theta")), (9, vec![3.5, -4.5]));
            assert_eq!(second.program.state("m").expect("a slot").to_vec::<f32>().expect("f32"), [0.25, 0.0]);
        }
    }

    #[test]
    fn another_trainings_state_is_refused_and_nothing_put_back() {
        let named = |name: &str, len: usize| (name.to_string(), vec![7.0; len]);
        let cases = [
            (vec![named(THETA, 2)], "`m`: the checkpoint has 0 elements, the training 2"),
            (vec![named(THETA, 2), named("m", 3)], "`m`: the checkpoint has 3 elements, the training 2"),
            (vec![named(THETA, 2), named("m", 2), named("v", 2)], "`v`: the checkpoint has 2 elements, the training 0"),
        ];
        for (state, want) in cases {
            let (mut step, _) = quadratic(&[1.0, 2.0], &[]);
            let error = Checkpoint { step: 3, state }.restore(&mut step).expect_err(want);
            assert!(error.to_string().contains(want), "{error}");
            assert_eq!((step.taken, step.theta().expect("theta")), (0, vec![1.0, 2.0]));
        }
    }
}
