//! Proves that a deployed model is the base but for its targets.

use crate::field_number::{
    GRAPH_INITIALIZER, GRAPH_NODE, MODEL_GRAPH, NODE_ATTRIBUTE, NODE_OP_TYPE, NODE_OUTPUT, TENSOR_ELEMENTS, TENSOR_NAME,
};
use crate::wire::{Field, fields};
use crate::{Location, Model};
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::path::Path;

/// How a deployed model differs from its base.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Bytes that differ and belong to no target, external files included. Bytes that one of the two lacks count, and a
    /// message written anew for a target counts only where it differs in more than its data.
    pub changed_bytes_outside_targets: u64,
    /// Bytes behind the end of the base.
    pub appended_bytes: u64,
    /// Nodes of the base's file.
    pub nodes_before: usize,
    /// Nodes of the deployed file.
    pub nodes_after: usize,
    /// Targets whose bytes differ.
    pub changed_targets: Vec<String>,
}

/// Compares two models byte for byte, in constant memory. A target that the base does not have excuses nothing.
pub fn compare(base: &Model, deployed: &Model, targets: &[impl AsRef<str>]) -> Comparison {
    let targets: Vec<&str> = targets.iter().map(AsRef::as_ref).filter(|t| base.location(t).is_some()).collect();
    let mut holes = Holes::new();
    let mut in_place = base.file.len() <= deployed.file.len();
    let mut changed_targets = Vec::new();
    for name in &targets {
        let (before, after) = (base.location(name), deployed.location(name));
        let bytes = |model: &Model| model.location(name).and_then(|(id, _)| model.graph.weight(id).cloned());
        if bytes(base) != bytes(deployed) {
            changed_targets.push(name.to_string());
        }
        let (file, range) = match before {
            Some((_, Location::Inline { range })) => (None, range),
            Some((_, Location::External { path, range })) => (Some(path.as_path()), range),
            _ => {
                in_place &= bytes(base) == bytes(deployed) && after.map(|a| a.1) == before.map(|b| b.1);
                continue;
            }
        };
        in_place &= after.map(|a| a.1) == before.map(|b| b.1);
        holes.entry(file).or_default().push(range.start as usize..range.end as usize);
    }
    holes.values_mut().for_each(|list| list.sort_by_key(|r| r.start));

    let (outside, appended_bytes) = if in_place {
        let len = base.file.len();
        let outside = differing(&base.file, &deployed.file[..len], holes_in(&holes, None));
        (outside, (deployed.file.len() - len) as u64)
    } else {
        Sides { base, deployed, targets: targets.iter().copied().collect() }.compare()
    };
    let external = |(path, before): (&std::path::PathBuf, &crate::map::Mapped)| {
        let after = deployed.external.get(path).map_or(&[][..], |f| &f.bytes);
        let common = before.bytes.len().min(after.len());
        let extra = before.bytes.len().max(after.len()) - common;
        differing(&before.bytes[..common], &after[..common], holes_in(&holes, Some(path.as_path()))) + extra as u64
    };
    Comparison {
        changed_bytes_outside_targets: outside + base.external.iter().map(external).sum::<u64>(),
        appended_bytes,
        nodes_before: base.node_count,
        nodes_after: deployed.node_count,
        changed_targets,
    }
}

/// What may differ, by external file; `None` is the model's own.
type Holes<'a> = BTreeMap<Option<&'a Path>, Vec<Range<usize>>>;

fn holes_in<'a>(holes: &'a Holes<'a>, file: Option<&'a Path>) -> &'a [Range<usize>] {
    holes.get(&file).map_or(&[], Vec::as_slice)
}

/// Number of bytes that differ outside the sorted `holes`; both sides are of one length.
fn differing(a: &[u8], b: &[u8], holes: &[Range<usize>]) -> u64 {
    let mut sum = 0;
    let mut at = 0;
    for hole in holes.iter().chain([&(a.len()..a.len())]) {
        let end = hole.start.min(a.len());
        if at < end {
            sum += count(&a[at..end], &b[at..end]);
        }
        at = at.max(hole.end);
    }
    sum
}

fn count(a: &[u8], b: &[u8]) -> u64 {
    let chunks = a.chunks(1 << 16).zip(b.chunks(1 << 16)).filter(|(x, y)| x != y);
    chunks.map(|(x, y)| x.iter().zip(y).filter(|(x, y)| x != y).count() as u64).sum()
}

/// Two files in which messages may have moved: compared field by field.
struct Sides<'a> {
    base: &'a Model,
    deployed: &'a Model,
    targets: HashSet<&'a str>,
}

impl Sides<'_> {
    /// Bytes that differ, and bytes appended.
    fn compare(&self) -> (u64, u64) {
        let (a, b) = (&self.base.file, &self.deployed.file);
        let mut after = fields(b).map_while(Result::ok);
        let mut outside = 0;
        for x in fields(a).map_while(Result::ok) {
            outside += match after.next() {
                Some(y) if x.number == MODEL_GRAPH && y.number == MODEL_GRAPH => self.graphs(&x, &y),
                Some(y) => raw(&x, &y),
                None => x.whole.len() as u64,
            };
        }
        (outside, after.map(|f| f.whole.len() as u64).sum())
    }

    fn graphs(&self, x: &Field, y: &Field) -> u64 {
        let mut after = y.fields().map_while(Result::ok);
        let mut outside = 0;
        for x in x.fields().map_while(Result::ok) {
            outside += match after.next() {
                Some(y) if self.is_target(&x) => self.without_data(&x, &y),
                Some(y) => raw(&x, &y),
                None => x.whole.len() as u64,
            };
        }
        outside + after.map(|f| f.whole.len() as u64).sum::<u64>()
    }

    fn is_target(&self, x: &Field) -> bool {
        let name = match x.number {
            GRAPH_INITIALIZER => x.find_text(TENSOR_NAME),
            GRAPH_NODE if x.find_text(NODE_OP_TYPE).is_ok_and(|op| op == "Constant") => x.find_text(NODE_OUTPUT),
            _ => return false,
        };
        name.is_ok_and(|n| self.targets.contains(n.as_str()))
    }

    /// Differences of a target's message beside its data: the fields of a node other than its attribute, of an
    /// initializer other than what holds elements, and the kind of tensor.
    fn without_data(&self, x: &Field, y: &Field) -> u64 {
        let (data, name): (&[u32], u32) = match x.number {
            GRAPH_NODE => (&[NODE_ATTRIBUTE], NODE_OUTPUT),
            _ => (&TENSOR_ELEMENTS, TENSOR_NAME),
        };
        let rest = |message: &Field| -> Vec<u8> {
            let mut kept = Vec::new();
            // What follows a malformed field cannot be named.
            _ = message.put_without(&mut kept, data);
            kept
        };
        let name = x.find_text(name).unwrap_or_default();
        let fact = |m: &Model| m.graph.find(&name).map(|id| m.graph.fact(id));
        let alike = x.number == y.number && rest(x) == rest(y) && fact(self.base) == fact(self.deployed);
        if alike { 0 } else { x.whole.len() as u64 }
    }
}

fn raw(x: &Field, y: &Field) -> u64 {
    let (a, b) = (x.written(), y.written());
    let common = a.len().min(b.len());
    count(&a[..common], &b[..common]) + (a.len().max(b.len()) - common) as u64
}
