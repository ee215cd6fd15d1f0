//! An adapter that is there already, by the params of a training: the way back from what is written.

use super::contract::{Adapted, Contract, LowRank, SavedOf};
use super::{card, scales};
use crate::output::{PeftAdapter, PeftModule, read_peft};
use crate::run::Plan;
use lorac_config::nearest;
use lorac_ir::ValueId;
use lorac_passes::{DeltaForm, Group};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The values of params by their names, each with its shape.
pub(crate) type Given = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// The params of a training that an adapter holds.
///
/// # Errors
/// What of the two does not fit the other, in words.
pub(crate) fn given(plan: &Plan, folder: &Path) -> Result<Given, String> {
    let adapter = read_peft(folder).map_err(|e| e.to_string())?;
    let contract = Contract::of(plan).map_err(|why| format!("what is trained is not an adapter of PEFT's: {why}"))?;
    let (mut given, mut used) = (Given::new(), BTreeSet::new());
    for adapted in &contract.modules {
        let module = adapted.names.iter().find_map(|n| adapter.modules.iter().find(|m| m.name == n.path));
        let module = module.ok_or_else(|| {
            let path = adapted.names.first().map_or("", |n| n.path.as_str());
            let all: Vec<&str> = adapter.modules.iter().map(|m| m.name.as_str()).collect();
            missing(path, &nearest(path, &all))
        })?;
        used.extend(adapted.names.iter().map(|n| n.path.clone()));
        branches(adapted, module, &mut given)?;
    }
    scales::given(&contract, &adapter, &mut given, &mut used)?;
    heads(plan, &contract, &adapter, folder, &mut given, &mut used)?;
    let modules = adapter.modules.iter().map(|m| &m.name).chain(adapter.scaled.iter().map(|s| &s.name));
    let modules = modules.chain(adapter.tokens.iter().map(|t| &t.name));
    let all = modules.chain(adapter.saved.iter().map(|(key, ..)| key));
    match all.into_iter().find(|name| !used.contains(*name)) {
        Some(other) => Err(format!("it has `{other}`, which is not trained here")),
        None => Ok(given),
    }
}

fn missing(name: &str, near: &[String]) -> String {
    let near = if near.is_empty() { String::new() } else { format!("; nearest: {}", near.join(", ")) };
    format!("it has nothing for `{name}`, which is trained{near}")
}

/// The branches that a module of PEFT holds, their scales taken from B.
fn branches(adapted: &Adapted, module: &PeftModule, given: &mut Given) -> Result<(), String> {
    let (name, rank) = (&module.name, module.rank());
    let all: usize = adapted.branches.iter().map(LowRank::stored_rank).sum();
    let own: usize = adapted.branches.iter().map(|b| b.rank).sum();
    // What was taken out of the weight may be given, too, or is what the weight says.
    let with_start = rank == all;
    let want = if rank == own { own } else { all };
    if rank != want {
        return Err(format!("`{name}` has rank {rank} there, and {want} here"));
    }
    let mut elsewhere: BTreeSet<usize> = (0..module.b.len()).filter(|at| module.b[*at] != 0.0).collect();
    let mut from = 0;
    for branch in &adapted.branches {
        let target = &branch.delta.target;
        let matrix = target.matrix().map_err(|e| e.to_string())?;
        let all: Vec<usize> = (0..module.cols).collect();
        let columns = match &target.slice {
            Some(slice) if !adapted.apart => &slice.columns,
            _ => &all,
        };
        let cols = if adapted.apart { target.cols() } else { matrix.cols };
        if (module.rows, module.cols) != (matrix.rows, cols) {
            let (rows, there) = (module.rows, module.cols);
            return Err(format!("`{name}` is [{rows}, {there}] there, and [{}, {cols}] here", matrix.rows));
        }
        let by = (module.scale() / branch.scale()) as f32;
        let start = branch.start.filter(|_| with_start).map(|[a, b]| ([a.as_str(), b.as_str()], -by));
        for ([a_name, b_name], by) in std::iter::once(([branch.a, branch.b], by)).chain(start) {
            let at = |column: usize| (0..branch.rank).map(move |i| column * rank + from + i);
            let places: Vec<usize> = columns.iter().copied().flat_map(at).collect();
            places.iter().for_each(|at| _ = elsewhere.remove(at));
            let b = places.iter().map(|at| module.b[*at] * by).collect();
            let a = module.a[from * module.rows..(from + branch.rank) * module.rows].to_vec();
            given.insert(a_name.to_string(), (vec![branch.rank, module.rows], a));
            given.insert(b_name.to_string(), (vec![columns.len(), branch.rank], b));
            from += branch.rank;
        }
        match (branch.magnitude, &module.magnitude) {
            (None, None) => {}
            (Some(param), Some(all)) if all.len() == cols => {
                let own: Vec<f32> = columns.iter().filter_map(|column| all.get(*column).copied()).collect();
                given.insert(param.to_string(), (vec![own.len()], own));
            }
            (Some(_), Some(all)) => {
                return Err(format!("`{name}` has {} magnitudes there, and {cols} here", all.len()));
            }
            (Some(_), None) => return Err(format!("`{name}` has no magnitudes there: it is not an adapter of DoRA")),
            (None, Some(_)) => return Err(format!("`{name}` has magnitudes there: `dora` trains such an adapter")),
        }
    }
    match elsewhere.is_empty() {
        true => Ok(()),
        false => Err(format!("`{name}` changes more of its matrix than is trained here")),
    }
}

/// What a head trains: in the adapter, or in the file beside it.
fn heads(
    plan: &Plan,
    contract: &Contract,
    adapter: &PeftAdapter,
    folder: &Path,
    given: &mut Given,
    used: &mut BTreeSet<String>,
) -> Result<(), String> {
    let keys: Vec<&str> = adapter.saved.iter().map(|(key, ..)| key.as_str()).collect();
    for saved in contract.saved.iter().chain(&contract.biases) {
        let found = adapter.saved.iter().find(|(key, ..)| *key == saved.key);
        let Some((key, dims, data)) = found else { return Err(missing(&saved.key, &nearest(&saved.key, &keys))) };
        used.insert(key.clone());
        match saved.of {
            SavedOf::Param(param) => _ = given.insert(param.name.clone(), (dims.clone(), data.clone())),
            SavedOf::Weight { weight, turned } => {
                let delta = plan.training.deltas.iter().find(|(_, delta)| delta.target.weight == weight);
                match delta.map(|(_, delta)| &delta.form) {
                    Some(DeltaForm::Replaced { param }) => {
                        let (dims, data) = if turned { transposed(dims, data) } else { (dims.clone(), data.clone()) };
                        given.insert(param.clone(), (dims, data));
                    }
                    Some(_) => {
                        return Err(format!(
                            "`{key}` is there as it is deployed, and not as the branch that is trained"
                        ));
                    }
                    None if is_that_of_the_model(plan, weight, turned, data) => {}
                    None => {
                        return Err(format!("`{key}` is another there than in the model, and is not trained here"));
                    }
                }
            }
        }
    }
    if contract.input.is_some() {
        let beside = card::read_head(folder)?;
        let names: Vec<&str> = beside.iter().map(|(key, ..)| key.as_str()).collect();
        let paths = plan.task.head().map_or(Vec::new(), |head| head.paths());
        let params = plan.training.params.iter().filter(|p| p.group == Group::Head);
        for (path, param) in paths.iter().zip(params) {
            let found = beside.iter().find(|(key, ..)| key == path);
            let (_, dims, data) = found.ok_or_else(|| missing(path, &nearest(path, &names)))?;
            given.insert(param.name.clone(), (dims.clone(), data.clone()));
        }
    }
    Ok(())
}

/// Whether a weight of the model has these values.
fn is_that_of_the_model(plan: &Plan, weight: ValueId, turned: bool, data: &[f32]) -> bool {
    let own = plan.model.graph.weight(weight).and_then(|own| {
        let values: Vec<f32> = own.to_f64()?.into_iter().map(|x| x as f32).collect();
        Some(if turned { transposed(own.dims(), &values).1 } else { values })
    });
    own.is_some_and(|own| own == data)
}

fn transposed(dims: &[usize], data: &[f32]) -> (Vec<usize>, Vec<f32>) {
    match *dims {
        [rows, cols] => {
            let at = (0..cols).flat_map(|j| (0..rows).map(move |i| i * cols + j));
            (vec![cols, rows], at.filter_map(|at| data.get(at).copied()).collect())
        }
        _ => (dims.to_vec(), data.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_is_turned() {
        let (dims, data) = transposed(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!((dims, data), (vec![3, 2], vec![1.0, 4.0, 2.0, 5.0, 3.0, 6.0]));
        assert_eq!(transposed(&[2], &[1.0, 2.0]), (vec![2], vec![1.0, 2.0]));
    }
}
