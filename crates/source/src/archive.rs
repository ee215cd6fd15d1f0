//! Wheels (zip) and source archives (tar.gz, zip): finding and unpacking what a path names.
//!
//! No entry with an absolute name, a `..` or a backslash is accepted, asked for or not; links and devices are never
//! unpacked. A source archive's top folder is not part of its paths.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use flate2::read::GzDecoder;
use lorac_config::nearest;
use tar::EntryType;
use zip::ZipArchive;

use super::SourceError;
use super::progress::{Counted, Progress, Work};

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
    let mut entries = Vec::new();
    each_entry(archive, &mut |entry, _| {
        entries.push(entry);
        Ok(())
    })?;
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
    each_entry(archive, &mut |entry, content| match selected(&entry.path) {
        true => sink(&entry.path, &mut Counted { content, work: &work, done: &mut done, total }),
        false => Ok(()),
    })?;
    Ok(if file { Found::File } else { Found::Folder })
}

type Visit<'a> = dyn FnMut(Entry, &mut dyn Read) -> Result<(), SourceError> + 'a;

fn each_entry(archive: &Path, visit: &mut Visit<'_>) -> Result<(), SourceError> {
    let name = archive.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let file = BufReader::new(File::open(archive).map_err(SourceError::io("read", archive))?);
    match name.as_str() {
        name if name.ends_with(".whl") => each_zip(archive, file, false, visit),
        name if name.ends_with(".zip") => each_zip(archive, file, true, visit),
        name if name.ends_with(".tar.gz") || name.ends_with(".tgz") => each_tar(archive, file, visit),
        _ => Err(broken(archive, "it is neither a wheel nor a .tar.gz or .zip")),
    }
}

fn each_zip(archive: &Path, file: BufReader<File>, strip: bool, visit: &mut Visit<'_>) -> Result<(), SourceError> {
    let mut zip = ZipArchive::new(file).map_err(|e| broken(archive, e))?;
    for i in 0..zip.len() {
        let mut content = zip.by_index(i).map_err(|e| broken(archive, e))?;
        let path = checked(archive, content.name(), strip)?;
        if content.is_dir() {
            continue;
        }
        let refusal = content.is_symlink().then_some("it is a symbolic link");
        visit(Entry { path, size: content.size(), refusal }, &mut content)?;
    }
    Ok(())
}

fn each_tar(archive: &Path, file: BufReader<File>, visit: &mut Visit<'_>) -> Result<(), SourceError> {
    let mut tar = tar::Archive::new(GzDecoder::new(file));
    for content in tar.entries().map_err(|e| broken(archive, e))? {
        let mut content = content.map_err(|e| broken(archive, e))?;
        let refusal = match content.header().entry_type() {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => None,
            EntryType::Symlink => Some("it is a symbolic link"),
            EntryType::Link => Some("it is a hard link"),
            EntryType::Directory | EntryType::XGlobalHeader => continue,
            _ => Some("it is neither a file nor a folder"),
        };
        let name = String::from_utf8_lossy(&content.path_bytes()).into_owned();
        let path = checked(archive, &name, true)?;
        visit(Entry { path, size: content.size(), refusal }, &mut content)?;
    }
    Ok(())
}

/// The entry's path, checked, and without its first part where `strip` is set.
fn checked(archive: &Path, name: &str, strip: bool) -> Result<String, SourceError> {
    let refuse = |why| Err(unsafe_entry(archive, name, why));
    if name.starts_with('/') {
        return refuse("its name is absolute");
    }
    if name.contains('\\') || name.contains('\0') || (cfg!(windows) && name.contains(':')) {
        return refuse("its name holds a character that no package needs");
    }
    let parts: Vec<&str> = name.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return refuse("its name leads out of the folder");
    }
    Ok(parts[usize::from(strip && !parts.is_empty())..].join("/"))
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
    SourceError::UnsafeEntry { archive: archive.to_owned(), entry: entry.to_owned(), why: why.to_owned() }
}

fn broken(archive: &Path, reason: impl ToString) -> SourceError {
    SourceError::Archive { archive: archive.to_owned(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::testing::{write_tar_gz, write_zip};
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

    fn sample(dir: &Path, name: &str, top: &str) -> PathBuf {
        let path = dir.join(name);
        let files = ["pkg/a.txt", "pkg/m/one.bin", "pkg/m/sub/two.bin", "pkg/mm.txt", "pkg/n.onnx", "pkg/n.onnx_data"];
        let files: Vec<(String, &str)> = files.iter().map(|name| (format!("{top}{name}"), *name)).collect();
        let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), *text)).collect();
        if name.ends_with(".tar.gz") {
            write_tar_gz(&path, &files)
        } else {
            write_zip(&path, &files)
        }
        path
    }

    #[test]
    fn files_and_folders_come_out_of_every_kind_of_archive() {
        let dir = tempfile::tempdir().unwrap();
        for (name, top) in [("x-1-py3-none-any.whl", ""), ("x-1.tar.gz", "x-1/"), ("x-1.zip", "x-1/")] {
            let archive = sample(dir.path(), name, top);
            let a = unpacked(&archive, "pkg/a.txt").unwrap();
            assert_eq!(a, [("pkg/a.txt".to_owned(), "pkg/a.txt".to_owned())], "{name}");
            assert_eq!(names(&archive, "pkg/m"), ["pkg/m/one.bin", "pkg/m/sub/two.bin"], "{name}");
            assert_eq!(names(&archive, "").len(), 6, "{name}");
            assert_eq!(names(&archive, "pkg/n.onnx"), ["pkg/n.onnx", "pkg/n.onnx_data"], "{name}");
        }
    }

    #[test]
    fn a_missing_entry_names_the_nearest() {
        let dir = tempfile::tempdir().unwrap();
        let archive = sample(dir.path(), "x-1-py3-none-any.whl", "");
        match unpacked(&archive, "pkg/m/one.bim") {
            Err(SourceError::NoSuchEntry { nearest, .. }) => assert_eq!(nearest[0], "pkg/m/one.bin"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn names_that_lead_out_are_refused_even_when_not_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        for bad in ["../evil", "pkg/../../evil", "/etc/evil", "pkg\\..\\..\\evil"] {
            let archive = dir.path().join("x-1-py3-none-any.whl");
            write_zip(&archive, &[("pkg/a.txt", "a"), (bad, "evil")]);
            match unpacked(&archive, "pkg/a.txt") {
                Err(SourceError::UnsafeEntry { entry, .. }) => assert_eq!(entry, bad),
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

        let sdist = dir.path().join("x-1.tar.gz");
        let gz = flate2::write::GzEncoder::new(File::create(&sdist).unwrap(), flate2::Compression::fast());
        let mut tar = tar::Builder::new(gz);
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.set_mode(0o644);
        header.set_entry_type(EntryType::Regular);
        tar.append_data(&mut header, "x-1/pkg/a.txt", std::io::empty()).unwrap();
        header.set_entry_type(EntryType::Symlink);
        tar.append_link(&mut header, "x-1/pkg/link", "/etc/passwd").unwrap();
        tar.into_inner().unwrap().finish().unwrap();

        for archive in [wheel, sdist] {
            assert_eq!(names(&archive, "pkg/a.txt"), ["pkg/a.txt"]);
            for path in ["pkg/link", "pkg", ""] {
                assert!(matches!(unpacked(&archive, path), Err(SourceError::UnsafeEntry { .. })), "{path:?}");
            }
        }
    }

    #[test]
    fn a_truncated_archive_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["x-1-py3-none-any.whl", "x-1.tar.gz"] {
            let archive = sample(dir.path(), name, "x-1/");
            let bytes = std::fs::read(&archive).unwrap();
            std::fs::write(&archive, &bytes[..bytes.len() / 2]).unwrap();
            assert!(matches!(unpacked(&archive, ""), Err(SourceError::Archive { .. })), "{name}");
        }
    }
}
