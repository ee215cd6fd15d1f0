//! A download that is not finished: its bytes, and the tag of the content that they are of, under names of lorac's own.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use crate::{SourceError, hash, store};

/// Longer tags name nothing that could be gone on with.
const LONGEST_TAG: u64 = 512;

/// The place of an unfinished file.
pub(crate) struct Partial {
    bytes: PathBuf,
    tag: PathBuf,
}

impl Partial {
    /// The place for the file `path` of a repository, below a store's root, which is locked.
    pub(crate) fn new(root: &Path, path: &str) -> Result<Partial, SourceError> {
        let folder = root.join("partial");
        store::folder(root, &folder)?;
        let name = hash::text(path);
        Ok(Partial { bytes: folder.join(&name), tag: folder.join(format!("{name}.tag")) })
    }

    /// What an earlier run left: so many bytes of the content with this tag. Nothing where it is not known of what.
    pub(crate) fn left(&self) -> Option<(u64, String)> {
        let plain = |path: &Path| fs::symlink_metadata(path).ok().filter(|meta| meta.is_file());
        let bytes = plain(&self.bytes)?.len();
        plain(&self.tag)?;
        let mut tag = String::new();
        File::open(&self.tag).ok()?.take(LONGEST_TAG).read_to_string(&mut tag).ok()?;
        (bytes > 0 && !tag.is_empty()).then_some((bytes, tag))
    }

    /// Begins anew.
    pub(crate) fn create(&self, tag: Option<&str>) -> Result<File, SourceError> {
        self.remove()?;
        if let Some(tag) = tag.filter(|tag| (tag.len() as u64) < LONGEST_TAG) {
            let mut file = File::create_new(&self.tag).map_err(SourceError::io("create", &self.tag))?;
            file.write_all(tag.as_bytes()).map_err(SourceError::io("write", &self.tag))?;
        }
        File::create_new(&self.bytes).map_err(SourceError::io("create", &self.bytes))
    }

    /// Goes on after what is there.
    pub(crate) fn append(&self) -> Result<File, SourceError> {
        File::options().append(true).read(true).open(&self.bytes).map_err(SourceError::io("write", &self.bytes))
    }

    /// Where the bytes are.
    pub(crate) fn path(&self) -> &Path {
        &self.bytes
    }

    /// Removes it.
    pub(crate) fn remove(&self) -> Result<(), SourceError> {
        for path in [&self.bytes, &self.tag] {
            match fs::remove_file(path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(SourceError::io("remove", path)(e)),
                _ => {}
            }
        }
        Ok(())
    }
}
