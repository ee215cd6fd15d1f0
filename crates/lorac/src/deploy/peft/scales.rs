//! Scales and rows of tokens as PEFT keeps them, and the way back.

use super::contract::{Contract, Named};
use super::given::Given;
use crate::error::Error;
use crate::output::{PeftAdapter, PeftScale, PeftTokens};
use lorac_passes::{Delta, DeltaForm, ParamValues, Target};
use std::collections::BTreeSet;

/// The scales of an adapter: for each module one vector, with a 1 for columns of slices that are not scaled.
pub(super) fn scaled(contract: &Contract, values: &ParamValues) -> Result<Vec<PeftScale>, Error> {
    let mut all = Vec::new();
    for named in &contract.scaled {
        let (mut vector, mut inputs) = (vec![1.0f32; width(named)], false);
        for delta in &named.items {
            let DeltaForm::Scaled { param, inputs: of_inputs } = &delta.form else { continue };
            inputs = *of_inputs;
            places(named, &delta.target).zip(values.get(param)?).for_each(|(at, l)| vector[at] = *l);
        }
        let scale = |name: &str| PeftScale { name: name.to_string(), values: vector.clone(), inputs };
        all.extend(named.names.iter().map(|module| scale(&module.path)));
    }
    Ok(all)
}

/// How many scales a module has.
fn width(named: &Named<&Delta>) -> usize {
    let Some(delta) = named.items.first() else { return 0 };
    match (&delta.form, named.apart) {
        (DeltaForm::Scaled { inputs: true, .. }, _) => delta.target.rows(),
        (_, true) => delta.target.cols(),
        _ => delta.target.matrix.as_ref().map_or(0, |m| m.cols),
    }
}

/// Where the scales of a delta are in its module's.
fn places<'a>(named: &Named<&Delta>, target: &'a Target) -> impl Iterator<Item = usize> + use<'a> {
    let width = width(named);
    let columns = target.slice.as_ref().filter(|_| !named.apart).map(|s| &s.columns);
    (0..columns.map_or(width, Vec::len)).filter_map(move |i| columns.map_or(Some(i), |c| c.get(i).copied()))
}

/// The rows of tokens of an adapter.
pub(super) fn tokens(contract: &Contract, values: &ParamValues) -> Result<Vec<PeftTokens>, Error> {
    let mut all = Vec::new();
    for (name, delta) in &contract.tokens {
        let DeltaForm::Rows { param, rows, .. } = &delta.form else { continue };
        let values = values.get(param)?.to_vec();
        let (ids, width) = (rows.clone(), values.len() / rows.len().max(1));
        all.push(PeftTokens { name: name.clone(), ids, width, values });
    }
    Ok(all)
}

/// The params that scales and rows of tokens in an adapter are.
///
/// # Errors
/// What of the two does not fit the other, in words.
pub(super) fn given(
    contract: &Contract,
    adapter: &PeftAdapter,
    given: &mut Given,
    used: &mut BTreeSet<String>,
) -> Result<(), String> {
    for named in &contract.scaled {
        let path = named.names.first().map_or("", |n| n.path.as_str());
        let scale = adapter.scaled.iter().find(|s| s.name == path);
        let scale = scale.ok_or_else(|| format!("it has no scales of `{path}`, which is scaled here"))?;
        used.extend(named.names.iter().map(|n| n.path.clone()));
        let want = width(named);
        if scale.values.len() != want {
            return Err(format!("`{path}` has {} scales there, and {want} here", scale.values.len()));
        }
        let mut others: BTreeSet<usize> = (0..want).filter(|at| scale.values[*at] != 1.0).collect();
        for delta in &named.items {
            let DeltaForm::Scaled { param, inputs } = &delta.form else { continue };
            if *inputs != scale.inputs && want > 1 {
                let of = |inputs: bool| if inputs { "inputs" } else { "results" };
                return Err(format!("`{path}` scales its {} there, and its {} here", of(scale.inputs), of(*inputs)));
            }
            let places: Vec<usize> = places(named, &delta.target).collect();
            places.iter().for_each(|at| _ = others.remove(at));
            let values: Vec<f32> = places.iter().filter_map(|at| scale.values.get(*at).copied()).collect();
            given.insert(param.clone(), (vec![values.len()], values));
        }
        if !others.is_empty() {
            return Err(format!("`{path}` scales more of its matrix than is scaled here"));
        }
    }
    for (path, delta) in &contract.tokens {
        let DeltaForm::Rows { param, rows, .. } = &delta.form else { continue };
        let tokens = adapter.tokens.iter().find(|t| t.name == *path);
        let tokens = tokens.ok_or_else(|| format!("it has no tokens of `{path}`, which are trained here"))?;
        used.insert(path.clone());
        let row = |id: &usize| {
            let at = tokens.ids.iter().position(|own| own == id)?;
            tokens.values.get(at * tokens.width..(at + 1) * tokens.width)
        };
        let found: Option<Vec<&[f32]>> = rows.iter().map(row).collect();
        match found.filter(|_| tokens.ids.len() == rows.len()) {
            Some(found) => _ = given.insert(param.clone(), (vec![rows.len(), tokens.width], found.concat())),
            None => return Err(format!("`{path}` has other tokens there ({:?}) than here ({rows:?})", tokens.ids)),
        }
    }
    Ok(())
}
