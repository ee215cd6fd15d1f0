//! Nodes and metadata that are added to a model by inserting bytes into its file.

use crate::body::{UsedNames, body};
use crate::field_number::{GRAPH_NODE, MODEL_GRAPH, NODE_NAME};
use crate::layout::{content, entry, opset};
use crate::proto::{GraphProto, ModelProto};
use crate::wire::{Malformed, fields};
use crate::{Model, OnnxError, Problem};
use bytes::Bytes;
use lorac_ir::Graph;
use prost::Message;
use std::collections::{BTreeMap, HashSet};

/// New nodes with their weights and outputs, such as a classifier's head. The inputs of `graph` name values of the model
/// that it is appended to; its outputs join those of the model.
#[derive(Debug, Clone, Default)]
pub struct Appendix {
    /// What is added.
    pub graph: Graph,
    /// Key-value pairs of the model, none of which it has already.
    pub metadata: BTreeMap<String, String>,
}

impl Appendix {
    /// A graph alone.
    pub fn of(graph: Graph) -> Appendix {
        Appendix { graph, metadata: BTreeMap::new() }
    }
}

/// The bytes of an appendix, and where they belong.
pub(crate) struct Insertion {
    /// Nodes, outputs and weights, for the end of the graph's message: all that the graph holds several of.
    pub(crate) graph: Vec<Bytes>,
    /// Operator sets that the model does not import, and metadata, for the end of the file.
    pub(crate) model: Bytes,
}

pub(crate) fn insertion(model: &Model, appendix: &Appendix) -> Result<Insertion, OnnxError> {
    let mut problems = mismatches(model, &appendix.graph);
    let known = appendix.metadata.keys().filter(|key| model.metadata.contains_key(*key));
    problems.extend(known.map(|key| Problem::DuplicateMetadata(key.clone())));
    if !problems.is_empty() {
        return Err(OnnxError::Appendix { problems });
    }
    let mut used = UsedNames { values: names(model), ..UsedNames::default() };
    used.nodes = node_names(model)?;
    let mut body = body(&appendix.graph, used)?;
    // What a message holds once would take the place of the model's own.
    body.proto = GraphProto { node: body.proto.node, output: body.proto.output, ..GraphProto::default() };
    let known = &model.graph.opsets;
    let new = appendix.graph.opsets.iter().filter(|(domain, _)| !known.contains_key(*domain));
    let added = ModelProto {
        opset_import: new.map(|(d, v)| opset(d, *v)).collect(),
        metadata_props: appendix.metadata.iter().map(entry).collect(),
        ..ModelProto::default()
    };
    let graph = content(&body, &appendix.graph, usize::MAX, "")?.pieces;
    let graph = graph.into_iter().filter(|piece| !piece.is_empty()).collect();
    Ok(Insertion { graph, model: added.encode_to_vec().into() })
}

fn mismatches(model: &Model, new: &Graph) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (id, value) in new.values() {
        let name = value.name.to_string();
        match (new.is_input(id), model.graph.find(&name).is_some()) {
            (true, false) => problems.push(Problem::Undefined { node: "the appended graph".to_string(), value: name }),
            (false, true) => problems.push(Problem::DuplicateValue(name)),
            _ => {}
        }
    }
    for (domain, &b) in &new.opsets {
        if let Some(&a) = model.graph.opsets.get(domain).filter(|a| **a != b) {
            problems.push(Problem::OpsetConflict { domain: domain.to_string(), a, b });
        }
    }
    problems
}

fn names(model: &Model) -> HashSet<String> {
    model.graph.values().map(|(_, v)| v.name.to_string()).collect()
}

/// Names of all nodes in the file, those of `Constant` nodes included.
fn node_names(model: &Model) -> Result<HashSet<String>, OnnxError> {
    let read = || -> Result<HashSet<String>, Malformed> {
        let mut names = HashSet::new();
        for field in fields(&model.file) {
            let graph = field?;
            for field in graph.fields().filter(|_| graph.number == MODEL_GRAPH) {
                let node = field?;
                if node.number == GRAPH_NODE {
                    names.insert(node.find_text(NODE_NAME)?);
                }
            }
        }
        Ok(names)
    };
    read().map_err(|Malformed { at }| OnnxError::Malformed { path: model.path.clone(), at })
}
