//! Proves that a deployed model is the base but for its targets and what was inserted, and says what was.

use crate::field_number::MODEL_GRAPH;
use crate::part::{Identity, Level, Piece};
use crate::proto::NodeProto;
use crate::splice::{NewTensor, Tail, written_anew};
use crate::tensor::code;
use crate::wire::{Field, fields};
use crate::{Location, Model, Part};
use prost::Message;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// How a deployed model differs from its base.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Bytes of the base that differ, are missing or stand elsewhere and belong to no target, external files included. The
    /// lengths of the messages around a change do not count, they follow from it.
    pub changed_bytes_outside_targets: u64,
    /// Bytes that the base does not have, in the model's file.
    pub inserted_bytes: u64,
    /// Nodes of the base's file.
    pub nodes_before: usize,
    /// Nodes of the deployed file.
    pub nodes_after: usize,
    /// Targets whose bytes differ.
    pub changed_targets: Vec<String>,
    /// What was inserted, in the order of the file.
    pub inserted: Vec<Inserted>,
    /// What differs outside the targets, in words.
    pub changed: Vec<String>,
}

/// A part of a deployed model that its base does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inserted {
    /// What it is.
    pub part: Part,
    /// Its name: of a node its first output where it has no name, of metadata the key.
    pub name: String,
    /// Its size in the file.
    pub bytes: u64,
    /// Whether a part of the same kind that the base has stands behind it.
    pub between: bool,
    /// Whether it is an operator set that no inserted node is of, or that the file imports before it.
    pub idle: bool,
}

/// Compares two models byte for byte, in memory that does not depend on the size of weights. The deployed file must be
/// the base's, field by field and in its order (a graph in several fields may be in one), but for the data of `targets`
/// and the fields that are reported as inserted. A target that the base does not have excuses nothing; one whose elements have a place in the base's file
/// must have them in the same field, one of external data in the same bytes of the same file. Of models of several files each
/// file is compared with its own, and targets are called as in the whole.
pub fn compare(base: &Model, deployed: &Model, targets: &[impl AsRef<str>]) -> Comparison {
    if !base.parts.is_empty() || !deployed.parts.is_empty() {
        return compare_parts(base, deployed, targets);
    }
    let targets: Vec<&str> = targets.iter().map(AsRef::as_ref).filter(|t| base.location(t).is_some()).collect();
    let bytes = |model: &Model, name: &str| model.location(name).and_then(|(id, _)| model.graph.weight(id).cloned());
    let changed = targets.iter().filter(|t| bytes(base, t) != bytes(deployed, t));
    let mut found = Comparison {
        nodes_before: base.node_count,
        nodes_after: deployed.node_count,
        changed_targets: changed.map(|t| t.to_string()).collect(),
        ..Comparison::default()
    };
    let sides = Sides { base, deployed, places: places(base, &targets), domains: RefCell::default() };
    let [before, after] = [pieces(&base.file), pieces(&deployed.file)];
    sides.align(Level::Model, &without_more_graphs(&before, &[]), &without_more_graphs(&after, &before), &mut found);
    sides.align(Level::Graph, &of_graph(&before), &of_graph(&after), &mut found);
    let mut needed = sides.domains.take();
    needed.retain(|domain| !base.graph.opsets.contains_key(domain.as_str()));
    for opset in found.inserted.iter_mut().filter(|i| i.part == Part::Opset) {
        opset.idle = !needed.remove(standard(&opset.name));
    }
    external(base, deployed, &targets, &mut found);
    found
}

fn compare_parts(base: &Model, deployed: &Model, targets: &[impl AsRef<str>]) -> Comparison {
    let mut all = Comparison::default();
    if base.parts.len() != deployed.parts.len() {
        let files = |model: &Model| model.parts.len().max(1);
        all.changed_bytes_outside_targets = u64::MAX;
        all.changed.push(format!("the base is {} files, and the other {}", files(base), files(deployed)));
        return all;
    }
    for (one, other) in base.parts.iter().zip(&deployed.parts) {
        let own = |name: &str| one.own_name(base.graph.find(name)?);
        let names: HashMap<String, &str> =
            targets.iter().map(AsRef::as_ref).filter_map(|name| Some((own(name)?, name))).collect();
        let found = compare(&one.model, &other.model, &names.keys().collect::<Vec<_>>());
        let whole = |own: &String| names.get(own).map_or(own.clone(), |name| name.to_string());
        all.changed_bytes_outside_targets =
            all.changed_bytes_outside_targets.saturating_add(found.changed_bytes_outside_targets);
        all.inserted_bytes += found.inserted_bytes;
        all.nodes_before += found.nodes_before;
        all.nodes_after += found.nodes_after;
        all.changed_targets.extend(found.changed_targets.iter().map(whole));
        all.inserted.extend(found.inserted);
        all.changed.extend(found.changed);
    }
    all
}

/// The fields of a message, and what follows the last that can be read.
fn pieces(message: &[u8]) -> Vec<Piece<'_>> {
    let walked = fields(message).map(|field| match field {
        Ok(field) => Piece::Field(field),
        Err(malformed) => Piece::Unreadable(&message[malformed.at..]),
    });
    walked.collect()
}

/// The fields of a model with one field for the graph, and those by which it has more of them than `other`.
fn without_more_graphs<'a>(pieces: &[Piece<'a>], other: &[Piece]) -> Vec<Piece<'a>> {
    let graphs = |pieces: &[Piece]| pieces.iter().filter(|p| p.is(MODEL_GRAPH)).count();
    let (mut seen, known) = (0, graphs(other));
    let kept = pieces.iter().filter(|piece| {
        seen += usize::from(piece.is(MODEL_GRAPH));
        !piece.is(MODEL_GRAPH) || seen == 1 || (known > 0 && seen > known)
    });
    kept.cloned().collect()
}

/// The fields of the graph, from all fields that the file has for it.
fn of_graph<'a>(model: &[Piece<'a>]) -> Vec<Piece<'a>> {
    let mut all = Vec::new();
    for graph in model {
        let Piece::Field(graph) = graph else { continue };
        for field in graph.fields().filter(|_| graph.number == MODEL_GRAPH) {
            all.push(match field {
                Ok(field) => Piece::Field(field),
                Err(malformed) => Piece::Unreadable(&graph.bytes()[malformed.at - graph.payload.start..]),
            });
        }
    }
    all
}

/// Where the bytes of a target lie, and its name, by their first byte in the file.
fn places<'t>(base: &Model, targets: &[&'t str]) -> Places<'t> {
    let mut places = Places::default();
    for name in targets {
        match base.location(name) {
            Some((_, Location::Inline { range })) if !range.is_empty() => {
                places.inline.insert(range.start as usize, (range.end as usize, *name));
            }
            Some((_, Location::Encoded { .. })) => _ = places.encoded.insert(*name),
            _ => {}
        }
    }
    places
}

#[derive(Default)]
struct Places<'t> {
    inline: BTreeMap<usize, (usize, &'t str)>,
    encoded: HashSet<&'t str>,
}

/// Two files whose fields are held against each other.
struct Sides<'a> {
    base: &'a Model,
    deployed: &'a Model,
    places: Places<'a>,
    /// Domains of the operators of inserted nodes.
    domains: RefCell<BTreeSet<String>>,
}

impl Sides<'_> {
    /// Goes through both lists: what both have, what only the deployed has, and what only the base has or differs.
    fn align(&self, level: Level, before: &[Piece], after: &[Piece], found: &mut Comparison) {
        let alike = |(x, y): &(&Piece, &Piece)| self.alike(level, x, y);
        let common = before.iter().zip(after).take_while(alike).count();
        let (mut before, mut after) = (&before[common..], &after[common..]);
        let (mut left, mut right) = (count(level, before), count(level, after));
        // How many fields of the base are left when the last of each kind is reached.
        let last: HashMap<Part, usize> =
            before.iter().enumerate().map(|(i, p)| (p.identity(level).0, before.len() - i)).collect();
        while !before.is_empty() || !after.is_empty() {
            if let ([x, ..], [y, ..]) = (before, after)
                && self.alike(level, x, y)
            {
                (before, after) = (&before[1..], &after[1..]);
                take(&mut left, &x.identity(level));
                take(&mut right, &y.identity(level));
                continue;
            }
            let (x, y) = (before.first(), after.first());
            let (of_x, of_y) = (x.map(|x| x.identity(level)), y.map(|y| y.identity(level)));
            match (x, y) {
                (Some(x), Some(y)) if of_x == of_y => {
                    found.differs(of_x.as_ref(), "differs", differing(x.written(), y.written()).max(1));
                    (before, after) = (&before[1..], &after[1..]);
                }
                (_, Some(y)) if of_y.as_ref().is_none_or(|id| !left.contains_key(id)) => {
                    let (part, name) = self.named(of_y.clone().unwrap_or((Part::Field, String::new())));
                    // What a second field for the graph holds is reported part by part.
                    let bytes = y.written().len() - if part == Part::Graph { y.content() } else { 0 };
                    let between = last.get(&part).is_some_and(|left| *left <= before.len());
                    found.inserted_bytes += bytes as u64;
                    if part == Part::Node {
                        self.note_domains(y);
                    }
                    found.inserted.push(Inserted { part, name, bytes: bytes as u64, between, idle: false });
                    after = &after[1..];
                    of_y.iter().for_each(|id| take(&mut right, id));
                    continue;
                }
                (Some(x), _) => {
                    let how = if of_x.as_ref().is_some_and(|id| right.contains_key(id)) {
                        "is elsewhere"
                    } else {
                        "is missing"
                    };
                    found.differs(of_x.as_ref(), how, x.written().len() as u64);
                    before = &before[1..];
                    of_x.iter().for_each(|id| take(&mut left, id));
                    continue;
                }
                (None, _) => break,
            }
            of_x.iter().for_each(|id| take(&mut left, id));
            of_y.iter().for_each(|id| take(&mut right, id));
        }
    }

    /// Notes what operators a node is and holds.
    fn note_domains(&self, node: &Piece) {
        fn note(node: &NodeProto, domains: &mut BTreeSet<String>) {
            domains.insert(standard(node.domain()).to_string());
            let graphs = node.attribute.iter().flat_map(|attr| attr.g.iter().chain(&attr.graphs));
            graphs.flat_map(|graph| &graph.node).for_each(|node| note(node, domains));
        }
        if let Piece::Field(field) = node
            && let Ok(node) = NodeProto::decode(field.bytes())
        {
            note(&node, &mut self.domains.borrow_mut());
        }
    }

    /// A weight called like an input of the base is more than a weight.
    fn named(&self, (part, name): Identity) -> Identity {
        let graph = &self.base.graph;
        let is_input = part == Part::Weight && graph.inputs().iter().any(|v| graph.name_of(*v) == name);
        (if is_input { Part::InputDefault } else { part }, name)
    }

    /// Whether both are the same bytes, or differ in the data of a target only.
    fn alike(&self, level: Level, x: &Piece, y: &Piece) -> bool {
        match (level, x, y) {
            (Level::Model, x, y) if x.is(MODEL_GRAPH) && y.is(MODEL_GRAPH) => true,
            (_, x, y) if x.written() == y.written() => true,
            (Level::Graph, Piece::Field(x), Piece::Field(y)) if x.number == y.number => {
                self.in_place(x, y) || self.anew(x, y)
            }
            _ => false,
        }
    }

    /// The same length and the same bytes around the elements of a target, which are in the same place.
    fn in_place(&self, x: &Field, y: &Field) -> bool {
        let Some((start, (end, name))) = self.places.inline.range(x.payload.clone()).next() else { return false };
        let hole = start - x.whole.start..end - x.whole.start;
        let (a, b) = (x.written(), y.written());
        let place = (y.whole.start + hole.start) as u64..(y.whole.start + hole.end) as u64;
        a.len() == b.len()
            && a[..hole.start] == b[..hole.start]
            && a[hole.end..] == b[hole.end..]
            && self.deployed.location(name).is_some_and(|(_, l)| *l == Location::Inline { range: place })
    }

    /// The bytes that a target without a fixed place has when it is written anew.
    fn anew(&self, x: &Field, y: &Field) -> bool {
        let name = match (Piece::Field(x.clone()).identity(Level::Graph), x.find_text(crate::field_number::NODE_OUTPUT))
        {
            ((Part::Weight, name), _) => name,
            ((Part::Node, _), Ok(output)) => output,
            _ => return false,
        };
        let after = self.deployed.location(&name).and_then(|(id, _)| self.deployed.graph.weight(id));
        let (Some((id, _)), Some(after), true) =
            (self.base.location(&name), after, self.places.encoded.contains(&*name))
        else {
            return false;
        };
        let fact = self.base.graph.fact(id);
        let tail = Tail { edit: 0, len: after.bytes().len() };
        let (data_type, dims) = (code(fact.dtype).unwrap_or(0), fact.known_dims().unwrap_or_default());
        let expected = written_anew(x, &name, NewTensor { tail, data_type, dims }, after.bytes());
        expected.is_ok_and(|bytes| bytes.is_some_and(|bytes| bytes == y.written()))
    }
}

impl Comparison {
    fn differs(&mut self, what: Option<&Identity>, how: &str, bytes: u64) {
        let named = match what {
            Some((part, name)) if name.is_empty() => part.to_string(),
            Some((part, name)) => format!("{part} `{name}`"),
            None => return,
        };
        self.changed_bytes_outside_targets += bytes;
        self.changed.push(format!("{named} {how}"));
    }
}

/// A domain by the name that graphs have for it.
fn standard(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

fn count(level: Level, pieces: &[Piece]) -> HashMap<Identity, usize> {
    let mut counts = HashMap::new();
    pieces.iter().for_each(|p| *counts.entry(p.identity(level)).or_insert(0) += 1);
    counts
}

fn take(counts: &mut HashMap<Identity, usize>, id: &Identity) {
    if let Some(n) = counts.get_mut(id) {
        *n -= 1;
        if *n == 0 {
            counts.remove(id);
        }
    }
}

/// Holds the external files of the base against those of the deployed, but for the bytes of targets that no other weight
/// has.
fn external(base: &Model, deployed: &Model, targets: &[&str], found: &mut Comparison) {
    let targets: HashSet<&str> = targets.iter().copied().collect();
    let mut located: Vec<_> = base.locations.iter().map(|(id, place)| (*id, base.graph.name_of(*id), place)).collect();
    located.sort_by_key(|(id, ..)| *id);
    let external = |(_, name, location): &(_, String, &Location)| match location {
        Location::External { path, range } => {
            Some((name.clone(), path.clone(), range.start as usize..range.end as usize))
        }
        _ => None,
    };
    let (of_targets, others): (Vec<_>, Vec<_>) =
        located.iter().filter_map(external).partition(|(name, ..)| targets.contains(name.as_str()));
    let mut holes: BTreeMap<PathBuf, Vec<Range<usize>>> = BTreeMap::new();
    of_targets.into_iter().for_each(|(_, path, range)| holes.entry(path).or_default().push(range));
    holes.values_mut().for_each(join);
    let mut differs = |what: String, bytes: u64| {
        if bytes > 0 {
            found.changed_bytes_outside_targets += bytes;
            found.changed.push(what);
        }
    };
    let holes = |path: &Path| holes.get(path).map_or(&[][..], Vec::as_slice);
    for (path, before) in &base.external {
        let file = format!("external file `{}`", path.display());
        match deployed.external.get(path) {
            None => differs(format!("{file} is not used"), (before.bytes.len() as u64).max(1)),
            Some(after) => differs(format!("{file} differs"), outside(&before.bytes, &after.bytes, holes(path))),
        }
    }
    for (name, path, range) in others {
        let holes = holes(&path);
        let next = holes.partition_point(|hole| hole.end <= range.start);
        let shared = holes.get(next).is_some_and(|hole| hole.start < range.end);
        let [before, after] = [base, deployed].map(|m| m.external.get(&path).and_then(|f| f.bytes.get(range.clone())));
        if let (true, Some(before), Some(after)) = (shared, before, after) {
            differs(format!("weight `{name}` differs, since it shares bytes with a target"), differing(before, after));
        }
    }
}

/// Sorts ranges, and joins those that touch.
fn join(ranges: &mut Vec<Range<usize>>) {
    ranges.sort_by_key(|r| r.start);
    ranges.dedup_by(|next, last| {
        let touch = next.start <= last.end;
        last.end = if touch { last.end.max(next.end) } else { last.end };
        touch
    });
}

/// Number of bytes that differ outside the sorted `holes`, which are apart. Bytes that one of the two lacks differ.
fn outside(a: &[u8], b: &[u8], holes: &[Range<usize>]) -> u64 {
    let common = a.len().min(b.len());
    let (mut sum, mut at) = ((a.len().max(b.len()) - common) as u64, 0);
    for hole in holes.iter().chain([&(common..common)]) {
        let end = hole.start.min(common);
        if at < end {
            sum += differing(&a[at..end], &b[at..end]);
        }
        at = at.max(hole.end);
    }
    sum
}

fn differing(a: &[u8], b: &[u8]) -> u64 {
    let chunks = a.chunks(1 << 16).zip(b.chunks(1 << 16)).filter(|(x, y)| x != y);
    let both = chunks.map(|(x, y)| x.iter().zip(y).filter(|(x, y)| x != y).count() as u64).sum::<u64>();
    both + a.len().abs_diff(b.len()) as u64
}
