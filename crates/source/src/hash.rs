//! sha256 of files and folders.
//!
//! A folder's sum is over the lines `relative/path\0sha256\n` of its files, sorted by path. Names that start with a
//! dot are left out, so a `.git` or `.DS_Store` changes nothing.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use super::SourceError;

/// A file's sum, and what tells that it is still the same file with the same bytes: as it was when that was last seen.
#[derive(Debug, Clone)]
pub(super) struct Sum {
    pub(super) sha256: String,
    stamp: Arc<Mutex<Stamp>>,
}

impl Sum {
    pub(super) fn new(sha256: String, stamp: Stamp) -> Sum {
        Sum { sha256, stamp: Arc::new(Mutex::new(stamp)) }
    }

    pub(super) fn stamp(&self) -> Stamp {
        *self.stamp.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bytes are the same, and this tells it from now on.
    pub(super) fn set_stamp(&self, stamp: Stamp) {
        *self.stamp.lock().unwrap_or_else(PoisonError::into_inner) = stamp;
    }
}

/// Which file, how large, and when it was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    size: u64,
    modified: Option<SystemTime>,
    /// Device, number, and the seconds and nanoseconds of the last change, which no program can set back.
    unix: Option<[i128; 4]>,
}

/// File systems count changes in no larger steps.
const SETTLED: Duration = Duration::from_secs(3);

impl Stamp {
    pub(super) fn of(meta: &Metadata) -> Stamp {
        #[cfg(unix)]
        let unix = {
            use std::os::unix::fs::MetadataExt;
            Some([meta.dev().into(), meta.ino().into(), meta.ctime().into(), meta.ctime_nsec().into()])
        };
        #[cfg(not(unix))]
        let unix = None;
        Stamp { size: meta.len(), modified: meta.modified().ok(), unix }
    }

    /// Whether the last change is so long ago that another one has another time, whatever clock the file system has.
    pub(super) fn is_settled(&self, now: SystemTime) -> bool {
        let since = |then: SystemTime| now.duration_since(then).is_ok_and(|since| since > SETTLED);
        let changed = self.unix.and_then(|[.., seconds, _]| u64::try_from(seconds).ok());
        let changed = changed.map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        self.modified.is_some_and(since) && changed.is_none_or(since)
    }
}

/// Opens a regular file. A pipe or a device, which may have no end or wait for a writer, is an error.
pub(super) fn open(path: &Path) -> Result<File, SourceError> {
    let special = || SourceError::NotRegular { path: path.to_owned() };
    if !fs::metadata(path).map_err(SourceError::io("read", path))?.is_file() {
        return Err(special());
    }
    let file = File::open(path).map_err(SourceError::io("read", path))?;
    let still = file.metadata().map_err(SourceError::io("read", path))?.is_file();
    if still { Ok(file) } else { Err(special()) }
}

/// The sha256 of a file, in lowercase hexadecimal.
pub(super) fn file(path: &Path) -> Result<String, SourceError> {
    Ok(sum(path)?.sha256)
}

/// The sum of a file that does not change meanwhile.
pub(super) fn sum(path: &Path) -> Result<Sum, SourceError> {
    let mut reader = open(path)?;
    let stamp = |file: &File| file.metadata().map(|meta| Stamp::of(&meta)).map_err(SourceError::io("read", path));
    let before = stamp(&reader)?;
    let (sha256, _) = copy(&mut reader, &mut io::sink()).map_err(SourceError::io("read", path))?;
    if stamp(&reader)? != before {
        return Err(SourceError::Changed { spec: path.display().to_string(), path: path.to_owned() });
    }
    Ok(Sum::new(sha256, before))
}

/// Copies and hashes in one go: the sha256 and the number of bytes.
pub(super) fn copy(from: &mut dyn Read, to: &mut dyn Write) -> io::Result<(String, u64)> {
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 1 << 18];
    let mut total = 0;
    loop {
        let n = match from.read(&mut buffer) {
            Ok(0) => return Ok((hasher.finish(), total)),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        hasher.update(&buffer[..n]);
        to.write_all(&buffer[..n])?;
        total += n as u64;
    }
}

/// A sum that is being taken.
#[derive(Default)]
pub(super) struct Hasher(Sha256);

impl Hasher {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(super) fn finish(self) -> String {
        hex(&self.0.finalize())
    }

    /// Takes all that comes out of a reader.
    #[cfg(feature = "hub")]
    pub(super) fn read(&mut self, from: &mut dyn Read) -> io::Result<()> {
        io::copy(from, &mut self.0).map(drop)
    }
}

/// The sum of a text.
#[cfg(feature = "hub")]
pub(super) fn text(text: &str) -> String {
    hex(&Sha256::digest(text))
}

/// The sum of a folder from its files' paths and sums.
pub(super) fn folder_of<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    lines(files.into_iter().filter(|(path, _)| !hidden(path)).collect())
}

/// The sum of exactly these files, hidden ones included.
pub(super) fn lines(mut lines: Vec<(&str, &str)>) -> String {
    lines.sort_unstable();
    let mut hasher = Sha256::new();
    for (path, sum) in lines {
        hasher.update(format!("{path}\0{sum}\n"));
    }
    hex(&hasher.finalize())
}

/// Folders that link to one another can be walked without end.
const MOST_ENTRIES: usize = 200_000;
/// A link to a folder counts as many.
const LINK: usize = 100;

/// The files of a folder on disk, by their paths relative to it; links are followed.
pub(super) fn folder(path: &Path) -> Result<Vec<(String, Sum)>, SourceError> {
    let mut sums = Vec::new();
    let mut left = MOST_ENTRIES;
    walk(path, "", &mut Vec::new(), &mut left, &mut sums)?;
    Ok(sums)
}

fn walk(
    folder: &Path,
    prefix: &str,
    above: &mut Vec<PathBuf>,
    left: &mut usize,
    sums: &mut Vec<(String, Sum)>,
) -> Result<(), SourceError> {
    let read = SourceError::io;
    let real = folder.canonicalize().map_err(read("read", folder))?;
    // A link to a folder above would never end.
    if above.contains(&real) {
        return Ok(());
    }
    above.push(real);
    for entry in fs::read_dir(folder).map_err(read("read", folder))? {
        let entry = entry.map_err(read("read", folder))?;
        let cost =
            if entry.file_type().is_ok_and(|kind| kind.is_symlink()) && entry.path().is_dir() { LINK } else { 1 };
        *left = left.checked_sub(cost).ok_or_else(|| {
            let why = format!("below it are more than {MOST_ENTRIES} files and folders");
            SourceError::TooLarge { path: folder.to_owned(), why }
        })?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if hidden(&name) {
            continue;
        }
        let path = entry.path();
        let relative = format!("{prefix}{name}");
        let meta = fs::metadata(&path).map_err(read("read", &path))?;
        if meta.is_dir() {
            walk(&path, &format!("{relative}/"), above, left, sums)?;
        } else {
            sums.push((relative, sum(&path)?));
        }
    }
    above.pop();
    Ok(())
}

/// Whether sums leave a path out.
pub(super) fn hidden(path: &str) -> bool {
    path.split('/').any(|part| part.starts_with('.'))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(path: &Path) -> Result<String, SourceError> {
        let sums = super::folder(path)?;
        Ok(folder_of(sums.iter().map(|(path, sum)| (path.as_str(), sum.sha256.as_str()))))
    }

    #[test]
    fn a_stamp_tells_changes_apart_once_the_last_is_long_ago() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, "a").unwrap();
        let meta = fs::metadata(&path).unwrap();
        let settled = |more: u64| Stamp::of(&meta).is_settled(meta.modified().unwrap() + Duration::from_secs(more));
        assert_eq!([0, 1, 9].map(settled), [false, false, true]);
    }

    #[test]
    fn a_file_has_the_standard_sum() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("abc");
        fs::write(&path, "abc").unwrap();
        assert_eq!(file(&path).unwrap(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn a_folder_sum_depends_on_names_and_content_but_not_on_hidden_files() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("sub/b"), "b").unwrap();
        fs::write(dir.path().join("a"), "a").unwrap();
        let first = folder(dir.path()).unwrap();
        let sums = [("sub/b", file(&dir.path().join("sub/b")).unwrap()), ("a", file(&dir.path().join("a")).unwrap())];
        assert_eq!(first, folder_of(sums.iter().map(|(p, s)| (*p, s.as_str()))));

        fs::write(dir.path().join(".DS_Store"), "x").unwrap();
        assert_eq!(folder(dir.path()).unwrap(), first);
        fs::rename(dir.path().join("a"), dir.path().join("c")).unwrap();
        assert_ne!(folder(dir.path()).unwrap(), first);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_a_folder_above_ends() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "a").unwrap();
        let before = folder(dir.path()).unwrap();
        std::os::unix::fs::symlink(dir.path(), dir.path().join("loop")).unwrap();
        assert_eq!(folder(dir.path()).unwrap(), before);
    }

    #[cfg(unix)]
    #[test]
    fn folders_that_link_to_one_another_are_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let names: Vec<String> = (0..12).map(|i| format!("d{i}")).collect();
        names.iter().for_each(|name| fs::create_dir(dir.path().join(name)).unwrap());
        for (from, to) in names.iter().flat_map(|from| names.iter().map(move |to| (from, to))) {
            std::os::unix::fs::symlink(dir.path().join(to), dir.path().join(from).join(to)).unwrap();
        }
        assert_eq!(folder(dir.path()).unwrap_err().code(), "source::too_large");
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_regular_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let _listening = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for path in [Path::new("/dev/zero"), &socket, dir.path()] {
            assert_eq!(file(path).unwrap_err().code(), "source::not_regular", "{}", path.display());
        }
        assert_eq!(folder(dir.path()).unwrap_err().code(), "source::not_regular");
    }
}
