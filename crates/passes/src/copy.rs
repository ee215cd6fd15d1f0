//! Nodes of one graph in another.

use lorac_ir::{Attr, Body, Fact, Graph, GraphError, ValueId, topological_order};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

/// What is copied, and what becomes of it.
pub(crate) struct Copy<'a> {
    /// The graph that it is taken of.
    pub(crate) from: &'a Graph,
    /// Values that are copied, with the nodes that compute any of them; all where there is no list.
    pub(crate) needed: Option<&'a HashSet<ValueId>>,
    /// What a value is called.
    pub(crate) name: &'a dyn Fn(&str) -> String,
    /// What is known of a value.
    pub(crate) fact: &'a dyn Fn(&Fact) -> Fact,
}

impl Copy<'_> {
    /// Adds inputs, weights and nodes to a graph; `given` are values that it has already. Returns what the values are there.
    ///
    /// # Errors
    /// Names that the graph has already, and a value that is needed and neither copied nor given.
    pub(crate) fn copy_to(
        &self,
        graph: &mut Graph,
        given: HashMap<ValueId, ValueId>,
    ) -> Result<HashMap<ValueId, ValueId>, GraphError> {
        let Copy { from, needed, name, fact } = self;
        let is_needed = |v: &ValueId| needed.is_none_or(|needed| needed.contains(v));
        let mut to = given;
        for id in from.inputs().iter().copied().filter(is_needed) {
            if let Entry::Vacant(place) = to.entry(id) {
                place.insert(graph.add_input(&name(&from.name_of(id)), fact(&from.fact(id)))?);
            }
        }
        for (id, value, tensor) in from.weights().filter(|(id, ..)| is_needed(id)) {
            to.insert(id, graph.add_weight(&name(&value.name), tensor.clone())?);
        }
        for id in topological_order(from) {
            let Some(node) = from.node(id).filter(|node| node.outputs.iter().any(is_needed)) else { continue };
            if node.outputs.iter().all(|v| to.contains_key(v) || !is_needed(v)) {
                continue;
            }
            let place = |v: ValueId| to.get(&v).copied().ok_or(GraphError::NoSuchValue(v));
            let inputs = node.inputs.iter().map(|v| v.map(place).transpose()).collect::<Result<_, _>>()?;
            let mut attrs = node.attrs.clone();
            for attr in attrs.values_mut() {
                if let Attr::Graph(Body { captures, .. }) = attr {
                    *captures = captures.iter().map(|v| place(*v)).collect::<Result<_, _>>()?;
                }
            }
            let outputs = node.outputs.iter().map(|v| (name(&from.name_of(*v)), fact(&from.fact(*v))));
            let outputs: Vec<(String, Fact)> = outputs.collect();
            let outputs = outputs.iter().map(|(name, fact)| (name.as_str(), fact.clone())).collect();
            let made = graph.add_node(node.op.clone(), inputs, attrs, outputs, node.origin.clone())?;
            to.extend(node.outputs.iter().copied().zip(made));
        }
        Ok(to)
    }
}
