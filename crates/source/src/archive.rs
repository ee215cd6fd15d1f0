//! Wheels, which are zip files: finding and unpacking what a path names.
//!
//! No entry with an absolute name, a `..`, a backslash or a control character is accepted, asked for or not; links and
//! devices are never unpacked, and a wheel that claims or turns out to be larger than any package is refused.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use lorac_config::nearest;
use zip::ZipArchive;

use super::SourceError;
use super::hash;
use super::progress::{Counted, Progress, Work};

/// What no package exceeds.
#[derive(Debug, Clone, Copy)]
struct Limits {
    entries: usize,
    /// Bytes of all entries, unpacked.
    largest: u64,
    /// What is unpacked may be as many times as large as the wheel, beyond `small`.
    ratio: u64,
    /// Bytes that any wheel may have, however well they are compressed.
    small: u64,
}

/// Of packages that people ship the largest have some ten thousand entries; weights shrink by a tenth, text to a fifth.
const LIMITS: Limits = Limits { entries: 200_000, largest: 64 << 30, ratio: 100, small: 256 << 20 };

/// What a path named.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// One file; for an ONNX model, the external data beside it came along.
    File,
    /// A folder.
    Folder,
}

/// Receives each unpacked file: its path and content.
pub(super) type Sink<'a> = dyn FnMut(&str, &mut dyn Read) -> Result<(), SourceError> + 'a;

struct Entry {
    /// Checked and stripped; empty for a folder.
    path: String,
    size: u64,
    /// Why it cannot be unpacked, for links and the like.
    refusal: Option<&'static str>,
}

/// Unpacks the file or folder `path` of `archive` into `sink`; an empty path is everything.
pub(super) fn unpack(
    spec: &str,
    archive: &Path,
    path: &str,
    progress: Option<&dyn Progress>,
    sink: &mut Sink<'_>,
) -> Result<Found, SourceError> {
    unpack_within(LIMITS, spec, archive, path, progress, sink)
}

fn unpack_within(
    limits: Limits,
    spec: &str,
    archive: &Path,
    path: &str,
    progress: Option<&dyn Progress>,
    sink: &mut Sink<'_>,
) -> Result<Found, SourceError> {
    let mut zip = open(archive)?;
    let entries = entries(limits, archive, &mut zip)?;
    let file = entries.iter().any(|entry| !path.is_empty() && entry.path == path);
    let selected = |name: &str| match file {
        true => name == path || is_external_data(path, name),
        false => !name.is_empty() && (path.is_empty() || below(path, name)),
    };
    if !entries.iter().any(|entry| selected(&entry.path)) {
        let names = entries.iter().flat_map(|entry| prefixes(&entry.path));
        return Err(SourceError::NoSuchEntry {
            spec: spec.to_owned(),
            path: path.to_owned(),
            archive: archive.to_owned(),
            nearest: nearest(path, names),
        });
    }
    if let Some((entry, why)) = entries.iter().find_map(|e| e.refusal.filter(|_| selected(&e.path)).map(|why| (e, why)))
    {
        return Err(unsafe_entry(archive, &entry.path, why));
    }

    let total = entries.iter().filter(|entry| selected(&entry.path)).map(|entry| entry.size).sum();
    let work = Work::begin(progress, &format!("unpacking {spec}"));
    let mut done = 0;
    for (i, entry) in entries.iter().enumerate().filter(|(_, entry)| selected(&entry.path)) {
        let content = zip.by_index(i).map_err(|e| broken(archive, e))?;
        // One byte more than announced is enough to know better.
        let mut content = content.take(entry.size.saturating_add(1));
        let before = done;
        sink(&entry.path, &mut Counted { content: &mut content, work: &work, done: &mut done, total })?;
        if done - before > entry.size {
            let why = format!("its entry `{}` is larger than the {} bytes that it announces", entry.path, entry.size);
            return Err(SourceError::TooLarge { path: archive.to_owned(), why });
        }
    }
    Ok(if file { Found::File } else { Found::Folder })
}

fn open(archive: &Path) -> Result<ZipArchive<BufReader<File>>, SourceError> {
    ZipArchive::new(BufReader::new(hash::open(archive)?)).map_err(|e| broken(archive, e))
}

/// Every entry, by its number, checked. Folders have an empty path.
fn entries(limits: Limits, archive: &Path, zip: &mut ZipArchive<BufReader<File>>) -> Result<Vec<Entry>, SourceError> {
    let too_large = |why: String| SourceError::TooLarge { path: archive.to_owned(), why };
    if zip.len() > limits.entries {
        return Err(too_large(format!("it has {} entries, and {} are the most", zip.len(), limits.entries)));
    }
    let packed = archive.metadata().map_err(SourceError::io("read", archive))?.len();
    let most = limits.largest.min(limits.small.saturating_add(packed.saturating_mul(limits.ratio)));
    let (mut all, mut total) = (Vec::with_capacity(zip.len()), 0u64);
    for i in 0..zip.len() {
        let content = zip.by_index_raw(i).map_err(|e| broken(archive, e))?;
        let path = checked(archive, content.name())?;
        total = total.saturating_add(content.size());
        if total > most {
            return Err(too_large(format!("unpacked it has more than {most} bytes, and {packed} packed")));
        }
        let refusal = match content.unix_mode().map_or(0, |mode| mode & 0o170_000) {
            0 | 0o100_000 | 0o040_000 => None,
            0o120_000 => Some("it is a symbolic link"),
            _ => Some("it is neither a file nor a folder"),
        };
        let path = if content.is_dir() { String::new() } else { path };
        all.push(Entry { path, size: content.size(), refusal });
    }
    Ok(all)
}

/// The entry's path, checked.
fn checked(archive: &Path, name: &str) -> Result<String, SourceError> {
    let refuse = |why| Err(unsafe_entry(archive, name, why));
    if name.starts_with('/') {
        return refuse("its name is absolute");
    }
    if name.contains('\\') || name.contains(char::is_control) || (cfg!(windows) && name.contains(':')) {
        return refuse("its name holds a character that no package needs");
    }
    let parts: Vec<&str> = name.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return refuse("its name leads out of the folder");
    }
    Ok(parts.join("/"))
}

/// Whether `name` holds weights of the model `path`, under one of the names that exporters use.
fn is_external_data(path: &str, name: &str) -> bool {
    path.ends_with(".onnx") && name.strip_prefix(path).is_some_and(|end| super::EXTERNAL_DATA_SUFFIXES.contains(&end))
}

fn below(folder: &str, name: &str) -> bool {
    name.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

/// `a/b/c` and every folder it lies in.
fn prefixes(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at]).chain([path])
}

fn unsafe_entry(archive: &Path, entry: &str, why: &str) -> SourceError {
    SourceError::UnsafeEntry {
        archive: archive.to_owned(),
        entry: entry.escape_debug().to_string(),
        why: why.to_owned(),
    }
}

fn broken(archive: &Path, reason: impl ToString) -> SourceError {
    SourceError::Archive { archive: archive.to_owned(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::testing::write_zip;
    use super::*;

    fn unpacked(archive: &Path, path: &str) -> Result<Vec<(String, String)>, SourceError> {
        let mut files = Vec::new();
        unpack("pypi:x==1", archive, path, None, &mut |name, content| {
            let mut text = String::new();
            content.read_to_string(&mut text).map_err(SourceError::io("read", archive))?;
            files.push((name.to_owned(), text));
            Ok(())
        })?;
        files.sort();
        Ok(files)
    }

    fn names(archive: &Path, path: &str) -> Vec<String> {
        unpacked(archive, path).unwrap().into_iter().map(|(name, _)| name).collect()
    }

    fn sample(dir: &Path) -> PathBuf {
        let path = dir.join("x-1-py3-none-any.whl");
        let files = ["pkg/a.txt", "pkg/m/one.bin", "pkg/m/sub/two.bin", "pkg/mm.txt", "pkg/n.onnx", "pkg/n.onnx_data"];
        write_zip(&path, &files.map(|name| (name, name)));
        path
    }

    #[test]
    fn files_and_folders_come_out() {
        let dir = tempfile::tempdir().unwrap();
        let archive = sample(dir.path());
        let a = unpacked(&archive, "pkg/a.txt").unwrap();
        assert_eq!(a, [("pkg/a.txt".to_owned(), "pkg/a.txt".to_owned())]);
        assert_eq!(names(&archive, "pkg/m"), ["pkg/m/one.bin", "pkg/m/sub/two.bin"]);
        assert_eq!(names(&archive, "").len(), 6);
        assert_eq!(names(&archive, "pkg/n.onnx"), ["pkg/n.onnx", "pkg/n.onnx_data"]);
    }

    #[test]
    fn a_missing_entry_names_the_nearest() {
        let dir = tempfile::tempdir().unwrap();
        match unpacked(&sample(dir.path()), "pkg/m/one.bim") {
            Err(SourceError::NoSuchEntry { nearest, .. }) => assert_eq!(nearest[0], "pkg/m/one.bin"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn names_that_lead_out_are_refused_even_when_not_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        for bad in ["../evil", "pkg/../../evil", "/etc/evil", "pkg\\..\\..\\evil", "pkg/\u{1b}[2J"] {
            let archive = dir.path().join("x-1-py3-none-any.whl");
            write_zip(&archive, &[("pkg/a.txt", "a"), (bad, "evil")]);
            match unpacked(&archive, "pkg/a.txt") {
                Err(SourceError::UnsafeEntry { entry, .. }) => assert_eq!(entry, bad.escape_debug().to_string()),
                other => panic!("{bad}: {other:?}"),
            }
        }
    }

    #[test]
    fn links_are_refused_when_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let wheel = dir.path().join("x-1-py3-none-any.whl");
        let mut zip = zip::ZipWriter::new(File::create(&wheel).unwrap());
        zip.add_symlink("pkg/link", "/etc/passwd", zip::write::SimpleFileOptions::default()).unwrap();
        zip.start_file("pkg/a.txt", zip::write::SimpleFileOptions::default()).unwrap();
        zip.finish().unwrap();

        assert_eq!(names(&wheel, "pkg/a.txt"), ["pkg/a.txt"]);
        for path in ["pkg/link", "pkg", ""] {
            assert!(matches!(unpacked(&wheel, path), Err(SourceError::UnsafeEntry { .. })), "{path:?}");
        }
    }

    #[test]
    fn a_bomb_is_refused_before_it_goes_off() {
        let dir = tempfile::tempdir().unwrap();
        let wheel = dir.path().join("x-1-py3-none-any.whl");
        let zeros = "0".repeat(100_000);
        write_zip(&wheel, &[("pkg/0", &zeros), ("pkg/1", &zeros), ("pkg/2", &zeros)]);
        let limits = Limits { small: 250_000, ratio: 10, ..LIMITS };
        let mut read = 0;
        let mut refused = |limits| {
            let unpacked = unpack_within(limits, "pypi:x==1", &wheel, "pkg/0", None, &mut |_, _| {
                read += 1;
                Ok(())
            });
            unpacked.map_or_else(|error| error.to_string(), |_| String::new())
        };
        assert!(refused(limits).contains("unpacked it has more than"));
        assert!(refused(Limits { largest: 299_999, ..LIMITS }).contains("more than 299999 bytes"));
        assert!(refused(Limits { entries: 2, ..LIMITS }).contains("it has 3 entries"));
        assert_eq!(refused(Limits { small: 300_000, entries: 3, ..limits }), "");
        assert_eq!(read, 1);
    }

    #[test]
    fn an_entry_that_is_larger_than_it_says_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let wheel = dir.path().join("x-1-py3-none-any.whl");
        write_zip(&wheel, &[("pkg/a", &"a".repeat(50_000))]);
        let mut bytes = std::fs::read(&wheel).unwrap();
        let large = 50_000u32.to_le_bytes();
        let places: Vec<usize> = (0..bytes.len() - 4).filter(|at| bytes[*at..*at + 4] == large).collect();
        assert!(!places.is_empty());
        places.iter().for_each(|at| bytes[*at..*at + 4].copy_from_slice(&10u32.to_le_bytes()));
        std::fs::write(&wheel, bytes).unwrap();
        let mut read = 0;
        let refused = unpack("pypi:x==1", &wheel, "pkg/a", None, &mut |_, content| {
            read = std::io::copy(content, &mut std::io::sink()).map_err(SourceError::io("read", &wheel))?;
            Ok(())
        });
        assert!(refused.is_err() && read <= 11, "{refused:?} after {read} bytes");
    }

    #[test]
    fn a_truncated_archive_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let archive = sample(dir.path());
        let bytes = std::fs::read(&archive).unwrap();
        std::fs::write(&archive, &bytes[..bytes.len() / 2]).unwrap();
        assert!(matches!(unpacked(&archive, ""), Err(SourceError::Archive { .. })));
    }
}
