//! What keeps a patch from being written, found before there are any bytes to write.

use crate::map::{Mapped, stamp};
use crate::output::{check_place, folder_of};
use crate::splice::GraphPlace;
use crate::wire::Malformed;
use crate::{Location, Model, OnnxError};
use lorac_ir::ValueId;
use std::collections::HashSet;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Refuses what [`crate::patch`] would refuse whatever the new bytes of `targets` are, so that nobody computes them in
/// vain. Two targets on the same bytes are refused, although a patch with the same bytes for both is not. A target may be
/// listed several times.
///
/// # Errors
/// A model that was decoded from memory, a target that is not a weight of the file or is opaque, bytes that another
/// weight has too, a place that is the model's own, a folder, a pipe or a device, or lies outside the folder of `out`, and a
/// folder that does not exist.
pub fn check_patch(model: &Model, targets: &[ValueId], out: impl AsRef<Path>) -> Result<(), OnnxError> {
    check(model, targets, out.as_ref(), &|_, _| Ok(false))
}

/// Whether two targets on the same bytes get the same new ones.
pub(crate) type Alike<'a> = &'a dyn Fn(ValueId, ValueId) -> Result<bool, OnnxError>;

pub(crate) fn check(model: &Model, targets: &[ValueId], out: &Path, alike: Alike) -> Result<(), OnnxError> {
    mapped(model)?;
    graph_place(model)?;
    for &weight in targets {
        let (Some(tensor), true) = (model.graph.weight(weight), model.locations.contains_key(&weight)) else {
            return Err(OnnxError::NotAWeight { path: model.path.clone(), weight });
        };
        if tensor.dtype().size() == 0 {
            let (weight, dtype) = (model.graph.name_of(weight), tensor.dtype());
            return Err(OnnxError::OpaqueTensor { weight, dtype });
        }
    }
    refuse_shared(model, targets, alike)?;
    refuse_places(model, targets, out)
}

/// The file of a model.
pub(crate) fn mapped(model: &Model) -> Result<&Mapped, OnnxError> {
    model.mapped.as_ref().ok_or_else(|| {
        let source = io::Error::new(io::ErrorKind::Unsupported, "the model was decoded from memory");
        OnnxError::Read { path: model.path.clone(), source }
    })
}

/// Where the graph is in the file of a model.
pub(crate) fn graph_place(model: &Model) -> Result<GraphPlace, OnnxError> {
    let path = || model.path.clone();
    match GraphPlace::of(&model.file).map_err(|Malformed { at }| OnnxError::Malformed { path: path(), at })? {
        Some(place) => Ok(place),
        None => Err(OnnxError::NoGraph { path: path() }),
    }
}

/// The external files that are written anew beside `out`, with the place of each: all but those that hold no target and
/// are in that place already.
pub(crate) fn copied<'a>(model: &'a Model, targets: &[ValueId], out: &Path) -> Vec<(&'a Path, &'a Mapped, PathBuf)> {
    let locations = targets.iter().filter_map(|t| model.locations.get(t));
    let edited: HashSet<&Path> = locations.filter_map(|l| place(l)?.0).collect();
    let all = model.external.iter().map(|(path, file)| (path.as_path(), file, folder_of(out).join(path)));
    all.filter(|(path, file, to)| edited.contains(path) || !stamp(to).is_some_and(|s| s.same_file(&file.stamp)))
        .collect()
}

/// Refuses a target whose bytes are those of another weight as well, unless that one gets the same.
fn refuse_shared(model: &Model, targets: &[ValueId], alike: Alike) -> Result<(), OnnxError> {
    let targets: HashSet<ValueId> = targets.iter().copied().collect();
    let mut places: Vec<_> = model.locations.iter().filter_map(|(id, l)| place(l).map(|p| (p, *id))).collect();
    places.sort_by_key(|((file, range), id)| (*file, range.start, *id));
    // Those before that may reach into the next: targets, and other weights.
    let (mut open_targets, mut open_others) = (Vec::new(), Vec::new());
    for &((file, range), id) in &places {
        let reaches =
            |((of, before), _): &((Option<&Path>, &Range<u64>), ValueId)| *of == file && before.end > range.start;
        open_targets.retain(reaches);
        let is_target = targets.contains(&id);
        if is_target {
            open_others.retain(reaches);
        }
        let others = open_others.iter().filter(|_| is_target);
        for &((_, before), other) in open_targets.iter().chain(others) {
            if before == range && alike(other, id)? {
                continue;
            }
            let (target, other) = if targets.contains(&other) { (other, id) } else { (id, other) };
            let (weight, other) = (model.graph.name_of(target), model.graph.name_of(other));
            return Err(OnnxError::SharedBytes { weight, other });
        }
        if is_target { &mut open_targets } else { &mut open_others }.push(((file, range), id));
    }
    Ok(())
}

/// The external file, where it is one, and the bytes in it; none where a weight has no bytes of a fixed place.
fn place(location: &Location) -> Option<(Option<&Path>, &Range<u64>)> {
    match location {
        Location::Inline { range } => Some((None, range)),
        Location::External { path, range } => Some((Some(path.as_path()), range)),
        Location::Encoded { .. } => None,
    }
    .filter(|(_, range)| !range.is_empty())
}

/// Refuses to write over the model's own files, and out of the folder.
fn refuse_places(model: &Model, targets: &[ValueId], out: &Path) -> Result<(), OnnxError> {
    let own = || model.mapped.iter().chain(model.external.values());
    let is_own = |path: &Path| stamp(path).is_some_and(|s| own().any(|file| file.stamp.same_file(&s)));
    let is_external = || model.external.keys().any(|path| Some(path.as_os_str()) == out.file_name());
    if is_own(out) || is_external() {
        return Err(OnnxError::Overwrites { path: out.to_path_buf() });
    }
    check_place(out)?;
    for (_, _, to) in copied(model, targets, out) {
        stay_inside(folder_of(out), &to)?;
        if is_own(&to) {
            return Err(OnnxError::Overwrites { path: to });
        }
        // Its folder may be made when it is written.
        if folder_of(&to).is_dir() {
            check_place(&to)?;
        }
    }
    Ok(())
}

/// Refuses a place that links lead out of `root`.
fn stay_inside(root: &Path, to: &Path) -> Result<(), OnnxError> {
    let failed = |source| OnnxError::Write { path: to.to_path_buf(), source };
    // The folders that do not exist yet will be made below one that does.
    let existing = folder_of(to).ancestors().find(|a| a.exists()).unwrap_or(root);
    match existing.canonicalize().map_err(failed)?.starts_with(root.canonicalize().map_err(failed)?) {
        true => Ok(()),
        false => Err(OnnxError::OutsideFolder { path: to.to_path_buf() }),
    }
}
