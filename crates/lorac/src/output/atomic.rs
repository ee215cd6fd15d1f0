//! Files that appear whole, and their sums.

use super::OutputError;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use tempfile::NamedTempFile;

/// Writes a file beside its place, syncs it, and lets it take the place.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), OutputError> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = temporary(folder).map_err(OutputError::io(path))?;
    let whole = file.as_file_mut().write_all(bytes).and_then(|()| file.as_file().sync_all());
    whole.map_err(OutputError::io(path))?;
    file.persist(path).map_err(|e| OutputError::Io { path: path.to_path_buf(), source: e.error })?;
    File::open(folder).and_then(|f| f.sync_all()).map_err(OutputError::io(folder))
}

/// Names of files and folders that are not finished: between these a few characters.
pub(crate) const TEMPORARY: (&str, &str) = (".lorac-", ".tmp");

/// A temporary file in a folder that becomes a result: whoever may read what the user writes may read it.
pub(crate) fn temporary(folder: &Path) -> io::Result<NamedTempFile> {
    use std::os::unix::fs::OpenOptionsExt;
    // The umask takes away what the user does not grant. What `tempfile` opens itself has errors that name it, and not the
    // file that the user asked for.
    let open = |path: &Path| File::options().read(true).write(true).create_new(true).mode(0o666).open(path);
    tempfile::Builder::new().prefix(TEMPORARY.0).suffix(TEMPORARY.1).make_in(folder, open)
}

/// The sum of bytes, in hex.
pub fn sha256(bytes: &[u8]) -> String {
    hex(Sha256::digest(bytes).as_slice())
}

/// The sum of a file, in hex, and its size.
pub fn sha256_file(path: &Path) -> Result<(String, u64), OutputError> {
    let mut file = File::open(path).map_err(OutputError::io(path))?;
    let (mut hash, mut size, mut buffer) = (Sha256::new(), 0u64, vec![0u8; 1 << 16]);
    loop {
        let n = file.read(&mut buffer).map_err(OutputError::io(path))?;
        if n == 0 {
            return Ok((hex(hash.finalize().as_slice()), size));
        }
        hash.update(&buffer[..n]);
        size += n as u64;
    }
}

/// Bytes in hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_replaced_whole_and_summed() {
        let folder = tempfile::tempdir().expect("temp");
        let path = folder.path().join("a");
        write_atomic(&path, b"one").expect("writes");
        write_atomic(&path, b"abc").expect("writes");
        let (sum, size) = sha256_file(&path).expect("reads");
        assert_eq!((sum.as_str(), size), ("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", 3));
        assert_eq!(std::fs::read_dir(folder.path()).expect("lists").count(), 1);
        let plain = folder.path().join("b");
        std::fs::write(&plain, "b").expect("writes");
        let mode = |path: &Path| std::fs::metadata(path).expect("is there").permissions();
        assert_eq!(mode(&path), mode(&plain), "as the umask says");
        std::fs::remove_file(&plain).expect("removes");
        let missing = folder.path().join("no/such/folder/file");
        let error = write_atomic(&missing, b"x").expect_err("no folder").to_string();
        assert!(error.contains("no/such/folder/file: ") && !error.contains(TEMPORARY.0), "{error}");
    }
}
