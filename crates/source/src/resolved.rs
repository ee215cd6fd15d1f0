//! A source that is on this machine, and the files that its sum is of.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::hash::{self, Stamp, Sum};
use super::{SourceError, checked_sha256};

/// A source that is on this machine.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The file or folder.
    pub path: PathBuf,
    /// Of a file, its sha256. Of a folder, the sha256 over the lines `relative/path\0sha256\n` of its files, sorted;
    /// names that start with a dot are left out.
    pub sha256: String,
    /// Nothing had to be downloaded for this call.
    pub cached: bool,
    /// The source as text.
    pub source: String,
    /// The files that the sum is of.
    pub files: Files,
}

/// Files as they were when they were hashed.
#[derive(Debug, Clone, Default)]
pub struct Files {
    pub(super) sums: BTreeMap<PathBuf, Sum>,
    /// They lie in the cache.
    pub(super) cached: bool,
    /// Their bytes were read for a pin.
    pub(super) pinned: bool,
}

impl PartialEq for Resolved {
    /// Whether path, sum and source are the same: a file that was written again with the same bytes is the same.
    fn eq(&self, other: &Self) -> bool {
        let key = |r: &Self| (r.path.clone(), r.sha256.clone(), r.cached, r.source.clone());
        key(self) == key(other)
    }
}

impl Eq for Resolved {}

impl Resolved {
    /// Whether the content has the sum, if one is given.
    pub fn check(&self, expect_sha256: Option<&str>) -> Result<(), SourceError> {
        match expect_sha256.map(checked_sha256).transpose()? {
            Some(want) if want != self.sha256 => Err(SourceError::Sha256Mismatch {
                spec: self.source.clone(),
                path: self.path.clone(),
                want,
                got: self.sha256.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// Opens one of the files. What comes out is what the sum is of: a path that leads to another file by now, or a file
    /// that was written to, is hashed again through the very handle that is returned.
    ///
    /// # Errors
    /// [`SourceError::Changed`]: other content by now, or a file that the sum does not cover.
    pub fn open(&self, file: &Path) -> Result<File, SourceError> {
        let changed = || SourceError::Changed { spec: self.source.clone(), path: file.to_owned() };
        let sum = self.files.sums.get(file).ok_or_else(changed)?;
        let mut opened = hash::open(file)?;
        let stamp =
            |opened: &File| opened.metadata().map(|meta| Stamp::of(&meta)).map_err(SourceError::io("read", file));
        let before = stamp(&opened)?;
        if before != sum.stamp() {
            let (now, _) = hash::copy(&mut opened, &mut std::io::sink()).map_err(SourceError::io("read", file))?;
            if now != sum.sha256 {
                return Err(changed());
            }
            if stamp(&opened)? == before && before.is_settled(SystemTime::now()) {
                sum.set_stamp(before);
            }
            opened.seek(SeekFrom::Start(0)).map_err(SourceError::io("read", file))?;
        }
        Ok(opened)
    }

    /// The files that the sum is of: of a folder, all below it but hidden ones.
    pub fn listed(&self) -> impl Iterator<Item = &Path> {
        self.files.sums.keys().map(PathBuf::as_path)
    }

    /// Whether a file may be read as one of this source: the sum is of it, or it lies beside a file of the user's own, or
    /// beside a folder of the user's own called `onnx`, into which exporters put what is of the folder above.
    /// What else lies in a folder, or in the cache beside a file, is not of the source.
    pub fn has(&self, file: &Path) -> bool {
        let may_lie = || !self.path.is_dir() || (self.path.ends_with("onnx") && file.parent() == self.path.parent());
        self.files.sums.contains_key(file) || (!self.files.cached && may_lie() && file.is_file())
    }

    /// Whether the bytes were read for a pin, whatever the cache says of them: what is made of them must not come from
    /// the cache either.
    pub fn is_pinned(&self) -> bool {
        self.files.pinned
    }

    /// Refuses a folder of the cache that holds a file which the sum is not of. For readers of whole folders.
    ///
    /// # Errors
    /// [`SourceError::Unlisted`] names the first such file.
    pub fn nothing_else(&self) -> Result<(), SourceError> {
        match self.files.cached && self.path.is_dir() {
            true => self.nothing_else_below(&self.path),
            false => Ok(()),
        }
    }

    fn nothing_else_below(&self, folder: &Path) -> Result<(), SourceError> {
        for entry in std::fs::read_dir(folder).map_err(SourceError::io("read", folder))? {
            let entry = entry.map_err(SourceError::io("read", folder))?;
            let path = entry.path();
            if hash::hidden(&entry.file_name().to_string_lossy()) {
                continue;
            }
            if entry.file_type().map_err(SourceError::io("read", &path))?.is_dir() {
                self.nothing_else_below(&path)?;
            } else if !self.files.sums.contains_key(&path) {
                return Err(SourceError::Unlisted { spec: self.source.clone(), path });
            }
        }
        Ok(())
    }

    /// Whether every file is still what the sum is of. Between a sum and this, what was read by path is what was hashed.
    ///
    /// # Errors
    /// [`SourceError::Changed`] names the first file that is not.
    pub fn unchanged(&self) -> Result<(), SourceError> {
        self.files.sums.keys().try_for_each(|file| self.open(file).map(drop))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Resolver;
    use std::fs;

    fn resolved(path: &Path) -> Resolved {
        let resolver = Resolver::new(Some(path.join("no-cache")), path).unwrap();
        resolver.resolve(&crate::Source::Path(path.to_owned()), None).unwrap()
    }

    #[test]
    fn what_lies_above_a_folder_of_exports_is_of_it() {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["bart/onnx", "bart/other"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
            fs::write(dir.path().join(folder).join("w"), "one").unwrap();
        }
        let config = dir.path().join("bart/config.json");
        fs::write(&config, "{}").unwrap();
        fs::write(dir.path().join("config.json"), "{}").unwrap();
        let [exports, other] = ["onnx", "other"].map(|name| resolved(&dir.path().join("bart").join(name)));
        assert!(exports.has(&config) && !other.has(&config));
        assert!(!exports.has(&dir.path().join("config.json")) && !exports.has(&dir.path().join("bart/other/w")));
    }

    #[test]
    fn what_is_opened_is_what_was_hashed() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("model");
        fs::create_dir(&folder).unwrap();
        let file = folder.join("w");
        fs::write(&file, "one").unwrap();
        let found = resolved(&folder);
        let read =
            |found: &Resolved| std::io::read_to_string(found.open(&file)?).map_err(SourceError::io("read", &file));
        assert_eq!(read(&found).unwrap(), "one");
        assert!(found.unchanged().is_ok());

        // Another file with the same bytes is as good, other bytes are not, whatever size and time they have.
        let old = fs::metadata(&file).unwrap().modified().unwrap();
        fs::remove_file(&file).unwrap();
        fs::write(&file, "one").unwrap();
        assert_eq!(read(&found).unwrap(), "one");
        fs::write(&file, "two").unwrap();
        File::options().write(true).open(&file).unwrap().set_modified(old).unwrap();
        if cfg!(unix) {
            assert_eq!(read(&found).unwrap_err().code(), "source::changed");
            assert_eq!(found.unchanged().unwrap_err().code(), "source::changed");
        }
        fs::write(folder.join("new"), "x").unwrap();
        assert_eq!(found.open(&folder.join("new")).unwrap_err().code(), "source::changed");
    }
}
