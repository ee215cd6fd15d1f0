//! Images in folders.

use super::{Format, Rows, Written};
use crate::error::DataError;
use crate::row::{Cell, Row};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A folder with a folder for every class, in which are its images (`.png`, `.jpg`, `.jpeg`), at any depth: columns `image`, the
/// path, and `label`, the name of the class's folder. Rows are in the order of their paths; links are followed, hidden files and
/// others passed over. Errors: `Io`, `NotRegular`, `NoImage`, of a class as well; `ImageWithoutClass` of a row.
pub struct Images;

/// The columns.
const COLUMNS: [&str; 2] = ["image", "label"];

impl Format for Images {
    fn about(&self) -> &'static str {
        "Images: a folder with a folder for every class, in which are its .png and .jpg files"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &[]
    }

    fn has_columns(&self) -> bool {
        true
    }

    fn has_texts(&self) -> bool {
        false
    }

    fn has_images(&self) -> bool {
        true
    }

    fn is_typed(&self) -> bool {
        false
    }

    fn usual(&self) -> Option<[&'static str; 2]> {
        Some(COLUMNS)
    }

    fn open(&self, path: &Path, _: &Written) -> Result<Rows, DataError> {
        let kind = std::fs::metadata(path).map_err(|source| DataError::Io { path: path.to_owned(), source })?;
        if !kind.is_dir() {
            let what = if kind.is_file() { "a file, not a folder of images" } else { "a pipe or device" };
            return Err(DataError::NotRegular { path: path.to_owned(), what });
        }
        let mut files = Vec::new();
        below(path, &mut Vec::new(), &mut files)?;
        files.sort();
        if files.is_empty() {
            return Err(DataError::NoImage { path: path.to_owned() });
        }
        for class in entries(path)?.into_iter().filter(|entry| entry.is_dir()) {
            if !files.iter().any(|file| file.starts_with(&class)) {
                return Err(DataError::NoImage { path: class });
            }
        }
        let columns: Arc<[String]> = COLUMNS.map(String::from).to_vec().into();
        let (root, names) = (path.to_owned(), columns.clone());
        let rows = files.into_iter().zip(1..).map(move |(file, position)| {
            let mut parts = file.strip_prefix(&root).unwrap_or(&file).components();
            let class = match (parts.next(), parts.next()) {
                (Some(class), Some(_)) => class.as_os_str().to_string_lossy().into_owned(),
                _ => return Err(DataError::ImageWithoutClass { path: file, row: position }),
            };
            let shown = file.display().to_string();
            Ok(Row::new(file.into(), position, names.clone(), vec![Cell::Text(shown), Cell::Text(class)]))
        });
        Ok(Rows { columns: Some(columns), rows: Box::new(rows) })
    }
}

/// The images in a folder and those below it, in the order of their paths; of a file, that one alone.
///
/// # Errors
/// `Io`, and `NoImage` of a folder without any.
pub fn image_files(path: &Path) -> Result<Vec<PathBuf>, DataError> {
    let kind = std::fs::metadata(path).map_err(|source| DataError::Io { path: path.to_owned(), source })?;
    if !kind.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    below(path, &mut Vec::new(), &mut files)?;
    files.sort();
    if files.is_empty() { Err(DataError::NoImage { path: path.to_owned() }) } else { Ok(files) }
}

/// The images in a folder and those below it. A link to a folder above leads to no other images.
fn below(folder: &Path, above: &mut Vec<PathBuf>, files: &mut Vec<PathBuf>) -> Result<(), DataError> {
    let real = folder.canonicalize().map_err(|source| DataError::Io { path: folder.to_owned(), source })?;
    if above.contains(&real) {
        return Ok(());
    }
    above.push(real);
    for path in entries(folder)? {
        let is_image = |end: &str| ["png", "jpg", "jpeg"].iter().any(|known| end.eq_ignore_ascii_case(known));
        // Links count as what they lead to, and one that leads nowhere is an error.
        let kind = std::fs::metadata(&path).map_err(|source| DataError::Io { path: path.clone(), source })?;
        if kind.is_dir() {
            below(&path, above, files)?;
        } else if kind.is_file() && path.extension().and_then(|end| end.to_str()).is_some_and(is_image) {
            files.push(path);
        }
    }
    above.pop();
    Ok(())
}

/// What lies in a folder and is not hidden.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let io = |source| DataError::Io { path: folder.to_owned(), source };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        if !entry.file_name().to_string_lossy().starts_with('.') {
            found.push(entry.path());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_a_class() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["cat/b.PNG", "cat/more/a.jpg", "dog/c.jpeg", "dog/notes.txt", ".hidden/d.png"] {
            let file = folder.path().join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, "").unwrap();
        }
        let rows: Vec<Row> =
            Images.open(folder.path(), &Written::default()).unwrap().rows.map(Result::unwrap).collect();
        let labels: Vec<&str> = rows.iter().map(|row| row.text("label").unwrap()).collect();
        assert_eq!(labels, ["cat", "cat", "dog"]);
        assert!(rows[1].text("image").unwrap().ends_with("a.jpg") && rows[2].position == 3);
        let images: Vec<String> = rows.iter().map(|row| row.text("image").unwrap().to_string()).collect();
        let listed = image_files(folder.path()).unwrap();
        assert_eq!(listed.iter().map(|file| file.display().to_string()).collect::<Vec<_>>(), images);
        assert_eq!(image_files(&listed[0]).unwrap(), listed[..1]);
        std::fs::write(folder.path().join("z.png"), "").unwrap();
        let mut rows = Images.open(folder.path(), &Written::default()).unwrap().rows;
        assert!(matches!(rows.nth(3), Some(Err(DataError::ImageWithoutClass { row: 4, .. }))));
        let empty = tempfile::tempdir().unwrap();
        assert!(matches!(Images.open(empty.path(), &Written::default()).err(), Some(DataError::NoImage { .. })));
        assert!(matches!(image_files(empty.path()), Err(DataError::NoImage { .. })));
    }

    #[test]
    fn a_class_without_an_image_is_named() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["cat/a.png", "dog/b.webp"] {
            std::fs::create_dir_all(folder.path().join(name).parent().unwrap()).unwrap();
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let found = Images.open(folder.path(), &Written::default()).err().unwrap();
        assert!(matches!(&found, DataError::NoImage { path } if path.ends_with("dog")), "{found}");
        std::fs::rename(folder.path().join("dog"), folder.path().join(".dog")).unwrap();
        assert_eq!(Images.open(folder.path(), &Written::default()).unwrap().rows.count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_to_an_end() {
        use std::os::unix::fs::symlink;
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir(folder.path().join("cat")).unwrap();
        std::fs::write(folder.path().join("cat/a.png"), "").unwrap();
        std::fs::write(elsewhere.path().join("b.png"), "").unwrap();
        symlink(elsewhere.path(), folder.path().join("dog")).unwrap();
        symlink(folder.path().join("cat/a.png"), elsewhere.path().join("c.png")).unwrap();
        symlink(folder.path(), folder.path().join("cat/above")).unwrap();
        let labels = || -> Result<Vec<String>, DataError> {
            let rows = Images.open(folder.path(), &Written::default())?.rows;
            rows.map(|row| Ok(row?.text("label")?.to_string())).collect()
        };
        assert_eq!(labels().unwrap(), ["cat", "dog", "dog"]);
        symlink("nowhere", folder.path().join("cat/lost.png")).unwrap();
        assert!(matches!(labels(), Err(DataError::Io { path, .. }) if path.ends_with("lost.png")));
    }
}
