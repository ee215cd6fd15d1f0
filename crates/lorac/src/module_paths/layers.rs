//! Matrices that are modules of layers by what they do, where nothing names them.

use lorac_ir::{Graph, NodeId, ValueId};
use lorac_models::Classes;
use lorac_passes::{Matrix, Role, matrices, roles};
use std::collections::{BTreeMap, HashMap};

/// Paths in the base model by matrix and role.
pub(super) type LayerModules = BTreeMap<(ValueId, Role), String>;

/// The modules of roles that as many matrices have as there are layers: they are the layers' own, in the order in which
/// they are read.
pub(super) fn layer_modules(graph: &Graph, classes: &Classes, layers: usize) -> LayerModules {
    let place: HashMap<NodeId, usize> = graph.nodes().enumerate().map(|(i, (id, _))| (id, i)).collect();
    let mut all: Vec<Matrix> = matrices(graph);
    all.sort_by_key(|m| m.products.iter().filter_map(|p| place.get(p)).min().copied());
    let known = roles(graph);
    let mut by_role: BTreeMap<Role, Vec<ValueId>> = BTreeMap::new();
    for matrix in &all {
        for role in known.get(&matrix.weight).into_iter().flatten() {
            by_role.entry(*role).or_default().push(matrix.weight);
        }
    }
    let mut found = LayerModules::new();
    for (role, weights) in by_role.into_iter().filter(|(_, weights)| weights.len() == layers) {
        for (layer, weight) in weights.into_iter().enumerate() {
            found.extend(classes.module(&role.to_string(), layer).map(|path| ((weight, role), path)));
        }
    }
    found
}
