//! What was read, in place of what a path leads to by now.

use super::{Resolved, hash};
use sha2::{Digest, Sha256};
use std::path::Path;

impl Resolved {
    /// This file with the sum of the bytes that were read of it, and of files that it refers to, by their paths relative
    /// to its folder. With any of those, the sha256 is that of a folder that holds all of them and nothing else.
    #[must_use]
    pub fn with_contents<'a>(self, own: &[u8], beside: impl IntoIterator<Item = (&'a Path, &'a [u8])>) -> Self {
        let sum = |bytes: &[u8]| Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let name = |path: &Path| path.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/");
        let mut sums: Vec<(String, String)> =
            beside.into_iter().map(|(path, bytes)| (name(path), sum(bytes))).collect();
        if sums.is_empty() {
            return Self { sha256: sum(own), ..self };
        }
        let file = self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        sums.push((file, sum(own)));
        let sha256 = hash::lines(sums.iter().map(|(path, sum)| (path.as_str(), sum.as_str())).collect());
        Self { sha256, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_sum_of_what_was_read_is_that_of_the_files() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("m.onnx"), "model").unwrap();
        fs::write(dir.path().join("sub/w"), "weights").unwrap();
        let of = |path: &Path, sha256: &str| Resolved {
            path: path.to_owned(),
            sha256: sha256.to_owned(),
            cached: true,
            source: String::new(),
            files: crate::Files::default(),
        };
        let file = dir.path().join("m.onnx");
        let alone = of(&file, "old").with_contents(b"abc", []);
        assert_eq!(alone.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        let both = of(&file, "old").with_contents(b"model", [(Path::new("sub/w"), &b"weights"[..])]);
        let resolver = crate::Resolver::new(Some(dir.path().join(".cache")), dir.path()).unwrap();
        let folder = resolver.resolve(&crate::Source::Path(dir.path().to_owned()), None).unwrap();
        assert_eq!(both.sha256, folder.sha256);
    }
}
