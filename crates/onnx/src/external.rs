//! External data: which file a tensor may refer to, and which bytes of it.

use crate::ExternalFault;
use crate::map::{Mapped, NOT_REGULAR, map};
use crate::output::folder_of;
use crate::proto::TensorProto;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

/// The files beside a model, mapped when first asked for.
pub(crate) struct Externals {
    /// The model's folder; absent for a model that is not read from a file.
    folder: Option<PathBuf>,
    /// Where the model's file really is, which is elsewhere where its name is a link, as in the cache of a hub.
    beside: Option<PathBuf>,
    model: Option<Mapped>,
    files: BTreeMap<PathBuf, Result<Mapped, ExternalFault>>,
}

impl Externals {
    /// The files beside `model`.
    pub(crate) fn new(model: Option<&Mapped>) -> Externals {
        let folder = model.and_then(|m| folder_of(&m.path).canonicalize().ok());
        let beside = model.and_then(|m| Some(m.path.canonicalize().ok()?.parent()?.to_path_buf()));
        Externals { folder, beside, model: model.cloned(), files: BTreeMap::new() }
    }

    /// The `want` bytes that `tensor` refers to: the file's relative path, the range in it, and the bytes.
    pub(crate) fn find(
        &mut self,
        tensor: &TensorProto,
        want: u64,
    ) -> Result<(PathBuf, Range<u64>, Bytes), ExternalFault> {
        let entry = |key: &str| {
            let found = tensor.external_data.iter().rev().find(|e| e.key.as_deref() == Some(key));
            found.and_then(|e| e.value.as_deref())
        };
        let location = entry("location").filter(|l| !l.is_empty()).ok_or(ExternalFault::NoLocation)?;
        let number = |key: &str| entry(key).map(|text| parse(key, text)).transpose();
        let offset = number("offset")?.unwrap_or(0);
        if let Some(got) = number("length")?
            && got != want
        {
            return Err(ExternalFault::Length { want, got });
        }
        let path = relative(location)?;
        let bytes = self.open(&path, location)?;
        let range = offset..offset.saturating_add(want);
        match (usize::try_from(range.start), usize::try_from(range.end)) {
            (Ok(start), Ok(end)) if end <= bytes.len() => Ok((path, range, bytes.slice(start..end))),
            _ => {
                let (location, file) = (location.to_string(), bytes.len() as u64);
                Err(ExternalFault::OutOfRange { location, offset, length: want, file })
            }
        }
    }

    /// The files that could be mapped.
    pub(crate) fn into_files(self) -> BTreeMap<PathBuf, Mapped> {
        self.files.into_iter().filter_map(|(path, file)| Some((path, file.ok()?))).collect()
    }

    fn open(&mut self, path: &Path, location: &str) -> Result<Bytes, ExternalFault> {
        if !self.files.contains_key(path) {
            let file = self.map(path, location);
            self.files.insert(path.to_path_buf(), file);
        }
        match self.files.get(path) {
            Some(Ok(file)) => Ok(file.bytes.clone()),
            Some(Err(fault)) => Err(fault.clone()),
            None => Err(ExternalFault::NoLocation),
        }
    }

    fn map(&self, path: &Path, location: &str) -> Result<Mapped, ExternalFault> {
        let location = location.to_string();
        let Some(folder) = &self.folder else { return Err(ExternalFault::NoDirectory(location)) };
        let unreadable =
            |e: std::io::Error| ExternalFault::Unreadable { location: location.clone(), why: e.to_string() };
        // Links are followed; the place they lead to must be inside the folder, or where the model's own link leads.
        let real = folder.join(path).canonicalize().map_err(unreadable)?;
        if ![Some(folder), self.beside.as_ref()].into_iter().flatten().any(|root| real.starts_with(root)) {
            return Err(ExternalFault::Outside(location));
        }
        let file = map(&real).map_err(|e| match e.kind() {
            NOT_REGULAR => ExternalFault::NotRegular(location.clone()),
            _ => unreadable(e),
        })?;
        if self.model.as_ref().is_some_and(|m| m.stamp.same_file(&file.stamp)) {
            return Err(ExternalFault::IsTheModel(location));
        }
        if file.links > 1 {
            return Err(ExternalFault::HardLinked { location, links: file.links });
        }
        Ok(file)
    }
}

fn parse(key: &str, text: &str) -> Result<u64, ExternalFault> {
    // `u64::from_str` takes a leading plus sign, which ONNX does not.
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let number = text.parse().ok().filter(|_| digits);
    number.ok_or_else(|| ExternalFault::BadNumber { key: key.to_string(), text: text.to_string() })
}

/// The path without `.` components, if it stays inside the directory it is relative to.
fn relative(location: &str) -> Result<PathBuf, ExternalFault> {
    let mut path = PathBuf::new();
    for part in Path::new(location).components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            _ => return Err(ExternalFault::NotRelative(location.to_string())),
        }
    }
    if path.as_os_str().is_empty() { Err(ExternalFault::NoLocation) } else { Ok(path) }
}
