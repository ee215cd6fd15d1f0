//! The output folder: files appear in it whole, and the manifest last.

use crate::error::Error;
use crate::output::{Artifact, Manifest, sha256_file};
use lorac_train::TrainError;
use serde::Serialize;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// An output folder that can be written to.
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Makes the folder if need be, and tries it: a run must not end for want of a place to put its result.
    pub(crate) fn open(path: &Path) -> Result<Folder, Error> {
        std::fs::create_dir_all(path).map_err(|e| refused(path, &e))?;
        tempfile::NamedTempFile::new_in(path).map_err(|e| refused(path, &e))?;
        Ok(Folder { path: path.to_path_buf() })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where checkpoints go.
    pub(crate) fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// Removes a checkpoint, and their folder where it was the only one.
    pub(crate) fn forget(&self, checkpoint: &Path) {
        // What cannot be removed does no harm.
        _ = std::fs::remove_file(checkpoint).and_then(|()| std::fs::remove_dir(self.checkpoints()));
    }

    /// Begins metrics.jsonl anew. A manifest of an earlier run goes: it would speak of files that are about to be
    /// replaced.
    pub(crate) fn metrics(&self) -> Result<Metrics, Error> {
        match std::fs::remove_file(self.path.join("manifest.json")) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(refused(&self.path, &e)),
            _ => {}
        }
        let path = self.path.join("metrics.jsonl");
        let file = File::create(&path).map_err(|e| TrainError::File { path: path.clone(), why: e.to_string() })?;
        Ok(Metrics { path, file: BufWriter::new(file) })
    }

    /// Files of the run, given with their kinds, and their sums.
    pub(crate) fn artifacts(&self, files: &[(String, &'static str)]) -> Result<Vec<Artifact>, Error> {
        let one = |(path, kind): &(String, &'static str)| {
            let (sha256, size) = sha256_file(&self.path.join(path))?;
            Ok(Artifact { path: path.clone(), sha256, size, kind: kind.to_string() })
        };
        files.iter().map(one).collect()
    }

    pub(crate) fn manifest(&self, manifest: &Manifest) -> Result<(), Error> {
        manifest.write(&self.path)?;
        Ok(())
    }
}

fn refused(path: &Path, e: &std::io::Error) -> Error {
    Error::Usage(format!("the output folder {} cannot be written: {e}; choose another with --out", path.display()))
}

/// metrics.jsonl, one line per step, each flushed so that it can be followed.
pub(crate) struct Metrics {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Metrics {
    pub(crate) fn write(&mut self, row: &impl Serialize) -> Result<(), TrainError> {
        let fail = |why: String| TrainError::File { path: self.path.clone(), why };
        let mut line = serde_json::to_vec(row).map_err(|e| fail(e.to_string()))?;
        line.push(b'\n');
        self.file.write_all(&line).and_then(|()| self.file.flush()).map_err(|e| fail(e.to_string()))
    }

    pub(crate) fn finish(&mut self) -> Result<(), TrainError> {
        let sync = self.file.flush().and_then(|()| self.file.get_ref().sync_all());
        sync.map_err(|e| TrainError::File { path: self.path.clone(), why: e.to_string() })
    }
}
