//! The deployable model: the user's file with the bytes of some weights replaced and, where asked, a head inserted.

use crate::append::{Insertion, insertion};
use crate::check::{check, copied, graph_place, mapped};
use crate::error::unreadable;
use crate::layout::MESSAGE_LIMIT;
use crate::map::{Mapped, Stamp, open, stamp};
use crate::output::{Output, folder_of};
use crate::splice::{NewTensor, Splice, Tail, splices};
use crate::tensor::code;
use crate::wire::Malformed;
use crate::{Appendix, Location, Model, OnnxError};
use bytes::Bytes;
use lorac_ir::ValueId;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// New bytes for a weight, as many as it has: its elements, little-endian and row-major.
#[derive(Clone)]
pub struct Edit<'a> {
    /// The weight, in the model's graph.
    pub weight: ValueId,
    content: Content<'a>,
}

#[derive(Clone)]
enum Content<'a> {
    Ready(Bytes),
    Lazy(Rc<dyn Fn() -> Result<Bytes, AnyError> + 'a>),
}

impl<'a> Edit<'a> {
    /// An edit whose bytes are here.
    pub fn new(weight: ValueId, bytes: impl Into<Bytes>) -> Edit<'a> {
        Edit { weight, content: Content::Ready(bytes.into()) }
    }

    /// An edit whose bytes are made when they are written, so that those of many need not be held at once.
    pub fn lazy<E>(weight: ValueId, make: impl Fn() -> Result<Bytes, E> + 'a) -> Edit<'a>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        Edit { weight, content: Content::Lazy(Rc::new(move || make().map_err(Into::into))) }
    }

    /// The bytes.
    ///
    /// # Errors
    /// Those of what makes them.
    pub fn bytes(&self) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
        match &self.content {
            Content::Ready(bytes) => Ok(bytes.clone()),
            Content::Lazy(make) => make(),
        }
    }
}

impl fmt::Debug for Edit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Edit");
        shown.field("weight", &self.weight);
        match &self.content {
            Content::Ready(bytes) => shown.field("bytes", bytes).finish(),
            Content::Lazy(_) => shown.finish_non_exhaustive(),
        }
    }
}

/// Where an edit went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The weight's name.
    pub weight: String,
    /// The file written.
    pub file: PathBuf,
    /// Its bytes in that file.
    pub range: Range<u64>,
}

/// What [`patch`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PatchReport {
    /// Every edit, in the order of the edits.
    pub changed: Vec<Changed>,
    /// Weights whose message had to be written anew, since their elements had no fixed place in it.
    pub reencoded: Vec<String>,
    /// Bytes inserted for the appendix, into the graph and behind it.
    pub inserted: u64,
    /// Files written: the external ones, then the model.
    pub written: Vec<PathBuf>,
}

/// Copies `model` to `out`, replaces the bytes of the edited weights and inserts `appendix` at the end of the graph, which
/// changes the graph's length as well: a second graph field would be the whole model to some readers. A graph that comes in
/// several fields leaves in one, what was between them behind it; all other bytes keep their order. Memory use does not depend
/// on the size of the model: the bytes of one [`Edit::lazy`] are held at a time. External data files are copied beside
/// `out`. A file appears whole or not at all, the model after the files it refers to.
///
/// [`crate::check_patch`] finds most of what is refused before there are edits.
///
/// # Errors
/// Edits that do not fit or cannot be made, weights that share their bytes with others, an appendix that does not fit, a
/// model that changed since it was loaded, and places that cannot be written or are the model's own.
pub fn patch(
    model: &Model,
    edits: &[Edit<'_>],
    appendix: Option<&Appendix>,
    out: impl AsRef<Path>,
) -> Result<PatchReport, OnnxError> {
    let out = out.as_ref();
    let base = mapped(model)?;
    let targets: Vec<ValueId> = edits.iter().map(|e| e.weight).collect();
    check_edits(model, edits)?;
    check(model, &targets, out, &|a, b| alike(model, edits, a, b))?;
    let (inserted, tail) = match appendix.map(|a| insertion(model, a)).transpose()? {
        Some(Insertion { graph, model }) => (graph, model),
        None => (Vec::new(), Bytes::new()),
    };
    let len = inserted.iter().map(Bytes::len).sum::<usize>() + tail.len();
    let mut report = PatchReport { inserted: len as u64, ..PatchReport::default() };

    let plan = Plan::new(model, edits, &inserted, out, &mut report)?;
    let total = plan.length(base) + tail.len() as u64;
    if total > MESSAGE_LIMIT {
        return Err(OnnxError::TooLarge { bytes: total });
    }
    let make = |tail: Tail| replacement(model, &edits[tail.edit], tail.len);
    let mut output = Output::default();
    for (path, file, to) in copied(model, &targets, out) {
        let splices = plan.external.get(path).map_or(&[][..], Vec::as_slice);
        let failed = |source| OnnxError::Write { path: to.clone(), source };
        std::fs::create_dir_all(folder_of(&to)).map_err(failed)?;
        copy(&mut output, file, &to, splices, &make, &Bytes::new())?;
        report.written.push(to);
    }
    copy(&mut output, base, out, &plan.inline, &make, &tail)?;
    output.commit()?;
    report.written.push(out.to_path_buf());
    Ok(report)
}

/// What takes the place of which bytes, sorted, in the model's file and in the external ones.
struct Plan {
    inline: Vec<Splice>,
    external: BTreeMap<PathBuf, Vec<Splice>>,
}

impl Plan {
    fn new(
        model: &Model,
        edits: &[Edit<'_>],
        inserted: &[Bytes],
        out: &Path,
        report: &mut PatchReport,
    ) -> Result<Plan, OnnxError> {
        let mut plan = Plan { inline: Vec::new(), external: BTreeMap::new() };
        let mut encoded = HashMap::new();
        for (i, edit) in edits.iter().enumerate() {
            let tail = Tail { edit: i, len: length(model, edit) };
            let splice = |r: &Range<u64>| {
                let range = r.start as usize..r.end as usize;
                Splice { range, head: Bytes::new(), tail: Some(tail) }
            };
            match &model.locations[&edit.weight] {
                Location::Inline { range } => plan.inline.push(splice(range)),
                Location::External { path, range } => {
                    plan.external.entry(path.clone()).or_default().push(splice(range));
                }
                Location::Encoded { .. } => {
                    let fact = model.graph.fact(edit.weight);
                    let (data_type, dims) = (code(fact.dtype).unwrap_or(0), fact.known_dims().unwrap_or_default());
                    encoded.insert(model.graph.name_of(edit.weight), NewTensor { tail, data_type, dims });
                }
            }
        }
        let malformed = |m: Malformed| OnnxError::Malformed { path: model.path.clone(), at: m.at };
        let graph = graph_place(model)?;
        let (anew, found) = splices(&model.file, &graph, &encoded, inserted).map_err(malformed)?;
        let inside: HashMap<&str, (usize, &Range<usize>)> =
            found.iter().map(|(name, i, r)| (name.as_str(), (anew[*i].range.start, r))).collect();
        plan.inline.extend(anew.iter().cloned());
        plan.inline.sort_by_key(|s| (s.range.start, s.range.end));
        plan.external.values_mut().for_each(|list| list.sort_by_key(|s| (s.range.start, s.range.end)));

        for edit in edits {
            let weight = model.graph.name_of(edit.weight);
            let (file, range) = match &model.locations[&edit.weight] {
                Location::External { path, range } => (folder_of(out).join(path), range.clone()),
                Location::Inline { range } => (out.to_path_buf(), plan.moved(range.start, length(model, edit))),
                Location::Encoded { .. } => {
                    let Some((start, inner)) = inside.get(weight.as_str()) else {
                        return Err(OnnxError::NotAWeight { path: model.path.clone(), weight: edit.weight });
                    };
                    report.reencoded.push(weight.clone());
                    let start = plan.moved(*start as u64, 0).start;
                    (out.to_path_buf(), start + inner.start as u64..start + inner.end as u64)
                }
            };
            report.changed.push(Changed { weight, file, range });
        }
        Ok(plan)
    }

    /// Where `len` bytes that were at `start` of the model's file are afterwards.
    fn moved(&self, start: u64, len: usize) -> Range<u64> {
        let before = self.inline.iter().take_while(|s| (s.range.start as u64) < start);
        let (gone, come) = before.fold((0, 0), |(g, c), s| (g + s.range.len() as u64, c + s.len() as u64));
        let start = start - gone + come;
        start..start + len as u64
    }

    fn length(&self, base: &Mapped) -> u64 {
        let (gone, come) = self.inline.iter().fold((0, 0), |(g, c), s| (g + s.range.len(), c + s.len()));
        (base.bytes.len() - gone + come) as u64
    }
}

/// Bytes of the weight of an edit.
fn length(model: &Model, edit: &Edit<'_>) -> usize {
    model.graph.weight(edit.weight).map_or(0, |t| t.bytes().len())
}

/// The bytes of an edit, which are to be `want`.
fn replacement(model: &Model, edit: &Edit<'_>, want: usize) -> Result<Bytes, OnnxError> {
    let weight = || model.graph.name_of(edit.weight);
    let bytes = edit.bytes().map_err(|source| OnnxError::Edit { weight: weight(), source })?;
    match bytes.len() {
        got if got != want => Err(OnnxError::Length { weight: weight(), want, got }),
        _ => Ok(bytes),
    }
}

/// Refuses bytes of another length where they are here already, and two edits of one weight.
fn check_edits(model: &Model, edits: &[Edit<'_>]) -> Result<(), OnnxError> {
    let mut seen = HashSet::new();
    for edit in edits {
        if matches!(edit.content, Content::Ready(_)) && model.graph.weight(edit.weight).is_some() {
            replacement(model, edit, length(model, edit))?;
        }
        if !seen.insert(edit.weight) {
            return Err(OnnxError::EditedTwice { weight: model.graph.name_of(edit.weight) });
        }
    }
    Ok(())
}

/// Whether two weights get the same bytes; not where one of the two is not edited.
fn alike(model: &Model, edits: &[Edit<'_>], a: ValueId, b: ValueId) -> Result<bool, OnnxError> {
    let edit = |id| edits.iter().find(|e| e.weight == id);
    let (Some(a), Some(b)) = (edit(a), edit(b)) else { return Ok(false) };
    Ok(replacement(model, a, length(model, a))? == replacement(model, b, length(model, b))?)
}

fn copy(
    output: &mut Output,
    from: &Mapped,
    to: &Path,
    splices: &[Splice],
    make: &dyn Fn(Tail) -> Result<Bytes, OnnxError>,
    tail: &Bytes,
) -> Result<(), OnnxError> {
    let changed = || io::Error::other(OnnxError::ChangedOnDisk { path: from.path.clone() });
    // What was read is what is written: the same file in the same state, from its copy where there is one.
    if stamp(&from.path) != Some(from.stamp) {
        return Err(OnnxError::ChangedOnDisk { path: from.path.clone() });
    }
    let make = |tail| if from.is_unchanged() { make(tail).map_err(io::Error::other) } else { Err(changed()) };
    if from.is_copy() {
        return output.write(to, |file| {
            splice_into(&mut Cursor::new(&from.bytes), from.bytes.len() as u64, file, splices, &make)?;
            file.seek(SeekFrom::End(0))?;
            file.write_all(tail)
        });
    }
    let (mut source, meta) = open(&from.path).map_err(|source| unreadable(&from.path, source))?;
    if Stamp::of(&meta) != from.stamp {
        return Err(OnnxError::ChangedOnDisk { path: from.path.clone() });
    }
    output.write(to, |file| {
        splice_into(&mut source, meta.len(), file, splices, &make)?;
        file.seek(SeekFrom::End(0))?;
        file.write_all(tail)?;
        if from.is_unchanged() { Ok(()) } else { Err(changed()) }
    })
}

/// Copies `source` with the splices in their places. `io::copy` between files leaves the work to the kernel, which
/// shares the blocks where the file system can.
fn splice_into<R: Read + Seek>(
    source: &mut R,
    len: u64,
    to: &mut File,
    splices: &[Splice],
    make: &dyn Fn(Tail) -> io::Result<Bytes>,
) -> io::Result<()> {
    let put = |splice: &Splice, to: &mut File| {
        to.write_all(&splice.head)?;
        match splice.tail {
            Some(tail) => to.write_all(&make(tail)?),
            None => Ok(()),
        }
    };
    if splices.iter().all(|s| s.len() == s.range.len()) {
        io::copy(&mut source.take(len), to)?;
        return splices.iter().try_for_each(|s| {
            to.seek(SeekFrom::Start(s.range.start as u64))?;
            put(s, to)
        });
    }
    let mut at = 0;
    for splice in splices {
        let (start, end) = (splice.range.start as u64, splice.range.end as u64);
        // Two weights on the same bytes have the same splice.
        if start < at {
            continue;
        }
        source.seek(SeekFrom::Start(at))?;
        io::copy(&mut source.take(start - at), to)?;
        put(splice, to)?;
        at = end;
    }
    source.seek(SeekFrom::Start(at))?;
    io::copy(&mut source.take(len - at), to)?;
    Ok(())
}
