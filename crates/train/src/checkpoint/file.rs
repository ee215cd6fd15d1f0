//! The file of a checkpoint: written beside its place, synced, renamed.

use super::Checkpoint;
use crate::{History, TrainError};
use bytes::Bytes;
use lorac_ir::{DType, Tensor};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Key in the metadata of the format's version.
const FORMAT: &str = "lorac_format";
/// The version that is written and read.
const VERSION: &str = "2";
/// Key in the metadata of the history.
const HISTORY: &str = "history";
/// The tensor of the last losses, f64.
const LOSSES: &str = "losses";

impl Checkpoint {
    /// Writes `step-N.safetensors` into the folder, whole or not at all. Returns its path.
    ///
    /// # Errors
    /// What the system refuses. Then the folder is as it was.
    pub fn save(&self, folder: &Path) -> Result<PathBuf, TrainError> {
        let path = folder.join(format!("step-{}.safetensors", self.step));
        self.save_as(&path)?;
        Ok(path)
    }

    /// Writes a file, whole or not at all, for which folders are made.
    ///
    /// # Errors
    /// What the system refuses. Then the folder is as it was.
    pub fn save_as(&self, path: &Path) -> Result<(), TrainError> {
        let fail = |e: &dyn Display| TrainError::file(path, e);
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(|e| TrainError::file(folder, e))?;
        let header = self.header().map_err(|e| fail(&e))?;
        let mut file = temporary(folder).map_err(|e| fail(&e))?;
        let write = |file: &mut File| {
            let mut out = BufWriter::new(file);
            out.write_all(&(header.len() as u64).to_le_bytes())?;
            out.write_all(&header)?;
            out.write_all(self.losses().bytes())?;
            self.tensors.iter().try_for_each(|(_, values)| out.write_all(values.bytes()))?;
            out.flush()
        };
        write(file.as_file_mut()).and_then(|()| file.as_file().sync_all()).map_err(|e| fail(&e))?;
        file.persist(path).map_err(|e| fail(&e.error))?;
        File::open(folder).and_then(|f| f.sync_all()).map_err(|e| TrainError::file(folder, e))
    }

    fn losses(&self) -> Tensor {
        Tensor::vector(&self.history.losses)
    }

    /// The header of the file, filled up so that tensors are aligned.
    fn header(&self) -> Result<Vec<u8>, String> {
        let mut meta: HashMap<String, String> = self.about.clone().into_iter().collect();
        let history = serde_json::to_string(&self.history).map_err(|e| e.to_string())?;
        let own = [(Checkpoint::MARK, self.step.to_string()), (FORMAT, VERSION.to_string()), (HISTORY, history)];
        meta.extend(own.map(|(key, value)| (key.to_string(), value)));
        let mut from = 0;
        let mut info = |name: &str, values: &Tensor, dtype: Dtype| {
            let data_offsets = (from, from + values.bytes().len());
            from = data_offsets.1;
            (name.to_string(), TensorInfo { dtype, shape: values.dims().to_vec(), data_offsets })
        };
        let mut tensors = vec![info(LOSSES, &self.losses(), Dtype::F64)];
        tensors.extend(self.tensors.iter().map(|(name, values)| info(name, values, Dtype::F32)));
        let meta = Metadata::new(Some(meta), tensors).map_err(|e| e.to_string())?;
        let mut header = serde_json::to_vec(&meta).map_err(|e| e.to_string())?;
        header.resize(header.len().next_multiple_of(8), b' ');
        Ok(header)
    }

    /// Reads what [`Checkpoint::save`] wrote.
    ///
    /// # Errors
    /// A file that is none, is not whole, or is of another version of the format.
    pub fn load(path: &Path) -> Result<Checkpoint, TrainError> {
        let fail = |e: &dyn Display| TrainError::file(path, e);
        let bytes = Bytes::from(std::fs::read(path).map_err(|e| fail(&e))?);
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| fail(&e))?;
        let meta = header.metadata().clone().unwrap_or_default();
        let mut about: BTreeMap<String, String> = meta.into_iter().collect();
        let step = about.remove(Checkpoint::MARK).and_then(|step| step.parse().ok());
        let step = step.ok_or_else(|| fail(&"it has no step number: not a checkpoint of lorac"))?;
        match about.remove(FORMAT) {
            Some(version) if version == VERSION => {}
            Some(other) => return Err(fail(&format!("its format is {other}, and this lorac reads {VERSION}"))),
            None => return Err(fail(&"it is of an earlier lorac, whose checkpoints nothing was continued from")),
        }
        let mut history: History = match about.remove(HISTORY).map(|text| serde_json::from_str(&text)) {
            Some(Ok(history)) => history,
            _ => return Err(fail(&"it does not say how the training went")),
        };
        let file = SafeTensors::deserialize(&bytes).map_err(|e| fail(&e))?;
        let mut tensors = Vec::new();
        for (name, view) in file.tensors() {
            let dtype = match view.dtype() {
                Dtype::F64 if name == LOSSES => DType::F64,
                Dtype::F32 => DType::F32,
                other => return Err(fail(&format!("`{name}` is {other:?}, expected F32"))),
            };
            let values = Tensor::new(dtype, view.shape().to_vec(), bytes.slice_ref(view.data()))?;
            match dtype {
                DType::F64 => history.losses = values.to_vec()?,
                _ => tensors.push((name, values)),
            }
        }
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(Checkpoint { step, tensors, history, about })
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

    fn checkpoint() -> Checkpoint {
        let history = History {
            loss_first: Some(0.1 + 0.2),
            losses: vec![1.0 / 3.0, f64::MIN_POSITIVE, 5.0],
            tokens: 9,
            seconds: 0.7,
            best: Some(crate::Best { step: 3, score: 2.0 / 3.0 }),
            ..History::default()
        };
        let tensor = |values: &[f32]| Tensor::from_slice(&[1, values.len()], values).expect("fits");
        let named = |name: &str, values: &[f32]| (name.to_string(), tensor(values));
        let tensors =
            vec![named("m/a", &[0.0, 1e-9]), named("theta/a", &[1.0, -2.5]), named("v/a", &[3.0, f32::MIN_POSITIVE])];
        Checkpoint { step: 7, tensors, history, about: [("k".to_string(), "a \"b\"\n".to_string())].into() }
    }

    #[test]
    fn a_round_trip_keeps_every_bit() {
        let folder = tempfile::tempdir().expect("temp");
        let path = checkpoint().save(folder.path()).expect("saves");
        assert_eq!(Checkpoint::load(&path).expect("loads"), checkpoint());
        assert_eq!(std::fs::read_dir(folder.path()).expect("lists").count(), 1);
        let named = folder.path().join("new/best.safetensors");
        checkpoint().save_as(&named).expect("saves");
        assert_eq!(std::fs::read(&named).expect("reads").len(), std::fs::read(&path).expect("reads").len());
    }

    #[test]
    fn every_shorter_file_is_refused() {
        let folder = tempfile::tempdir().expect("temp");
        let path = checkpoint().save(folder.path()).expect("saves");
        let whole = std::fs::read(&path).expect("reads");
        for len in (0..whole.len()).step_by(7).chain([whole.len() - 1]) {
            std::fs::write(&path, &whole[..len]).expect("writes");
            assert_eq!(Checkpoint::load(&path).expect_err("damaged").code(), "train::file", "{len}");
        }
    }

    #[test]
    fn files_of_others_and_of_other_versions_are_named() {
        let folder = tempfile::tempdir().expect("temp");
        let path = checkpoint().save(folder.path()).expect("saves");
        let whole = std::fs::read(&path).expect("reads");
        for (from, to, says) in [
            ("\"lorac_step\"", "\"other_step\"", "no step number"),
            ("\"lorac_format\":\"2\"", "\"lorac_format\":\"3\"", "its format is 3"),
            ("\"lorac_format\":\"2\"", "\"some_others\" :\"2\"", "of an earlier lorac"),
            ("\"history\"", "\"mystery\"", "does not say how"),
            ("\"F32\"", "\"I32\"", "is I32, expected F32"),
        ] {
            let at = whole.windows(from.len()).position(|bytes| bytes == from.as_bytes()).expect(from);
            let mut bytes = whole.clone();
            bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
            std::fs::write(&path, bytes).expect("writes");
            let error = Checkpoint::load(&path).expect_err(says).to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
